"""`docs/devices/gpu.md` and the model name the same registers, errors, commands and faults."""

import re
from collections.abc import Iterator
from pathlib import Path

from vfiodev.faults import GENERIC_KNOBS
from vfiodev.gpu.commands import ErrorCode, Opcode
from vfiodev.gpu.faults import build_knobs
from vfiodev.gpu.ports import ENGINE_COUNTERS
from vfiodev.gpu.regs import ENGINE_BASE, build_registers

PAGE = (Path(__file__).parents[2] / "docs/devices/gpu.md").read_text()


def rows(pattern: str) -> Iterator[tuple[str, ...]]:
    for match in re.finditer(rf"^\| {pattern}", PAGE, re.MULTILINE):
        yield match.groups()


def documented_registers() -> Iterator[tuple[int, str, str]]:
    for offsets, name, access in rows(r"((?:`\+?0x[0-9a-f]+` ?)+)\| (\w+)(?:, _HI)? \| (RO|RW|W1C|WO) \|"):
        places = [
            int(text, 16) + (ENGINE_BASE if "+" in text else 0) for text in re.findall(r"\+?0x\w+", offsets)
        ]
        names = [name] if len(places) == 1 else [name, name.removesuffix("_LO") + "_HI"]
        for place, one in zip(places, names, strict=True):
            yield place, "ENGINE_STATUS" if place == ENGINE_BASE + 8 else one, access


def test_registers() -> None:
    declared = {(row.offset, row.name, row.access.value) for row in build_registers(2).registers}
    assert set(documented_registers()) == declared


def test_commands() -> None:
    assert {(int(n), name) for n, name in rows(r"(\d+) \| (\w+) \| (?:all|compute) \|")} == {
        (int(opcode), opcode.name) for opcode in Opcode
    }


def test_errors() -> None:
    errors = PAGE.split("## 5. Errors")[1].split("## 6. Resets")[0]
    found = {(int(n), name) for n, name in re.findall(r"^\| (\d+) \| (\w+) \|", errors, re.MULTILINE)}
    assert found == {(int(code), code.name) for code in ErrorCode if code}


def test_faults_with_arguments_and_defaults() -> None:
    faults = PAGE.split("## 7. Faults")[1].split("## 8. Trace")[0]
    found = dict(re.findall(r"^\| `(\w+)` \| (.*?) ?\| ", faults, re.MULTILINE))
    declared = {}
    for knob in (*build_knobs(2, 1 << 20), *GENERIC_KNOBS):
        shown = [
            arg.name if arg.default in (None, "any") else f"{arg.name} = {arg.default}" for arg in knob.args
        ]
        declared[knob.name] = ", ".join(shown)
    assert found == declared


def test_counters() -> None:
    listed = PAGE.split("Counters for `stats` and `wait`:")[1].split("## 8.")[0]
    assert set(ENGINE_COUNTERS) | {"faults_used"} == set(re.findall(r"`(\w+)`", listed)) - {"stats", "wait"}
