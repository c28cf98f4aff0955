"""``tool`` and ``jobs``: programs of ours that print KTAP."""

from __future__ import annotations

from testbed.evidence.tool import TEXT, ToolRun, judge_tool, save_tool
from testbed.guest.session import Guest
from testbed.outcome import Status
from testbed.scenario.jobs import Operation
from testbed.scenario.model import JobsStep, ToolExpect, ToolStep
from testbed.steps.base import StepContext, StepResult
from testbed.steps.command import decode

_GRAPH_COMMAND = "tb-gpu graph"
TOOL_FOLDER = "/usr/local/bin"


def run_tool(step: ToolStep, context: StepContext) -> StepResult:
    """Run a tool and judge its KTAP."""
    return _judge(step.tool, step.stdin or "", step.expect, context, context.guest_of(step), "tool")


def run_jobs(step: JobsStep, context: StepContext) -> StepResult:
    """Have ``tb-gpu graph`` submit the jobs and judge its KTAP."""
    text = build_graph(step)
    (context.step_folder(step.verb) / "graph.txt").write_text(text, encoding="utf-8")
    return _judge(_GRAPH_COMMAND, text, ToolExpect(), context, context.guest_of(step), step.verb)


def build_graph(step: JobsStep) -> str:
    """Return the text that ``tb-gpu graph`` reads (guest-images/tools/gpu/graph.h)."""
    lines = [f"buffer {name} {buffer.place} {buffer.size}" for name, buffer in step.buffers.items()]
    if step.timeout is not None:
        lines.append(f"timeout {_milliseconds(step.timeout)}")
    for name, job in step.jobs.items():
        lines.append(f"job {name} {job.engine} {job.publish}")
        lines += [f"after {earlier}" for earlier in job.after]
        lines += [f"op {_build_operation(operation)}" for operation in job.do]
        lines.append(f"expect {job.expect}")
    lines += [f"check {name} {value:#x}" for name, value in step.check.items()]
    if step.submit == "reverse":
        lines.append("submit reverse")
    return "\n".join(lines) + "\n"


def _build_operation(operation: Operation) -> str:
    if isinstance(operation, str):
        return operation
    match operation.model_dump(by_alias=True):
        case {"fill": fill}:
            return f"fill {fill['buffer']} {fill['value']:#x}"
        case {"copy": copy}:
            return f"copy {copy['from']} {copy['to']}"
        case {"checksum": buffer}:
            return f"checksum {buffer}"
        case {"delay": seconds}:
            return f"delay {_milliseconds(seconds)}"
        case {"vector": vector}:
            return f"vector {vector['op']} {vector['a']} {vector['b']} {vector['to']}"
    raise AssertionError(f"an operation that the scenario's model does not know: {operation!r}")


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.6f}".rstrip("0").rstrip(".")


def _judge(
    command: str, stdin: str, expect: ToolExpect, context: StepContext, guest: Guest, verb: str
) -> StepResult:
    context.assets.push_tools(guest, context.deadline)
    result = guest.run(command, deadline=context.deadline, stdin=stdin.encode())
    folder = context.step_folder(verb)
    run = ToolRun(
        command=command,
        exit=result.exit,
        stderr=decode(result.stderr),
        want_exit=expect.exit,
        skip=expect.skip,
        output=expect.output,
        not_output=expect.not_output,
        error=expect.error,
    )
    save_tool(folder, result.stdout, run)
    outcome = judge_tool(decode(result.stdout), run)
    text = folder / TEXT
    pointers = tuple(context.pointer(text, line) for line in outcome.lines)
    if not pointers and outcome.status is not Status.PASS:
        pointers = (context.pointer(text, 1),)
    return StepResult(status=outcome.status, detail=outcome.detail, pointers=pointers)
