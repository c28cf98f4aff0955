"""Reading scenario files: disk, parameters, defaults, round trip; nothing but `ScenarioError` escapes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.errors import ScenarioError, UsageError
from testbed.scenario import load_scenario
from testbed.scenario.document import Document
from testbed.scenario.find import find_scenarios
from testbed.scenario.load import (
    MAX_BYTES,
    find_known,
    find_subcommands,
    name_scenario,
    parse_scenario,
)
from testbed.scenario.model import InjectStep, RepeatStep, RunStep, WaitStep
from testbed.scenario.tree import parse_scalar
from testbed.scenario.values import (
    format_duration,
    format_size,
    kernel_fits,
    parse_delta,
    parse_duration,
    parse_size,
)

SCENARIOS = Path(__file__).resolve().parents[3] / "scenarios"
GOOD = """\
schema: 1
about: Does it work?
params: {times: 3, engine: copy, word: hello}
matrix: {engine: [copy, compute]}
guests:
  first: {devices: {gpu0: {model: gpu, vram_mib: 128}}}
  second: {memory: 1G}
steps:
  - repeat:
      times: "${times}"
      steps:
        - run: "echo ${word} $${HOME} ${engine}"
  - inject: hang_engine
    with: {engine: "${engine}"}
  - wait: {kmsg: x}
  - run: "true"
    guest: second
    timeout: 1.5s
"""


def refusal(path: Path) -> str:
    with pytest.raises(ScenarioError) as caught:
        load_scenario(path)
    return str(caught.value).replace(str(path.parent), "DIR")


def test_a_missing_file_suggests_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    assert refusal(tmp_path / "a.yml") == "DIR/a.yml:1:1: there is no such file (did you mean 'DIR/a.yaml'?)"
    assert refusal(tmp_path / "b.yaml") == "DIR/b.yaml:1:1: there is no such file"


def test_a_folder_is_no_scenario(tmp_path: Path) -> None:
    folder = tmp_path / "f.yaml"
    folder.mkdir()
    assert refusal(folder) == "DIR/f.yaml:1:1: this is a folder (testbed list DIR/f.yaml)"


def test_a_pipe_is_no_scenario(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.yaml")
    assert refusal(tmp_path / "p.yaml") == "DIR/p.yaml:1:1: this is not a regular file"


def test_bytes_that_are_not_utf8_have_a_position(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"schema: 1\nabout: caf\xe9\n")
    expected = "DIR/a.yaml:2:11: not UTF-8: byte 0xe9 at offset 20 (save the file as UTF-8)"
    assert refusal(path) == expected


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("# " + "x" * MAX_BYTES)
    assert refusal(path) == "DIR/a.yaml:1:1: larger than 256 KiB, which no scenario needs"


def test_a_byte_order_mark_is_no_content(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert load_scenario(path).about == "Does it work?"


def test_parameters_keep_their_type_and_leave_the_shell_its_own() -> None:
    scenario = parse_scenario(GOOD, Path("a.yaml"))
    assert [variant.axes for variant in scenario.variants] == [{"engine": "copy"}, {"engine": "compute"}]
    repeat = scenario.variants[1].document.steps[0]
    assert isinstance(repeat, RepeatStep)
    assert repeat.repeat.times == 3
    run = repeat.repeat.steps[0]
    assert isinstance(run, RunStep)
    assert run.run == "echo hello ${HOME} compute"


def test_what_steps_leave_out_is_filled_in() -> None:
    _, inject, wait, run = parse_scenario(GOOD, Path("a.yaml")).variants[0].document.steps
    assert isinstance(inject, InjectStep)
    assert (inject.guest, inject.device, inject.with_) == ("first", "gpu0", {"engine": "copy"})
    assert isinstance(wait, WaitStep)
    assert wait.timeout == 5.0
    assert (run.guest, run.timeout, run.title) == ("second", 1.5, "run true")


def test_names_come_from_the_folder_of_scenarios() -> None:
    assert name_scenario(Path("/a/scenarios/gpu/hang.yaml")) == "gpu/hang"
    assert name_scenario(Path("/a/elsewhere/hang.yaml")) == "hang"


def test_find_searches_folders_once(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("b.yaml", "a.yml", "sub/c.yaml", "README.md"):
        (tmp_path / name).write_text("")
    found = find_scenarios([tmp_path / "b.yaml", tmp_path])
    assert [path.name for path in found] == ["b.yaml", "a.yml", "c.yaml"]
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UsageError, match=r"holds no scenario"):
        find_scenarios([tmp_path, empty])
    with pytest.raises(UsageError, match=r"'nowhere' is not there"):
        find_scenarios([Path("nowhere")])


@pytest.mark.parametrize("path", sorted(SCENARIOS.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_scenario_is_valid_and_round_trips(path: Path) -> None:
    for variant in load_scenario(path).variants:
        text = variant.document.model_dump_json()
        again = Document.model_validate_json(text)
        assert again == variant.document
        assert again.model_dump_json() == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("on", "on"), ("yes", "yes"), ("off", "off"), ("No", "No"), ("true", True), ("False", False)),
        *(("~", None), ("null", None), ("", None), ("0x1F", 31), ("0o17", 15), ("017", 17), ("-3", -3)),
        *(("1.5", 1.5), ("1e3", 1000.0), (".5", 0.5), ("1_000", "1_000"), ("12:30", "12:30")),
        *(("5s", "5s"), ("nULL", "nULL"), ("9" * 30, 1e30), ("1e999", "1e999")),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    found = parse_scalar(text)
    assert found == value
    assert type(found) is type(value)


@given(st.floats(min_value=1e-6, max_value=86400))
def test_durations_round_trip(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, abs=1e-9)


@given(st.integers(min_value=0, max_value=1 << 50))
def test_sizes_round_trip(count: int) -> None:
    assert parse_size(format_size(count)) == count


@pytest.mark.parametrize(
    ("text", "change", "holds"),
    [("+3", 3, True), ("3", 4, False), ("0", 0, True), (">=1", 1, True), ("<2", 2, False), ("-1", -1, True)],
)
def test_changes(text: str, change: int, *, holds: bool) -> None:
    assert parse_delta(text).holds(change) is holds


@pytest.mark.parametrize(
    ("wanted", "release", "fits"),
    [
        (">=6.12", "7.2.12-amd64", True),
        (">=7.3", "7.2.12-amd64", False),
        ("==7.2", "7.2.12-amd64", True),
        ("<7.2.12", "7.2.12", False),
        ("<7.2.12", "7.2-rc1", True),
    ],
)
def test_kernel_versions(wanted: str, release: str, *, fits: bool) -> None:
    assert kernel_fits(wanted, release) is fits


KEYS = st.sampled_from(
    ["<run>", "<x", '"[key]"', "'[a'",
     "schema", "about", "steps", "guests", "params", "matrix", "run", "expect", "wait", "jobs", "parallel",
     "repeat", "counters", "inject", "device", "modules", "x", "always", "timeout", "guest", "devices", "vm"]
)  # fmt: skip
LEAVES = st.sampled_from(["1", "x", "'${x}'", "5s", "~", "'('", "true", "-1", "1.5", "'${'", '"\\x41"'])
FLOW = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.lists(st.tuples(KEYS, inner), max_size=4).map(
            lambda pairs: "{" + ", ".join(f"{key}: {value}" for key, value in pairs) + "}"
        )
    ),
    max_leaves=12,
)


def attempt(text: str) -> None:
    places = [(1, 1)]
    try:
        parse_scenario(text, Path("a.yaml"))
    except ScenarioError as error:
        places = [(problem.line, problem.column) for problem in error.problems]
    assert places
    assert places == sorted(places)
    assert all(line >= 1 and column >= 1 for line, column in places)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=200))
def test_any_text_gives_a_scenario_error(text: str) -> None:
    attempt(text)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(KEYS, FLOW), max_size=6))
def test_any_structure_gives_a_scenario_error(entries: list[tuple[str, str]]) -> None:
    attempt("schema: 1\nabout: x\n" + "".join(f"{key}: {value}\n" for key, value in entries))


@settings(max_examples=100, deadline=None)
@given(st.lists(FLOW, min_size=1, max_size=4))
def test_any_steps_give_a_scenario_error(entries: list[str]) -> None:
    attempt("schema: 1\nabout: x\nsteps:\n" + "".join(f"  - {entry}\n" for entry in entries))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(GOOD)), st.integers(0, 30), st.text(max_size=5))
def test_a_damaged_scenario_gives_a_scenario_error(start: int, length: int, insert: str) -> None:
    attempt(GOOD[:start] + insert + GOOD[start + length :])


@pytest.mark.parametrize("key", ["<run>", "<x", "'[key]'", "'[a'", "'${x}'"])
def test_strange_keys_are_unknown_keys(key: str) -> None:
    for text in (GOOD + f"{key}: 1\n", GOOD + f"    {key}: 1\n", GOOD + f"  - {key}: 1\n"):
        with pytest.raises(ScenarioError, match=r"known"):
            parse_scenario(text, Path("a.yaml"))


def test_subcommands_are_those_of_the_tools_sources() -> None:
    known = find_known().subcommands
    assert {"info", "copy", "graph", "all", "help", "list"} <= set(known["tb-gpu"])
    assert "timeline" in known["tb-fence"]  # its entry is on several lines
    assert "export-import" in known["tb-dmabuf"]
    assert set(known["tb-bench"]) == {"submit", "mmio", "help", "list"}
    assert find_subcommands("int main(void) { return 0; }") == ()
