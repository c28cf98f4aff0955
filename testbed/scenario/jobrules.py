"""What must fit together in a graph of GPU jobs: names, sizes, engines, and no cycle."""

from __future__ import annotations

from collections.abc import Iterator

from testbed.scenario.catalog import GPU
from testbed.scenario.document import Guest
from testbed.scenario.jobs import Buffer, ChecksumOp, CopyOp, FillOp, Job, Operation, VectorOp
from testbed.scenario.model import JobsStep
from testbed.scenario.suggest import suggest
from testbed.scenario.tree import Loc

Finding = tuple[Loc, str, str | None]
MAX_OPERATIONS = 200
"""What one EXEC of the driver takes, with room for the tool's own time stamps."""


def check_jobs(step: JobsStep, guest: Guest) -> Iterator[Finding]:
    """Yield (place in the step, message, hint) for all that does not fit."""
    yield from _check_engines(step, guest)
    for name, buffer in step.buffers.items():
        if buffer.size % 4:
            yield ("buffers", name, "size"), f"buffer '{name}' must be a multiple of 4 bytes", None
    for name, job in step.jobs.items():
        for index, other in enumerate(job.after):
            if other not in step.jobs:
                yield ("jobs", name, "after", index), f"there is no job '{other}'", suggest(other, step.jobs)
        if len(job.do) > MAX_OPERATIONS:
            yield ("jobs", name, "do"), f"at most {MAX_OPERATIONS} operations fit into a job", None
        for index, operation in enumerate(job.do):
            yield from _check_operation(step, job, ("jobs", name, "do", index), operation)
    for name in step.check:
        if name not in step.buffers:
            yield ("check", name), f"there is no buffer '{name}'", _known_buffers(name, step)
    yield from _check_cycles(step.jobs)


def _check_engines(step: JobsStep, guest: Guest) -> Iterator[Finding]:
    gpus = [device.params for device in guest.devices.values() if device.model == GPU]
    if not gpus:
        yield (), f"guest '{step.guest}' has no GPU for jobs", "guests: {vm: {devices: {gpu0: {model: gpu}}}}"
    elif all(params.get("engines") == 1 for params in gpus):
        for name, job in step.jobs.items():
            if job.engine == "compute":
                hint = "engines: 2"
                yield ("jobs", name, "engine"), "a GPU with one engine has only a copy engine", hint


def _known_buffers(name: str, step: JobsStep) -> str:
    return suggest(name, step.buffers) or "declare it in 'buffers'"


def _check_operation(step: JobsStep, job: Job, loc: Loc, operation: Operation) -> Iterator[Finding]:
    used = _operands(operation)
    for place, name in used:
        if name not in step.buffers:
            yield (*loc, *place), f"there is no buffer '{name}'", _known_buffers(name, step)
    buffers = [step.buffers[name] for _, name in used if name in step.buffers]
    if len(buffers) != len(used):
        return
    if isinstance(operation, CopyOp) and buffers[0].size > buffers[1].size:
        names = operation.copy_
        yield (*loc, "copy"), f"buffer '{names.from_}' is larger than '{names.to}'", None
    if isinstance(operation, VectorOp):
        yield from _check_vector(job, loc, buffers)


def _check_vector(job: Job, loc: Loc, buffers: list[Buffer]) -> Iterator[Finding]:
    if job.engine != "compute":
        yield (*loc, "vector"), "only compute engines have vector operations", "engine: compute"
    if len({buffer.size for buffer in buffers}) > 1:
        yield (*loc, "vector"), "the buffers of a vector operation must have the same size", None


def _operands(operation: Operation) -> list[tuple[Loc, str]]:
    if isinstance(operation, FillOp):
        return [(("fill", "buffer"), operation.fill.buffer)]
    if isinstance(operation, CopyOp):
        return [(("copy", "from"), operation.copy_.from_), (("copy", "to"), operation.copy_.to)]
    if isinstance(operation, ChecksumOp):
        return [(("checksum",), operation.checksum)]
    if isinstance(operation, VectorOp):
        vector = operation.vector
        return [(("vector", "a"), vector.a), (("vector", "b"), vector.b), (("vector", "to"), vector.to)]
    return []


def _check_cycles(jobs: dict[str, Job]) -> Iterator[Finding]:
    done: set[str] = set()
    for name in jobs:
        path: list[str] = []
        pending = [(name, 0)]
        while pending:
            job, depth = pending.pop()
            done.update(path[depth:])
            del path[depth:]
            if job in path:
                cycle = path[path.index(job) :]
                first = min(cycle, key=list(jobs).index)
                start = cycle.index(first)
                way = [*cycle[start:], *cycle[:start], first]
                yield ("jobs", first), f"job '{first}' waits for itself: {' -> '.join(way)}", None
                return
            if job in done:
                continue
            path.append(job)
            pending += [(other, depth + 1) for other in jobs[job].after if other in jobs]
        done.update(path)
