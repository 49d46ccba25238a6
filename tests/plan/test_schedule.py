"""lay_out: any valid order becomes a valid plan that holds every value no longer than it must."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.errors import PlanRejected
from edgewise.graph import Graph, Op, Option, Value, validate
from edgewise.plan import Compute, Free, PageIn, PageOut, replay
from edgewise.plan.schedule import Action, lay_out, plain_order
from tests.plan.graphs import graphs
from tests.plan.oracle import results
from tests.support import DEVICE, random_order

DICE = st.randoms(use_true_random=False)


def _any_order(graph: Graph, dice: random.Random) -> tuple[tuple, frozenset[str]]:
    return random_order(graph, dice, forget=dice.random(), page=dice.random())


@given(graphs, DICE)
def test_any_order_is_laid_out_validly_and_computes_what_plain_training_computes(
    graph: Graph, dice: random.Random
) -> None:
    order, homes = _any_order(graph, dice)
    steps = lay_out(order, graph, homes)
    replay(steps, graph, DEVICE, homes=tuple(homes))
    assert results(steps, graph, tuple(homes)) == results(lay_out(plain_order(graph), graph), graph)


@given(graphs, DICE)
def test_nothing_could_be_freed_earlier(graph: Graph, dice: random.Random) -> None:
    """Moving a free before the last step that is none is refused: that step needs or brings the value."""
    order, homes = _any_order(graph, dice)
    steps = lay_out(order, graph, homes)
    for i, step in enumerate(steps):
        earlier = [j for j in range(i) if not isinstance(steps[j], Free)]
        if isinstance(step, Free) and earlier:
            j = earlier[-1]
            moved = (*steps[:j], step, *steps[j:i], *steps[i + 1 :])
            with pytest.raises(PlanRejected):
                replay(moved, graph, DEVICE, homes=tuple(homes))


@given(graphs, DICE)
def test_no_step_can_be_left_out_but_a_free(graph: Graph, dice: random.Random) -> None:
    order, homes = _any_order(graph, dice)
    steps = lay_out(order, graph, homes)
    for i, step in enumerate(steps):
        if not isinstance(step, Free):
            with pytest.raises(PlanRejected):
                replay(steps[:i] + steps[i + 1 :], graph, DEVICE, homes=tuple(homes))


@given(graphs, DICE)
def test_homes_are_written_back_once_and_only_if_they_changed(graph: Graph, dice: random.Random) -> None:
    _, homes = _any_order(graph, dice)
    order = [Action("in", name) for name in sorted(homes)] + list(plain_order(graph))
    written = [step.value for step in lay_out(tuple(order), graph, homes) if isinstance(step, PageOut)]
    assert sorted(written) == sorted(graph.carries[name] for name in homes if name in graph.carries)


def _pair(reader: bool) -> Graph:
    """a -> b in place, or not; with `reader`, something reads a afterwards."""
    values = (Value("x", 8, "input"), Value("a", 8), Value("b", 8), Value("c", 8))
    ops = (
        Op("f", ("x",), ("a",)),
        Op("relu", ("a",), ("b",), options=(Option("whole"), Option("in-place", (("a", "b"),)))),
        Op("sum", ("a", "b") if reader else ("b",), ("c",)),
    )
    return validate(Graph("pair", values, ops, ("c",)))


@pytest.mark.parametrize(("reader", "option"), [(False, "in-place"), (True, "whole")])
def test_in_place_only_when_the_operand_dies(reader: bool, option: str) -> None:
    graph = _pair(reader)
    assert Compute("relu", option) in lay_out(plain_order(graph), graph)


def test_in_place_when_the_operand_is_recomputed_for_its_reader() -> None:
    graph = _pair(reader=True)
    order = tuple(Action("compute", name) for name in ("f", "relu", "f", "sum"))
    assert lay_out(order, graph)[0:3] == (Compute("f"), Compute("relu", "in-place"), Compute("f"))


def test_the_option_of_least_workspace_wins() -> None:
    options = (Option("whole", workspace_bytes=9), Option("tiled", workspace_bytes=2))
    graph = Graph("w", (Value("x", 8), Value("y", 8)), (Op("f", ("x",), ("y",), options=options),), ("y",))
    assert lay_out(plain_order(graph), graph) == (Compute("f", "tiled"), Free("x"))


def test_useless_actions_are_dropped() -> None:
    graph = _pair(reader=True)
    plain = plain_order(graph)
    assert lay_out((*plain, plain[1], Action("out", "c")), graph) == lay_out(plain, graph)


def test_a_source_that_nothing_reads_is_dropped_at_once() -> None:
    graph = Graph(
        "s", (Value("x", 8, "input"), Value("y", 8), Value("z", 4)), (Op("f", ("y",), ("z",)),), ("z",)
    )
    assert lay_out(plain_order(graph), graph) == (Free("x"), Compute("f"), Free("y"))


def test_a_value_paged_out_is_dropped_when_the_transfer_was_its_last_use() -> None:
    graph = _pair(reader=True)
    f, relu, add = plain_order(graph)
    steps = lay_out((f, relu, Action("out", "a"), Action("in", "a"), add), graph)
    assert steps[3:6] == (PageOut("a"), Free("a"), PageIn("a"))
