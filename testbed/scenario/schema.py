"""The scenario language as a JSON Schema (2020-12), made from the models and the catalogue."""

from __future__ import annotations

from typing import Any

from testbed.scenario.catalog import MODELS, Arg
from testbed.scenario.document import Document

Schema = dict[str, Any]
_PARAMETER: Schema = {"type": "string", "pattern": r"\$\{[a-z]", "description": "A parameter."}
_NARROW = ("enum", "const", "pattern", "format", "minimum", "maximum")
"""Keywords that a parameter in the place of a value would not satisfy."""


def build_schema() -> Schema:
    """Return the schema of a scenario file. Each key has a description, which editors show."""
    schema = Document.model_json_schema(by_alias=True, mode="validation")
    definitions: dict[str, Schema] = schema["$defs"]
    definitions["Device"] = _build_device(definitions["Device"])
    for step in ("InjectStep", "ClearStep"):
        definitions[step]["required"].remove("device")
    faults = {fault.name: fault.about for model in MODELS.values() for fault in model.faults}
    definitions["InjectStep"]["properties"]["inject"]["enum"] = sorted(faults)
    definitions["ClearStep"]["properties"]["clear"]["enum"] = ["all", *sorted(faults)]
    for definition in definitions.values():
        definition["properties"] = _walk_properties(definition.get("properties", {}))
    properties = schema["properties"]
    fixed = {key: properties[key] for key in ("schema", "params", "matrix")}
    schema["properties"] = {**_walk_properties(properties), **fixed}
    entry = schema["properties"]["modules"]["items"]
    schema["properties"]["modules"]["items"] = {"anyOf": [{"type": "string"}, entry]}
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "testbed scenario"}
    return {**schema, **head}


def _walk_properties(properties: dict[str, Schema]) -> dict[str, Schema]:
    return {key: _widen(value) for key, value in properties.items()}


def _widen(schema: Schema) -> Schema:
    """Return ``schema`` without null, and with a parameter allowed wherever a value is."""
    texts = {key: schema[key] for key in ("description", "default") if _is_worth_telling(schema.get(key))}
    choices = [each for each in schema.get("anyOf", ()) if each.get("type") != "null"]
    if choices:
        widened = _widen(choices[0]) if len(choices) == 1 else {"anyOf": [_widen(each) for each in choices]}
        return {**widened, **texts}
    rest = {key: value for key, value in schema.items() if key not in ("description", "title", "default")}
    for key in ("items", "additionalProperties"):
        if isinstance(rest.get(key), dict):
            rest[key] = _widen(rest[key])
    if "patternProperties" in rest:
        rest["additionalProperties"] = False
        rest["patternProperties"] = _walk_properties(rest["patternProperties"])
    if _takes_any_text(rest):
        return {**rest, **texts}
    return {**texts, "anyOf": [rest, _PARAMETER]}


def _is_worth_telling(value: object) -> bool:
    # A duration's default is a number of seconds in the models, which the language does not take.
    return isinstance(value, (str, int))


def _takes_any_text(schema: Schema) -> bool:
    kinds = schema.get("type", "string")
    if "$ref" in schema or "oneOf" in schema or kinds in ("object", "array"):
        return True
    return "string" in kinds and not any(key in schema for key in _NARROW)


def _build_device(device: Schema) -> Schema:
    common = {"plug": device["properties"]["plug"]}
    models = [
        _object(
            {
                "model": {"const": model.name, "description": model.about},
                **{arg.name: _build_arg(arg) for arg in model.params},
                **common,
            },
            "model",
        )
        for model in MODELS.values()
    ]
    properties = {"qemu": {"$ref": "#/$defs/QemuDevice"}, **common}
    return {"description": device["description"], "anyOf": [*models, _object(properties, "qemu")]}


def _object(properties: Schema, required: str) -> Schema:
    walked = {key: _widen(value) for key, value in properties.items()}
    return {
        "type": "object",
        "properties": {**walked, required: properties[required]},
        "required": [required],
        "additionalProperties": False,
    }


def _build_arg(arg: Arg) -> Schema:
    if arg.kind == "word":
        return {"enum": list(arg.words), "description": arg.about, "default": arg.default}
    schema: Schema = {"type": "integer", "minimum": arg.low, "description": arg.about}
    if arg.power_of_two and arg.high is not None:
        schema["enum"] = [1 << bit for bit in range(arg.high.bit_length())]
    if arg.high is not None:
        schema["maximum"] = arg.high
    return {**schema, "default": arg.default}
