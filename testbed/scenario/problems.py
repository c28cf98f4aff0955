"""pydantic's errors in the words of the scenario language, at their place in the file."""

from __future__ import annotations

import re
import types
from collections.abc import Iterable
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError
from pydantic_core import ErrorDetails

from testbed.scenario.document import Document
from testbed.scenario.jobs import OPERATIONS
from testbed.scenario.model import VERBS
from testbed.scenario.suggest import join, suggest
from testbed.scenario.tree import Loc, Tree
from testbed.scenario.values import describe

_TAKES = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "dict_type": "a mapping (key: value)",
    "model_type": "a mapping (key: value)",
    "model_attributes_type": "a mapping (key: value)",
    "tuple_type": "a list",
}
_BOUNDS = {"greater_than_equal": ("at least", "ge"), "less_than_equal": ("at most", "le")}
_NAME_RULE = "up to 32 of a-z, 0-9, _ and -, beginning with a letter"
_WORD = re.compile(r"'([^']*)'")


def report_errors(tree: Tree, error: ValidationError, silent: Iterable[Loc]) -> None:
    """Note each error of ``error`` in ``tree``, except those at ``silent`` places, which were told before."""
    quiet = set(silent)
    for item in error.errors(include_url=False):
        loc = tuple(item["loc"])
        plain = strip_tags(tree, loc)
        if plain in quiet or _is_consequence(item):
            continue
        place, key, message, hint = _translate(item, loc, plain)
        tree.report(tree.at(place, key=key), message, hint)


def strip_tags(tree: Tree, loc: Loc) -> Loc:
    """Return ``loc`` without the union tags and key marks that pydantic adds."""
    plain: Loc = ()
    for part in loc:
        # A key of the file may look like a tag.
        if (*plain, part) in tree.keys or not (isinstance(part, str) and part[:1] in ("<", "[")):
            plain = (*plain, part)
    return plain


def _is_consequence(item: ErrorDetails) -> bool:
    """Whether a container is called too short only because its entries have errors of their own."""
    return item["type"] == "too_short" and len(item["input"]) >= item["ctx"]["min_length"]


def _translate(item: ErrorDetails, loc: Loc, plain: Loc) -> tuple[Loc, bool, str, str | None]:
    kind, value, context = item["type"], item["input"], item.get("ctx", {})
    name = _name(plain)
    if kind == "extra_forbidden":
        return plain, True, *_unknown_key(loc, plain)
    if kind == "missing":
        hint = "say which: the guest has not exactly one device" if plain[-1] == "device" else None
        return plain[:-1], False, f"'{plain[-1]}' is missing{_inside(plain[:-1])}", hint
    if kind == "union_tag_not_found":
        return _no_tag(loc, plain, value)
    if loc[-1:] == ("[key]",):
        return plain, True, f"'{plain[-1]}' is not a name", f"a name is {_NAME_RULE}"
    if kind == "literal_error":
        words = _WORD.findall(str(context.get("expected", "")))
        hint = suggest(value, words) if isinstance(value, str) else None
        hint = hint if hint and hint.startswith("did") else None
        expected = str(context.get("expected", "")).replace("'", "")
        if "<nop>" in loc:
            expected = f"nop, or a mapping with one of {join(OPERATIONS)}"
        return plain, False, f"{name} takes {expected}, got {describe(value)}", hint
    return plain, False, f"{name} {_complaint(item)}", None


def _complaint(item: ErrorDetails) -> str:
    kind, context, got = item["type"], item.get("ctx", {}), describe(item["input"])
    if kind == "too_short":
        least = context["min_length"]
        return f"needs at least {least} {'entry' if least == 1 else 'entries'}"
    if kind == "too_long":
        return f"takes at most {context['max_length']} entries"
    what = _TAKES.get(kind)
    if kind in _BOUNDS:
        word, bound = _BOUNDS[kind]
        what = f"{word} {context[bound]}"
    elif kind == "string_pattern_mismatch":
        what = f"a name ({_NAME_RULE})"
    return f"takes {what}, got {got}" if what else str(item["msg"])


def _name(plain: Loc) -> str:
    if not plain:
        return "a scenario"
    if isinstance(plain[-1], str):
        return f"'{plain[-1]}'"
    owner = next((part for part in reversed(plain) if isinstance(part, str)), None)
    return f"entry {plain[-1] + 1} of '{owner}'"


def _inside(plain: Loc) -> str:
    owner = next((part for part in reversed(plain) if isinstance(part, str)), None)
    return f" in '{owner}'" if owner else ""


def _unknown_key(loc: Loc, plain: Loc) -> tuple[str, str | None]:
    key = str(plain[-1])
    verb = loc[-2].strip("<>") if len(loc) > 1 and isinstance(loc[-2], str) and loc[-2][:1] == "<" else None
    if verb in VERBS and key in VERBS:
        return f"a step does one thing: '{verb}' is here already", f"begin a step of its own: - {key}: ..."
    model = find_model(loc[:-1])
    known = [field.alias or name for name, field in model.model_fields.items()] if model else []
    message = f"unknown key '{key}'" + (f" for '{verb}'" if verb else _inside(plain[:-1]))
    return message, suggest(key, known)


def _no_tag(loc: Loc, plain: Loc, value: Any) -> tuple[Loc, bool, str, str | None]:
    tags = [tag.strip("<>") for tag in _tags(find_annotation(loc))]
    what = "a step" if "run" in tags else _name(plain)
    if not isinstance(value, dict):
        return plain, False, f"{what} takes a mapping with one of {join(tags)}; got {describe(value)}", None
    common = {"name", "guest", "timeout"} if what == "a step" else set()
    strange = next((key for key in value if key not in common), None)
    if strange is None:
        return plain, False, f"{what} does not say what to do", f"known: {join(tags)}"
    return (*plain, strange), True, f"'{strange}' is not known here", suggest(strange, tags)


def find_model(loc: Loc) -> type[BaseModel] | None:
    """Return the model class that describes the mapping at ``loc`` (with union tags), or None."""
    found = find_annotation(loc)
    return found if isinstance(found, type) and issubclass(found, BaseModel) else None


def find_annotation(loc: Loc) -> Any:
    """Return the type of the value at ``loc``, or None."""
    current: Any = Document
    for part in loc:
        current = _descend(_bare(current), part)
    return _bare(current)


def _bare(annotation: Any) -> Any:
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, types.UnionType):
        members = [member for member in get_args(annotation) if member is not type(None)]
        return _bare(members[0]) if len(members) == 1 else annotation
    return annotation


def _descend(annotation: Any, part: str | int) -> Any:
    if isinstance(part, str) and part.startswith("<"):
        return next((member for member in get_args(annotation) if part in _tags_of(member)), None)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = annotation.model_fields.items()
        return next((field.annotation for name, field in fields if part in (name, field.alias)), None)
    arguments = get_args(annotation)
    if get_origin(annotation) is tuple and isinstance(part, int):
        return arguments[0]
    return arguments[1] if get_origin(annotation) is dict else None


def _tags_of(member: Any) -> list[str]:
    return [extra.tag for extra in getattr(member, "__metadata__", ()) if isinstance(extra, Tag)]


def _tags(annotation: Any) -> list[str]:
    return [tag for member in get_args(annotation) for tag in _tags_of(member)]
