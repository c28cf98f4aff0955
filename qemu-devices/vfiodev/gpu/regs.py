"""BAR0 as section 2 lists it. Values live in the model (`volatile`), the rows say how they are reached."""

from dataclasses import replace

from vfiodev.registers import Access, Register, RegisterMap

REGISTERS_SIZE = 0x10000
ENGINE_BASE = 0x1000
ENGINE_STRIDE = 0x100
MAX_ENGINES = 8

MSIX_SIZE = 0x1000
MSIX_TABLE = 0
MSIX_PENDING = 0x800

ID = 0x5550_4754
VERSION = 0x0001_0000
FEATURES = 0x7

STATUS_READY = 1
STATUS_ERROR = 2
CONTROL_ENABLE = 1
CONTROL_RESET = 2
CTRL_RUN = 1
CTRL_RESET = 2
TYPE_COPY = 1
TYPE_COMPUTE = 2

INTR_DONE_SHIFT = 8
INTR_ERROR_SHIFT = 16


def _ro(name: str, offset: int, doc: str) -> Register:
    return Register(name=name, offset=offset, doc=doc, access=Access.RO, volatile=True)


def _rw(name: str, offset: int, doc: str) -> Register:
    return Register(name=name, offset=offset, doc=doc, volatile=True)


_GLOBAL = (
    _ro("ID", 0x00, '"TGPU"'),
    _ro("VERSION", 0x04, "major in 31:16, minor in 15:0"),
    _rw("SCRATCH", 0x08, "no effect"),
    _ro("ENGINES", 0x0C, "number of engines"),
    _ro("VRAM_SIZE_LO", 0x10, "bytes of VRAM, low half"),
    _ro("VRAM_SIZE_HI", 0x14, "bytes of VRAM, high half"),
    _ro("STATUS", 0x18, "bit 0 READY, bit 1 ERROR"),
    _rw("CONTROL", 0x1C, "bit 0 ENABLE, bit 1 RESET"),
    Register(
        name="INTR_STATUS",
        offset=0x20,
        doc="bit 8 + e: engine e completed, bit 16 + e: engine e failed",
        access=Access.W1C,
        volatile=True,
    ),
    _rw("INTR_ENABLE", 0x24, "a message is sent only for bits that are set here"),
    _ro("TIMESTAMP_LO", 0x28, "device clock in ns, low half; latches the high half"),
    _ro("TIMESTAMP_HI", 0x2C, "device clock in ns, high half"),
    _ro("FEATURES", 0x30, "bit 0 scatter lists, bit 1 semaphores, bit 2 vector operations"),
    _ro("MAX_RING_LOG2", 0x34, "a ring has at most two to that power entries"),
    _ro("RESET_COUNT", 0x38, "resets since power-on"),
    _ro("MAX_TRANSFER", 0x3C, "most bytes that one command may move"),
)

_ENGINE = (
    _ro("TYPE", 0x00, "1 copy, 2 compute"),
    _rw("CTRL", 0x04, "bit 0 RUN, bit 1 RESET"),
    _ro("ENGINE_STATUS", 0x08, "bit 0 IDLE, bit 1 BUSY, bit 2 ERROR, bit 3 WAITING"),
    _rw("RING_LOG2", 0x0C, "the ring has two to that power entries"),
    _rw("RING_BASE_LO", 0x10, "system address of entry 0, low half"),
    _rw("RING_BASE_HI", 0x14, "system address of entry 0, high half"),
    _ro("HEAD", 0x18, "index of the next entry to complete"),
    _rw("TAIL", 0x1C, "index behind the last valid entry; the doorbell"),
    _rw("FENCE_ADDR_LO", 0x20, "system address that fences write, low half"),
    _rw("FENCE_ADDR_HI", 0x24, "system address that fences write, high half"),
    _ro("FENCE_SEQ_LO", 0x28, "last fence, low half; latches the high half"),
    _ro("FENCE_SEQ_HI", 0x2C, "last fence, high half"),
    _ro("ERROR_CODE", 0x30, "why the engine stopped"),
    _ro("ERROR_INDEX", 0x34, "ring index of the command in error"),
    _ro("ERROR_ADDR_LO", 0x38, "address that failed, low half"),
    _ro("ERROR_ADDR_HI", 0x3C, "address that failed, high half"),
)


def build_registers(engines: int) -> RegisterMap:
    """The map of a GPU with so many engines."""
    blocks = (
        replace(register, offset=ENGINE_BASE + register.offset, count=engines, stride=ENGINE_STRIDE)
        for register in _ENGINE
    )
    return RegisterMap("gpu", REGISTERS_SIZE, (*_GLOBAL, *blocks))


MSIX_REGISTERS = RegisterMap("gpu-msix", MSIX_SIZE, ())
