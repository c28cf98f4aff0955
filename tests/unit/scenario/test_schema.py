"""The JSON Schema that editors use agrees with what the loader says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from testbed.scenario.schema import build_schema
from testbed.scenario.tree import parse_tree

SCENARIOS = Path(__file__).resolve().parents[3] / "scenarios"
SCHEMA = build_schema()
VALIDATOR = Draft202012Validator(SCHEMA)


def accepts(text: str) -> bool:
    return VALIDATOR.is_valid(parse_tree(Path("s.yaml"), text).value)


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", sorted(SCENARIOS.rglob("*.yaml")), ids=lambda path: path.stem)
def test_it_accepts_every_scenario(path: Path) -> None:
    errors = [error.message for error in VALIDATOR.iter_errors(parse_tree(path, path.read_text()).value)]
    assert errors == []


GOOD = "schema: 1\nabout: x\nsteps: [{run: x}]\n"
HEAD = "schema: 1\nabout: x\n"


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        HEAD + "params: {n: 3}\nsteps: [{repeat: {times: '${n}', steps: [{run: x, timeout: '${n}'}]}}]\n",
        HEAD + "guests: {vm: {devices: {e: {qemu: {driver: edu, dma_mask: 1}}}}}\nsteps: [{run: x}]\n",
        HEAD + "guests: {vm: {devices: {g: {model: gpu, plug: later}}}}\nsteps: [{plug: g}]\n",
        HEAD + "modules: [tbgpu, tbimport: {a: 1}]\nsteps: [{clear: all}]\n",
        HEAD
        + "steps: [{run: x, expect: {exit: any}}, {expect: {kmsg: x}}, {qmp: stop, args: {a: [null]}}]\n",
    ],
)
def test_it_accepts(text: str) -> None:
    assert accepts(text)


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace("schema: 1", "schema: 2"),
        GOOD.replace("about", "abot"),
        GOOD + "timeot: 5s\n",
        GOOD + "timeout: 5\n",
        GOOD + "timeout: 5 s\n",
        GOOD + "tags: [Bad Name]\n",
        GOOD + "guests: {VM: {}}\n",
        GOOD + "guests: {vm: {memory: 5MB}}\n",
        GOOD + "guests: {vm: {devices: {g: {model: gpuu}}}}\n",
        GOOD + "guests: {vm: {devices: {g: {model: gpu, vram: 64}}}}\n",
        GOOD + "guests: {vm: {devices: {g: {model: gpu, vram_mib: 63}}}}\n",
        GOOD + "stdin:\n",
        HEAD + "steps: [{rn: x}]\n",
        HEAD + "steps: [{run: x, timeot: 5s}]\n",
        HEAD + "steps: [{run: x, plug: g}]\n",
        HEAD + "steps: [{run: x, stdin: null}]\n",
        HEAD + "steps: [{inject: hold_completion}]\n",
        HEAD + "steps: [{wait: {kmg: x}}]\n",
        HEAD + "steps: []\n",
    ],
)
def test_it_refuses(text: str) -> None:
    assert not accepts(text)


def undescribed(schema: Any, path: str = "") -> Iterator[str]:
    if isinstance(schema, list):
        for index, item in enumerate(schema):
            yield from undescribed(item, f"{path}/{index}")
    elif isinstance(schema, dict):
        for key, value in schema.get("properties", {}).items():
            reference = SCHEMA["$defs"].get(value.get("$ref", "").removeprefix("#/$defs/"), {})
            if not value.get("description") and not reference.get("description"):
                yield f"{path}/{key}"
        for key, value in schema.items():
            yield from undescribed(value, f"{path}/{key}")


def test_every_key_has_a_description_for_the_editor() -> None:
    assert list(undescribed(SCHEMA)) == []
