"""The README's picture is drawn from a run, and shows what was measured."""

import importlib.util
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree as ET

import pytest

from edgewise.devices import load_device
from edgewise.graph import Graph, Op, Value, save_graph
from edgewise.plan import Budget, Compute, Free, make_plan, save_plan
from edgewise.report import load_report

FILE = Path(__file__).parents[2] / "docs" / "picture.py"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("picture", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


picture = _load()


@pytest.fixture
def graph() -> Graph:
    values = (Value("x", 1024, "input"), Value("a", 4096), Value("b", 2048), Value("c", 1024))
    ops = (Op("one", ("x",), ("a",), 10), Op("two", ("a",), ("b",), 10), Op("three", ("b", "a"), ("c",), 10))
    return Graph("three-ops", values, ops, ("c",))


def test_each_op_has_the_peak_up_to_its_end(graph: Graph) -> None:
    steps = (Compute("one"), Free("x"), Compute("two"), Compute("one"), Compute("three"))

    assert picture.by_op(steps, (5, 4, 6, 9, 7), graph) == [5, 6, 9]


def test_it_draws_the_plan_in_a_folder(graph: Graph, tmp_path: Path) -> None:
    device = load_device("rpi4")
    save_graph(graph, tmp_path / "graph.json")
    save_plan(make_plan(graph, device, Budget(16384)), tmp_path / "plan.json")

    root = ET.fromstring(picture.draw(load_report(tmp_path / "plan.json", device)))
    words = [element.text for element in root.iter() if element.tag.endswith("text")]

    assert "RAM during one training step of three-ops, 3 ops" in words
    assert "plain: 7 KiB" in words
    assert "budget: 16 KiB, 229% of plain (rpi4)" in words
