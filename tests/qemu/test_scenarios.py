"""Every scenario of the project passes, started as a user starts it; its reports say so too."""

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
FOLDERS = sorted(path.name for path in (REPOSITORY / "scenarios").iterdir() if path.is_dir())

pytestmark = pytest.mark.qemu


def run_testbed(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the program in ``cwd``, with a bound that no healthy run comes near."""
    argv = [sys.executable, "-m", "testbed", *words]
    return subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=600, check=False)


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_scenario_passes(folder: str, tmp_path: Path) -> None:
    reports = ("--json", "cases.json", "--junit", "cases.xml", "--html", "cases.html")
    done = run_testbed("run", str(REPOSITORY / "scenarios" / folder), *reports, cwd=tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    cases: list[dict[str, Any]] = json.loads((tmp_path / "cases.json").read_text())["cases"]
    assert cases
    assert {case["status"] for case in cases} == {"PASS"}
    assert all(case["steps"] for case in cases)
    suite = ElementTree.parse(tmp_path / "cases.xml").getroot()
    assert len(list(suite.iter("testcase"))) == len(cases)
    assert not list(suite.iter("failure"))
    assert all(case["name"] in (tmp_path / "cases.html").read_text() for case in cases)


def test_verdict_is_the_same_from_the_evidence_alone(tmp_path: Path) -> None:
    done = run_testbed("run", str(REPOSITORY / "scenarios" / "judge" / "oops-is-fail.yaml"), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    run = tmp_path / "runs" / "latest"
    assert run_testbed("judge", str(run), cwd=tmp_path).returncode == 0

    plan = json.loads((run / "plan.json").read_text())
    plan["expect_verdict"] = None
    (run / "plan.json").write_text(json.dumps(plan))
    judged = run_testbed("judge", str(run), cwd=tmp_path)
    assert judged.returncode == 1
    assert "NULL pointer dereference" in judged.stdout
