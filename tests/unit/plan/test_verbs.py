"""The verbs validate, plan, list and schema, called as the program calls them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from types import ModuleType

import pytest

import testbed.cli.list as list_verb
from testbed.cli import plan, schema, validate
from testbed.errors import UsageError
from testbed.outcome import ExitCode
from testbed.plan.model import CasePlan
from testbed.scenario.schema import build_schema

GOOD = "schema: 1\nabout: Does it work?\ntags: [smoke]\nmatrix: {n: [1, 2]}\nsteps: [{run: 'echo ${n}'}]\n"
Verb = ModuleType


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "good.yaml").write_text(GOOD)
    return tmp_path


def call(verb: Verb, *words: str | Path) -> ExitCode:
    parser = argparse.ArgumentParser()
    verb.add_parser(parser.add_subparsers())
    args = parser.parse_args([verb.__name__.rpartition(".")[2], *map(str, words)])
    code = args.main(args)
    assert isinstance(code, ExitCode)
    return code


def test_validate_counts_what_is_right(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(validate, folder) is ExitCode.OK
    assert capsys.readouterr() == ("", "1 file, 2 valid cases, 0 mistakes\n")


def test_validate_tells_every_mistake_of_every_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad, worse = folder / "bad.yaml", folder / "worse.yaml"
    bad.write_text(GOOD.replace("tags", "tag"))
    worse.write_text("")
    assert call(validate, folder) is ExitCode.USAGE
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        f"{bad}:3:1: unknown key 'tag' (did you mean 'tags'?)",
        f"{worse}:1:1: the file is empty (begin with: schema: 1)",
    ]
    assert err == "3 files, 2 valid cases, 2 mistakes\n"


def test_validate_of_nothing_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no scenario"):
        call(validate, tmp_path)


def test_plan_as_json_has_arguments_and_reads_back(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(plan, folder, "--json", "-k", "n=2", "--seed", "5", "--accel", "tcg") is ExitCode.OK
    (case,) = json.loads(capsys.readouterr().out)["cases"]
    argv = case.pop("qemu_argv")["vm"]
    assert CasePlan.model_validate_json(json.dumps(case)).seed == 5
    assert argv[0] == "{qemu}"
    assert argv[argv.index("-kernel") + 1] == "{kernel default}"
    assert argv[argv.index("-accel") + 1] == "tcg,thread=multi"
    assert "file,id=kmsg,path={run}/vm/kmsg.log,append=on" in argv


def test_plan_as_text(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(plan, folder) is ExitCode.OK
    out = capsys.readouterr().out
    assert out.startswith("good[n=1]\n  Does it work?\n")
    assert "    1     run        echo 2\n" in out


def test_plan_of_no_case(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(plan, folder, "-k", "nothing") is ExitCode.NOTHING_RAN
    assert capsys.readouterr() == ("", "no case matches\n")


def test_list_shows_cases_with_tags_and_questions(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(list_verb, folder) is ExitCode.OK
    assert capsys.readouterr().out.splitlines() == [
        "good[n=1]  smoke  Does it work?",
        "good[n=2]  smoke  Does it work?",
    ]


def test_list_goes_on_after_a_wrong_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "bad.yaml").write_text("")
    assert call(list_verb, folder) is ExitCode.USAGE
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2
    assert err == f"{folder}/bad.yaml:1:1: the file is empty (begin with: schema: 1)\n"


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("kernels", "default  the newest"),
        ("models", "gpu       vram_mib=64 engines=2"),
        ("faults", "gpu       hang_engine          engine=any"),
        ("tools", "tb-gpu"),
        ("modules", "tbgpu"),
    ],
)
def test_list_shows_the_words_of_the_language(
    word: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(list_verb, word) is ExitCode.OK
    assert [each for each in capsys.readouterr().out.splitlines() if each.startswith(line)]


def test_schema_goes_to_a_file_or_to_standard_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "schema.json"
    assert call(schema, file) is call(schema) is ExitCode.OK
    assert json.loads(file.read_text()) == json.loads(capsys.readouterr().out) == build_schema()
    with pytest.raises(UsageError, match="cannot write"):
        call(schema, tmp_path / "no" / "where.json")


def test_reference_keeps_the_head_of_the_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Head\n")
    assert call(schema, "--reference", page) is ExitCode.OK
    assert page.read_text().startswith("# Head\n<!-- below")
    with pytest.raises(UsageError, match="cannot read"):
        call(schema, "--reference", tmp_path / "none.md")
