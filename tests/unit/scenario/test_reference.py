"""``docs/scenario.md`` is fresh, and its example is a scenario."""

from __future__ import annotations

import textwrap
from pathlib import Path

from testbed.scenario.load import parse_scenario
from testbed.scenario.model import VERBS
from testbed.scenario.reference import build_reference, refresh_reference

PAGE = Path(__file__).resolve().parents[3] / "docs" / "scenario.md"


def test_the_page_is_fresh() -> None:
    text = PAGE.read_text()
    assert refresh_reference(text) == text, "run: testbed schema --reference docs/scenario.md"


def test_the_example_is_a_scenario() -> None:
    example = PAGE.read_text().split("\n\n    schema: 1", 1)[1].split("\n## ", 1)[0]
    scenario = parse_scenario(textwrap.dedent("    schema: 1" + example), PAGE)
    assert len(scenario.variants) == 2


def test_every_verb_has_a_section() -> None:
    text = build_reference()
    assert [verb for verb in VERBS if f"\n### {verb}\n" not in text] == []
