"""Devices and files of a guest that has just come up, brought in while we connect to it over SSH."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from testbed.deadline import CancellableDeadline, Stop
from testbed.guest.delivery import deliver
from testbed.guest.hotplug import Slots
from testbed.guest.lab import Lab
from testbed.guest.machine import Machine
from testbed.guest.ssh import Ssh
from testbed.plan.model import GuestPlan

_PLUG_SECONDS = 30.0
_DELIVERY_SECONDS = 60.0


@contextmanager
def furnish(plan: GuestPlan, lab: Lab, machine: Machine, slots: Slots) -> Iterator[Callable[[Ssh], None]]:
    """Begin to plug in the devices of ``plan`` and to send ``lab.files``.

    Yields what waits for the end of both; it raises what went wrong. Leaving without it gives both up.
    """
    names = [device.name for device in plan.devices if device.plug == "start"]
    stop = Stop(lab.stop)

    def until(seconds: float, what: str) -> CancellableDeadline:
        return CancellableDeadline(time.monotonic() + seconds * lab.scale, what, stop)

    def plug_all() -> None:
        for name in names:
            slots.begin_plug(name, until(_PLUG_SECONDS, f"plug '{name}'"))

    with ThreadPoolExecutor(2, "guest-furnish") as pool:
        jobs = [pool.submit(plug_all)] if names else []
        if lab.files:
            jobs.append(pool.submit(deliver, machine, lab.files, until(_DELIVERY_SECONDS, "send the files")))

        def finish(ssh: Ssh) -> None:
            for job in jobs:
                job.result()
            for name in names:
                slots.finish_plug(name, ssh, until(_PLUG_SECONDS, f"plug '{name}'"))

        try:
            yield finish
        finally:
            stop.set("the guest is not wanted any more")
