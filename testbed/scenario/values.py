"""Values of the scenario language: durations, sizes, regular expressions, names, counted changes.

Each type is an `Annotated` pydantic type. A wrong value raises the custom error type ``takes`` whose text
completes "'KEY' ...", so that `testbed.scenario.problems` can put the key's name in front.
"""

from __future__ import annotations

import operator
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, WithJsonSchema
from pydantic_core import PydanticCustomError

T = TypeVar("T")

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|min|h)")
_SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_SIZE = re.compile(r"(\d+)([KMG]?)")
_DELTA = re.compile(r"(\+|==|>=|<=|>|<)?(-?\d+)")
_KERNEL = re.compile(r"(>=|<=|==|>|<)\s*(\d+\.\d+(?:\.\d+)?)")
_NAME = r"[a-z][a-z0-9_-]{0,31}"
_LONGEST = 24 * 3600.0

Comparison = Callable[[Any, Any], bool]
COMPARISONS: dict[str, Comparison] = {
    "==": operator.eq,
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}


def describe(value: object) -> str:
    """Return what a value is in a reader's words: ``a list``, ``the text 'abc'``, ``the number 5``."""
    if value is None or value == "":
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return f"the number {_short(value)}"
    if isinstance(value, str):
        return f"the text {_short(value)!r}"
    if isinstance(value, dict):
        return "a mapping"
    return "a list" if isinstance(value, (list, tuple)) else type(value).__name__


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:37] + "..."


def takes(what: str, value: object) -> PydanticCustomError:
    """Return the error "takes WHAT, got VALUE"."""
    return PydanticCustomError("takes", "takes {what}, got {got}", {"what": what, "got": describe(value)})


def parse_duration(text: str) -> float:
    """Return the seconds that ``text`` (``300ms``, ``5s``, ``2min``) stands for; ValueError otherwise."""
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is not a duration like 5s")
    return round(float(found[1]) * _UNITS[found[2]], 9)


def format_duration(seconds: float) -> str:
    """Return the shortest text that `parse_duration` reads as ``seconds``."""
    for unit in ("h", "min", "s", "ms"):
        count = seconds / _UNITS[unit]
        if count == int(count) and (count > 0 or unit == "s"):
            return f"{int(count)}{unit}"
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"


def parse_size(text: str) -> int:
    """Return the bytes that ``text`` (``64K``, ``512M``, ``1G``, ``4096``) stands for; else ValueError."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is not a size like 64K")
    return int(found[1]) * _SIZES[found[2]]


def format_size(count: int) -> str:
    """Return the shortest text that `parse_size` reads as ``count`` bytes."""
    for unit in ("G", "M", "K"):
        if count and count % _SIZES[unit] == 0:
            return f"{count // _SIZES[unit]}{unit}"
    return str(count)


def _duration(value: object) -> float:
    try:
        seconds = parse_duration(value) if isinstance(value, str) else -1.0
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= _LONGEST:
        raise takes("a duration like 5s, 300ms or 2min (at most 24h)", value)
    return seconds


def _seconds(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


def _size(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 1 << 40:
        return value
    try:
        count = parse_size(value) if isinstance(value, str) else 0
    except ValueError:
        count = 0
    if not 0 < count <= 1 << 40:
        raise takes("a size like 64K, 512M or 1G", value)
    return count


def _regex(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise takes("a regular expression", value)
    try:
        with warnings.catch_warnings():
            # Python warns of "[[:space:]]", which it reads otherwise than grep does.
            warnings.simplefilter("error")
            re.compile(value)
    except (re.error, OverflowError, RecursionError, Warning) as error:
        raise PydanticCustomError(
            "takes", "is not a regular expression Python understands: {why}", {"why": str(error)}
        ) from None
    return value


def _scalar(value: object) -> str | int | float | bool:
    if isinstance(value, (str, int, float, bool)):
        return value
    raise takes("a single value (text, number, true or false)", value)


def _exit(value: object) -> int | str:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255:
        return value
    if value == "any":
        return "any"
    raise takes("an exit status from 0 to 255, or any", value)


def _kernel(value: object) -> str:
    if isinstance(value, str) and _KERNEL.fullmatch(value.strip()):
        return value.strip()
    raise takes('a kernel version like ">=6.12"', value)


def _nonempty(value: str) -> str:
    if not value.strip():
        raise takes("text", value)
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """What a counter must have done between two readings: changed exactly, or by a bound."""

    comparison: str
    """A key of `COMPARISONS`."""
    amount: int

    def holds(self, change: int) -> bool:
        """Whether ``change`` is what was asked for."""
        return COMPARISONS[self.comparison](change, self.amount)


def parse_delta(text: str) -> Delta:
    """Read ``+3``, ``0``, ``-1`` (exactly) or ``>=1``, ``<=4``, ``>0``, ``<9``; ValueError otherwise."""
    found = _DELTA.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is not a change like +3 or >=1")
    sign = found[1] or "=="
    return Delta(comparison="==" if sign == "+" else sign, amount=int(found[2]))


def _delta(value: object) -> str:
    text = str(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else ""
    try:
        parse_delta(text)
    except ValueError:
        raise takes('a change like "+3", "0" or ">=1"', value) from None
    return text.strip()


def kernel_fits(wanted: str, release: str) -> bool:
    """Whether kernel ``release`` (``7.2.12-amd64``) satisfies ``wanted`` (``>=6.12``)."""
    found = _KERNEL.fullmatch(wanted)
    numbers = re.match(r"\d+(\.\d+)*", release)
    if found is None or numbers is None:
        return False
    bound = [int(part) for part in found[2].split(".")]
    have = ([int(part) for part in numbers[0].split(".")] + [0, 0])[: len(bound)]
    return COMPARISONS[found[1]](have, bound)


def is_name(text: str) -> bool:
    """Whether ``text`` can name a guest, a device, a job, a buffer or a tag."""
    return re.fullmatch(_NAME, text) is not None


def _schema(kind: object, **more: object) -> WithJsonSchema:
    return WithJsonSchema({"type": kind, **more})


Text = Annotated[str, AfterValidator(_nonempty)]
Name = Annotated[str, Field(pattern=f"^{_NAME}$")]
Duration = Annotated[
    float,
    BeforeValidator(_duration),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
    _schema("string", pattern=f"^{_DURATION.pattern}$", examples=["5s", "300ms", "2min"]),
]
Seconds = Annotated[
    float,
    BeforeValidator(_seconds),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
]
"""As `Duration`, but a number is fine too: for values that our own code makes."""
Size = Annotated[
    int,
    BeforeValidator(_size),
    PlainSerializer(format_size, return_type=str, when_used="json"),
    _schema(["string", "integer"], pattern=f"^{_SIZE.pattern}$", examples=["64K", "512M", "1G"]),
]
Regex = Annotated[str, BeforeValidator(_regex), _schema("string", format="regex", minLength=1)]
Scalar = Annotated[
    str | int | float | bool, BeforeValidator(_scalar), _schema(["string", "number", "boolean"])
]
Word32 = Annotated[int, Field(ge=0, le=0xFFFFFFFF)]
ExitStatus = Annotated[int | str, BeforeValidator(_exit), _schema(["integer", "string"])]
KernelVersion = Annotated[str, BeforeValidator(_kernel), _schema("string", pattern=f"^{_KERNEL.pattern}$")]
Change = Annotated[str, BeforeValidator(_delta), _schema(["string", "integer"])]
Seq = Annotated[tuple[T, ...], Field(strict=False)]
