"""A firmware of 64 KiB that is a whole guest: it proves that a hypervisor lets the processor run code.

It enters protected mode and computes with x87, SSE2 and, where there is BMI2, a VEX-encoded instruction:
none of these is known to the instruction emulator in KVM (arch/x86/kvm/emulate.c), so a "KVM" that only
emulates stops at once with an internal error. Then comes a loop that takes a processor milliseconds and an
emulator minutes. Success is one value on QEMU's ``isa-debug-exit`` port, so that no crash looks like it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

_DEBUG_EXIT_PORT = 0xF4
_PASSED, _WRONG = 0x2A, 0x01
STATUS_PASSED = (_PASSED << 1) | 1
"""QEMU's exit status after `build_probe_rom`'s guest passed (hw/misc/debugexit.c)."""
STATUS_WRONG = (_WRONG << 1) | 1
"""... and after it computed something wrong."""

_SIZE = 0x10000
_START = 0xF000
_PROTECTED = 0xF040
_GDT_POINTER = 0xF100
_GDT = 0xF108
_FAIL = 0xF0F0
_RESET = 0xFFF0
_BASE = 0xFFFF0000  # where the last 64 KiB of firmware are seen after reset

_REAL_MODE = (
    "fa",  # cli
    "2e 66 0f 01 16 00 f1",  # lgdt cs:[_GDT_POINTER]
    "0f 20 c0",  # mov eax, cr0
    "0c 01",  # or al, 1: protected mode
    "0f 22 c0",  # mov cr0, eax
    "66 ea 40 f0 ff ff 08 00",  # jmp 8:_BASE + _PROTECTED
)
_SEGMENTS = (
    "66 b8 10 00",  # mov ax, 16
    "8e d8",  # mov ds, ax
    "8e c0",  # mov es, ax
    "8e d0",  # mov ss, ax
)
_X87 = (
    "db e3",  # fninit
    "d9 eb",  # fldpi
    "db 1d 00 10 00 00",  # fistp dword [0x1000]
    "83 3d 00 10 00 00 03",  # cmp dword [0x1000], 3
)
_SSE2 = (
    "0f 20 e0",  # mov eax, cr4
    "0d 00 06 00 00",  # or eax, OSFXSR | OSXMMEXCPT
    "0f 22 e0",  # mov cr4, eax
    "66 0f 76 c0",  # pcmpeqd xmm0, xmm0
    "66 0f 72 d0 1f",  # psrld xmm0, 31
    "66 0f fe c0",  # paddd xmm0, xmm0
    "66 0f 7e c0",  # movd eax, xmm0
    "83 f8 02",  # cmp eax, 2
)
_HAS_BMI2 = (
    "b8 07 00 00 00",  # mov eax, 7
    "31 c9",  # xor ecx, ecx
    "0f a2",  # cpuid
    "f7 c3 00 01 00 00",  # test ebx, BMI2
)
_BMI2 = (
    "b8 01 00 00 00",  # mov eax, 1
    "b9 04 00 00 00",  # mov ecx, 4
    "c4 e2 71 f7 c0",  # shlx eax, eax, ecx
    "83 f8 10",  # cmp eax, 16
)
_ROUNDS = 20_000_000


def build_probe_rom(rounds: int = _ROUNDS) -> bytes:
    """Return the firmware image, for QEMU's ``-bios``; the loop goes round ``rounds`` times."""
    code = bytearray(_code(_SEGMENTS))
    for check in (_X87, _SSE2):
        code += _code(check)
        code += _jump("0f 85", len(code), _FAIL - _PROTECTED)  # jne
    bmi2 = bytearray(_code(_BMI2))
    code += _code(_HAS_BMI2) + bytes((0x74, len(bmi2) + 6))  # jz over the check and its jump
    code += bmi2
    code += _jump("0f 85", len(code), _FAIL - _PROTECTED)
    code += _loop(rounds) + _leave(_PASSED)
    assert len(code) <= _FAIL - _PROTECTED
    rom = bytearray(b"\xf4" * _SIZE)  # hlt
    _put(rom, _START, _code(_REAL_MODE))
    _put(rom, _PROTECTED, bytes(code))
    _put(rom, _FAIL, _leave(_WRONG))
    _put(rom, _GDT_POINTER, (23).to_bytes(2, "little") + (_BASE + _GDT).to_bytes(4, "little"))
    _put(rom, _GDT, bytes(8) + _flat_segment(0x9B) + _flat_segment(0x93))
    _put(rom, _RESET, b"\xe9" + (_START - _RESET - 3).to_bytes(2, "little", signed=True))
    return bytes(rom)


def build_probe_argv(qemu: Sequence[str], accel: str, rom: Path) -> list[str]:
    """Return how QEMU (its argv prefix) runs the firmware in file ``rom``."""
    return [
        *qemu,
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-machine", "q35", "-accel", accel, "-cpu", "max", "-m", "64"),
        *("-bios", str(rom).replace(",", ",,")),
        *("-device", f"isa-debug-exit,iobase={_DEBUG_EXIT_PORT:#x},iosize=1"),
    ]


def _code(lines: tuple[str, ...]) -> bytes:
    return bytes.fromhex(" ".join(lines))


def _loop(rounds: int) -> bytes:
    return b"\xb9" + rounds.to_bytes(4, "little") + bytes.fromhex("49 75 fd")  # mov ecx; dec ecx; jnz to dec


def _jump(opcode: str, at: int, to: int) -> bytes:
    head = bytes.fromhex(opcode)
    return head + (to - at - len(head) - 4).to_bytes(4, "little", signed=True)


def _leave(value: int) -> bytes:
    return bytes((0xB0, value, 0xE6, _DEBUG_EXIT_PORT, 0xF4, 0xEB, 0xFD))  # mov al; out; hlt for ever


def _flat_segment(access: int) -> bytes:
    # Base 0, limit 4 GiB. `access` has the accessed bit set: the processor need not write to our ROM.
    return bytes((0xFF, 0xFF, 0, 0, 0, access, 0xCF, 0))


def _put(rom: bytearray, at: int, data: bytes) -> None:
    rom[at : at + len(data)] = data
