"""Facts about this host and the kernel, as a value: probed elsewhere, compared here with what cases need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from testbed.scenario.document import Requires
from testbed.scenario.values import kernel_fits


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What is known so far; None for what nobody has looked at yet, which then refuses nothing."""

    kernel_release: str | None = None
    kernel_config: Mapping[str, str] | None = None
    """``CONFIG_X`` to ``y``, ``m`` or its value; options that are off are absent."""
    modules: frozenset[str] | None = None
    """Names of all modules of the kernel, those built in included."""
    accel: str | None = None
    """The accelerator that will be used: ``kvm`` or ``tcg``."""
    accel_reason: str = ""


def find_skip_reason(requires: Requires, host: Host) -> str | None:
    """Return why a case with ``requires`` cannot run on ``host``, all reasons in one line, or None."""
    reasons = [*_kernel_reasons(requires, host)]
    if requires.accel and host.accel and requires.accel != host.accel:
        because = f": {host.accel_reason}" if host.accel_reason else ""
        reasons.append(f"needs accelerator {requires.accel}, this run uses {host.accel}{because}")
    return "; ".join(reasons) or None


def _kernel_reasons(requires: Requires, host: Host) -> list[str]:
    reasons = []
    if requires.kernel and host.kernel_release and not kernel_fits(requires.kernel, host.kernel_release):
        reasons.append(f"needs kernel {requires.kernel}, this is {host.kernel_release}")
    if host.kernel_config is not None:
        missing = [name for name in map(_option, requires.config) if not _is_on(host.kernel_config, name)]
        if missing:
            reasons.append(f"the kernel has {', '.join(missing)} off")
    if host.modules is not None:
        have = {_module(name) for name in host.modules}
        absent = [name for name in requires.modules if _module(name) not in have]
        if absent:
            reasons.append(f"the kernel has no module {', '.join(absent)}")
    return reasons


def _option(name: str) -> str:
    return name if name.startswith("CONFIG_") else f"CONFIG_{name}"


def _is_on(config: Mapping[str, str], name: str) -> bool:
    return config.get(name, "n") not in ("n", "")


def _module(name: str) -> str:
    return name.replace("-", "_")
