"""The document of the network device names what the model has."""

import re
from pathlib import Path

from vfiodev.faults import GENERIC_KNOBS
from vfiodev.virtio_net import MODEL, spec
from vfiodev.virtio_net.packet import Reason

TEXT = (Path(__file__).parents[2] / "docs/devices/virtio-net.md").read_text()


def section(number: int) -> str:
    return TEXT.split(f"\n## {number}. ")[1].split("\n## ")[0]


def test_faults_and_their_arguments() -> None:
    rows = dict(re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|([^|]*)\|", section(8), re.MULTILINE))
    told = {name: args for names, args in rows.items() for name in re.findall(r"`(\w+)`", names)}
    knobs = {knob.name: knob for knob in MODEL.describe({}).knobs}
    assert set(told) == set(knobs)
    assert not set(knobs) & {knob.name for knob in GENERIC_KNOBS}
    for name, knob in knobs.items():
        assert [arg.name for arg in knob.args] == re.findall(
            r"\b([a-z]+)\b", re.sub(r"\(.*\)", "", told[name])
        )


def test_counters() -> None:
    rows = re.findall(r"\| (\d+) \| (\w+)", section(7))
    told = {int(number): name for number, name in rows}
    expected = {**dict(enumerate(spec.PAIR_COUNTERS)), spec.STATS_COUNT - 1: "reserved"}
    assert told == expected
    for name in (*spec.LEDGER_COUNTERS, *spec.DEVICE_COUNTERS):
        assert f"`{name}`" in section(9)


def test_reasons_and_features() -> None:
    assert [int(number) for number in re.findall(r"^\| (\d) \|", section(5), re.MULTILINE)] == list(Reason)
    standard, private = section(2).split("Private bits")
    told = {int(bit) for bit in re.findall(r"`[A-Z0-9_]+` (\d+)", standard)}
    assert told == set(spec.STANDARD)
    assert {int(bit) for bit in re.findall(r"^\| (\d+) \|", private, re.MULTILINE)} == set(spec.EXTENSION)


def test_parameters_and_their_defaults() -> None:
    rows = dict(
        re.findall(r"^\| `(\w+)` \| ([^|]+) \|", section(1).split("Model parameters:")[1], re.MULTILINE)
    )
    assert set(rows) == set(spec.PARAMS)
    made = spec.parse_params({})
    for name in ("pairs", "queue_size", "mtu", "speed"):
        assert rows[name] == str(getattr(made, name))
