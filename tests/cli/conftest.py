"""The command line run in this process, and a graph so small that planning it takes no time."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from edgewise.cli import main
from edgewise.devices import numbers, save_device
from edgewise.graph import Graph, Op, Value, save_graph
from tests.plan.graphs import DISKLESS
from tests.support import looped


class Said(NamedTuple):
    """Exit code and words of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.out)


Run = Callable[..., Said]


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Said]:
    """Runs a command in an empty folder, with no profiles of the user's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def call(*argv: object) -> Said:
        code = main([str(word) for word in argv])
        return Said(code, *capsys.readouterr())

    return call


def tiny_graph(name: str = "tiny", size: int = 1000) -> Graph:
    """Three layers forward and back: keeping both activations needs more than making one of them again."""
    values = (Value("x", size, "input"), *(Value(h, 4 * size) for h in "ab"), Value("c", size))
    gradients = (Value("gb", size, "gradient"), Value("ga", size, "gradient"), Value("g", size, "output"))
    forward: Sequence[Op] = (
        Op("to_a", ("x",), ("a",), flops=10_000),
        Op("to_b", ("a",), ("b",), flops=1_000),
        Op("to_c", ("b",), ("c",), flops=1_000),
    )
    back = (
        Op("back_c", ("c", "b"), ("gb",), flops=2_000),
        Op("back_b", ("gb", "a"), ("ga",), flops=2_000),
        Op("back_a", ("ga", "x"), ("g",), flops=2_000, layer="first"),
    )
    return Graph(name, (*values, *gradients), (*forward, *back), ("g",))


def tiny_loops(**options: Any) -> Graph:
    """The same, of which every op may run in eight slices."""
    return looped(tiny_graph("loops"), **options)


@pytest.fixture
def loops_file(tmp_path: Path) -> Path:
    path = tmp_path / "loops.json"
    save_graph(tiny_loops(reordered=("back_c",)), path)
    return path


@pytest.fixture
def diskless(tmp_path: Path) -> Path:
    """A profile of a device that has RAM only."""
    path = tmp_path / "diskless.toml"
    save_device(
        msgspec.structs.replace(DISKLESS, assumed=dict.fromkeys(numbers(DISKLESS), "for tests")), path
    )
    return path


@pytest.fixture
def graph_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.json"
    save_graph(tiny_graph(), path)
    return path
