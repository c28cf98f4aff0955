"""``--junit``: verdicts as the XML that CI systems read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree as ET

from testbed.outcome import Status
from testbed.verdict.model import Verdict

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TAGS = {
    Status.FAIL: "failure",
    Status.ERROR: "error",
    Status.MISS: "error",
    Status.SKIP: "skipped",
}


def build_junit(verdicts: Sequence[Verdict]) -> str:
    """Return a ``testsuites`` document: FAIL is a failure, ERROR and MISS are errors, of that type."""
    root = ET.Element("testsuites", _counts(verdicts), name="testbed")
    suites: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        suites.setdefault(_suite(verdict.name), []).append(verdict)
    for name, members in suites.items():
        suite = ET.SubElement(root, "testsuite", _counts(members), name=name)
        if members[0].wall:
            suite.set("timestamp", members[0].wall)
        for verdict in members:
            _add_case(suite, name, verdict)
    ET.indent(root, " ")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _add_case(suite: ET.Element, classname: str, verdict: Verdict) -> None:
    short = verdict.name.removeprefix(f"{classname}/")
    case = ET.SubElement(suite, "testcase", name=short, classname=classname, time=f"{verdict.seconds:.3f}")
    properties = ET.SubElement(case, "properties")
    for key in ("kernel", "accel", "seed", "run_dir"):
        ET.SubElement(properties, "property", name=key, value=clean_for_xml(str(getattr(verdict, key))))
    tag = _TAGS.get(verdict.status)
    if tag is not None:
        element = ET.SubElement(case, tag, message=clean_for_xml(verdict.reason.split("\n", 1)[0]))
        if verdict.status is not Status.SKIP:
            element.set("type", verdict.status.value)
        element.text = clean_for_xml(
            "\n".join(
                f"{reason.text} [{reason.pointer}]" if reason.pointer else reason.text
                for reason in verdict.reasons
            )
        )
    steps = [f"{step.status:5} {step.index} {step.name}: {step.detail}" for step in verdict.steps]
    ET.SubElement(case, "system-out").text = clean_for_xml("\n".join(steps))


def _counts(verdicts: Sequence[Verdict]) -> dict[str, str]:
    statuses = [verdict.status for verdict in verdicts]
    return {
        "tests": str(len(statuses)),
        "failures": str(statuses.count(Status.FAIL)),
        "errors": str(statuses.count(Status.ERROR) + statuses.count(Status.MISS)),
        "skipped": str(statuses.count(Status.SKIP)),
        "time": f"{sum(verdict.seconds for verdict in verdicts):.3f}",
    }


def _suite(name: str) -> str:
    return name.rsplit("/", 1)[0] if "/" in name.split("[", 1)[0] else "testbed"


def clean_for_xml(text: str) -> str:
    """Return ``text`` without the control characters that XML has no way to write; kernel logs hold them."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
