"""PCI devices in Python, served to QEMU (10.1 or newer) over the vfio-user protocol."""
