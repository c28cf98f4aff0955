"""Links between the ports of one device host."""

import threading
import weakref
from collections.abc import Sequence
from typing import Final, Protocol

from vfiodev.peers import PeerMap
from vfiodev.virtio_net.packet import Frame

ENDS: Final = 2


class End(Protocol):
    """A port, as a link sees it."""

    def arrive(self, frames: Sequence[Frame]) -> None:
        """Frames come in. Any thread, no lock held."""

    def carrier_changed(self) -> None:
        """The link went up or down. Any thread, no lock held."""


class Link:
    """Two ports back to back. It is up while both are plugged and nobody holds it down."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ends: list[End] = []
        self._down: set[int] = set()

    @property
    def is_up(self) -> bool:
        """Both ends see carrier."""
        return len(self._ends) == ENDS and not self._down

    def plug(self, end: End) -> bool:
        """A port was plugged; False when two others are there."""
        with self._lock:
            if end in self._ends:
                return True
            if len(self._ends) >= ENDS:
                return False
            self._ends.append(end)
        self._tell()
        return True

    def unplug(self, end: End) -> None:
        """A port is gone."""
        with self._lock:
            if end not in self._ends:
                return
            self._ends.remove(end)
            self._down.discard(id(end))
        self._tell()

    def hold_down(self, end: End, *, down: bool) -> None:
        """A port's fault takes the carrier away, or gives it back."""
        with self._lock:
            (self._down.add if down else self._down.discard)(id(end))
        self._tell()

    def send(self, sender: End, frames: Sequence[Frame]) -> bool:
        """Deliver to the other end; False when the link is down."""
        if not self.is_up:
            return False
        for end in tuple(self._ends):
            if end is not sender:
                end.arrive(frames)
        return True

    def _tell(self) -> None:
        """From a thread of its own: the caller holds its device's lock, and each end takes its own."""
        ends = tuple(self._ends)

        def tell() -> None:
            for end in ends:
                end.carrier_changed()

        threading.Thread(target=tell, name="carrier", daemon=True).start()


_links: weakref.WeakKeyDictionary[PeerMap, dict[str, Link]] = weakref.WeakKeyDictionary()
_links_lock = threading.Lock()


def find_link(host: PeerMap, name: str) -> Link:
    """The link of that name among the devices that share an address map, made when it is new."""
    with _links_lock:
        return _links.setdefault(host, {}).setdefault(name, Link())
