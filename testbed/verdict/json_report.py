"""``--json``: all verdicts of a run for programs. Keys are only ever added."""

from __future__ import annotations

import json
from collections.abc import Sequence

from testbed import __version__
from testbed.outcome import exit_code
from testbed.verdict.model import Verdict, verdict_to_json


def build_json(verdicts: Sequence[Verdict]) -> str:
    """Return ``{"testbed", "exit_code", "cases": [...]}``; a case is what ``verdict.json`` holds."""
    report = {
        "testbed": __version__,
        "exit_code": int(exit_code(verdict.status for verdict in verdicts)),
        "cases": [verdict_to_json(verdict) for verdict in verdicts],
    }
    return json.dumps(report, indent=1, ensure_ascii=False) + "\n"
