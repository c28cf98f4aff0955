"""The template's registers (BAR 0). A test keeps the table in `qemu-devices/README.md` equal to these
rows."""

from vfiodev.registers import Access, Register, RegisterMap

MAGIC = 0x5B7E0001
BAR_SIZE = 0x4000
MSIX_TABLE = 0x2000
MSIX_PBA = 0x3000
VECTORS = 2
ECHO_MAX = 1 << 20

STATUS_DONE = 0x1
STATUS_ERROR = 0x2

ID = Register(name="ID", offset=0x00, access=Access.RO, reset=MAGIC, doc="identification")
SCRATCH = Register(name="SCRATCH", offset=0x04, doc="any value, no effect")
DOORBELL = Register(
    name="DOORBELL", offset=0x08, access=Access.WO, doc="raises the MSI-X vector whose number is written"
)
STATUS = Register(
    name="STATUS", offset=0x0C, access=Access.W1C, mask=0x3, doc="bit 0: echo done; bit 1: echo failed"
)
ECHO_SOURCE = Register(name="ECHO_SOURCE", offset=0x10, width=8, doc="guest address to read from")
ECHO_TARGET = Register(name="ECHO_TARGET", offset=0x18, width=8, doc="guest address to write to")
ECHO_LENGTH = Register(
    name="ECHO_LENGTH",
    offset=0x20,
    doc="bytes, at most 1 MiB; writing it starts the copy, which ends with STATUS and MSI-X vector 1",
)
UPTIME = Register(
    name="UPTIME",
    offset=0x28,
    width=8,
    access=Access.RO,
    volatile=True,
    doc="nanoseconds since the last reset",
)

REGISTERS = RegisterMap(
    "template", BAR_SIZE, (ID, SCRATCH, DOORBELL, STATUS, ECHO_SOURCE, ECHO_TARGET, ECHO_LENGTH, UPTIME)
)
