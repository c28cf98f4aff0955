"""What provisioning hands to the guest session and the runner: plain values, all paths absolute.

The contract between the guest image and whoever boots it (``docs/provisioning.md`` has the details):

- three fw_cfg files are read by init before anything else: `FW_CFG_NONCE` (text, no newline),
  `FW_CFG_AUTHORIZED_KEY` (one line of an ``authorized_keys`` file for root), `FW_CFG_HOST_KEY` (an ed25519
  host key in dropbear's own format; `testbed.provision.identity` makes one);
- when sshd listens on port 22, init writes ``READY <nonce>\\n`` to the virtio-serial port `READY_PORT`;
- the nonce can be read back at `NONCE_PATH` in the guest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FW_CFG_NONCE = "opt/org.testbed/nonce"
FW_CFG_AUTHORIZED_KEY = "opt/org.testbed/authorized_key"
FW_CFG_HOST_KEY = "opt/org.testbed/host_key"
READY_PORT = "org.testbed.ready"
NONCE_PATH = "/run/testbed/nonce"


@dataclass(frozen=True, slots=True, kw_only=True)
class Qemu:
    """A QEMU that has ``vfio-user-pci``, and how it is started.

    ``argv`` is the whole prefix, firmware directories (``-L``) included: append machine options to it.
    ``img_argv`` is the same for ``qemu-img``. ``env`` is to be added to the environment of both.
    """

    argv: tuple[str, ...]
    img_argv: tuple[str, ...]
    env: Mapping[str, str]
    version: tuple[int, int, int]
    origin: str
    """``toolbox``, or the path that the user gave."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolbox:
    """A small Debian root with QEMU, compiler, kernel headers and the guest's user space."""

    root: Path
    key: str
    packages: Mapping[str, str]
    """Package name to version."""
    qemu: Qemu


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """A kernel that can be booted and that modules can be built for."""

    name: str
    """As the user gave it: ``default`` or a path."""
    key: str
    """Hash of what the kernel is made of; changes when the kernel does."""
    release: str
    """``uname -r``."""
    image: Path
    """bzImage."""
    modules_dir: Path
    """The directory that holds ``modules.order``: ``lib/modules/RELEASE``, or a built tree."""
    build_dir: Path
    """What ``make -C`` gets, as seen from inside the toolbox."""
    tree: Path | None
    """A kernel tree on the host that is bound at the same path while modules are built."""
    config: Mapping[str, str]
    """``CONFIG_X`` to ``y``, ``m`` or its value; options that are off are absent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """The guest image for one kernel."""

    key: str
    initramfs: Path
    cmdline: tuple[str, ...]
    """Kernel command line words that the image wants; the session appends its own."""
    modules: tuple[str, ...]
    """Names of the kernel modules that init loads, dependencies included, in that order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provisioned:
    """All that a run needs. Use with:

    - `testbed.provision.kernel.module_closure` ``(kernel, names) -> list[Path]``: files to insert, in order;
    - `testbed.provision.modules.build_module` ``(provisioned, source) -> Path``: a built ``.ko``;
    - `testbed.provision.tools.build_tools` ``(provisioned) -> Path``: a directory of guest programs.
    """

    cache: Path
    qemu: Qemu
    toolbox: Toolbox
    kernel: Kernel
    image: Image
