"""The generated half of ``docs/scenario.md``: every key of the language, from models and catalogue."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel

from testbed.scenario import conditions, document, jobs, model
from testbed.scenario.base import Strict
from testbed.scenario.catalog import MODELS, Arg
from testbed.scenario.values import format_duration, format_size

MARKER = "<!-- below this line: written by `testbed schema --reference docs/scenario.md` -->\n"
_FORMATS = {"h)$": "duration", "[KMG]?)$": "size", "31}$": "name", "\\d+)?)$": "version"}
_PARTS: tuple[type[Strict], ...] = (
    document.Guest,
    document.Device,
    document.QemuDevice,
    document.Requires,
    document.ExpectedWarning,
    document.ExpectedVerdict,
)
_PARTS_OF: dict[type[model.StepBase], tuple[type[Strict], ...]] = {
    model.CountersStep: (model.CounterSources,),
    model.RepeatStep: (model.Repeat,),
}
_CONDITIONS: tuple[tuple[str, type[Strict]], ...] = (
    ("wait, expect", conditions.KmsgMatch),
    ("expect", conditions.KmsgAbsent),
    ("wait, expect", conditions.ConsoleMatch),
    ("wait", conditions.QmpEvent),
    ("wait", conditions.CounterReached),
    ("wait", conditions.CommandSucceeds),
    ("expect", conditions.CounterIs),
    ("expect", conditions.FileMatch),
)
_OPERATIONS: tuple[type[Strict], ...] = (jobs.FillArgs, jobs.CopyArgs, jobs.VectorArgs)


def refresh_reference(text: str) -> str:
    """Return ``text`` of the page with what follows the marker written anew."""
    return text.partition(MARKER)[0] + MARKER + build_reference()


def build_reference() -> str:
    """Return the reference as Markdown."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield from ("", "## The file", *_table(document.Document))
    for part in _PARTS:
        yield from ("", f"### {part.__name__}", "", _about(part), *_table(part))
    yield from ("", "## Steps", "", "Every step has:", *_table(model.StepBase))
    for step in sorted(model.STEP_CLASSES, key=lambda each: model.VERBS.index(each.verb)):
        yield from ("", f"### {step.verb}", "", _about(step), *_table(step, is_step=True))
        for part in _PARTS_OF.get(step, ()):
            yield from ("", f"`{step.verb}` holds:", *_table(part))
    yield from ("", "### What commands leave", "", "`expect` of `run`; `tool` has all of it and `skip`.")
    yield from _table(model.ToolExpect)
    yield from ("", "### What can be waited for and expected")
    for where, condition in _CONDITIONS:
        yield from ("", f"{_about(condition)} (`{where}`)", *_table(condition))
    yield from ("", "### Jobs, buffers and operations", "", _about(jobs.Job), *_table(jobs.Job))
    yield from ("", _about(jobs.Buffer), *_table(jobs.Buffer))
    for operation in _OPERATIONS:
        yield from ("", _about(operation), *_table(operation))
    yield from ("", "## Device models")
    yield from _models()


def _about(part: type[BaseModel]) -> str:
    return " ".join((part.__doc__ or "").split())


def _table(part: type[BaseModel], *, is_step: bool = False) -> Iterator[str]:
    schema = part.model_json_schema(by_alias=True)
    if "$ref" in schema:
        schema = schema["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    yield from ("", "| key | takes | default | |", "|---|---|---|---|")
    for key, value in schema["properties"].items():
        told_for_all = key in ("name", "guest") or (key == "timeout" and value["default"] is None)
        if is_step and told_for_all:
            continue
        default = "required" if key in schema.get("required", ()) else _default(value)
        if is_step and key == "device":
            default = "the only one"
        yield f"| `{key}` | {_takes(value)} | {default} | {_cell(value.get('description', ''))} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _default(value: dict[str, Any]) -> str:
    default = value.get("default")
    if default in (None, [], {}) or isinstance(default, dict):
        return ""
    if isinstance(default, float) and _takes(value) == "duration":
        return format_duration(default)
    if isinstance(default, int) and _takes(value) == "size":
        return format_size(default)
    return f"{default}".lower() if isinstance(default, bool) else f"{default}"


def _takes(value: dict[str, Any]) -> str:
    choices = [each for each in value.get("anyOf", value.get("oneOf", ())) if each.get("type") != "null"]
    if choices:
        words = list(dict.fromkeys(_takes(each) for each in choices))
        return " or ".join(words) if len(words) < 4 else "step" if "Run" in words else "one of several"
    if "$ref" in value:
        return str(value["$ref"]).rpartition("/")[2].removesuffix("Step")
    if "enum" in value or "const" in value:
        return ", ".join(f"`{each}`" for each in value.get("enum", [value.get("const")]))
    return _special(value) or _plain(value)


def _special(value: dict[str, Any]) -> str | None:
    if value.get("format") == "regex":
        return "regex"
    pattern = str(value.get("pattern", ""))
    return next((word for end, word in _FORMATS.items() if pattern.endswith(end)), None)


def _plain(value: dict[str, Any]) -> str:
    kinds = value.get("type", "anything")
    if kinds == "array":
        return f"list of {_takes(value.get('items', {}))}"
    words = {"string": "text", "integer": "number", "boolean": "true, false", "object": "mapping"}
    return " or ".join(words.get(kind, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds))


def _models() -> Iterator[str]:
    for each in MODELS.values():
        yield from ("", f"### {each.name}", "", f"{each.about[0].upper()}{each.about[1:]}.")
        if each.params:
            yield from ("", "| parameter | takes | default | |", "|---|---|---|---|", *_rows(each.params))
        yield from ("", "| fault | arguments | |", "|---|---|---|")
        for fault in each.faults:
            args = ", ".join(f"`{arg.name}`" + _given(arg) for arg in fault.args)
            yield f"| `{fault.name}` | {args} | {fault.about} |"
        names = ", ".join(f"`{name}`" for name in each.counters)
        own = " Each engine has its own as `engineN.NAME`." if each.engine_counters else ""
        yield from ("", f"Counters: {names}.{own}")


def _rows(args: Iterable[Arg]) -> Iterator[str]:
    for arg in args:
        default = "required" if arg.default is None else arg.default
        yield f"| `{arg.name}` | {arg.accepts} | {default} | {arg.about} |"


def _given(arg: Arg) -> str:
    return "" if arg.default is None else f" = {arg.default}"
