"""The rules of the house, as far as a program can read them (STYLE in CONTRIBUTING.md)."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "edgewise"
SOURCES = sorted(SOURCE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
BENCHMARKS = sorted((ROOT / "benchmarks").rglob("*.py"))
ROOMS = (
    "errors",
    "graph",
    "devices",
    "zoo",
    "plan",
    "capture",
    "emit",
    "run",
    "methods",
    "train",
    "report",
    "cli",
)
"""Each may import those before it."""

MAX_FILE_LINES = 800
MAX_FUNCTION_LINES = 60
WITHOUT_TORCH = ("errors", "graph", "devices", "plan", "methods", "train", "report", "cli")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture(scope="module")
def trees() -> dict[str, ast.Module]:
    return {
        relative(path): ast.parse(path.read_text(encoding="utf-8"))
        for path in [*SOURCES, *TESTS, *BENCHMARKS]
    }


def nodes(trees: dict[str, ast.Module], *, within: str = "") -> Iterator[tuple[str, ast.AST]]:
    for name, tree in trees.items():
        if name.startswith(within):
            yield from ((f"{name}:{getattr(node, 'lineno', 1)}", node) for node in ast.walk(tree))


def code_lines(function: Function) -> int:
    """Lines of a function without its docstring."""
    first = function.body[0]
    has_doc = (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    )
    documented = (first.end_lineno or 0) - first.lineno + 1 if has_doc else 0
    return (function.end_lineno or 0) - function.lineno + 1 - documented


def test_files_are_short() -> None:
    lengths = {
        relative(p): len(p.read_text(encoding="utf-8").splitlines()) for p in [*SOURCES, *TESTS, *BENCHMARKS]
    }

    assert {name: length for name, length in lengths.items() if length > MAX_FILE_LINES} == {}


def test_functions_are_short(trees: dict[str, ast.Module]) -> None:
    functions = [(f"{where} {n.name}", code_lines(n)) for where, n in nodes(trees) if isinstance(n, Function)]

    assert [(where, lines) for where, lines in functions if lines > MAX_FUNCTION_LINES] == []


def test_only_the_command_line_prints(trees: dict[str, ast.Module]) -> None:
    printing = [
        where
        for where, node in nodes(trees, within="src/")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]

    assert [where for where in printing if not where.startswith("src/edgewise/cli/")] == []


def test_no_error_is_swallowed_whole_or_raised_without_a_name(trees: dict[str, ast.Module]) -> None:
    bare = [
        where for where, node in nodes(trees) if isinstance(node, ast.ExceptHandler) and node.type is None
    ]
    nameless = [
        where
        for where, node in nodes(trees, within="src/")
        if isinstance(node, ast.Raise)
        and isinstance(node.exc, ast.Call)
        and isinstance(node.exc.func, ast.Name)
        and node.exc.func.id in {"Exception", "BaseException", "EdgewiseError"}
    ]

    assert bare == []
    assert nameless == []


def test_nothing_executes_what_it_reads(trees: dict[str, ast.Module]) -> None:
    calls = [
        where
        for where, node in nodes(trees, within="src/")
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in {"eval", "exec", "compile"}
    ]
    imports = [
        where for where, node in nodes(trees) if _imported(node) & {"pickle", "marshal", "shelve", "dill"}
    ]

    assert calls == []
    assert imports == []


def _imported(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name.partition(".")[0] for alias in node.names}
    return {(node.module or "").partition(".")[0]} if isinstance(node, ast.ImportFrom) else set()


def _rooms_imported(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module == "edgewise":
        names = [f"edgewise.{alias.name}" for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        names = [node.module or ""]
    else:
        names = []
    return {name.split(".")[1] for name in names if name.startswith("edgewise.")} & set(ROOMS)


def test_every_room_is_known() -> None:
    found = {path.relative_to(SOURCE).parts[0].removesuffix(".py") for path in SOURCES}

    assert found == {"__init__", *ROOMS}


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_those_before_them(room: str, trees: dict[str, ast.Module]) -> None:
    allowed = set(ROOMS[: ROOMS.index(room) + 1])
    own = [*nodes(trees, within=f"src/edgewise/{room}/"), *nodes(trees, within=f"src/edgewise/{room}.py")]

    assert {where: late for where, node in own if (late := _rooms_imported(node) - allowed)} == {}


@pytest.mark.parametrize("room", ["edgewise", *(f"edgewise.{room}" for room in WITHOUT_TORCH)])
def test_importing_it_does_not_import_torch(room: str) -> None:
    code = f"import sys, {room}; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("path", [*SOURCES, *TESTS, *BENCHMARKS], ids=relative)
def test_no_loose_ends(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    loose = "TO" + "DO", "FIX" + "ME", "XX" + "X"

    assert [word for word in loose if re.search(rf"\b{word}\b", text)] == []


def test_no_test_can_be_skipped(trees: dict[str, ast.Module]) -> None:
    ways = {"skip", "skipif", "xfail", "importorskip"}
    found = [
        where
        for where, node in nodes(trees, within="tests/")
        if isinstance(node, ast.Attribute) and node.attr in ways
    ]

    assert found == []


def test_nothing_names_a_place_on_one_machine() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    place = re.compile(r"/(?:home|root|work|Users)/\w")
    paths = [
        ROOT / name
        for name in listed.split("\0")
        if name.endswith((".py", ".md", ".toml", ".json", ".html", "run", "Makefile"))
    ]

    assert [relative(p) for p in paths if p.is_file() and place.search(p.read_text(encoding="utf-8"))] == []
