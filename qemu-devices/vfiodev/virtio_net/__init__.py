"""The virtio network device of `docs/devices/virtio-net.md`."""

from vfiodev.virtio_net.device import VirtioNet

MODEL = VirtioNet
