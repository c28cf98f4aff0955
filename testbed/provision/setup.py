"""From nothing to `Provisioned`: what ``testbed setup`` does, and ``testbed run`` on demand.

The second time nothing is asked from the network: the lock file says what there is, and each cache entry is
compared with its manifest.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from testbed.errors import ProvisionError
from testbed.provision import kernel as kernels
from testbed.provision import toolbox as toolboxes
from testbed.provision.apt import Archive, Deb, build_archive, fetch_packages, resolve_packages, update_index
from testbed.provision.cache import check_free_space, find_cache_root, hold_lock
from testbed.provision.debs import lock_packages
from testbed.provision.image import build_image, find_image
from testbed.provision.lock import Lock, find_lock, save_lock
from testbed.provision.mirror import get_mirror
from testbed.provision.model import Kernel, Provisioned, Toolbox
from testbed.provision.process import HOST_PROGRAMS, find_missing_programs, kill_programs
from testbed.provision.progress import Advance, Reporter, human_size
from testbed.provision.qemu import find_user_qemu, probe_user_qemu

_WAITING = "another setup is at work in this cache: waiting for it ..."
_INDEX_BYTES = 150_000_000
"""Package lists of two suites, with apt's caches of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fetched:
    """Downloaded packages, by what they are for."""

    release: str
    toolbox: Sequence[Deb]
    kernel: Sequence[Deb]


def setup(
    reporter: Reporter, *, kernel: str = kernels.DEFAULT, mirror: str | None = None, refresh: bool = False
) -> Provisioned:
    """Make everything that a run with ``kernel`` needs, and return it; what is there already is kept.

    ``mirror`` overrides the one of the host's apt. ``refresh`` looks on the mirror for newer packages.
    Raises `UsageError` for an unknown kernel or a wrong ``$TESTBED_QEMU``, `ProvisionError` otherwise.
    """
    user_qemu = find_user_qemu()
    qemu = probe_user_qemu(user_qemu) if user_qemu else None
    chosen = None if kernel == kernels.DEFAULT else kernels.load_tree_kernel(kernel)
    root = find_cache_root()
    found = None if refresh else _find_base(root)
    if found is None:
        _check_host()
        with hold_lock(root, "setup", lambda: reporter.say(_WAITING)):
            found = (None if refresh else _find_base(root)) or _make_base(root, mirror, reporter)
    toolbox, default_kernel = found
    booted = chosen or default_kernel
    image = find_image(root, toolbox, booted)
    if image is None:
        with reporter.task(f"guest image for {booted.release}"):
            image = build_image(root, toolbox, booted)
    return Provisioned(cache=root, qemu=qemu or toolbox.qemu, toolbox=toolbox, kernel=booted, image=image)


def _find_base(root: Path) -> tuple[Toolbox, Kernel] | None:
    lock = find_lock(root)
    if lock is None:
        return None
    toolbox = toolboxes.find_toolbox(root, lock.toolbox)
    kernel = kernels.find_packaged_kernel(root, lock.kernel.key, lock.kernel_release)
    return (toolbox, kernel) if toolbox and kernel else None


def _make_base(root: Path, mirror: str | None, reporter: Reporter) -> tuple[Toolbox, Kernel]:
    started = time.monotonic()
    check_free_space(root, _INDEX_BYTES)
    archive = build_archive(root / "apt", get_mirror(mirror), toolboxes.SUITES)
    with reporter.task("package lists") as advance:
        update_index(archive, advance)
    _announce(root, archive, reporter)
    with reporter.task("packages") as advance:
        fetched = _fetch(archive, advance, reporter)
    with ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(work, root, archive, fetched, reporter) for work in (_unpack_toolbox, _unpack_kernel)
        ]
        try:
            for job in jobs:
                job.result()
        except BaseException:
            kill_programs()
            raise
    save_lock(root, _build_lock(archive, fetched))
    shutil.rmtree(archive.root)
    found = _find_base(root)
    if found is None:
        raise ProvisionError("the cache was changed while it was being filled", where=str(root))
    reporter.say(f"toolbox and kernel {fetched.release} are ready after {time.monotonic() - started:.0f} s")
    return found


def _wanted(archive: Archive) -> list[str]:
    return [*toolboxes.PACKAGES, *kernels.kernel_packages(archive)]


def _announce(root: Path, archive: Archive, reporter: Reporter) -> None:
    debs = resolve_packages(archive, _wanted(archive))
    release = kernels.find_release(archive)
    download = sum(deb.size for deb in debs)
    kernel = sum(deb.size for deb in debs if kernels.is_kernel_package(deb.name, release))
    unpacked = toolboxes.UNPACKED_PER_BYTE * (download - kernel) + 2 * kernel
    present = sum(file.stat().st_size for file in archive.downloads.glob("*.deb"))
    already = f" ({human_size(present)} of it is here already)" if present else ""
    reporter.say(
        f"Downloading {len(debs)} Debian packages, {human_size(download)}{already}:\n"
        f"QEMU, gcc, Linux {release}. They are unpacked below {root}\n"
        f"(about {human_size(unpacked)}); nothing is installed on this machine."
    )
    check_free_space(root, download + unpacked - present)


def _fetch(archive: Archive, advance: Advance, reporter: Reporter) -> _Fetched:
    debs = fetch_packages(archive, lambda: _wanted(archive), advance, reporter.say)
    release = kernels.find_release(archive)
    kernel = [deb for deb in debs if kernels.is_kernel_package(deb.name, release)]
    return _Fetched(release=release, kernel=kernel, toolbox=[deb for deb in debs if deb not in kernel])


def _unpack_toolbox(root: Path, archive: Archive, fetched: _Fetched, reporter: Reporter) -> None:
    with reporter.task("toolbox: QEMU, gcc, headers") as advance:
        toolboxes.build_toolbox(root, archive, fetched.toolbox, advance)


def _unpack_kernel(root: Path, archive: Archive, fetched: _Fetched, reporter: Reporter) -> None:
    with reporter.task(f"kernel {fetched.release}") as advance:
        kernels.build_kernel(root, archive, fetched.kernel, advance)


def _build_lock(archive: Archive, fetched: _Fetched) -> Lock:
    return Lock(
        suites=toolboxes.SUITES,
        resolved_at=datetime.now(UTC).isoformat(timespec="seconds"),
        toolbox=lock_packages(archive, fetched.toolbox, toolboxes.toolbox_key(fetched.toolbox)),
        kernel=lock_packages(archive, fetched.kernel, kernels.kernel_key(fetched.kernel)),
        kernel_release=fetched.release,
    )


def _check_host() -> None:
    missing = find_missing_programs()
    if missing:
        packages = sorted({HOST_PROGRAMS[program] for program in missing})
        raise ProvisionError(
            f"the host lacks {', '.join(missing)}", hint=f"apt-get install {' '.join(packages)}"
        )
