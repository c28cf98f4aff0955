"""What is sent into the guest for jobs, tools and modules."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from testbed.deadline import Deadline
from testbed.errors import ProvisionError, ScenarioFault
from testbed.guest.ssh import CommandResult
from testbed.outcome import Status
from testbed.scenario.model import AlwaysStep, JobsStep, ModuleStep, ParallelStep, ToolStep
from testbed.steps import assets
from testbed.steps.assets import Assets, prepare_assets, walk_steps
from testbed.steps.module import build_arguments, load_module
from testbed.steps.tool import build_graph

SOON = Deadline.after(5, "unit")


class Shell:
    """A guest that only notes what it is told; commands in ``bad`` fail."""

    def __init__(self, said: str = "", bad: dict[str, str] | None = None) -> None:
        self.name = "vm"
        self.commands: list[str] = []
        self.pushed: list[str] = []
        self._said = said
        self._bad = bad or {}

    def run(self, command: str, *, deadline: Deadline, stdin: bytes = b"") -> CommandResult:
        self.commands.append(command)
        said = next((text for part, text in self._bad.items() if part in command), None)
        return CommandResult(
            exit=1 if said else 0,
            stdout=self._said.encode(),
            stderr=(said or "").encode(),
            seconds=0.0,
            pointer="ssh/3",
        )

    def push(self, files: Any, *, deadline: Deadline, mode: int = 0o755) -> None:
        self.pushed += files


def test_jobs_become_the_graph_that_the_tool_reads() -> None:
    step = JobsStep.model_validate(
        {
            "jobs": {
                "a": {"engine": "copy", "do": [{"fill": {"buffer": "x", "value": 0xABCD}}, "nop"]},
                "b": {
                    "engine": "compute",
                    "after": ["a"],
                    "publish": "timeline",
                    "expect": "ETIME",
                    "do": [
                        {"copy": {"from": "x", "to": "y"}},
                        {"delay": "2500us"},
                        {"checksum": "y"},
                        {"vector": {"op": "xor", "a": "x", "b": "y", "to": "y"}},
                    ],
                },
            },
            "buffers": {"x": {"place": "vram", "size": "1M"}, "y": {"place": "system", "size": "64K"}},
            "check": {"y": 0xABCD},
            "submit": "reverse",
            "timeout": "2s",
        }
    )
    assert build_graph(step).splitlines() == [
        "buffer x vram 1048576",
        "buffer y system 65536",
        "timeout 2000",
        "job a copy sync_file",
        "op fill x 0xabcd",
        "op nop",
        "expect ok",
        "job b compute timeline",
        "after a",
        "op copy x y",
        "op delay 2.5",
        "op checksum y",
        "op vector xor x y y",
        "expect ETIME",
        "check y 0xabcd",
        "submit reverse",
    ]


def test_module_parameters() -> None:
    assert build_arguments({"job_timeout_ms": 300, "debug": True, "quiet": False, "how": "null"}) == [
        "job_timeout_ms=300",
        "debug=Y",
        "quiet=N",
        "how=null",
    ]


def test_modules_are_inserted_in_order_and_only_once() -> None:
    built = Assets({"tbgpu": (Path("/m/drm.ko"), Path("/m/gpu-sched.ko"), Path("/m/tbgpu.ko"))}, None)
    guest: Any = Shell(said="gpu_sched\ntbgpu\n")
    problem, loaded = load_module(guest, "tbgpu", {"how": "a b"}, built, SOON)
    assert problem is None
    assert loaded == ["gpu_sched", "tbgpu"]
    folder = "/run/testbed/modules"
    assert guest.pushed == [f"{folder}/drm.ko", f"{folder}/gpu-sched.ko", f"{folder}/tbgpu.ko"]
    (command,) = guest.commands
    parts = [
        f"{{ [ -e /sys/module/{name}/initstate ] || {{ insmod {folder}/{words} && echo {name}; }}; }}"
        for name, words in (
            ("drm", "drm.ko"),
            ("gpu_sched", "gpu-sched.ko"),
            ("tbgpu", "tbgpu.ko 'how=a b'"),
        )
    ]
    assert command == " && ".join(parts)


def test_a_module_that_is_refused_says_why() -> None:
    built = Assets({"tbgpu": (Path("/m/drm.ko"), Path("/m/gpu-sched.ko"), Path("/m/tbgpu.ko"))}, None)
    refused = "insmod: can't insert '/run/testbed/modules/gpu-sched.ko': Invalid argument"
    guest: Any = Shell(said="drm\n", bad={"insmod": f"{refused}\n"})
    problem, loaded = load_module(guest, "tbgpu", {}, built, SOON)
    assert problem is not None
    assert loaded == ["drm"]
    assert (problem.status, problem.pointers) == (Status.FAIL, ("vm/ssh/3.err:1",))
    assert problem.detail == f"module 'gpu_sched' was not loaded: {refused}"


def test_tools_are_pushed_once(tmp_path: Path) -> None:
    (tmp_path / "tb-gpu").write_text("x")
    built, guest = Assets({}, tmp_path), Shell()
    for _ in range(2):
        built.push_tools(guest, SOON)
    assert guest.pushed == ["/usr/local/bin/tb-gpu"]


def test_a_module_that_does_not_compile_is_the_scenarios_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_lab: object, source: Path) -> Path:
        raise ProvisionError(f"module '{source.name}' does not compile:\ntboops.c:7: error: no")

    monkeypatch.setattr(assets, "build_module", refuse)
    monkeypatch.setattr(assets, "find_module", lambda _lab, _source: None)
    case: Any = SimpleNamespace(modules=(), steps=(ModuleStep.model_validate({"module": "tboops"}),))
    told: list[str] = []
    with pytest.raises(ScenarioFault, match=r"module 'tboops' does not compile:\ntboops.c:7: error: no"):
        prepare_assets(case, SimpleNamespace(), told.append)
    assert told == ["module tboops"]


def test_dependencies_of_our_modules_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = tmp_path / "tbimport.ko"
    built.write_bytes(b"\0license=GPL\0depends=tbgpu,drm\0name=x\0")
    other = tmp_path / "tbgpu.ko"
    other.write_bytes(b"\0depends=drm\0")
    monkeypatch.setattr(assets, "build_module", lambda _lab, source: tmp_path / f"{source.name}.ko")
    monkeypatch.setattr(assets, "find_module", lambda _lab, source: source if "gpu" in source.name else None)
    monkeypatch.setattr(assets, "module_closure", lambda _kernel, names: [tmp_path / f"{names[0]}.ko"])
    case: Any = SimpleNamespace(modules=(SimpleNamespace(name="tbimport"),), steps=())
    lab: Any = SimpleNamespace(kernel=None)
    told: list[str] = []
    files = prepare_assets(case, lab, told.append).module_files("tbimport")
    assert told == ["module tbimport"]
    assert [path.name for path in files] == ["drm.ko", "tbgpu.ko", "tbimport.ko"]


def test_steps_inside_groups_are_found() -> None:
    tool = {"tool": "tb-gpu x"}
    steps = [
        AlwaysStep.model_validate({"always": [{"repeat": {"times": 2, "steps": [tool]}}]}),
        ParallelStep.model_validate({"parallel": [[tool], [{"run": "x"}]]}),
    ]
    assert sum(isinstance(step, ToolStep) for step in walk_steps(steps)) == 2
