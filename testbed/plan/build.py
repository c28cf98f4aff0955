"""`Scenario` and `Host` to a list of `CasePlan`; pure."""

from __future__ import annotations

import hashlib

from testbed.plan.host import Host, find_skip_reason
from testbed.plan.model import CasePlan, DevicePlan, GuestPlan, ModuleUse, Options
from testbed.plan.select import parse_selection
from testbed.scenario.document import Device, Guest, Scenario, Variant
from testbed.scenario.load import join_axes


def build_cases(scenario: Scenario, *, host: Host, options: Options) -> list[CasePlan]:
    """Return the cases of ``scenario`` that ``options`` select, in order.

    A case that ``host`` cannot run is there too, with a ``skip_reason``. Raises `UsageError` for a wrong
    ``-k`` expression.
    """
    wanted = parse_selection(options.select)
    cases = (_build_case(scenario, variant, host, options) for variant in scenario.variants)
    return [case for case in cases if wanted(case.name, case.tags)]


def name_case(scenario: Scenario, variant: Variant) -> str:
    """Return ``smoke/boot``, or ``fence/hold[engine=copy]`` for a case of a matrix."""
    return f"{scenario.name}[{join_axes(variant.axes)}]" if variant.axes else scenario.name


def derive_seed(name: str) -> int:
    """Return the seed of a case that was given none: 32 bits of its name's hash."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")


def _build_case(scenario: Scenario, variant: Variant, host: Host, options: Options) -> CasePlan:
    document, name = variant.document, name_case(scenario, variant)
    return CasePlan(
        name=name,
        scenario=str(scenario.path),
        about=document.about,
        tags=document.tags,
        seed=derive_seed(name) if options.seed is None else options.seed,
        params=variant.params,
        kernel=options.kernel,
        accel=options.accel,
        cold=document.cold,
        guests=tuple(_build_guest(key, guest) for key, guest in document.guests.items()),
        modules=tuple(
            ModuleUse(name=module, args=args) for entry in document.modules for module, args in entry.items()
        ),
        steps=document.steps,
        timeout=document.timeout,
        expected_warnings=document.expected_warnings,
        expect_verdict=document.expect_verdict,
        requires=document.requires,
        skip_reason=find_skip_reason(document.requires, host),
    )


def _build_guest(name: str, guest: Guest) -> GuestPlan:
    devices = guest.devices.items()
    return GuestPlan(
        name=name,
        memory_mib=guest.memory >> 20,
        cpus=guest.cpus,
        cmdline=guest.cmdline,
        devices=tuple(_build_device(key, device, number) for number, (key, device) in enumerate(devices)),
    )


def _build_device(name: str, device: Device, number: int) -> DevicePlan:
    qemu = {"driver": device.qemu.driver, **device.qemu.properties} if device.qemu else None
    return DevicePlan(
        name=name,
        model=device.model,
        params=device.params,
        plug=device.plug,
        port=f"rp{number}",
        qemu=qemu,
    )
