"""``--html``: one page that needs nothing else: verdicts, reasons with the evidence, and a time line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from testbed import __version__
from testbed.outcome import Status, worst
from testbed.verdict.model import Reason, StepOutcome, Verdict
from testbed.verdict.terminal import count_verdicts

_AROUND = 4
_AFTER = 24
_MAX_READ = 8 << 20

_STYLE = """
:root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--dim:#667080;--line:#d8dee4;--box:#f6f8fa;
--PASS:#1a7f37;--DONE:#0969da;--SKIP:#667080;--FAIL:#cf222e;--ERROR:#8250df;--MISS:#9a6700}
@media(prefers-color-scheme:dark){:root{--bg:#0d1117;--fg:#e6edf3;--dim:#8d96a0;--line:#30363d;
--box:#161b22;--PASS:#3fb950;--DONE:#58a6ff;--SKIP:#8d96a0;--FAIL:#ff7b72;--ERROR:#d2a8ff;--MISS:#d29922}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:76rem;padding:1.5rem;background:var(--bg);color:var(--fg);
font:15px/1.5 system-ui,sans-serif}
h1{font-size:1.4rem}a{color:inherit}.dim{color:var(--dim)}
code,pre,.mono{font:13px/1.45 ui-monospace,monospace}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.35rem .6rem;border-bottom:1px solid var(--line);vertical-align:top}
td.n{text-align:right;white-space:nowrap}.badge{font-weight:700}
.PASS{color:var(--PASS)}.DONE{color:var(--DONE)}.SKIP{color:var(--SKIP)}.FAIL{color:var(--FAIL)}
.ERROR{color:var(--ERROR)}.MISS{color:var(--MISS)}
details{border:1px solid var(--line);border-radius:6px;margin:.8rem 0;padding:.2rem .9rem}
summary{cursor:pointer;padding:.4rem 0}
pre{background:var(--box);padding:.7rem;border-radius:6px;overflow-x:auto}
pre mark{background:none;color:var(--FAIL);font-weight:700}
.track{position:relative;height:.6rem;min-width:10rem;background:var(--box);border-radius:3px}
.bar{position:absolute;height:100%;border-radius:3px;background:currentColor;min-width:2px}
.why{white-space:pre-wrap;overflow-wrap:anywhere}
"""


def build_html(verdicts: Sequence[Verdict]) -> str:
    """Return the page. Evidence is read from the run folders; what is gone is left out."""
    overall = worst((verdict.status for verdict in verdicts), default=Status.SKIP)
    return "".join(
        (
            "<!doctype html>\n<html lang=en><meta charset=utf-8>",
            '<meta name=viewport content="width=device-width,initial-scale=1">',
            f"<title>testbed: {overall}</title><style>{_STYLE}</style>\n",
            f"<h1>testbed: {_badge(overall)}</h1>\n",
            f"<p>{escape(count_verdicts(verdicts) or 'no case was run')}</p>\n",
            _table(verdicts),
            *(_case(number, verdict) for number, verdict in enumerate(verdicts, start=1)),
            f"<p class=dim>testbed {escape(__version__)}</p></html>\n",
        )
    )


def _table(verdicts: Sequence[Verdict]) -> str:
    rows = "".join(
        f'<tr><td><a href="#case-{number}">{escape(verdict.name)}</a><td>{_badge(verdict.status)}'
        f"<td class=n>{verdict.seconds:.1f}<td>{escape(verdict.reason.split(chr(10), 1)[0])}\n"
        for number, verdict in enumerate(verdicts, start=1)
    )
    return f"<table><thead><tr><th>case<th>verdict<th>seconds<th>reason<tbody>\n{rows}</table>\n"


def _case(number: int, verdict: Verdict) -> str:
    good = verdict.status in (Status.PASS, Status.DONE, Status.SKIP)
    machine = f"kernel {verdict.kernel}, {verdict.accel} ({verdict.accel_reason})"
    facts = f"{machine}, seed {verdict.seed}, {verdict.wall}"
    return "".join(
        (
            f"<details id=case-{number}{'' if good else ' open'}>",
            f"<summary>{_badge(verdict.status)} <b>{escape(verdict.name)}</b> ",
            f"<span class=dim>{verdict.seconds:.1f} s</span></summary>",
            f"<p>{escape(verdict.about)}</p><p class=dim>{escape(facts)}<br>",
            f"<span class=mono>{escape(verdict.run_dir)}</span></p>",
            *(_reason(reason, verdict) for reason in verdict.reasons),
            _steps(verdict),
            "</details>\n",
        )
    )


def _reason(reason: Reason, verdict: Verdict) -> str:
    place = f" <span class='mono dim'>{escape(reason.pointer)}</span>" if reason.pointer else ""
    excerpt = _excerpt(Path(verdict.run_dir), reason.pointer)
    return f"<p class=why>{_badge(reason.status)} {escape(reason.text)}{place}</p>{excerpt}"


def _steps(verdict: Verdict) -> str:
    if not verdict.steps:
        return ""
    rows = "".join(_step(step, verdict.seconds) for step in verdict.steps)
    return f"<table><thead><tr><th>step<th><th>verdict<th>seconds<th>time<th>detail<tbody>\n{rows}</table>"


def _step(step: StepOutcome, total: float) -> str:
    scale = 100.0 / total if total > 0 else 0.0
    left, width = min(100.0, step.began * scale), min(100.0, step.seconds * scale)
    bar = f'<span class="bar {step.status}" style="left:{left:.1f}%;width:{width:.1f}%"></span>'
    return (
        f"<tr><td>{escape(step.index)}<td class=mono>{escape(step.name)}<td>{_badge(step.status)}"
        f"<td class=n>{step.seconds:.2f}<td><div class=track>{bar}</div><td class=why>{escape(step.detail)}\n"
    )


def _excerpt(folder: Path, pointer: str) -> str:
    """Return the lines around ``file:line``, the line itself marked; nothing when they cannot be read."""
    name, _, number = pointer.rpartition(":")
    path = (folder / name).resolve()
    if not number.isdigit() or not path.is_relative_to(folder.resolve()) or not path.is_file():
        return ""
    with path.open("rb") as file:
        lines = file.read(_MAX_READ).decode("utf-8", "replace").splitlines()
    shown = "\n".join(_lines(lines, int(number)))
    return f"<pre>{shown}</pre>" if shown else ""


def _lines(lines: Sequence[str], wanted: int) -> Iterator[str]:
    for number in range(max(1, wanted - _AROUND), min(len(lines), wanted + _AFTER) + 1):
        text = f"{number:6}  {escape(lines[number - 1])}"
        yield f"<mark>{text}</mark>" if number == wanted else text


def _badge(status: Status) -> str:
    return f"<span class='badge {status}'>{status}</span>"
