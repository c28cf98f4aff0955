"""Programs run inside the toolbox, as if it were the root of the system.

A fresh root is put together in a private mount namespace: the toolbox's ``/usr`` read-only, and the
directories that the caller names. Nothing stays mounted when the program ends, however it ends. Without root
it takes an unprivileged user namespace with one mapped user, so no ``/etc/subuid`` and no helper program.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from testbed.errors import ProvisionError
from testbed.provision.process import Finished, run_program

_SCRIPT = """
set -e
usr=$1 root=$2
shift 2
mount -t tmpfs -o mode=755 tmpfs "$root"
mkdir -m 1777 "$root/tmp"
mkdir "$root/usr" "$root/dev" "$root/proc"
mount -t proc proc "$root/proc"
for dir in bin sbin lib lib64; do ln -s "usr/$dir" "$root/$dir"; done
mount --bind "$usr" "$root/usr"
mount -o remount,bind,ro "$root/usr"
for node in null zero urandom; do : > "$root/dev/$node"; mount --bind "/dev/$node" "$root/dev/$node"; done
while [ "$1" != -- ]; do
    mkdir -p "$root$2"
    mount --bind "$1" "$root$2"
    shift 2
done
shift
exec chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin HOME=/tmp LC_ALL=C.UTF-8 "$@"
"""

_SWITCHES = {
    "/proc/sys/user/max_user_namespaces": ("0", "sysctl user.max_user_namespaces=10000"),
    "/proc/sys/kernel/unprivileged_userns_clone": ("0", "sysctl kernel.unprivileged_userns_clone=1"),
    "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": (
        "1",
        "sysctl kernel.apparmor_restrict_unprivileged_userns=0",
    ),
}


def run_inside(toolbox: Path, argv: Sequence[str], *, binds: Mapping[str, Path]) -> Finished:
    """Run ``argv`` inside the toolbox; ``binds`` maps a path inside to the directory of the host shown there.

    Raises `ProvisionError` when this host does not let us make the namespaces that it takes.
    """
    pairs = [word for inside, outside in binds.items() for word in (str(outside), inside)]
    script = ["sh", "-c", _SCRIPT, "sh", str(toolbox / "usr"), str(toolbox / "mnt"), *pairs, "--", *argv]
    done = run_program([*_unshare_argv(), *script])
    if done.status != 0 and ("unshare:" in done.output or "mount:" in done.output):
        raise _explain(done)
    return done


def _unshare_argv() -> list[str]:
    argv = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child=KILL"]
    return argv if os.geteuid() == 0 else [*argv, "--user", "--map-root-user"]


def _explain(done: Finished) -> ProvisionError:
    message = f"the toolbox cannot be entered: {done.tail}"
    for switch, (forbidding, command) in _SWITCHES.items():
        path = Path(switch)
        if path.exists() and path.read_text().strip() == forbidding:
            return ProvisionError(f"{message}\n{switch} is {forbidding}", hint=f"as root: {command}")
    return ProvisionError(message, hint="run as root, or allow unprivileged user namespaces")
