"""One address map per device host: where the memory BARs of all devices lie in the guest.

QEMU tells a device about another device's BAR only as a map without a file descriptor. The host knows
better: it sees each device's BAR addresses in config space, so a NIC that writes to a GPU's memory is one
copy inside this process.
"""

import threading
from dataclasses import dataclass

from vfiodev.ranges import contains


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A BAR that decodes now: `size` bytes at guest address `base`. `memory` is None for a BAR of
    registers."""

    device: str
    bar: int
    base: int
    size: int
    memory: memoryview | None


class PeerMap:
    """The windows of all devices of a host; devices replace their own, anybody looks up."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_device: dict[str, tuple[Window, ...]] = {}
        self._windows: tuple[Window, ...] = ()

    def replace(self, device: str, windows: tuple[Window, ...]) -> None:
        """Set the windows of one device; an empty tuple removes it."""
        with self._lock:
            self._by_device[device] = windows
            self._windows = tuple(window for group in self._by_device.values() for window in group)

    def find(self, address: int) -> Window | None:
        """The window that decodes `address`, or None."""
        for window in self._windows:
            if contains(window.base, window.size, address, 1):
                return window
        return None
