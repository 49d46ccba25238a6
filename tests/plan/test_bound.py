"""lower_bound: never above the optimum, infinite where there is no plan, 0 where plain training fits."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.graph import Graph
from edgewise.plan import Budget, minimum_ram, plain_plan
from edgewise.plan.bound import lower_bound
from edgewise.plan.milp import INFINITY
from edgewise.plan.problem import Problem, judge
from edgewise.plan.search import search
from tests.plan.graphs import DISKLESS, OVERLAPPING, PAGING, SMALL_TIER, chain, graphs

DEVICES = st.sampled_from([PAGING, DISKLESS, SMALL_TIER])


def _problem(graph: Graph, device, ram_bytes: int, minimize="joules") -> Problem:
    return Problem(graph, device, Budget(ram_bytes), minimize, "full")


@given(graphs, DEVICES, st.sampled_from(["joules", "seconds"]), st.floats(0, 1))
@settings(max_examples=60)
def test_never_above_the_optimum(graph: Graph, device, minimize, share: float) -> None:
    least, plain = minimum_ram(graph, device).ram_bytes, plain_plan(graph, device).peak_bytes
    problem = _problem(graph, device, int(least + share * (plain - least)), minimize)
    found = search(problem, most_states=3000)
    bound = lower_bound(problem, time_limit=3)
    if found.order is not None:
        best = judge(problem, found.order, found.homes)
        assert best is not None
        assert bound <= best.overhead * (1 + 1e-9) + 1e-9


@pytest.mark.parametrize("device", [PAGING, DISKLESS, OVERLAPPING], ids=lambda d: d.name)
def test_nothing_where_plain_training_fits(device) -> None:
    graph = chain(6)
    assert lower_bound(_problem(graph, device, plain_plan(graph, device).peak_bytes), time_limit=3) == 0


@pytest.mark.parametrize("device", [PAGING, DISKLESS, OVERLAPPING], ids=lambda d: d.name)
def test_infinite_where_one_op_does_not_fit(device) -> None:
    assert lower_bound(_problem(chain(6), device, 299), time_limit=3) == INFINITY


@pytest.mark.parametrize("device", [PAGING, DISKLESS], ids=lambda d: d.name)
def test_it_proves_something_of_a_chain(device) -> None:
    graph = chain(10)
    least = minimum_ram(graph, device, time_limit=3).ram_bytes
    tight, loose = (lower_bound(_problem(graph, device, least + more), time_limit=3) for more in (0, 400))
    assert tight >= loose > 0


def test_a_deadline_below_plain_is_infeasible() -> None:
    graph = chain(4)
    plain = plain_plan(graph, DISKLESS)
    budget = Budget(plain.peak_bytes - 100, seconds=plain.seconds / 2)
    assert lower_bound(Problem(graph, DISKLESS, budget, "joules", "full"), time_limit=3) == INFINITY
