"""The device's side of virtio 1.3 over PCI: transport and split virtqueues, for models to build on."""
