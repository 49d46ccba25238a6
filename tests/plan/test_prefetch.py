"""prefetch: the same steps in a better order, within the budget and never slower."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.graph import Graph, Op, Option, Value, validate
from edgewise.plan import Budget, Compute, Free, PageIn, PageOut, replay
from edgewise.plan.prefetch import prefetch
from edgewise.plan.problem import Problem, judge, page_everything
from edgewise.plan.schedule import Action
from tests.plan.graphs import OVERLAPPING, graphs
from tests.plan.oracle import results
from tests.support import random_order


@given(graphs, st.randoms(use_true_random=False), st.booleans())
def test_the_same_steps_never_slower_within_the_budget(graph: Graph, dice, everything: bool) -> None:
    free = Problem(graph, OVERLAPPING, Budget(1 << 40), "joules", "full")
    order, homes = page_everything(free) if everything else random_order(graph, dice, forget=0.6, page=0.8)
    before = judge(free, order, homes)
    assert before is not None
    peak = before.certificate.peak_bytes
    problem = free.with_ram(peak + dice.randint(0, 20))
    hurried = prefetch(problem, before)
    steps, found = hurried.steps, hurried.certificate
    assert Counter(steps) == Counter(before.steps)
    assert found.seconds <= before.certificate.seconds
    assert found.peak_bytes <= problem.budget.ram_bytes
    assert found == replay(steps, graph, OVERLAPPING, homes=tuple(sorted(homes)))
    wanted = results(before.steps, graph, tuple(homes))
    assert results(steps, graph, tuple(homes)) == wanted


def _graph(workspace: int = 0) -> Graph:
    """f takes 10 s; g reads w, whose page-in takes 2.5 s, and takes 3 s."""
    values = (Value("x", 4, "input"), Value("w", 8, "parameter"), Value("a", 4), Value("b", 4))
    whole = (Option("whole", workspace_bytes=workspace),)
    ops = (Op("f", ("x",), ("a",), flops=10, options=whole), Op("g", ("a", "w"), ("b",), flops=3))
    return validate(Graph("two", values, ops, ("b",)))


@pytest.mark.parametrize(("workspace", "seconds"), [(0, 13.0), (1, 15.5)])
def test_a_page_in_is_hidden_behind_compute_if_ram_allows(workspace: int, seconds: float) -> None:
    graph, homes = _graph(workspace), frozenset({"w"})
    problem = Problem(graph, OVERLAPPING, Budget(16), "seconds", "full")
    order = (Action("compute", "f"), Action("in", "w"), Action("compute", "g"))
    late = judge(problem, order, homes)
    assert late is not None
    assert late.certificate.seconds == pytest.approx(15.5)
    hurried = prefetch(problem, late)
    steps, found = hurried.steps, hurried.certificate
    assert found.seconds == pytest.approx(seconds)
    assert (steps.index(PageIn("w")) < steps.index(Compute("f"))) == (workspace == 0)


def test_a_value_is_dropped_when_its_page_out_is_over() -> None:
    """Writing 12 B takes 4 s: dropping x at once would wait for it; f, which takes 10 s, does not."""
    values = (Value("x", 12, "input"), Value("y", 4, "input"), Value("a", 4), Value("b", 4))
    ops = (Op("f", ("y",), ("a",), flops=10), Op("g", ("a", "x"), ("b",), flops=3))
    graph = validate(Graph("out", values, ops, ("b",)))
    problem = Problem(graph, OVERLAPPING, Budget(24), "seconds", "full")
    order = (Action("out", "x"), Action("compute", "f"), Action("in", "x"), Action("compute", "g"))
    hasty = judge(problem, order)
    assert hasty is not None
    assert hasty.steps[:2] == (PageOut("x"), Free("x"))
    hurried = prefetch(problem, hasty)
    steps, found = hurried.steps, hurried.certificate
    assert hasty.certificate.seconds - found.seconds == pytest.approx(4.0)
    assert steps.index(Free("x")) > steps.index(Compute("f"))
