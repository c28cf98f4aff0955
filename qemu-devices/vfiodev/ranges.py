"""The only offset and length arithmetic of the library. Python integers do not wrap; the limits here say
so."""

from vfiodev.errors import RangeError

ADDRESS_LIMIT = 1 << 64
PAGE = 4096


def check_range(offset: int, length: int, limit: int, what: str) -> int:
    """Return the end of `[offset, offset+length)` inside `[0, limit)`; raise RangeError otherwise."""
    end = offset + length
    if offset < 0 or length < 0 or end > limit:
        raise RangeError(f"{what}: range {offset:#x}+{length:#x} does not fit into {limit:#x} bytes")
    return end


def overlaps(start: int, length: int, other: int, other_length: int) -> bool:
    """True when two non-empty ranges share at least one byte."""
    return start < other + other_length and other < start + length


def contains(start: int, length: int, inner: int, inner_length: int) -> bool:
    """True when `[inner, inner+inner_length)` lies inside `[start, start+length)`."""
    return start <= inner and inner + inner_length <= start + length


def is_aligned(value: int, alignment: int) -> bool:
    """True when `value` is a multiple of `alignment`, a power of two."""
    return value & (alignment - 1) == 0


def is_power_of_two(value: int) -> bool:
    """True for 1, 2, 4 ..."""
    return value > 0 and value & (value - 1) == 0
