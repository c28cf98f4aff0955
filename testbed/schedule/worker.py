"""``testbed worker``: a Dask worker that offers this machine's guests to a scheduler."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from distributed import Worker

from testbed.errors import LabError
from testbed.guest.private import private_folder
from testbed.schedule import remote
from testbed.schedule.capacity import Capacity

SLOTS, MEMORY, KVM = "testbed-slots", "testbed-memory-mib", "testbed-kvm"
"""Names of the worker resources (distributed.dask.org, "Worker Resources")."""
_CONNECT_SECONDS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What this machine offers."""

    capacity: Capacity
    kvm: bool
    name: str

    def resources(self) -> dict[str, float]:
        """Return the worker's resources."""
        found = {SLOTS: float(self.capacity.slots), MEMORY: float(self.capacity.memory_mib)}
        return {**found, KVM: float(self.capacity.slots)} if self.kvm else found


def build_name() -> str:
    """Return a name that no other worker has."""
    return f"{socket.gethostname()}-{os.getpid()}"


def serve(address: str, offer: Offer, say: Callable[[str], None]) -> None:
    """Work for the scheduler at ``address`` until it ends or a signal comes; cases are ended then.

    Raises `LabError` when there is no scheduler.
    """
    remote.open_shop(offer.name, offer.capacity.slots)
    with private_folder(Path("worker") / offer.name) as folder:
        asyncio.run(_serve(address, offer, folder, say))


async def _serve(address: str, offer: Offer, folder: Path, say: Callable[[str], None]) -> None:
    worker = Worker(
        address,
        nthreads=offer.capacity.slots,
        resources=offer.resources(),
        name=offer.name,
        local_directory=str(folder),
        memory_limit=0,  # guests are accounted for by our own resource; Dask would count only this process
        death_timeout=_CONNECT_SECONDS,
        silence_logs=logging.WARNING,
    )
    try:
        await worker
    except (OSError, TimeoutError, RuntimeError) as error:
        await worker.close()
        raise LabError(
            f"no Dask scheduler answers at {address}", hint="dask scheduler --host ADDRESS"
        ) from error
    leaving = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, leaving.set)
    capacity = offer.capacity
    say(
        f"worker {offer.name} at {worker.address}: {capacity.slots} guests, "
        f"{capacity.memory_mib / 1024:.1f} GiB{', kvm' if offer.kvm else ''}"
    )
    gone = asyncio.ensure_future(worker.finished())
    asked = asyncio.ensure_future(leaving.wait())
    await asyncio.wait((gone, asked), return_when=asyncio.FIRST_COMPLETED)
    remote.stop_all("the worker was asked to end")
    asked.cancel()
    await worker.close(reason="testbed worker ends")
    await gone
