"""The shape of the Python code: imports go one way, none hides in a function, nothing grows too large."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LAYERS = (
    "errors", "outcome", "deadline", "scenario", "plan", "evidence", "provision", "guest", "steps", "verdict",
    "schedule", "cli",
)  # fmt: skip
BOTTOM = LAYERS[:3]
FORBIDDEN = {"verdict": {"guest", "steps"}}
LOCAL_IMPORTS = {
    "testbed/cli": "verbs load what they need when they are called, so that `testbed --help` is quick",
    "testbed/__main__.py": "the same",
}
"""Where imports inside functions are allowed, and why."""
TESTBED = sorted((ROOT / "testbed").rglob("*.py"))
VFIODEV = sorted((ROOT / "qemu-devices" / "vfiodev").rglob("*.py"))
MAX_FILE, MAX_FUNCTION = 400, 60


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_of(path: Path) -> str:
    base = ROOT if path.is_relative_to(ROOT / "testbed") else ROOT / "qemu-devices"
    parts = path.relative_to(base).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def is_for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def iterate_statements(node: ast.AST) -> Iterator[tuple[str | None, list[str]]]:
    """Yield (package, names) of each import at run time, wherever it stands; (None, modules) for `import`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield None, [alias.name for alias in child.names]
        elif isinstance(child, ast.ImportFrom) and child.module:
            assert child.level == 0, "imports name the whole path"
            yield child.module, [f"{child.module}.{alias.name}" for alias in child.names]
        elif not is_for_types_only(child):
            yield from iterate_statements(child)


def iterate_imports(node: ast.AST) -> Iterator[str]:
    """Yield every dotted name that is imported."""
    for package, names in iterate_statements(node):
        yield from names
        if package:
            yield package


def layer_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "testbed" and len(parts) > 1 and parts[1] in LAYERS else None


@pytest.mark.parametrize("path", TESTBED, ids=name_of)
def test_imports_go_one_way(path: Path) -> None:
    mine = layer_of(module_of(path))
    if mine is None:
        return
    for module in iterate_imports(parse(path)):
        theirs = layer_of(module)
        if theirs is None or theirs == mine or (mine in BOTTOM and theirs in BOTTOM):
            continue
        assert LAYERS.index(theirs) < LAYERS.index(mine), f"{mine} imports {module}"
        assert theirs not in FORBIDDEN.get(mine, ()), f"{mine} imports {module}"


def test_the_lab_and_its_devices_meet_only_at_the_socket() -> None:
    assert TESTBED
    assert VFIODEV
    for path in TESTBED:
        assert not [each for each in iterate_imports(parse(path)) if each.split(".")[0] == "vfiodev"], path
    for path in VFIODEV:
        assert not [each for each in iterate_imports(parse(path)) if each.split(".")[0] == "testbed"], path


def needs(path: Path, modules: Mapping[str, Path]) -> Iterator[str]:
    """Yield the modules that a file uses; of `from package import module` the module, not the package."""
    for package, names in iterate_statements(parse(path)):
        yield from (name for name in names if name in modules)
        if package in modules and not all(name in modules for name in names):
            yield str(package)


@pytest.mark.parametrize("files", [TESTBED, VFIODEV], ids=["testbed", "vfiodev"])
def test_modules_import_each_other_in_no_circle(files: list[Path]) -> None:
    modules = {module_of(path): path for path in files}
    graph = {name: set(needs(path, modules)) - {name} for name, path in modules.items()}
    while graph:
        free = {name for name, used in graph.items() if not used & graph.keys()}
        assert free, f"a circle among {', '.join(sorted(graph))}"
        graph = {name: used for name, used in graph.items() if name not in free}


def iterate_functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


@pytest.mark.parametrize("path", [*TESTBED, *VFIODEV], ids=name_of)
def test_no_import_hides_in_a_function(path: Path) -> None:
    if any(name_of(path).startswith(place) for place in LOCAL_IMPORTS):
        return
    for function in iterate_functions(parse(path)):
        hidden = [node for node in ast.walk(function) if isinstance(node, (ast.Import, ast.ImportFrom))]
        assert not hidden, f"{name_of(path)}:{hidden[0].lineno}: move it to the top"


@pytest.mark.parametrize("path", [*TESTBED, *VFIODEV, *sorted((ROOT / "tests").rglob("*.py"))], ids=name_of)
def test_files_and_functions_stay_small(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= MAX_FILE, f"{name_of(path)} has {lines} lines: split it by meaning"
    for function in iterate_functions(parse(path)):
        length = (function.end_lineno or function.lineno) - function.lineno + 1
        assert length <= MAX_FUNCTION, (
            f"{name_of(path)}:{function.lineno}: '{function.name}' has {length} lines"
        )
