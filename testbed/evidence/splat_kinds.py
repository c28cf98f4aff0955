"""How the kernel words its reports: a table of first lines, and what may follow them.

Wordings are those of Linux 6.1 to 7.2 on x86 and arm64; sources are named by row.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

CUT_HERE = "------------[ cut here ]------------"
RULE = re.compile(r"^={20,}$")
END_TRACE = re.compile(r"---\[ end (trace|Kernel panic)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """A line that begins a report."""

    kind: str
    title: str
    subject: str
    """What the line says about the cause."""
    message: str
    place: str | None = None
    """The function, when the line names it."""
    complete: bool = False
    """Whether the title needs no place."""
    headings: tuple[str, ...] = ()
    """Kinds that may stand right above and then are the cause."""


@dataclass(frozen=True, slots=True)
class _Row:
    kind: str
    pattern: re.Pattern[str]
    title: str
    """``{subject}`` and ``{place}`` are the pattern's groups of these names."""
    complete: bool = False
    headings: tuple[str, ...] = ()


def _row(
    kind: str, pattern: str, title: str, *, complete: bool = False, headings: tuple[str, ...] = ()
) -> _Row:
    return _Row(kind, re.compile(pattern), title, complete, headings)


_FUNC = r"(?P<place>[A-Za-z_][\w.]*)\+0x[0-9a-f]+/0x[0-9a-f]+"
_OOPS_START = r"^(?:\w+: )?(?:Oops|Internal error): "

_ROWS = (
    # mm/kasan/report.c, mm/kfence/report.c, kernel/kcsan/report.c, mm/kmsan/report.c
    _row("kasan", rf"^BUG: KASAN: (?P<subject>.+?) in {_FUNC}", "KASAN: {subject}"),
    _row("kasan", r"^BUG: KASAN: (?P<subject>.+)", "KASAN: {subject}"),
    _row("kfence", rf"^BUG: KFENCE: (?P<subject>.+?) in {_FUNC}", "KFENCE: {subject}"),
    _row("kfence", r"^BUG: KFENCE: (?P<subject>.+)", "KFENCE: {subject}"),
    _row("kcsan", r"^BUG: KCSAN: (?P<subject>.+)", "KCSAN: {subject}", complete=True),
    _row("kmsan", rf"^BUG: KMSAN: (?P<subject>.+?) in {_FUNC}", "KMSAN: {subject}"),
    # lib/ubsan.c
    _row("ubsan", r"^UBSAN: (?P<subject>[\w-]+) in (?P<where>\S+)", "UBSAN: {subject}"),
    # kernel/locking/lockdep.c
    _row(
        "lockdep",
        r"^WARNING: (?P<subject>possible (?:circular|recursive|irq)\b.*|inconsistent lock state"
        r"|bad unlock balance.*|held lock freed.*|lock held when returning.*|suspicious RCU usage"
        r"|Nested lock was not taken.*|\S+-safe -> \S+-unsafe.*|bad contention.*|invalid wait context.*)",
        "lockdep: {subject}",
    ),
    _row(
        "lockdep",
        r"^(?P<subject>\[ BUG: Invalid wait context \]|INFO: trying to register non-static key)",
        "lockdep: {subject}",
    ),
    # lib/refcount.c, lib/list_debug.c, lib/debugobjects.c: said before the WARNING or BUG that follows
    _row("refcount", r"^(?P<subject>refcount_t: .+?)\.?$", "{subject}"),
    _row("list_corruption", r"^(?P<subject>list_(?:add|del) corruption)", "{subject}"),
    _row("debugobjects", r"^ODEBUG: (?P<subject>\w+ \w+)", "ODEBUG: {subject}"),
    # kernel/hung_task.c, kernel/watchdog.c, kernel/rcu/tree_stall.h
    _row(
        "hung_task",
        r"^INFO: task (?P<subject>.+?):\d+ (?:<.*> )?blocked (?:for more than|in I/O|on)",
        "task {subject} hung",
    ),
    _row("soft_lockup", r"BUG: soft lockup - (?P<subject>CPU#\d+ stuck for \d+s)", "soft lockup"),
    _row("hard_lockup", r"Watchdog detected hard LOCKUP on (?P<subject>cpu \d+)", "hard lockup"),
    _row("rcu_stall", r"(?P<subject>rcu\w* (?:self-)?detected (?:expedited )?stalls?)", "RCU stall"),
    _row("rcu_stall", r"INFO: (?P<subject>rcu\w* detected (?:expedited )?stalls?)", "RCU stall"),
    # kernel/sched/core.c
    _row(
        "sleeping_in_atomic",
        r"^BUG: sleeping function called from invalid context at (?P<subject>\S+)",
        "sleeping function called from invalid context",
    ),
    _row("sleeping_in_atomic", r"^BUG: (?P<subject>scheduling while atomic)", "scheduling while atomic"),
    # arch/x86/mm/fault.c, arch/arm64/mm/fault.c
    _row(
        "oops", r"^BUG: (?P<subject>kernel NULL pointer dereference)", "BUG: kernel NULL pointer dereference"
    ),
    _row(
        "oops", r"^BUG: (?P<subject>unable to handle .*?)(?: for address.*| at .*|: .*)?$", "BUG: {subject}"
    ),
    _row(
        "oops",
        r"^Unable to handle kernel (?P<subject>NULL pointer dereference|.*?) at virtual address",
        "BUG: kernel {subject}",
    ),
    # arch/x86/kernel/traps.c, dumpstack.c
    _row(
        "general_protection",
        r"^(?:Oops: )?(?P<subject>general protection fault)(?:,| |: )",
        "general protection fault",
    ),
    _row(
        "oops",
        rf"{_OOPS_START}(?P<subject>divide error|invalid opcode|stack segment|bounds|int3|\w+ error)",
        "Oops: {subject}",
    ),
    _row(
        "oops",
        r"^(?P<subject>divide error|invalid opcode|stack segment|bounds|int3): [0-9a-f]{4} \[#\d+\]",
        "Oops: {subject}",
    ),
    _row("oops", r"^(?:traps: )?PANIC: (?P<subject>double fault)", "Oops: {subject}"),
    _row("oops", rf"{_OOPS_START}(?P<subject>.+? \[#\d+\])", "Oops"),
    # include/asm-generic/bug.h, lib/bug.c
    _row(
        "bug",
        r"^kernel BUG at (?P<subject>\S+?)!",
        "kernel BUG",
        headings=("list_corruption", "debugobjects"),
    ),
    _row(
        "warning",
        rf"^WARNING: (?:CPU: \d+ PID: \d+ )?(?:at )?(?P<subject>[\w/.+-]+:\d+) (?:at )?{_FUNC}",
        "WARNING",
        headings=("refcount", "list_corruption", "debugobjects"),
    ),
    _row(
        "warning",
        r"^WARNING: (?:CPU: \d+ PID: \d+ at )?(?P<subject>[\w/.+-]+:\d+|CPU: \d+ PID: \d+.*)",
        "WARNING",
        headings=("refcount", "list_corruption", "debugobjects"),
    ),
    # net/core/page_pool.c, net/core/dev.c, mm/kmemleak.c, kernel/irq/spurious.c
    _row(
        "page_pool_stall",
        r"(?P<subject>\bstalled pool shutdown: .*)",
        "page_pool: stalled pool shutdown",
        complete=True,
    ),
    _row(
        "netdev_leak",
        r"^unregister_netdevice: waiting for (?P<subject>\S+) to become free",
        "unregister_netdevice: {subject} is not freed",
        complete=True,
    ),
    _row(
        "kmemleak",
        r"^kmemleak: (?P<subject>\d+ new suspected memory leaks?)",
        "kmemleak: suspected memory leaks",
        complete=True,
    ),
    _row(
        "nobody_cared", r"^irq (?P<subject>\d+): nobody cared", "irq {subject}: nobody cared", complete=True
    ),
    # kernel/panic.c; everything else that begins with BUG
    _row("panic", r"^Kernel panic - not syncing: (?P<subject>.*)", "Kernel panic: {subject}", complete=True),
    _row("bug", r"^(?:\w[\w ]*: )?BUG: (?P<subject>[A-Za-z].*?)(?:,| at | in | on |: |$)", "BUG: {subject}"),
)

_HINT = re.compile(
    r"BUG|WARNING|Oops|panic|INFO: |UBSAN|refcount_t|corruption|ODEBUG|general protection|[Uu]nable to handle"
    r"|LOCKUP|detected|PANIC|\[#\d+\]|stalled pool|unregister_netdevice|kmemleak|nobody cared|Internal error"
)

_FATAL = ("oops", "general_protection")
FOLLOWS: dict[str, tuple[str, ...]] = {
    "oops": _FATAL,
    "general_protection": _FATAL,
    "bug": _FATAL,
    "list_corruption": (*_FATAL, "bug", "warning"),
    "refcount": ("warning",),
    "debugobjects": ("warning", "bug"),
    "kasan": _FATAL,
    "rcu_stall": ("rcu_stall",),
    "ubsan": ("oops",),
}
"""Kinds of lines that belong to a report of the key's kind when they come inside it."""

CLOSING_RULE = frozenset({"kasan", "kfence", "kcsan", "kmsan"})
"""Kinds whose report ends with a ruler of ``=`` signs."""

SECONDARY_PANIC = re.compile(
    r"[Ff]atal exception|panic_on_warn set|Attempted to kill (init|the idle)|hung_task: blocked tasks"
    r"|softlockup|RCU Stall|Oops - |Aiee, killing|Hard LOCKUP|panic_on_oops|KASAN|UBSAN|CFI failure"
)
"""Reasons of panics that only follow from something reported before."""

_REPORT_LINE = re.compile(
    "|".join(
        (
            # call traces and registers
            r"\+0x[0-9a-f]+/0x[0-9a-f]+",
            r"^ ?</?(TASK|IRQ|NMI|SOFTIRQ|#DB)>",
            r"Call [Tt]race:",
            r"^(CPU|RIP|RSP|Code|EIP|CR2|FS|CS|PKRU|DR\d|R[0-9A-Z]{2})[:# ]",
            r"^(pc|lr|sp|pstate|[xp]\d+) ?: ",
            r"^(PGD |#PF:|Hardware name:|Modules linked in:|Tainted:|Kernel Offset|Dumping ftrace)",
            r"^note: .*exited with",
            # memory reports
            r"^(={10,}|-{10,}|-> #|>)",
            r"^ [0-9a-f]{16}: ",
            r"^(Allocated|Freed|The buggy address|page:|page dumped|Memory state)",
            r"^(Read of|Write of|raw:|flags:)",
            # locks and tasks
            r"stack backtrace:|locks? held by|#\d+: |is trying to |which lock|lock dependency|other info",
            r"Possible unsafe|\*\*\* |CPU\d\s|lock\(|-> #|Preemption disabled|Last potentially",
            r"in_atomic\(\)|preempt_count|task:.*state|Workqueue: |\(t=\d+ jiffies|hung_task_timeout",
            r"rcu: |NMI backtrace|Sending NMI|irq event stamp|hardirqs last|softirqs last",
        )
    )
)


def find_trigger(text: str) -> Trigger | None:
    """Return what report ``text`` begins, None when it begins none."""
    if not _HINT.search(text):
        return None
    for row in _ROWS:
        if found := row.pattern.search(text):
            groups = {key: value.strip() for key, value in found.groupdict().items() if value}
            return Trigger(
                kind=row.kind,
                title=row.title.format(**groups),
                subject=groups.get("subject", ""),
                message=text.strip(),
                place=groups.get("place"),
                complete=row.complete,
                headings=row.headings,
            )
    return None


def is_report_line(text: str) -> bool:
    """Whether ``text`` looks like part of a register dump, a call trace or a lock report."""
    return _REPORT_LINE.search(text) is not None
