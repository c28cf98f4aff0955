"""The network device of `docs/devices/virtio-net.md`: PCI function, queues, worker, faults."""

from collections.abc import Mapping, Sequence
from typing import Final

from vfiodev.device import Context, Description, ResetKind
from vfiodev.errors import DmaError, StoppedError
from vfiodev.faults import Args, Knob
from vfiodev.virtio.device import BARS, VirtioDevice, build_identity, build_msix
from vfiodev.virtio.queue import QueueError, SplitQueue, gather, scatter
from vfiodev.virtio.transport import Transport
from vfiodev.virtio_net import spec
from vfiodev.virtio_net.control import Control
from vfiodev.virtio_net.faults import ANY, NetFaults, build_knobs
from vfiodev.virtio_net.ledger import Ledger
from vfiodev.virtio_net.packet import Frame
from vfiodev.virtio_net.receive import Receiver
from vfiodev.virtio_net.shaping import Shaper
from vfiodev.virtio_net.spec import Params, parse_params
from vfiodev.virtio_net.transmit import Transmitter
from vfiodev.virtio_net.wire import Link, find_link
from vfiodev.work import Worker

NET: Final = 1
NET_CLASS: Final = 0x020000
SUBSYSTEM: Final = 0x0041
MAX_REQUEST: Final = 65536
LATE_WRITE_SECONDS: Final = 0.005
LATE_WRITE_BYTES: Final = 64


class VirtioNet(VirtioDevice):
    """Parameters: see `spec.parse_params`."""

    def __init__(self, context: Context, params: Mapping[str, object]) -> None:
        super().__init__(context, params)
        self._link: Link | None = None
        if self.settings.link:
            self._link = find_link(context.peers, self.settings.link)
        self._control = self._fresh_control(0)
        self._worker: Worker | None = None
        self._plugged = False
        self._ledger = Ledger(self.stats, self.trace)
        self._net_faults = NetFaults(self._struck)
        self._receiver = Receiver(self.bus, self.transport, Ledger(self.stats, self.trace), self._net_faults)
        self._transmitter = Transmitter(self.bus, self._ledger, self.settings.mtu)
        self._shaper = Shaper(self._net_faults, self.random, self.stats.add, self._send)

    @classmethod
    def describe(cls, params: Mapping[str, object]) -> Description:
        """See the class; raises ConfigError."""
        made = parse_params(params)
        per_pair = spec.PAIR_COUNTERS + spec.LEDGER_COUNTERS
        return Description(
            identity=build_identity(NET, NET_CLASS, SUBSYSTEM),
            bars=BARS,
            msix=build_msix(2 * made.pairs + 1),
            knobs=build_knobs(made.pairs),
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
        self.workers.start("wire", self._shaper.run)
        self._plugged = True
        self._plug()

    def stop(self) -> None:
        """Unplugged."""
        super().stop()
        self._plugged = False
        if self._link is not None:
            self._link.unplug(self)

    def presence_changed(self, *, present: bool) -> None:
        """A device that is gone has no carrier; one that comes back looks at its queues."""
        if present and self._plugged:
            self._plug()
            self._kick()
        elif self._link is not None:
            self._link.unplug(self)

    def bus_master_changed(self, *, enabled: bool) -> None:
        """What waited for memory goes on."""
        if enabled:
            self._kick()

    def _plug(self) -> None:
        if self._link is not None and not self._link.plug(self):
            self.violation(f"link '{self.settings.link}' has two ports already")
            self._link = None

    def fault_injected(self, knob: Knob, args: Args) -> None:
        """Most strike when the data path asks."""
        if knob.name == "needs_reset":
            self.transport.break_down()
            self._struck(knob.name, ANY)
        elif knob.name == "link_down":
            self._hold_link(down=True)
        else:
            self._net_faults.inject(knob, args)

    def fault_cleared(self, knob: Knob, args: Args) -> None:
        """Who waited for that goes on."""
        self._net_faults.clear(knob, args)
        if knob.name == "link_down":
            self._hold_link(down=False)
        elif knob.name == "hang_reset":
            self.transport.end_queue_resets()
        elif knob.name == "hang_tx":
            self._kick()

    def _hold_link(self, *, down: bool) -> None:
        if self._link is not None:
            self._link.hold_down(self, down=down)

    def _struck(self, name: str, pair: int) -> None:
        self.stats.add("faults_used")
        self.trace.event("net_fault", fault=name, queue=pair)

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
        pair = queue.number // 2
        self.stats.add("queue_resets")
        hung = queue.number != self._control_number() and self._net_faults.take("hang_reset", pair)
        self.trace.event("net_queue_reset", queue=queue.number, done=not hung)
        if self._is_receive(queue.number) and self._net_faults.take("write_after_reset", pair):
            self.timers.after(LATE_WRITE_SECONDS, lambda: self._write_late(queue))
        return not hung

    def _write_late(self, queue: SplitQueue) -> None:
        """The fault that the ledger is there for."""
        try:
            if not queue.available():
                return
            chain = queue.peek()
            address, length = chain.writable[-1 if len(chain.writable) == 1 else 1]
            data = b"\xa5" * min(LATE_WRITE_BYTES, length)
            self.bus.write(address, memoryview(data))
        except (QueueError, DmaError, IndexError) as error:
            self.trace.event("net_drop", queue=queue.number // 2, frame=0, reason=str(error))
            return
        self.stats.add("after_stop", len(data))
        self.stats.add(f"q{queue.number // 2}.after_stop", len(data))
        self.violation(
            f"queue {queue.number}, index {queue.next_used}: {len(data)} bytes written to {address:#x} after "
            "the queue was stopped"
        )

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
        if not self.transport.running or not self.dma.allowed():
            return
        done = self._receiver.deliver(frames, self._control)
        if done.late:
            with self.lock:
                for seconds, action in done.late:
                    self.timers.after(seconds, action)
        for message in done.violations:
            self.violation(message)
        for queue in done.wanted:
            self._interrupt(queue)
        if done.broken is not None:
            self.driver_broke(*done.broken)

    def _interrupt(self, queue: SplitQueue) -> None:
        """The message of a receive queue, unless a fault has other plans."""
        pair, faults = queue.number // 2, self._net_faults
        if faults.take("lose_interrupt", pair):
            return
        delay = faults.take("delay_interrupt", pair)
        if delay is not None:
            with self.lock:
                self.timers.after(float(delay["ms"]) / 1000, lambda: self._notify_if_usable(queue))
            return
        self.notify_driver(queue)
        if faults.take("duplicate_interrupt", pair):
            self.notify_driver(queue)

    def _notify_if_usable(self, queue: SplitQueue) -> None:
        if queue.usable:
            self.notify_driver(queue)

    def _send(self, frames: Sequence[Frame]) -> None:
        if self._link is None or not self._link.send(self, frames):
            for frame in frames:
                self.stats.add("tx_drop")
                self.stats.add(f"q{frame.pair}.tx_drop")
                self.trace.event("net_drop", queue=frame.pair, frame=frame.number, reason="tx_drop")

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
            while self.transport.running and self.dma.allowed() and self._round(worker):
                worker.check()

    def _round(self, worker: Worker) -> bool:
        """Look at every queue once; whether there was work."""
        busy = False
        number = 0
        try:
            control = self._control_number()
            for number in range(len(self.transport.slots)):
                queue = self.transport.queue(number)
                if queue is None or self._is_receive(number) or self._is_hung(number):
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

    def _is_hung(self, number: int) -> bool:
        return bool(number & 1) and self._net_faults.active("hang_tx", number // 2) is not None

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
        if frames:
            self._shaper.transmit(frames)
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
