"""Each kind of mistake in a scenario file: its exact place and its exact text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from testbed.errors import ScenarioError
from testbed.scenario.jobs import OUTCOMES
from testbed.scenario.load import parse_scenario
from testbed.scenario.rules import Known

KNOWN = Known(
    modules=("tbgpu", "tbimport"),
    tools=("tb-dmabuf", "tb-fence", "tb-gpu"),
    subcommands={"tb-gpu": ("info", "copy")},
)
GPU = "guests:\n  vm: {devices: {gpu0: {model: gpu}}}\n"
HEAD = "schema: 1\nabout: x\n"


def mistakes(text: str) -> list[str]:
    """Return the problems of a scenario as ``line:column: message (suggestion)``."""
    with pytest.raises(ScenarioError) as caught:
        parse_scenario(text, Path("s.yaml"), KNOWN)
    return [str(problem).removeprefix("s.yaml:") for problem in caught.value.problems]


FILES = {
    "empty": ("", "1:1: the file is empty (begin with: schema: 1)"),
    "comment only": ("# nothing\n", "1:1: the file is empty (begin with: schema: 1)"),
    "list": ("- a\n", "1:1: a scenario is a mapping, got a list (begin with: schema: 1)"),
    "text": ("hello\n", "1:1: a scenario is a mapping, got the text 'hello' (begin with: schema: 1)"),
    "second document": (
        "schema: 1\n---\nschema: 1\n",
        "2:1: one file holds one scenario; a second document starts here",
    ),
    "tab": (
        "schema: 1\nsteps:\n\t- run: x\n",
        (
            "3:1: not YAML: while scanning for the next token: "
            "found character '\\t' that cannot start any token (indent with spaces, not tabs)"
        ),
    ),
    "colon in text": (
        "schema: 1\nabout: does it: work\n",
        "2:15: not YAML: mapping values are not allowed here (put text that holds ': ' in quotes)",
    ),
    "open quote": (
        "about: 'x\n",
        "2:1: not YAML: while scanning a quoted scalar: found unexpected end of stream",
    ),
    "control character": ("about: \x01\n", "1:8: the character '\\x01' is not allowed in YAML"),
    "key that is a list": ("[a, b]: 1\n", "1:1: a key is a word, not a list or a mapping"),
    "too deep": ("a: " + "[" * 40 + "]" * 40, "1:35: nested more than 32 levels deep"),
}


@pytest.mark.parametrize(("text", "expected"), FILES.values(), ids=FILES)
def test_a_file_that_is_no_scenario(text: str, expected: str) -> None:
    assert mistakes(text) == [expected]


HEADS = {
    "nothing but schema": (
        "schema: 1\n",
        ["1:1: 'about' is missing", "1:1: 'steps' is missing"],
    ),
    "wrong version": (
        "schema: 2\nabout: x\nsteps: [{run: x}]\n",
        ["1:9: 'schema' takes 1, got the number 2"],
    ),
    "unknown key": (
        HEAD + "timeot: 5s\nsteps: [{run: x}]\n",
        ["3:1: unknown key 'timeot' (did you mean 'timeout'?)"],
    ),
    "duplicate key": (
        HEAD + "about: y\nsteps: [{run: x}]\n",
        ["3:1: duplicate key 'about' (the first one is on line 2)"],
    ),
    "duration is a list": (
        HEAD + "timeout: [5]\nsteps: [{run: x}]\n",
        ["3:10: 'timeout' takes a duration like 5s, 300ms or 2min (at most 24h), got a list"],
    ),
    "duration without unit": (
        HEAD + "timeout: 5\nsteps: [{run: x}]\n",
        ["3:10: 'timeout' takes a duration like 5s, 300ms or 2min (at most 24h), got the number 5"],
    ),
    "no value": (HEAD + "tags:\nsteps: [{run: x}]\n", ["3:1: 'tags' has no value"]),
    "tags is a word": (
        HEAD + "tags: gpu\nsteps: [{run: x}]\n",
        ["3:7: 'tags' takes a list, got the text 'gpu'"],
    ),
    "tag is a number": (
        HEAD + "tags: [gpu, 7]\nsteps: [{run: x}]\n",
        ["3:13: entry 2 of 'tags' takes text, got the number 7"],
    ),
    "yes is text": (
        HEAD + "cold: yes\nsteps: [{run: x}]\n",
        ["3:7: 'cold' takes true or false, got the text 'yes'"],
    ),
    "no steps": (HEAD + "steps: []\n", ["3:8: 'steps' needs at least 1 entry"]),
    "steps is a mapping": (
        HEAD + "steps: {run: x}\n",
        ["3:8: 'steps' takes a list, got a mapping"],
    ),
    "size": (
        HEAD + "guests: {vm: {memory: 512MB}}\nsteps: [{run: x}]\n",
        ["3:23: 'memory' takes a size like 64K, 512M or 1G, got the text '512MB'"],
    ),
    "too little memory": (
        HEAD + "guests: {vm: {memory: 1M}}\nsteps: [{run: x}]\n",
        ["3:23: 'memory' takes whole MiB from 64M to 64G"],
    ),
    "cpus": (
        HEAD + "guests: {vm: {cpus: 0}}\nsteps: [{run: x}]\n",
        ["3:21: 'cpus' takes at least 1, got the number 0"],
    ),
    "guest name": (
        HEAD + "guests: {VM 1: {}}\nsteps: [{run: x}]\n",
        [
            "3:10: 'VM 1' is not a name (a name is up to 32 of a-z, 0-9, _ and -, beginning with a letter)",
        ],
    ),
    "guest called steps": (
        HEAD + "guests: {steps: {}}\nsteps: [{run: x}]\n",
        ["3:10: a guest cannot be called 'steps': the run folder has a folder of that name"],
    ),
    "kernel version": (
        HEAD + "requires: {kernel: 6.12}\nsteps: [{run: x}]\n",
        ["3:20: 'kernel' takes a kernel version like \">=6.12\", got the number 6.12"],
    ),
    "accelerator": (
        HEAD + "requires: {accel: kmv}\nsteps: [{run: x}]\n",
        ["3:19: 'accel' takes kvm or tcg, got the text 'kmv' (did you mean 'kvm'?)"],
    ),
    "regex": (
        HEAD + "expected_warnings: [{match: 'a('}]\nsteps: [{run: x}]\n",
        [
            (
                "3:29: 'match' is not a regular expression Python understands: "
                "missing ), unterminated subpattern at position 1"
            )
        ],
    ),
    "verdict": (
        HEAD + "expect_verdict: {status: fail}\nsteps: [{run: x}]\n",
        ["3:26: 'status' takes FAIL, ERROR, MISS, PASS, DONE or SKIP, got the text 'fail'"],
    ),
    "two modules in one entry": (
        HEAD + "modules: [{tbgpu: {}, tbimport: {}}]\nsteps: [{run: x}]\n",
        ["3:11: an entry of 'modules' holds one module (begin each with a dash)"],
    ),
    "unknown module": (
        HEAD + "modules: [tbgup]\nsteps: [{run: x}]\n",
        ["3:11: there is no module 'tbgup' (did you mean 'tbgpu'?)"],
    ),
    "module parameter": (
        HEAD + "modules: [tbgpu: {a: [1]}]\nsteps: [{run: x}]\n",
        ["3:22: 'a' takes a single value (text, number, true or false), got a list"],
    ),
    "anchor": (
        HEAD + "tags: &t [a]\nsteps: [{run: x}]\n",
        ["3:7: anchors and aliases (& and *) are not part of scenarios (use params)"],
    ),
    "alias": (
        HEAD + "tags: *t\nsteps: [{run: x}]\n",
        ["3:7: anchors and aliases (& and *) are not part of scenarios (use params)"],
    ),
    "tag": (
        HEAD + "tags: !!set {a}\nsteps: [{run: x}]\n",
        [
            "3:7: tags are not part of scenarios: tag:yaml.org,2002:set",
            "3:7: 'tags' takes a list, got a mapping",
            "3:14: 'a' has no value",
        ],
    ),
}


@pytest.mark.parametrize(("text", "expected"), HEADS.values(), ids=HEADS)
def test_a_mistake_in_the_head(text: str, expected: list[str]) -> None:
    assert mistakes(text) == expected


DEVICES = {
    "unknown model": (
        "{model: gpuu}",
        "4:29: device model 'gpuu' is not known (did you mean 'gpu'?)",
    ),
    "unknown parameter": (
        "{model: gpu, vram: 64}",
        "4:34: model 'gpu' has no parameter 'vram' (did you mean 'vram_mib'?)",
    ),
    "parameter out of range": (
        "{model: gpu, vram_mib: 63}",
        "4:44: 'vram_mib' takes a power of two from 1 to 4096, got the number 63",
    ),
    "parameter of a wrong type": (
        "{model: gpu, engines: two}",
        "4:43: 'engines' takes a whole number from 1 to 8, got the text 'two'",
    ),
    "interrupts": (
        "{model: gpu, interrupts: intx}",
        "4:46: 'interrupts' takes msix-own, msi or msix, got the text 'intx'",
    ),
    "neither model nor qemu": (
        "{plug: later}",
        "4:21: a device has either 'model' or 'qemu' (known models: gpu, template)",
    ),
    "both": (
        "{model: gpu, qemu: {driver: edu}}",
        "4:21: a device has either 'model' or 'qemu' (known models: gpu, template)",
    ),
    "plug": (
        "{model: gpu, plug: latter}",
        "4:40: 'plug' takes start or later, got the text 'latter' (did you mean 'later'?)",
    ),
    "property outside of qemu": (
        "{qemu: {driver: edu}, dma_mask: 1}",
        "4:43: unknown key 'dma_mask' (properties belong inside 'qemu')",
    ),
}


@pytest.mark.parametrize(("device", "expected"), DEVICES.values(), ids=DEVICES)
def test_a_mistake_in_a_device(device: str, expected: str) -> None:
    text = f"{HEAD}guests:\n  vm: {{devices: {{g: {device}}}}}\nsteps: [{{run: x}}]\n"
    assert mistakes(text) == [expected]


GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "step_mistakes.txt"
BLOCKS = [block.partition("\n=> ") for block in GOLDEN.read_text().strip().split("\n\n")[1:]]


@pytest.mark.parametrize(
    ("step", "expected"),
    [pytest.param(step, told.split("\n=> "), id=" ".join(step.split())[:50]) for step, _, told in BLOCKS],
)
def test_a_mistake_in_a_step(step: str, expected: list[str]) -> None:
    assert mistakes(f"{HEAD}{GPU}steps:\n{step}\n") == expected


def test_all_mistakes_are_told_at_once_in_file_order() -> None:
    text = (
        HEAD + "timot: 5s\nguests:\n  vm: {devices: {gpu0: {model: gpu, vram: 5}}}\nsteps:\n"
        "  - rn: x\n  - inject: hold_completion\n  - run: ${a}\n  - plug: x\n    guest: b\n"
    )
    assert mistakes(text) == [
        "3:1: unknown key 'timot' (did you mean 'timeout'?)",
        "5:37: model 'gpu' has no parameter 'vram' (did you mean 'vram_mib'?)",
        "7:5: 'rn' is not known here (did you mean 'run'?)",
        "8:13: model 'gpu' has no fault 'hold_completion' (did you mean 'hold_completions'?)",
        "9:10: parameter 'a' is not defined (add it to params, or write $${a} for the shell's own)",
        "11:12: there is no guest 'b' (known: vm)",
    ]


def test_faults_need_a_device_when_there_are_several() -> None:
    text = HEAD + "guests:\n  vm: {devices: {a: {model: gpu}, b: {model: gpu}}}\nsteps:\n  - clear: all\n"
    assert mistakes(text) == [
        "6:5: 'device' is missing in 'steps' (say which: the guest has not exactly one device)"
    ]


def test_unplug_that_would_abort_qemu_is_refused() -> None:
    device = "{model: gpu, interrupts: msix}"
    text = HEAD + f"guests:\n  vm: {{devices: {{a: {device}}}}}\nsteps:\n  - unplug: a\n"
    assert mistakes(text) == [
        "6:13: 'a' interrupts by msix, with which QEMU aborts here (interrupts: msix-own)"
    ]


def test_devices_of_qemu_have_no_faults() -> None:
    text = HEAD + "guests:\n  vm: {devices: {e: {qemu: {driver: edu}}}}\nsteps:\n  - inject: config_ones\n"
    assert mistakes(text) == ["6:5: 'e' is a device of QEMU's own: it has no faults and no counters"]


def test_jobs_need_a_gpu_with_their_engine() -> None:
    step = "steps:\n  - jobs: {a: {engine: compute, do: [nop]}}\n"
    assert mistakes(HEAD + step) == [
        "4:5: guest 'vm' has no GPU for jobs (guests: {vm: {devices: {gpu0: {model: gpu}}}})"
    ]
    one = "guests:\n  vm: {devices: {gpu0: {model: gpu, engines: 1}}}\n"
    assert mistakes(HEAD + one + step) == ["6:24: a GPU with one engine has only a copy engine (engines: 2)"]


def test_the_errors_of_fences_are_those_that_the_tool_knows() -> None:
    table = Path(__file__).resolve().parents[3] / "guest-images" / "tools" / "lib" / "errname.c"
    assert {"ok", *re.findall(r"NAME\((E\w+)\)", table.read_text())} == OUTCOMES


def test_one_of_several_errors_can_be_expected() -> None:
    text = HEAD + GPU + "steps:\n  - jobs: {a: {engine: copy, do: [nop], expect: 'EIO,ETIME'}}\n"
    assert parse_scenario(text, Path("s.yaml"), KNOWN).variants


def test_a_mistake_of_one_case_names_the_case() -> None:
    text = (
        HEAD + GPU + "matrix: {engine: [copy, video]}\nsteps:\n"
        "  - inject: hang_engine\n    with: {engine: '${engine}'}\n"
    )
    assert mistakes(text) == [
        (
            "8:20: 'engine' takes copy, compute, any or an engine number, got the text 'video', "
            "in case [engine=video]"
        )
    ]


def test_parameters_are_used_and_axes_have_no_twins() -> None:
    text = HEAD + "params: {n: 1}\nmatrix: {m: [1, 1]}\nsteps: [{run: 'echo ${m}'}]\n"
    assert mistakes(text) == [
        "3:10: parameter 'n' is not used (write ${n})",
        "4:17: '1' is twice on the axis 'm'",
    ]


def test_the_matrix_is_bounded() -> None:
    axis = f"[{', '.join(map(str, range(17)))}]"
    text = HEAD + f"matrix: {{a: {axis}, b: {axis}}}\nsteps: [{{run: '${{a}} ${{b}}'}}]\n"
    assert mistakes(text)[0] == "3:1: the matrix makes 289 cases; at most 256 are allowed"


def test_parameters_do_not_multiply_text() -> None:
    text = HEAD + f"params: {{a: {'x' * 1000}}}\nsteps:\n  - run: {'${a}' * 300}\n"
    assert mistakes(text) == ["5:10: parameters make more than 256 KiB of text"]


def test_steps_are_bounded() -> None:
    text = HEAD + "steps:\n" + "  - run: x\n" * 1001
    assert mistakes(text) == ["3:1: 1001 steps; at most 1000 are allowed"]


def test_endless_mistakes_are_cut() -> None:
    found = mistakes(HEAD + "steps:\n" + "  - rn: x\n" * 60)
    assert len(found) == 51
    assert found[-1] == "53:5: ... and 10 more mistakes"


def test_a_long_chain_of_jobs_is_no_cycle_and_quick() -> None:
    after = [", ".join(f"j{m}" for m in range(max(0, n - 30), n)) for n in range(128)]
    jobs = "".join(
        f"      j{n}: {{engine: copy, after: [{names}], do: [nop]}}\n" for n, names in enumerate(after)
    )
    assert parse_scenario(HEAD + GPU + f"steps:\n  - jobs:\n{jobs}", Path("s.yaml"), KNOWN).variants
