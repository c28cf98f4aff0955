"""The picture of a table of verdicts."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from testbed.outcome import Status
from testbed.verdict.model import Reason, Verdict
from testbed.verdict.svg import build_svg

FAILED = Verdict(
    name="fence/<held>[engine=copy]",
    status=Status.FAIL,
    run_dir="/home/me/lab/runs/20261121-101502-held",
    reasons=(Reason(status=Status.FAIL, text="WARNING in <probe>\x1b[1m", pointer="vm/kmsg.log:3"),),
    seconds=5.25,
)


def read(picture: str) -> str:
    return "".join(ET.fromstring(picture).itertext()).replace("\N{NO-BREAK SPACE}", " ")


def test_the_picture_has_the_table() -> None:
    text = read(build_svg([FAILED]))
    assert "fence/<held>[engine=copy]" in text
    assert "FAIL" in text
    assert "WARNING in <probe>\N{REPLACEMENT CHARACTER}[1m" in text
    assert "1 failed in 5.2 s" in text


def test_it_needs_nothing_from_elsewhere_and_shows_nothing_of_this_machine() -> None:
    picture = build_svg([FAILED])
    assert "evidence: runs" in read(picture)
    assert "home" not in picture
    assert "url(http" not in picture
    assert picture.count("http") == picture.count('xmlns="http://www.w3.org/2000/svg"')


def test_the_same_verdicts_make_the_same_picture() -> None:
    assert build_svg([FAILED]) == build_svg([FAILED])
