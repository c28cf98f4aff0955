"""What all models of the scenario language share."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """Base of all models: frozen, no unknown keys, no silent conversion, JSON in the YAML's own words."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, serialize_by_alias=True)


def find_tag(value: object, keys: tuple[str, ...]) -> str | None:
    """Return ``<key>`` for the first of ``keys`` that a mapping has or that is a field of a model.

    Tags of unions are in angle brackets so that they cannot be mistaken for keys in an error's location.
    """
    names = value if isinstance(value, dict) else getattr(type(value), "model_fields", {})
    return next((f"<{key}>" for key in keys if key in names), None)
