"""The error tree of the library.

VfiodevError
├── ConfigError       the host's configuration or a device's description is wrong
├── RangeError        offset and length do not fit into what they index
├── BadMessageError        one message is wrong; it gets an error reply, the stream goes on
├── FatalStreamError       the byte stream cannot be trusted any more; the connection is dropped
├── DmaError          the device may not, or cannot, reach that memory
│   └── StoppedError       the caller is a worker that was stopped; let it escape, the worker ends
└── ControlError      a control request is refused; its text is the answer
"""

import errno


class VfiodevError(Exception):
    """Base of everything this library raises on purpose."""


class ConfigError(VfiodevError):
    """The host's configuration, or the description of a device, is wrong."""


class RangeError(VfiodevError):
    """Offset and length do not fit into the object they index."""


class BadMessageError(VfiodevError):
    """One message cannot be carried out. `code` is the errno of the reply (vfio-user, "Header")."""

    def __init__(self, message: str, code: int = errno.EINVAL) -> None:
        super().__init__(message)
        self.code = code


class FatalStreamError(VfiodevError):
    """The peer closed, or framing is lost: nothing after this point can be understood."""


class DmaError(VfiodevError):
    """A DMA access was refused: bus mastering off, unmapped, read-only, or the device is gone."""


class StoppedError(DmaError):
    """A worker that was stopped (reset, unplug) tried to go on. Do not catch it."""


class ControlError(VfiodevError):
    """A control request is refused; the text is what the orchestrator sees."""
