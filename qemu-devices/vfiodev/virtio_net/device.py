"""The network device of `docs/devices/virtio-net.md`: PCI function, queues, worker, faults."""

from collections.abc import Mapping, Sequence
from typing import Final

from vfiodev.device import Context, Description, ResetKind
from vfiodev.errors import DmaError, StoppedError
from vfiodev.virtio.device import BARS, VirtioDevice, build_identity, build_msix
from vfiodev.virtio.queue import QueueError, SplitQueue, gather, scatter
from vfiodev.virtio.transport import Transport
from vfiodev.virtio_net import spec
from vfiodev.virtio_net.control import Control
from vfiodev.virtio_net.ledger import Ledger
from vfiodev.virtio_net.packet import Frame
from vfiodev.virtio_net.receive import Receiver
from vfiodev.virtio_net.spec import Params, parse_params
from vfiodev.virtio_net.transmit import Transmitter
from vfiodev.virtio_net.wire import Link, find_link
from vfiodev.work import Worker

NET: Final = 1
NET_CLASS: Final = 0x020000
SUBSYSTEM: Final = 0x0041
MAX_REQUEST: Final = 65536


class VirtioNet(VirtioDevice):
    """Parameters: see `spec.parse_params`."""

    def __init__(self, context: Context, params: Mapping[str, object]) -> None:
        super().__init__(context, params)
        self._link: Link | None = None
        if self.settings.link:
            self._link = find_link(context.peers, self.settings.link)
        self._control = self._fresh_control(0)
        self._worker: Worker | None = None
        self._ledger = Ledger(self.stats, self.trace)
        self._receiver = Receiver(self.bus, self.transport, Ledger(self.stats, self.trace))
        self._transmitter = Transmitter(self.bus, self._ledger, self.settings.mtu)

    @classmethod
    def describe(cls, params: Mapping[str, object]) -> Description:
        """See the class; raises ConfigError."""
        made = parse_params(params)
        per_pair = spec.PAIR_COUNTERS + spec.LEDGER_COUNTERS
        return Description(
            identity=build_identity(NET, NET_CLASS, SUBSYSTEM),
            bars=BARS,
            msix=build_msix(2 * made.pairs + 1),
            counters=(
                *per_pair,
                *spec.DEVICE_COUNTERS,
                *(f"q{pair}.{name}" for pair in range(made.pairs) for name in per_pair),
            ),
        )

    def _build_transport(self) -> Transport:
        self.settings: Params = parse_params(self.params, self.name)
        queues = 2 * self.settings.pairs + 1
        return Transport(self.bus, queues, self.settings.queue_size, self.settings.features, self)

    # What the library calls.

    def reset(self, kind: ResetKind) -> None:
        """Every kind: queues end, a new worker starts; the port is plugged into its link."""
        super().reset(kind)
        self._worker = self.workers.start("net", self._run)
        if self._link is not None and not self._link.plug(self):
            self.violation(f"link '{self.settings.link}' has two ports already")
            self._link = None

    def stop(self) -> None:
        """Unplugged."""
        super().stop()
        if self._link is not None:
            self._link.unplug(self)

    # What the transport calls (`transport.Backend`).

    def features_accepted(self, features: int) -> bool:
        """Whether they go together."""
        if not spec.features_fit(features):
            return False
        self._control = self._fresh_control(features)
        self.trace.event("net_features", accepted=f"{features:#x}")
        return True

    def driver_ready(self) -> None:
        """DRIVER_OK: what was posted before is looked at now."""
        self.trace.event("net_status", status="driver_ok")
        self._kick()

    def queue_ready(self, queue: SplitQueue) -> None:
        """Receive queues are never notified: the device looks when a frame comes."""
        self.trace.event("net_queue", queue=queue.number, size=queue.size, enabled=True)
        if self._is_receive(queue.number):
            try:
                queue.set_notify(wanted=False)
            except DmaError as error:
                self.driver_broke(queue.number, str(error))

    def queue_gone(self, queue: SplitQueue) -> bool:
        """The reset of one queue."""
        self.stats.add("queue_resets")
        self.trace.event("net_queue_reset", queue=queue.number, done=True)
        return True

    def notified(self, number: int) -> None:
        """Work for the worker, unless it is a receive queue."""
        if not self._is_receive(number):
            self._kick()

    def device_reset(self) -> None:
        """What the control queue configured is forgotten."""
        self._control = self._fresh_control(0)
        self.trace.event("net_status", status="reset")

    def config_bytes(self) -> bytes:
        """Mac, status, and so on."""
        return spec.build_config(self.settings, self._control.steering.mac, link_up=self._has_carrier)

    # What the link calls.

    def arrive(self, frames: Sequence[Frame]) -> None:
        """Frames from the peer, on the peer's thread."""
        if not self.transport.running:
            return
        wanted, broken = self._receiver.deliver(frames, self._control)
        for queue in wanted:
            self.notify_driver(queue)
        if broken is not None:
            self.driver_broke(*broken)

    def carrier_changed(self) -> None:
        """The status field changed."""
        with self.lock:
            if self.transport.running and self.transport.has(spec.F_STATUS):
                self.stats.add("config_interrupts")
                self.transport.config_changed()

    @property
    def _has_carrier(self) -> bool:
        return self._link is not None and self._link.is_up

    def _fresh_control(self, features: int) -> Control:
        multi = features >> spec.F_MQ & 1 or features >> spec.F_RSS & 1
        return Control(
            self.settings,
            lambda pair: Ledger.statistics(self.stats, pair),
            features,
            self.settings.pairs if multi else 1,
        )

    def _control_number(self) -> int:
        multi = self.transport.has(spec.F_MQ) or self.transport.has(spec.F_RSS)
        return 2 * self.settings.pairs if multi else 2

    def _is_receive(self, number: int) -> bool:
        return not number & 1 and number != self._control_number()

    def _kick(self) -> None:
        if self._worker is not None:
            self._worker.kick()

    # The worker.

    def _run(self, worker: Worker) -> None:
        while worker.wait():
            while self.transport.running and self._round(worker):
                worker.check()

    def _round(self, worker: Worker) -> bool:
        """Look at every queue once; whether there was work."""
        busy = False
        number = 0
        try:
            control = self._control_number()
            for number in range(len(self.transport.slots)):
                queue = self.transport.queue(number)
                if queue is None or self._is_receive(number):
                    continue
                if number == control:
                    busy |= self._commands(queue)
                else:
                    busy |= self._transmit(queue)
                worker.check()
        except StoppedError:
            raise
        except (QueueError, DmaError) as error:
            self.driver_broke(number, str(error))
            return False
        finally:
            self._ledger.flush()
        return busy

    def _has_work(self, queue: SplitQueue) -> bool:
        """Whether buffers wait; if not, the driver is asked to notify of the next one."""
        with queue.lock:
            if not queue.usable:
                return False
            if queue.available():
                queue.set_notify(wanted=False)
                return True
            queue.set_notify(wanted=True)
            return bool(queue.available())

    def _transmit(self, queue: SplitQueue) -> bool:
        if not self._has_work(queue):
            return False
        frames, interrupt = self._transmitter.fetch(queue, self.transport.features)
        if interrupt:
            self.notify_driver(queue)
        if frames and (self._link is None or not self._link.send(self, frames)):
            for frame in frames:
                self._ledger.drop(frame.pair, frame.number, "tx_drop")
        return True

    def _commands(self, queue: SplitQueue) -> bool:
        if not self._has_work(queue):
            return False
        with queue.lock:
            if not queue.usable:
                return False
            chain = queue.peek()
            request = bytes(gather(self.bus, chain.readable, MAX_REQUEST))
            if not chain.writable:
                raise QueueError(f"queue {queue.number}: a command has no room for its acknowledgement")
            ack, result = self._control.execute(request)
            self.stats.add("control_commands")
            if ack:
                self.stats.add("control_errors")
            self.trace.event("net_control", cls=request[:1].hex(), cmd=request[1:2].hex(), ack=ack)
            written = scatter(self.bus, chain.writable, memoryview(bytes((ack,)) + result))
            queue.consume()
            queue.push([(chain.head, written)])
            interrupt = queue.wants_interrupt()
        if interrupt:
            self.notify_driver(queue)
        return True
