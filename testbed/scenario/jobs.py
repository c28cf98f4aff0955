"""GPU job graphs: jobs, their operations and buffers."""

from __future__ import annotations

import errno
from typing import Annotated, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, WithJsonSchema

from testbed.scenario.base import Strict, find_tag
from testbed.scenario.values import Duration, Name, Seq, Size, Word32, takes

# The tool knows one name for each error, and one that Python 3.11 lacks (guest-images/tools/lib/errname.c).
_ALIASES = {"EDEADLOCK", "ENOTSUP", "EWOULDBLOCK"}
OUTCOMES = frozenset({"ok", "EHWPOISON", *(name for name in dir(errno) if name[0] == "E")} - _ALIASES)
"""What a fence can end with, as ``tb-gpu graph`` takes it."""
_LONGEST_OUTCOME = 63


def _outcome(value: object) -> str:
    names = value.split(",") if isinstance(value, str) and len(value) <= _LONGEST_OUTCOME else [""]
    if not OUTCOMES.issuperset(names):
        raise takes("ok or an error like ETIME, or several as in EIO,ETIME", value)
    return ",".join(names)


Outcome = Annotated[
    str, BeforeValidator(_outcome), WithJsonSchema({"type": "string", "pattern": "^(ok|E[A-Z0-9]+)(,|$)"})
]


class FillArgs(Strict):
    """Operands of a fill."""

    buffer: Name = Field(description="The buffer that is filled.")
    value: Word32 = Field(description="32-bit pattern.")


class CopyArgs(Strict):
    """Operands of a copy."""

    from_: Name = Field(alias="from", description="The buffer that is read.")
    to: Name = Field(description="The buffer that is written.")


class VectorArgs(Strict):
    """Operands of an element-wise operation on u32."""

    op: Literal["add", "xor", "mul"] = Field(description="What is done with each pair of elements.")
    a: Name = Field(description="First buffer.")
    b: Name = Field(description="Second buffer.")
    to: Name = Field(description="The buffer that is written.")


class FillOp(Strict):
    """Fill a buffer with a pattern."""

    fill: FillArgs = Field(description="buffer and value.")


class CopyOp(Strict):
    """Copy one buffer to another."""

    copy_: CopyArgs = Field(alias="copy", description="from and to.")


class ChecksumOp(Strict):
    """CRC-32 of a buffer."""

    checksum: Name = Field(description="The buffer.")


class DelayOp(Strict):
    """Keep the engine busy."""

    delay: Duration = Field(description="How long.")


class VectorOp(Strict):
    """Element-wise operation; compute engines only."""

    vector: VectorArgs = Field(description="op, a, b and to.")


OPERATIONS = ("fill", "copy", "checksum", "delay", "vector")


def _operation(value: object) -> str | None:
    if isinstance(value, str):
        return "<nop>"
    return "<copy>" if isinstance(value, CopyOp) else find_tag(value, OPERATIONS)


Operation = Annotated[
    Annotated[Literal["nop"], Tag("<nop>")]
    | Annotated[FillOp, Tag("<fill>")]
    | Annotated[CopyOp, Tag("<copy>")]
    | Annotated[ChecksumOp, Tag("<checksum>")]
    | Annotated[DelayOp, Tag("<delay>")]
    | Annotated[VectorOp, Tag("<vector>")],
    Discriminator(_operation),
]


class Job(Strict):
    """One job of a graph: operations on one engine, one fence."""

    engine: Literal["copy", "compute"] = Field(description="The first engine of that kind.")
    after: Seq[Name] = Field(default=(), max_length=32, description="Jobs whose fences it waits for.")
    do: Seq[Operation] = Field(
        description="What it does, in order: fill, copy, checksum, delay, vector or nop.", min_length=1
    )
    publish: Literal["sync_file", "syncobj", "timeline"] = Field(
        default="sync_file", description="How its fence is handed to others."
    )
    expect: Outcome = Field(
        default="ok", description="ok, or the error on its fence; several with commas: any of them."
    )


class Buffer(Strict):
    """A buffer of a job graph."""

    place: Literal["vram", "system"] = Field(description="Where it lies.")
    size: Size = Field(description="Its size.")
