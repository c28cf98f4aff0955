"""Run folders made by hand: a plan, events and logs, each of which a test can change."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from testbed.evidence.run import RunFolder
from testbed.outcome import Status
from testbed.verdict.model import Verdict

Event = dict[str, Any]
MakeRun = Callable[..., RunFolder]

CLEAN_KMSG = "6,0,1000,-;Linux version 7.2.12\n14,1,4000000,-;testbed: mark 0-1\n"


def build_plan(**changes: Any) -> dict[str, Any]:
    return {
        "name": "smoke/boot",
        "scenario": "scenarios/smoke/boot.yaml",
        "about": "Does it boot?",
        "seed": 7,
        "kernel": "default",
        "accel": "auto",
        "guests": [{"name": "vm", "memory_mib": 512, "cpus": 2}],
        "steps": [{"run": "true"}, {"run": "uname"}],
        "timeout": "60s",
    } | changes


def good_events() -> list[Event]:
    return [
        {
            "event": "case_started",
            "name": "smoke/boot",
            "seed": 7,
            "kernel": "7.2.12",
            "accel": "tcg",
            "accel_reason": "there is no /dev/kvm",
            "wall": "2026-11-21T10:15:02+00:00",
        },
        {"event": "guest_ready", "guest": "vm", "seconds": 4.4, "boot_id": "b", "nonce_ok": True},
        *step("1", "run", "PASS", detail="ok"),
        *step("2", "run", "PASS", detail="Linux"),
        {"event": "kmsg_complete", "guest": "vm", "bytes": 10},
        {"event": "teardown_finished", "guest": "vm", "graceful": True, "detail": ""},
        {"event": "case_finished", "seconds": 5.5},
    ]


def step(index: str, verb: str, status: str, **fields: Any) -> list[Event]:
    name = f"{verb} x"
    begin = {"event": "step_started", "index": index, "verb": verb, "name": name}
    end = {"event": "step_finished", "index": index, "verb": verb, "name": name, "status": status}
    return [begin, end | {"seconds": 0.5, "detail": "", "pointers": []} | fields]


def without(name: str) -> list[Event]:
    """The good events, less one."""
    return [event for event in good_events() if event["event"] != name]


def told(verdict: Verdict) -> list[tuple[Status, str]]:
    return [(reason.status, reason.text) for reason in verdict.reasons]


def build_maker(tmp_path: Path) -> MakeRun:
    def make(
        *,
        events: Sequence[Event] | None = None,
        plan: Mapping[str, Any] | None = None,
        kmsg: str = CLEAN_KMSG,
        console: str = "",
        raw_tail: str = "",
    ) -> RunFolder:
        folder = RunFolder(tmp_path / "20261121-101502-smoke-boot")
        folder.path.mkdir()
        folder.plan.write_text(json.dumps(build_plan(**(plan or {}))))
        lines = [
            json.dumps({"t": 1_000_000_000 * (number + 1)} | event)
            for number, event in enumerate(good_events() if events is None else events)
        ]
        folder.events.write_text("\n".join(lines) + "\n" + raw_tail)
        guest = folder.guest("vm")
        (guest / "kmsg.log").write_text(kmsg)
        (guest / "console.log").write_text(console)
        return folder

    return make
