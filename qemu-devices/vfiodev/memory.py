"""Guest memory as the client declared it by DMA_MAP: which addresses exist, and the bytes behind them.

Source: vfio-user specification, "VFIO_USER_DMA_MAP" and "VFIO_USER_DMA_UNMAP".
"""

import bisect
import contextlib
import errno
import fcntl
import mmap
import os
import stat
import threading
import time
from typing import Final

from vfiodev.errors import BadMessageError
from vfiodev.ranges import ADDRESS_LIMIT, contains, is_aligned, overlaps

F_GET_SEALS: Final = 1034
F_SEAL_SHRINK: Final = 2
MAX_FILES: Final = 256
MAX_MAPS: Final = 65535
DRAIN_SECONDS: Final = 2.0
READABLE: Final = 1
WRITABLE: Final = 2


class SharedFile:
    """One file of the client, mapped whole and shared by all maps of it.

    A file that is sealed against shrinking is mapped. One that is not could be truncated under us, and a
    mapped access would then kill the process by SIGBUS, so such a file is read and written by system calls
    (`view` is None).
    """

    def __init__(self, fd: int, size: int) -> None:
        self._fd = os.dup(fd)
        self.size = size
        self.references = 0
        self.view: memoryview | None = None
        self._map: mmap.mmap | None = None
        if _sealed(fd):
            try:
                self._map = mmap.mmap(self._fd, size)
            except (OSError, ValueError) as error:
                os.close(self._fd)
                raise BadMessageError(f"DMA_MAP: the file cannot be mapped: {error}", errno.ENOMEM) from error
            self.view = memoryview(self._map)

    def read_into(self, offset: int, target: memoryview) -> bool:
        """Fill `target`; False when the file is too short by now."""
        if self.view is not None:
            target[:] = self.view[offset : offset + len(target)]
            return True
        return os.preadv(self._fd, [target], offset) == len(target)

    def write(self, offset: int, data: memoryview) -> bool:
        """Store `data`; False when the file is too short by now."""
        if self.view is not None:
            self.view[offset : offset + len(data)] = data
            return True
        if os.fstat(self._fd).st_size < offset + len(data):
            return False
        return os.pwritev(self._fd, [data], offset) == len(data)

    def close(self) -> None:
        """Unmap; a view that a model kept against the rules keeps only the mapping alive, not the fd."""
        os.close(self._fd)
        with contextlib.suppress(BufferError):
            if self.view is not None:
                self.view.release()
            if self._map is not None:
                self._map.close()


def _sealed(fd: int) -> bool:
    try:
        return bool(fcntl.fcntl(fd, F_GET_SEALS) & F_SEAL_SHRINK)
    except OSError:
        return False


class Region:
    """One map: `size` bytes at guest address `address`, in `file` from `offset` on; `file` is None without
    fd."""

    __slots__ = ("address", "file", "key", "offset", "pins", "size", "writable")

    def __init__(self, address: int, size: int, offset: int, writable: bool) -> None:
        self.address = address
        self.size = size
        self.offset = offset
        self.writable = writable
        self.file: SharedFile | None = None
        self.key = (0, 0)
        self.pins = 0


class GuestMemory:
    """All maps of one connection. Look-ups pin what they return, so that an unmap waits for what is in
    flight."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._starts: list[int] = []
        self._regions: list[Region] = []
        self._files: dict[tuple[int, int], SharedFile] = {}

    def __len__(self) -> int:
        return len(self._regions)

    def map(self, address: int, size: int, offset: int, flags: int, fd: int | None) -> None:
        """Carry out DMA_MAP; the caller keeps and closes `fd`. Raises BadMessageError."""
        if size <= 0 or address + size > ADDRESS_LIMIT or offset + size > ADDRESS_LIMIT:
            raise BadMessageError(
                f"DMA_MAP: range {address:#x}+{size:#x} at file offset {offset:#x} is not valid"
            )
        if not flags & READABLE or flags & ~(READABLE | WRITABLE):
            raise BadMessageError(f"DMA_MAP: flags {flags:#x} are not valid")
        region = Region(address, size, offset, bool(flags & WRITABLE))
        with self._changed:
            index = bisect.bisect_right(self._starts, address)
            near = self._regions[max(0, index - 1) : index + 1]
            if any(overlaps(address, size, other.address, other.size) for other in near):
                raise BadMessageError(
                    f"DMA_MAP: range {address:#x}+{size:#x} is mapped already", errno.EEXIST
                )
            if len(self._regions) >= MAX_MAPS:
                raise BadMessageError("DMA_MAP: too many maps", errno.ENOSPC)
            if fd is not None:
                self._open(region, fd)
            self._starts.insert(index, address)
            self._regions.insert(index, region)

    def unmap(self, address: int, size: int) -> int:
        """Carry out DMA_UNMAP: drop every map inside the range, after what is in flight. How many there
        were."""
        if size <= 0 or address + size > ADDRESS_LIMIT:
            raise BadMessageError(f"DMA_UNMAP: range {address:#x}+{size:#x} is not valid")
        with self._changed:
            hit = self._touched(address, size)
            if not hit:
                raise BadMessageError(f"DMA_UNMAP: nothing is mapped in {address:#x}+{size:#x}", errno.ENOENT)
            for other in hit:
                if not contains(address, size, other.address, other.size):
                    raise BadMessageError(f"DMA_UNMAP: range {address:#x}+{size:#x} would cut a map in two")
            first = self._regions.index(hit[0])
            del self._regions[first : first + len(hit)]
            del self._starts[first : first + len(hit)]
            self._retire(hit)
        return len(hit)

    def unmap_all(self) -> int:
        """Drop every map (DMA_UNMAP with the "all" flag, or the client went away)."""
        with self._changed:
            hit, self._regions, self._starts = self._regions, [], []
            self._retire(hit)
        return len(hit)

    def pin(self, address: int) -> Region | None:
        """The map that holds `address`, pinned, or None. Every pin needs an `unpin`, soon."""
        with self._changed:
            index = bisect.bisect_right(self._starts, address) - 1
            if index < 0:
                return None
            region = self._regions[index]
            if address >= region.address + region.size:
                return None
            region.pins += 1
            return region

    def unpin(self, region: Region) -> None:
        """Give a pinned region back."""
        with self._changed:
            region.pins -= 1
            if not region.pins:
                self._changed.notify_all()

    def _touched(self, address: int, size: int) -> list[Region]:
        first = max(0, bisect.bisect_right(self._starts, address) - 1)
        last = bisect.bisect_left(self._starts, address + size)
        return [
            other for other in self._regions[first:last] if overlaps(address, size, other.address, other.size)
        ]

    def _open(self, region: Region, fd: int) -> None:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise BadMessageError("DMA_MAP: the file descriptor is not a regular file or memfd")
        if region.offset + region.size > status.st_size:
            raise BadMessageError("DMA_MAP: the range reaches beyond the end of the file")
        if not is_aligned(region.offset, mmap.PAGESIZE):
            raise BadMessageError("DMA_MAP: the file offset is not page aligned")
        key = (status.st_dev, status.st_ino)
        file = self._files.get(key)
        if file is None or file.size < region.offset + region.size:
            if len(self._files) >= MAX_FILES:
                raise BadMessageError("DMA_MAP: too many different files", errno.ENOSPC)
            key = key if file is None else (status.st_dev, -status.st_ino * 2**32 - len(self._files))
            file = self._files[key] = SharedFile(fd, status.st_size)
        file.references += 1
        region.file = file
        region.key = key

    def _retire(self, regions: list[Region]) -> None:
        # A region that stays pinned keeps its file open: closing a descriptor in use could hit another file.
        end = time.monotonic() + DRAIN_SECONDS
        for region in regions:
            while region.pins and (left := end - time.monotonic()) > 0:
                self._changed.wait(left)
            file = region.file
            if file is None or region.pins:
                continue
            file.references -= 1
            if not file.references:
                del self._files[region.key]
                file.close()
