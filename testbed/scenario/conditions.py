"""What a scenario can wait for and expect: lines of logs, QMP events, counters, files, commands."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from testbed.scenario.base import Strict, find_tag
from testbed.scenario.values import Name, Regex, Text


class KmsgMatch(Strict):
    """A line of the kernel log matches."""

    kmsg: Regex = Field(description="Must be found in the kernel log.")


class KmsgAbsent(Strict):
    """No line of the kernel log matches."""

    not_kmsg: Regex = Field(description="Must not be found in the kernel log.")


class ConsoleMatch(Strict):
    """A line of the serial console matches."""

    console: Regex = Field(description="Must be found on the serial console.")


class QmpEvent(Strict):
    """QEMU sends an event."""

    qmp: Text = Field(description="The event's name, for example DEVICE_DELETED.")
    data: dict[str, Any] = Field(default={}, description="What its data must contain.")


class CounterReached(Strict):
    """A counter of a device model has reached a value."""

    device: Name = Field(description="The device.")
    counter: Text = Field(description="The counter's name, for example commands or engine0.commands.")
    at_least: int = Field(ge=0, description="The value.")


class CommandSucceeds(Strict):
    """A shell command in the guest ends with status 0; it is tried again until then."""

    command: Text = Field(description="The command, for the guest's sh.")


class CounterIs(Strict):
    """A counter of a device model has a value now."""

    device: Name = Field(description="The device.")
    counter: Text = Field(description="The counter's name, for example commands or engine0.commands.")
    equals: int | None = Field(default=None, description="Exactly this.")
    at_least: int | None = Field(default=None, description="This or more.")
    at_most: int | None = Field(default=None, description="This or less.")


class FileMatch(Strict):
    """A file in the guest matches."""

    file: Text = Field(description="Absolute path in the guest.")
    matches: Regex = Field(description="Must be found in it.")


WAIT_KEYS = ("kmsg", "console", "qmp", "device", "command")
EXPECT_KEYS = ("kmsg", "not_kmsg", "console", "device", "file")

Wait = Annotated[
    Annotated[KmsgMatch, Tag("<kmsg>")]
    | Annotated[ConsoleMatch, Tag("<console>")]
    | Annotated[QmpEvent, Tag("<qmp>")]
    | Annotated[CounterReached, Tag("<device>")]
    | Annotated[CommandSucceeds, Tag("<command>")],
    Discriminator(lambda value: find_tag(value, WAIT_KEYS)),
]
Expectation = Annotated[
    Annotated[KmsgMatch, Tag("<kmsg>")]
    | Annotated[KmsgAbsent, Tag("<not_kmsg>")]
    | Annotated[ConsoleMatch, Tag("<console>")]
    | Annotated[CounterIs, Tag("<device>")]
    | Annotated[FileMatch, Tag("<file>")],
    Discriminator(lambda value: find_tag(value, EXPECT_KEYS)),
]
