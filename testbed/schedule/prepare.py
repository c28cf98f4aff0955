"""Make this machine ready to run cases: provision, prove the accelerator, calibrate."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from testbed.guest.accel import probe_accel
from testbed.plan.host import Host
from testbed.provision.model import Kernel
from testbed.provision.progress import start_reporter
from testbed.provision.setup import setup
from testbed.schedule.calibration import probe_scale
from testbed.steps.runner import Bench


def prepare_bench(
    console: Console, *, kernel: str, accel: str, out: Path, jobs: int, cold: bool = False
) -> Bench:
    """Return all that cases with ``kernel`` share; what is missing is made first, and shown on ``console``.

    Budgets are made for ``jobs`` guests at once. Raises `UsageError` and `LabError`.
    """
    with start_reporter(console) as reporter:
        provisioned = setup(reporter, kernel=kernel)
    proved = probe_accel(accel, qemu=provisioned.qemu, cache=provisioned.cache)
    scale = probe_scale(provisioned.qemu, proved, provisioned.cache, jobs=jobs)
    return Bench(provisioned=provisioned, accel=proved, out=out.absolute(), scale=scale.factor, cold=cold)


def build_host(bench: Bench) -> Host:
    """Return what cases may ask of this machine and its kernel."""
    kernel = bench.provisioned.kernel
    return Host(
        kernel_release=kernel.release,
        kernel_config=kernel.config,
        modules=list_modules(kernel),
        accel=bench.accel.name,
        accel_reason=bench.accel.reason,
    )


def list_modules(kernel: Kernel) -> frozenset[str]:
    """Return the names of all modules of ``kernel``, those built in included."""
    names: set[str] = set()
    for index in ("modules.order", "modules.builtin"):
        path = kernel.modules_dir / index
        if path.exists():
            names |= {Path(line).name.split(".", 1)[0] for line in path.read_text().splitlines()}
    return frozenset(names)
