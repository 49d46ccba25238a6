"""`edgewise estimate`: the parts add up to the peak, and the largest op is the largest."""

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.cli.needs import heaviest, peak_by_kind
from edgewise.devices import load_device
from edgewise.graph import Graph, Op, Option, Value
from edgewise.plan import Budget, minimum_ram, plain_plan
from edgewise.plan.problem import Problem
from tests.cli.conftest import Run, tiny_graph
from tests.plan.graphs import PAGING, graphs
from tests.plan.streamers import tiled

DEVICE = load_device("nrf52840")
DICE = st.randoms(use_true_random=False)


def test_json(run: Run, graph_file: Path) -> None:
    found = run("estimate", graph_file, "--device", "nrf52840", "--json").json
    plain = plain_plan(tiny_graph(), DEVICE)
    least = minimum_ram(tiny_graph(), DEVICE)
    assert found["plain_peak_bytes"] == plain.peak_bytes
    assert found["plain_seconds"] == plain.seconds
    assert found["plain_joules"] == plain.joules
    assert found["flops"] == 18_000
    assert found["ops"] == 6
    assert (found["min_ram_bytes"], found["min_ram_op"]) == (least.ram_bytes, least.op)
    assert found["plain_peak_bytes_by_kind"]["activation"] == 9000
    assert found["plain_peak_bytes_by_kind"]["gradient"] == 1000
    assert found["largest_ops"][0]["op"] == "to_b"
    assert len(found["largest_ops"]) == 5


def test_for_people(run: Run, graph_file: Path) -> None:
    said = run("estimate", graph_file, "--device", "nrf52840")
    assert said.code == 0
    lines = [line.strip() for line in said.out.splitlines()]
    assert "RAM of plain training  10.7 KiB, at its peak:" in lines
    assert any(line.startswith("activations") and line.endswith("8.79 KiB") for line in lines)
    assert any(line.startswith("least RAM") and "8,000 B" in line and "`to_b`" in line for line in lines)
    assert not any(line.startswith("parameters") for line in lines), "there are none"
    assert lines[-5].startswith("to_b")


def test_a_search_that_is_cut_short_is_not_called_exact(
    run: Run, graph_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_short(*args: object, **options: object) -> object:
        return minimum_ram(tiny_graph(), DEVICE)._replace(exact=False, op=None)

    monkeypatch.setattr("edgewise.cli.estimate.minimum_ram", cut_short)
    said = run("estimate", graph_file)
    assert "at most 7.81 KiB (8,000 B); less may do" in said.out


def test_the_limit_of_time_must_be_one(run: Run, graph_file: Path) -> None:
    said = run("estimate", graph_file, "--time-limit", "-1")
    assert (said.code, said.err) == (2, "edgewise: `--time-limit -1` must be above zero seconds.\n")


def test_the_parts_of_a_real_step_add_up(run: Run) -> None:
    found = run("estimate", "mlp@2", "--device", "rpi4", "--time-limit", "2", "--json").json
    kinds = found["plain_peak_bytes_by_kind"]
    assert sum(kinds.values()) == found["plain_peak_bytes"]
    assert all(size >= 0 for size in kinds.values())
    assert kinds["parameter"] > 0
    assert found["min_ram_bytes"] < found["plain_peak_bytes"]


class TestLoops:
    """Where ops may run in slices, both figures are told: whole, and the least."""

    def test_json(self, run: Run, loops_file: Path) -> None:
        found = run("estimate", loops_file, "--device", "rpi4", "--json").json
        first = found["largest_ops"][0]
        assert (found["whole_ram_bytes"], found["whole_ram_op"]) == (8000, "to_b")
        assert found["min_ram_bytes"] < found["whole_ram_bytes"]
        assert (first["op"], first["working_bytes"], first["least_bytes"]) == ("to_b", 8000, 1000)

    def test_for_people(self, run: Run, loops_file: Path) -> None:
        lines = [line.strip() for line in run("estimate", loops_file, "--device", "rpi4").out.splitlines()]
        assert "of whole ops           at least 7.81 KiB (8,000 B), set by `to_b`" in lines
        assert lines[-6].split()[:7] == ["largest", "ops", "layer", "in", "RAM", "in", "slices"]
        assert lines[-5].split()[:5] == ["to_b", "7.81", "KiB", "1,000", "B"]

    def test_without_a_tier_a_loop_saves_workspace_only(
        self, run: Run, loops_file: Path, diskless: Path
    ) -> None:
        entries = run("estimate", loops_file, "--device", diskless, "--json").json["largest_ops"]
        assert all(entry["least_bytes"] == entry["working_bytes"] for entry in entries)

    def test_a_graph_without_them(self, run: Run, graph_file: Path) -> None:
        said = run("estimate", graph_file, "--device", "rpi4")
        assert "of whole ops" not in said.out
        assert "in slices" not in said.out
        entries = run("estimate", graph_file, "--device", "rpi4", "--json").json["largest_ops"]
        assert all(entry["least_bytes"] == entry["working_bytes"] for entry in entries)

    @given(graphs, DICE)
    def test_the_least_is_the_planners(self, graph: Graph, dice: random.Random) -> None:
        loops = tiled(graph, dice)
        problem = Problem(loops, PAGING, Budget(0), "joules", "full")
        least = {op.name: size for op, size in zip(problem.ops, problem.least_tiled_bytes, strict=True)}
        whole = {op.name: size for op, size in zip(problem.ops, problem.least_working_bytes, strict=True)}
        found = {heavy.op.name: heavy for heavy in heaviest(loops, PAGING, len(loops.ops))}
        assert {name: found[name].least_bytes for name in least} == least
        assert {name: found[name].working_bytes for name in whole} == whole


def trained() -> Graph:
    """A weight with momentum; its gradient is made in place of the activation, with workspace."""
    values = (
        Value("x", 10, "input"),
        Value("w", 100, "parameter"),
        Value("m", 100, "state"),
        Value("h", 40),
        Value("g", 40, "gradient"),
        Value("w2", 100, "parameter"),
        Value("m2", 100, "state"),
    )
    in_place = Option("in_place", overwrites=(("h", "g"),), workspace_bytes=5)
    ops = (
        Op("forward", ("x", "w"), ("h",), flops=4),
        Op("backward", ("h",), ("g",), flops=4, options=(Option("whole", workspace_bytes=5), in_place)),
        Op("update", ("g",), updates=(("w", "w2"), ("m", "m2")), flops=2, recomputable=False),
    )
    return Graph("trained", values, ops, ())


def test_every_kind_is_counted_once() -> None:
    graph = trained()
    plan = plain_plan(graph, DEVICE)
    kinds = peak_by_kind(plan, graph, DEVICE)
    assert sum(kinds.values()) == plan.peak_bytes
    assert (kinds["parameter"], kinds["state"]) == (100, 100)
    assert (kinds["input"], kinds["activation"], kinds["workspace"]) == (10, 40, 0)


def test_the_largest_op_is_by_its_thriftiest_option() -> None:
    found = heaviest(trained(), DEVICE, 3)
    assert [(heavy.op.name, heavy.working_bytes) for heavy in found] == [
        ("update", 240),
        ("forward", 150),
        ("backward", 45),
    ]


def test_a_graph_without_ops_needs_what_it_starts_with() -> None:
    graph = Graph("empty", (Value("x", 7, "input"),), (), ("x",))
    plan = plain_plan(graph, DEVICE)
    assert peak_by_kind(plan, graph, DEVICE)["input"] == plan.peak_bytes == 7
