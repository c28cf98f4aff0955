"""The smallest useful device, to copy from: identification, scratch, a doorbell with an interrupt, a DMA
echo."""

from vfiodev.template.device import Template

MODEL = Template
