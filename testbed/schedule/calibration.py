"""How slow this machine is, compared with the one that the budgets in scenarios are written for.

A tiny guest counts to a fixed number; the processor time that this takes is measured once per host boot,
accelerator and QEMU, and kept in the cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import resource
from dataclasses import dataclass
from pathlib import Path

from testbed.errors import LabError, UsageError
from testbed.guest.accel import Accel
from testbed.guest.private import private_folder
from testbed.guest.probe_rom import STATUS_PASSED, build_probe_argv, build_probe_rom
from testbed.guest.process import Grace, spawn
from testbed.provision.cache import hold_lock, write_atomically
from testbed.provision.model import Qemu
from testbed.schedule.capacity import count_cores

VARIABLE = "TESTBED_SCALE"
_ROUNDS = 100_000_000
_TRIES = 3
REFERENCE_SECONDS = 0.20
"""What one try takes on the reference machine: 2 cores of an AMD EPYC, no KVM, QEMU 11.1, nothing else."""
_LARGEST = 20.0
_TRY_SECONDS = REFERENCE_SECONDS * _LARGEST
_FILE = "calibration.json"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """By how much budgets are multiplied, and why."""

    factor: float
    reason: str


def probe_scale(qemu: Qemu, accel: Accel, cache: Path, *, jobs: int) -> Scale:
    """Return the scale for ``jobs`` guests at once: 1 on the reference machine and on faster ones.

    Takes about a second the first time after a boot. ``TESTBED_SCALE`` overrides it. Raises `UsageError`
    when that is no number, `LabError` when QEMU does not run the guest.
    """
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return Scale(factor=_parse(chosen), reason=f"{VARIABLE} says so")
    seconds = _get_seconds(qemu, accel, cache)
    return build_scale(seconds, jobs=jobs, cores=count_cores(), load=os.getloadavg()[0])


def build_scale(seconds: float, *, jobs: int, cores: int, load: float) -> Scale:
    """Return the scale from the time of the guest's loop and from how many compete for the cores.

    A machine that is faster than the reference gets no shorter budgets: disks and networks are not.
    """
    speed = max(1.0, seconds / REFERENCE_SECONDS)
    crowd = max(1.0, jobs / cores, load / cores)
    factor = round(min(_LARGEST, speed * crowd), 2)
    reason = f"the test guest takes {seconds:.2f} s, {REFERENCE_SECONDS:.2f} s on the reference machine"
    if crowd > 1.0:
        reason += f"; {max(jobs, load):.1f} compete for {cores} cores"
    return Scale(factor=factor, reason=reason)


def _parse(text: str) -> float:
    try:
        factor = float(text)
    except ValueError:
        factor = 0.0
    if not 0.0 < factor <= 1000.0:
        raise UsageError(f"{VARIABLE} is '{text}', not a number above 0", hint=f"{VARIABLE}=2.5 testbed run")
    return factor


def _get_seconds(qemu: Qemu, accel: Accel, cache: Path) -> float:
    key = _cache_key(qemu, accel)
    known = _load(cache).get(key)
    if known is None:
        known = measure_guest(qemu, accel)
        _save(cache, key, known)
    return known


def measure_guest(qemu: Qemu, accel: Accel) -> float:
    """Return the processor seconds that the test guest takes, the best of a few tries."""
    with private_folder(Path("calibration")) as private:
        rom = private / "calibration.rom"
        rom.write_bytes(build_probe_rom(_ROUNDS))
        return min(_try(qemu, accel, private, rom) for _ in range(_TRIES))


def _try(qemu: Qemu, accel: Accel, private: Path, rom: Path) -> float:
    before = _children_seconds()
    with spawn(
        build_probe_argv(qemu.argv, accel.name, rom),
        log=private / "qemu.log",
        env=qemu.env,
        grace=Grace(terminate=0.5),
    ) as process:
        if not process.wait(_TRY_SECONDS):
            return _TRY_SECONDS
        if process.poll() != STATUS_PASSED:
            raise LabError(
                f"QEMU {process.describe_end()} when it ran the calibration guest",
                hint=process.log_tail().strip() or "testbed doctor",
            )
    return _children_seconds() - before


def _children_seconds() -> float:
    """Processor time: the load of the moment must not count as slowness for as long as the host runs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _cache_key(qemu: Qemu, accel: Accel) -> str:
    text = json.dumps([_BOOT_ID.read_text(), accel.name, qemu.argv, qemu.version, _ROUNDS])
    return hashlib.sha256(text.encode()).hexdigest()


def _load(cache: Path) -> dict[str, float]:
    try:
        known = json.loads((cache / _FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(known, dict):
        return {}
    return {
        key: float(value) for key, value in known.items() if isinstance(value, (int, float)) and value > 0
    }


def _save(cache: Path, key: str, seconds: float) -> None:
    # What was measured in earlier boots is of no use any more; the other accelerator of this one is.
    with contextlib.suppress(LabError, OSError), hold_lock(cache, "calibration"):
        known = list({**_load(cache), key: seconds}.items())[-4:]
        write_atomically(cache / _FILE, json.dumps(dict(known)))
