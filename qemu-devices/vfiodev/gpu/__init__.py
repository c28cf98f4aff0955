"""The virtual GPU of `docs/devices/gpu.md`."""

from vfiodev.gpu.device import Gpu

MODEL = Gpu
