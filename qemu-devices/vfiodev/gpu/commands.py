"""Ring entries: 64 bytes -> `Command`, or `CommandError` with a code of `docs/devices/gpu.md` section 5.

What can be judged without touching memory is judged here, in the order opcode, flags and fields, sizes.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag

ENTRY_SIZE = 64
MAX_TRANSFER = 0x1000_0000
MAX_ELEMENTS = 4096
MAX_DELAY_NS = 60_000_000_000
ELEMENT = struct.Struct("<QII")

_ENTRY = struct.Struct("<HHIQQQQQQQ")


class Opcode(IntEnum):
    NOP = 0
    FILL = 1
    COPY = 2
    CHECKSUM = 3
    SEM_WAIT = 4
    SEM_RELEASE = 5
    TIMESTAMP = 6
    DELAY = 7
    VECTOR = 8


class ErrorCode(IntEnum):
    NONE = 0
    BAD_OPCODE = 1
    BAD_FLAGS = 2
    BAD_SIZE = 3
    VRAM_RANGE = 4
    DMA_FAULT = 5
    BAD_RING = 6
    SEM_TIMEOUT = 7


class Space(IntEnum):
    VRAM = 0
    SYSTEM = 1
    LIST = 2


class Flag(IntFlag):
    FENCE = 1
    IRQ = 2


class Compare(IntEnum):
    EQUAL = 0
    GREATER_EQUAL = 1
    ANY_BIT = 2


class VectorOp(IntEnum):
    ADD_U32 = 0
    MULTIPLY_U32 = 1
    XOR = 2
    ADD_F32 = 3
    MULTIPLY_F32 = 4
    SCALE_ADD_F32 = 5


class CommandError(Exception):
    """A command must end with `code`; `address` is what failed, 0 when no address did."""

    def __init__(self, code: ErrorCode, address: int = 0) -> None:
        super().__init__(f"{code.name} at {address:#x}")
        self.code = code
        self.address = address


@dataclass(frozen=True, slots=True, kw_only=True)
class Operand:
    """Where bytes lie: an address in a space; `count` elements when the space is LIST."""

    space: int
    address: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    opcode: Opcode
    fence: bool
    irq: bool
    arg32: int
    src: Operand
    dst: Operand
    src2: Operand
    size: int
    arg0: int
    arg1: int
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """Which operands a command has (spaces up to the number are legal, -1: none) and how it is sized."""

    src: int = -1
    dst: int = -1
    src2: int = -1
    word: bool = False
    sized: bool = False
    multiple: int = 1
    last_arg32: int | None = None


_FORMS = {
    Opcode.NOP: _Form(),
    Opcode.FILL: _Form(dst=Space.LIST, sized=True, multiple=4),
    Opcode.COPY: _Form(src=Space.LIST, dst=Space.LIST, sized=True),
    Opcode.CHECKSUM: _Form(src=Space.LIST, dst=Space.SYSTEM, word=True, sized=True),
    Opcode.SEM_WAIT: _Form(dst=Space.SYSTEM, word=True, last_arg32=max(Compare)),
    Opcode.SEM_RELEASE: _Form(dst=Space.SYSTEM, word=True),
    Opcode.TIMESTAMP: _Form(dst=Space.SYSTEM, word=True),
    Opcode.DELAY: _Form(),
    Opcode.VECTOR: _Form(
        src=Space.LIST,
        dst=Space.LIST,
        src2=Space.SYSTEM,
        sized=True,
        multiple=4,
        last_arg32=max(VectorOp),
    ),
}
_OPCODES = {int(opcode): opcode for opcode in Opcode}
_RESERVED_FLAGS = 0xFC0C


def parse_command(entry: bytes | memoryview, *, compute: bool) -> Command:
    """Decode one 64-byte entry for a compute or a copy engine; raises CommandError."""
    number, flags, arg32, src, dst, size, arg0, arg1, arg2, seq = _ENTRY.unpack(entry)
    opcode = _OPCODES.get(number)
    if opcode is None or (opcode is Opcode.VECTOR and not compute):
        raise CommandError(ErrorCode.BAD_OPCODE)
    command = Command(
        opcode=opcode,
        fence=bool(flags & Flag.FENCE),
        irq=bool(flags & Flag.IRQ),
        arg32=arg32,
        src=Operand(space=flags >> 4 & 3, address=src, count=arg2 & 0xFFFF),
        dst=Operand(space=flags >> 6 & 3, address=dst, count=arg2 >> 16 & 0xFFFF),
        src2=Operand(space=flags >> 8 & 3, address=arg0, count=0),
        size=size,
        arg0=arg0,
        arg1=arg1,
        seq=seq,
    )
    form = _FORMS[opcode]
    if flags & _RESERVED_FLAGS:
        raise CommandError(ErrorCode.BAD_FLAGS)
    _check_fields(command, form)
    _check_sizes(command, form)
    return command


def _check_fields(command: Command, form: _Form) -> None:
    for operand, last in ((command.src, form.src), (command.dst, form.dst), (command.src2, form.src2)):
        if operand.space > max(last, 0):
            raise CommandError(ErrorCode.BAD_FLAGS)
    if form.word and command.dst.address % 8:
        raise CommandError(ErrorCode.BAD_FLAGS, command.dst.address)
    if form.last_arg32 is not None and command.arg32 > form.last_arg32:
        raise CommandError(ErrorCode.BAD_FLAGS)


def _check_sizes(command: Command, form: _Form) -> None:
    if form.sized and (command.size > MAX_TRANSFER or command.size % form.multiple):
        raise CommandError(ErrorCode.BAD_SIZE)
    if command.opcode is Opcode.DELAY and command.arg0 > MAX_DELAY_NS:
        raise CommandError(ErrorCode.BAD_SIZE)
    for operand in (command.src, command.dst):
        if operand.space == Space.LIST and not 1 <= operand.count <= MAX_ELEMENTS:
            raise CommandError(ErrorCode.BAD_SIZE)
