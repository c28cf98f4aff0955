"""What a case needs built before its guests start: kernel modules in load order, and guest tools."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from testbed.deadline import Deadline
from testbed.errors import ProvisionError, ScenarioFault
from testbed.guest.session import Guest
from testbed.plan.model import CasePlan
from testbed.provision.kernel import module_closure, parse_depends
from testbed.provision.model import Provisioned
from testbed.provision.modules import build_module, find_module
from testbed.provision.sources import MODULES
from testbed.provision.tools import build_tools, find_tools
from testbed.scenario.model import (
    AlwaysStep,
    CountersStep,
    JobsStep,
    ModuleStep,
    ParallelStep,
    RepeatStep,
    StepBase,
    ToolStep,
)

Tell = Callable[[str], object]
TOOL_FOLDER = "/usr/local/bin"
MODULE_FOLDER = "/run/testbed/modules"


class Assets:
    """Built modules and tools of one case; a guest has them from the start, or is pushed them."""

    def __init__(self, modules: dict[str, tuple[Path, ...]], tools: Path | None) -> None:
        self._modules = modules
        self._tools = tools
        self._lock = threading.Lock()
        self._have_tools: set[str] = set()

    def module_files(self, name: str) -> tuple[Path, ...]:
        """Return the files to insert for module ``name``, in order; its own is the last."""
        if name not in self._modules:
            raise ScenarioFault(f"module '{name}' was not built for this case")
        return self._modules[name]

    def files(self) -> dict[str, Path]:
        """Return all of it, by the path that it has in a guest."""
        modules = [path for files in self._modules.values() for path in files]
        return {**{f"{MODULE_FOLDER}/{path.name}": path for path in modules}, **self._tool_files()}

    def push_tools(self, guest: Guest, deadline: Deadline) -> None:
        """Make sure that ``guest`` has the tools."""
        with self._lock:
            if guest.name in self._have_tools or self._tools is None:
                return
            guest.push(self._tool_files(), deadline=deadline)
            self._have_tools.add(guest.name)

    def _tool_files(self) -> dict[str, Path]:
        tools = sorted(self._tools.iterdir()) if self._tools else []
        return {f"{TOOL_FOLDER}/{path.name}": path for path in tools}


class Shelf:
    """What a run has already found or built: it looks at each source once, however many cases use it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.modules: dict[str, tuple[Path, ...]] = {}
        self.tools: Path | None = None


def prepare_assets(
    case: CasePlan, lab: Provisioned, tell: Tell, shelf: Shelf | None = None, *, tools: bool = False
) -> Assets:
    """Build what ``case`` needs, from the cache when it is there; ``tell`` gets the name of what is not.

    ``tools``: the guest tools, whether its steps use them or not.
    Raises `ScenarioFault` with the compiler's output when a module does not compile, or is not known.
    """
    steps = list(walk_steps(case.steps))
    names = [use.name for use in case.modules]
    names += [step.module for step in steps if isinstance(step, ModuleStep)]
    wants_tools = tools or any(isinstance(step, (ToolStep, JobsStep)) for step in steps)
    shelf = shelf or Shelf()
    with shelf.lock:
        for name in dict.fromkeys(names):
            if name not in shelf.modules:
                shelf.modules[name] = _build_closure(name, lab, tell)
        if wants_tools and shelf.tools is None:
            if find_tools(lab) is None:
                tell("guest tools")
            shelf.tools = build_tools(lab)
        return Assets({name: shelf.modules[name] for name in names}, shelf.tools if wants_tools else None)


def walk_steps(steps: Iterable[StepBase]) -> Iterator[StepBase]:
    """Yield all steps, those inside groups too."""
    for step in steps:
        yield step
        yield from walk_steps(find_children(step))


def find_children(step: StepBase) -> tuple[StepBase, ...]:
    """Return the steps inside ``step``; none unless it is a group."""
    match step:
        case CountersStep():
            return step.steps
        case ParallelStep():
            return tuple(child for branch in step.parallel for child in branch)
        case RepeatStep():
            return step.repeat.steps
        case AlwaysStep():
            return step.always
    return ()


def _build_closure(name: str, lab: Provisioned, tell: Tell) -> tuple[Path, ...]:
    """Return the files of a module and its dependencies, ours built, in load order."""
    files: dict[str, Path] = {}

    def add(wanted: str) -> None:
        if wanted in files:
            return
        source = MODULES / wanted
        if source.is_dir():
            built = _build(source, lab, tell)
            for needed in parse_depends(built.read_bytes()):
                add(needed)
            files[wanted] = built
            return
        for path in _closure(wanted, lab):
            files.setdefault(path.name.split(".", 1)[0].replace("-", "_"), path)

    add(name)
    return tuple(files.values())


def _build(source: Path, lab: Provisioned, tell: Tell) -> Path:
    if find_module(lab, source) is None:
        tell(f"module {source.name}")
    try:
        return build_module(lab, source)
    except ProvisionError as error:
        raise ScenarioFault(error.message, where=error.where, hint=error.hint) from error


def _closure(name: str, lab: Provisioned) -> list[Path]:
    try:
        return module_closure(lab.kernel, [name])
    except ProvisionError as error:
        raise ScenarioFault(error.message, where=error.where, hint=error.hint) from error
