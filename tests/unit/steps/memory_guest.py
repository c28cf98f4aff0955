"""A guest that lives in memory: for the order of steps, not for what guests do."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from testbed.deadline import Deadline
from testbed.errors import ScenarioFault
from testbed.evidence.events import load_events
from testbed.evidence.run import RunFolder
from testbed.guest.accel import Accel
from testbed.guest.ssh import CommandResult
from testbed.guest.tail import LogTail
from testbed.outcome import Status
from testbed.plan.model import CasePlan
from testbed.provision.model import Image, Kernel, Provisioned, Qemu, Toolbox
from testbed.steps.runner import Bench, run_case

Answer = tuple[int, str] | BaseException | Callable[[Deadline], tuple[int, str]]


class MemoryGuest:
    """Answers commands from a table; all others end with status 0 and their own text."""

    def __init__(self, folder: Path, answers: Mapping[str, Answer]) -> None:
        self.name = folder.name
        self.commands: list[str] = []
        self.calls: list[tuple[Any, ...]] = []
        self.synced = 0
        self.counters = {"commands": 1}
        self._answers = answers
        (folder / "kmsg.log").write_text("6,1,1,-;tbgpu: ready\n")
        (folder / "console.log").write_text("[    0.1] hello\n")
        self.kmsg = LogTail(folder / "kmsg.log", alive=lambda: None)
        self.console = LogTail(folder / "console.log", alive=lambda: None)

    def run(self, command: str, *, deadline: Deadline, stdin: bytes = b"") -> CommandResult:
        self.commands.append(command)
        answer = self._answers.get(command, (0, command))
        if isinstance(answer, BaseException):
            raise answer
        status, text = answer(deadline) if callable(answer) else answer
        out, err = (text, "") if status == 0 else ("", text)
        return CommandResult(
            exit=status, stdout=out.encode(), stderr=err.encode(), seconds=0.0, pointer="ssh/1"
        )

    def push(self, files: Mapping[str, Any], *, deadline: Deadline, mode: int = 0o755) -> None:
        self.calls.append(("push", *files))

    def plug(self, device: str, *, deadline: Deadline) -> str:
        self.calls.append(("plug", device))
        return "0000:01:00.0"

    def unplug(self, device: str, *, deadline: Deadline, surprise: bool = False) -> None:
        self.calls.append(("unplug", device, surprise))

    def device(
        self, name: str, command: str, args: Mapping[str, Any], *, deadline: Deadline
    ) -> dict[str, Any]:
        self.calls.append((command, name, dict(args)))
        if args.get("fault") == "nonsense":
            raise ScenarioFault("fault 'nonsense' is not known (known: hold_completions)")
        self.counters["commands"] += 1
        return dict(self.counters)

    def qmp(self, command: str, args: Mapping[str, Any], *, deadline: Deadline) -> Any:
        return {"status": "running", "list": [{"a": 1}]}

    def sync_kmsg(self, deadline: Deadline) -> int:
        self.synced += 1
        return 0


class World:
    """Runs scenarios and shows what came of them."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.answers: dict[str, Answer] = {}
        self.boot_error: BaseException | None = None
        self.guests: dict[str, MemoryGuest] = {}
        self.stopped: list[str] = []
        self.folder: RunFolder | None = None

    @contextmanager
    def session(self, plan: Any, lab: Any) -> Iterator[MemoryGuest]:
        lab.events.emit("guest_started", guest=plan.name, pid=1)
        if self.boot_error is not None:
            raise self.boot_error
        guest = self.guests[plan.name] = MemoryGuest(lab.folder, self.answers)
        try:
            yield guest
        finally:
            self.stopped.append(plan.name)

    def run(self, steps: list[Any], *, scale: float = 1.0, **plan: Any) -> list[tuple[str, Status, str]]:
        fields = {
            "name": "unit/case",
            "scenario": "unit.yaml",
            "about": "?",
            "seed": 1,
            "kernel": "default",
            "accel": "tcg",
            "guests": [{"name": "vm", "memory_mib": 512, "cpus": 1}],
            "steps": steps,
            "timeout": "5s",
        } | plan
        case = CasePlan.model_validate_json(json.dumps(fields))
        bench = Bench(
            provisioned=provisioned(self.out),
            accel=Accel(name="tcg", reason="unit"),
            out=self.out,
            scale=scale,
        )

        def keep(folder: RunFolder) -> None:
            self.folder = folder

        run_case(case, bench, scenario_text="schema: 1\n", started=keep)
        return self.results()

    def events(self) -> list[dict[str, Any]]:
        assert self.folder is not None
        return [event for _, event in load_events(self.folder.events)[0]]

    def results(self) -> list[tuple[str, Status, str]]:
        return [
            (event["index"], Status(event["status"]), event["detail"])
            for event in self.events()
            if event["event"] == "step_finished"
        ]

    def errors(self) -> list[tuple[str, str]]:
        return [(event["status"], event["message"]) for event in self.events() if event["event"] == "error"]


def provisioned(path: Path) -> Provisioned:
    qemu = Qemu(argv=("qemu",), img_argv=("qemu-img",), env={}, version=(11, 1, 3), origin="unit")
    kernel = Kernel(
        name="default",
        key="k",
        release="7.2.12",
        image=path,
        modules_dir=path,
        build_dir=path,
        tree=None,
        config={},
    )
    return Provisioned(
        cache=path,
        qemu=qemu,
        toolbox=Toolbox(root=path, key="t", packages={}, qemu=qemu),
        kernel=kernel,
        image=Image(key="i", initramfs=path, cmdline=(), modules=()),
    )


def statuses(results: list[tuple[str, Status, str]]) -> list[tuple[str, str]]:
    return [(index, status.value) for index, status, _ in results]


def slow(deadline: Deadline) -> tuple[int, str]:
    while True:
        deadline.check()
        time.sleep(0.01)
