"""The server of one connection: negotiation and one handler per command, for one device.

Two kinds of error, kept apart: a BadMessageError answers that message with an errno and goes on; a
FatalStreamError ends the connection. Neither reaches another device.
"""

import errno
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from vfiodev.client_memory import ClientMemory
from vfiodev.device import Device
from vfiodev.errors import BadMessageError, FatalStreamError, RangeError
from vfiodev.function import NUM_REGIONS
from vfiodev.irq import INTX, MSI, MSIX, NUM_IRQS
from vfiodev.memory import MAX_MAPS
from vfiodev.ranges import PAGE
from vfiodev.stream import MAX_FDS, MAX_XFER, Message, Stream
from vfiodev.wire import (
    DEFAULT_MAX_XFER,
    DEVICE_INFO,
    DEVICE_IS_PCI,
    DEVICE_RESETS,
    DMA_MAP,
    DMA_UNMAP,
    FLAG_ERROR,
    FLAG_NO_REPLY,
    IRQ_ACTION,
    IRQ_AUTOMASKED,
    IRQ_DATA,
    IRQ_DATA_BOOL,
    IRQ_DATA_EVENTFD,
    IRQ_DATA_NONE,
    IRQ_EVENTFD,
    IRQ_INFO,
    IRQ_MASK,
    IRQ_MASKABLE,
    IRQ_NORESIZE,
    IRQ_TRIGGER,
    IRQ_UNMASK,
    MAJOR,
    MINOR,
    REGION_ACCESS,
    REGION_INFO,
    REGION_MMAP,
    REGION_READABLE,
    REGION_WRITABLE,
    SET_IRQS,
    TYPE_COMMAND,
    TYPE_MASK,
    TYPE_REPLY,
    UNMAP_ALL,
    VERSION,
    Command,
    unpack,
)

CAPABILITIES: Final[dict[str, object]] = {
    "max_msg_fds": MAX_FDS,
    "max_data_xfer_size": MAX_XFER,
    "max_dma_maps": MAX_MAPS,
    "pgsizes": PAGE,
}


@dataclass(slots=True)
class Reply:
    """The payload of a reply, with descriptors that stay the server's."""

    payload: bytes = b""
    fds: Sequence[int] = ()


class Connection:
    """Serves one client until it goes away."""

    def __init__(self, stream: Stream, device: Device) -> None:
        self._stream = stream
        self._device = device
        self._negotiated = False
        self._memory = ClientMemory(stream, device.lock)
        self._handlers: dict[int, Callable[[Message], Reply]] = {
            Command.DMA_MAP: self._dma_map,
            Command.DMA_UNMAP: self._dma_unmap,
            Command.GET_INFO: self._get_info,
            Command.GET_REGION_INFO: self._get_region_info,
            Command.GET_IRQ_INFO: self._get_irq_info,
            Command.SET_IRQS: self._set_irqs,
            Command.REGION_READ: self._region_read,
            Command.REGION_WRITE: self._region_write,
            Command.DEVICE_RESET: self._device_reset,
        }

    def serve(self) -> str:
        """Attach the device, answer messages until the stream ends, detach it. Why the stream ended."""
        self._memory.serving_thread = threading.get_ident()
        self._device.dma.messenger = self._memory
        if self._device.irq.table is not None:
            self._device.irq.table.send = self._memory.send_interrupt
        try:
            self._device.attach()
            while True:
                self._serve_one(self._stream.recv())
        except FatalStreamError as error:
            return str(error)
        finally:
            self._memory.close()
            self._device.dma.messenger = None
            if self._device.irq.table is not None:
                self._device.irq.table.send = None
            self._device.detach()

    def _serve_one(self, message: Message) -> None:
        kind = message.flags & TYPE_MASK
        if kind == TYPE_REPLY:
            self._memory.reply(message)
            message.close_fds()
            return
        try:
            reply = self._dispatch(message)
        except BadMessageError as error:
            self._refuse(message, error.code, str(error))
        except RangeError as error:
            self._refuse(message, errno.EINVAL, str(error))
        except OSError as error:
            self._refuse(message, error.errno or errno.EIO, str(error))
        except FatalStreamError:
            raise
        except Exception as error:  # noqa: BLE001 - a model's bug answers this message, the host goes on
            self._refuse(message, errno.EIO, f"the model failed: {type(error).__name__}: {error}")
        else:
            if not message.flags & FLAG_NO_REPLY:
                self._stream.send(message.ident, message.command, TYPE_REPLY, reply.payload, fds=reply.fds)
        finally:
            if message.fds:
                message.close_fds()

    def _dispatch(self, message: Message) -> Reply:
        if message.flags & TYPE_MASK != TYPE_COMMAND:
            raise BadMessageError(f"message type {message.flags & TYPE_MASK} does not exist")
        if message.lost_fds:
            raise BadMessageError("more file descriptors than a message may carry", errno.EMFILE)
        if not self._negotiated:
            return self._version(message)
        handler = self._handlers.get(message.command)
        if handler is None:
            raise BadMessageError(f"command {message.command} is not supported here", errno.ENOTSUP)
        return handler(message)

    def _refuse(self, message: Message, code: int, reason: str) -> None:
        self._device.violation(reason)
        if not message.flags & FLAG_NO_REPLY:
            self._stream.send(message.ident, message.command, TYPE_REPLY | FLAG_ERROR, error=code)

    def _version(self, message: Message) -> Reply:
        if message.command != Command.VERSION:
            raise BadMessageError("the first message is not VERSION")
        major, _minor = unpack(VERSION, message.payload, "VERSION", exact=False)
        if major != MAJOR:
            raise BadMessageError(f"VERSION: major version {major} is not {MAJOR}")
        wanted = _capabilities(bytes(message.payload[VERSION.size :]))
        limit = wanted.get("max_data_xfer_size", DEFAULT_MAX_XFER)
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < PAGE:
            raise BadMessageError("VERSION: max_data_xfer_size is not a number of 4096 or more")
        self._memory.set_limit(limit)
        ours = {name: value for name, value in CAPABILITIES.items() if name in wanted}
        self._negotiated = True
        text = json.dumps({"capabilities": ours}).encode() + b"\0"
        return Reply(VERSION.pack(MAJOR, MINOR) + text)

    def _dma_map(self, message: Message) -> Reply:
        _argsz, flags, offset, address, size = unpack(DMA_MAP, message.payload, "DMA_MAP")
        if len(message.fds) > 1:
            raise BadMessageError(f"DMA_MAP: {len(message.fds)} file descriptors")
        fd = message.fds[0] if message.fds else None
        self._device.dma.memory.map(address, size, offset, flags, fd)
        self._device.trace.event("dma_map", addr=address, len=size, flags=flags, fd=fd is not None)
        return Reply()

    def _dma_unmap(self, message: Message) -> Reply:
        _argsz, flags, address, size = unpack(DMA_UNMAP, message.payload[: DMA_UNMAP.size], "DMA_UNMAP")
        if flags & ~UNMAP_ALL:
            raise BadMessageError(f"DMA_UNMAP: flags {flags:#x} are not supported", errno.ENOTSUP)
        if flags and (address or size):
            raise BadMessageError("DMA_UNMAP: all, and a range")
        memory = self._device.dma.memory
        count = memory.unmap_all() if flags else memory.unmap(address, size)
        self._device.trace.event("dma_unmap", addr=address, len=size, maps=count)
        return Reply(bytes(message.payload[: DMA_UNMAP.size]))

    def _get_info(self, message: Message) -> Reply:
        argsz, *_rest = unpack(DEVICE_INFO, message.payload, "GET_INFO")
        if argsz < DEVICE_INFO.size:
            raise BadMessageError(f"GET_INFO: argsz {argsz} is too small")
        flags = DEVICE_RESETS | DEVICE_IS_PCI
        return Reply(DEVICE_INFO.pack(DEVICE_INFO.size, flags, NUM_REGIONS, NUM_IRQS))

    def _get_region_info(self, message: Message) -> Reply:
        argsz, _flags, index, *_rest = unpack(REGION_INFO, message.payload, "GET_REGION_INFO")
        if argsz < REGION_INFO.size:
            raise BadMessageError(f"GET_REGION_INFO: argsz {argsz} is too small")
        size = self._device.function.region_size(index)
        flags = REGION_READABLE | REGION_WRITABLE if size else 0
        memory = self._device.function.memory.get(index)
        fds: tuple[int, ...] = ()
        if memory is not None:
            flags |= REGION_MMAP
            fds = (memory.fd,)
        return Reply(REGION_INFO.pack(REGION_INFO.size, flags, index, 0, size, 0), fds)

    def _get_irq_info(self, message: Message) -> Reply:
        argsz, _flags, index, _count = unpack(IRQ_INFO, message.payload, "GET_IRQ_INFO")
        if argsz < IRQ_INFO.size or index >= NUM_IRQS:
            raise BadMessageError(f"GET_IRQ_INFO: argsz {argsz}, interrupt type {index}")
        count = self._device.irq.count(index)
        flags = {
            INTX: IRQ_EVENTFD | IRQ_MASKABLE | IRQ_AUTOMASKED,
            MSI: IRQ_EVENTFD,
            MSIX: IRQ_EVENTFD | IRQ_MASKABLE,
        }
        return Reply(IRQ_INFO.pack(IRQ_INFO.size, flags.get(index, IRQ_NORESIZE), index, count))

    def _set_irqs(self, message: Message) -> Reply:
        _argsz, flags, index, start, count = unpack(SET_IRQS, message.payload, "SET_IRQS", exact=False)
        data, action = flags & IRQ_DATA, flags & IRQ_ACTION
        if flags & ~(IRQ_DATA | IRQ_ACTION) or data.bit_count() != 1 or action.bit_count() != 1:
            raise BadMessageError(f"SET_IRQS: flags {flags:#x} are not one kind of data and one action")
        if data != IRQ_DATA_EVENTFD and message.fds:
            raise BadMessageError("SET_IRQS: file descriptors without eventfd data")
        irq = self._device.irq
        if data == IRQ_DATA_NONE and action == IRQ_TRIGGER and count == 0:
            if index >= NUM_IRQS or start:
                raise BadMessageError(f"SET_IRQS: disable of type {index} from {start}")
            irq.disable(index)
            return Reply()
        if not count or start + count > irq.count(index):
            raise BadMessageError(f"SET_IRQS: {start}+{count} of type {index}, of {irq.count(index)}")
        if data == IRQ_DATA_EVENTFD:
            self._assign(message, action, index, start, count)
            return Reply()
        chosen = _chosen(message.payload[SET_IRQS.size :], data, count)
        {IRQ_TRIGGER: irq.trigger, IRQ_MASK: irq.mask, IRQ_UNMASK: irq.unmask}[action](index, start, chosen)
        return Reply()

    def _assign(self, message: Message, action: int, index: int, start: int, count: int) -> None:
        irq = self._device.irq
        if action == IRQ_MASK:
            raise BadMessageError("SET_IRQS: an eventfd for masking is not supported", errno.ENOTSUP)
        take = irq.assign if action == IRQ_TRIGGER else irq.assign_unmask
        take(index, start, message.fds, count)
        message.fds = []

    def _region_read(self, message: Message) -> Reply:
        offset, region, count = unpack(REGION_ACCESS, message.payload, "REGION_READ")
        if count > MAX_XFER:
            raise BadMessageError(f"REGION_READ: {count} bytes", errno.E2BIG)
        data = self._device.region_read(region, offset, count)
        return Reply(REGION_ACCESS.pack(offset, region, count) + data)

    def _region_write(self, message: Message) -> Reply:
        payload = message.payload
        offset, region, count = unpack(REGION_ACCESS, payload, "REGION_WRITE", exact=False)
        if count != len(payload) - REGION_ACCESS.size:
            raise BadMessageError(f"REGION_WRITE: {len(payload) - REGION_ACCESS.size} bytes, not {count}")
        self._device.region_write(region, offset, payload[REGION_ACCESS.size :])
        return Reply(REGION_ACCESS.pack(offset, region, count))

    def _device_reset(self, message: Message) -> Reply:
        if message.payload:
            raise BadMessageError("DEVICE_RESET: has a payload")
        self._device.bus_reset()
        return Reply()


def _capabilities(text: bytes) -> dict[str, object]:
    if not text:
        return {}
    if not text.endswith(b"\0"):
        raise BadMessageError("VERSION: the capabilities do not end with NUL")
    try:
        data = json.loads(text[:-1])
    except (ValueError, RecursionError) as error:
        raise BadMessageError(f"VERSION: the capabilities are not JSON: {error}") from error
    found = data.get("capabilities", {}) if isinstance(data, dict) else None
    if not isinstance(found, dict):
        raise BadMessageError("VERSION: the capabilities are not an object")
    return found


def _chosen(payload: memoryview, data: int, count: int) -> list[bool]:
    if data == IRQ_DATA_BOOL:
        if len(payload) != count:
            raise BadMessageError(f"SET_IRQS: {len(payload)} bools for {count} interrupts")
        return [bool(value) for value in payload]
    if payload:
        raise BadMessageError("SET_IRQS: data where there is none")
    return [True] * count
