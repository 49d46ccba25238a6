"""lower_bound: never above a plan, infinite where there is no plan, 0 where plain training fits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.graph import Graph
from edgewise.plan import Budget, Compute, minimum_ram, plain_plan
from edgewise.plan.bound import lower_bound
from edgewise.plan.milp import INFINITY
from edgewise.plan.problem import Problem, judge
from tests.plan.graphs import DISKLESS, OVERLAPPING, PAGING, chain, graphs
from tests.plan.streamers import Streamer, tiled
from tests.support import random_order

DEVICES = st.sampled_from([PAGING, DISKLESS, OVERLAPPING])


def _problem(graph: Graph, device, ram_bytes: int, minimize="joules") -> Problem:
    return Problem(graph, device, Budget(ram_bytes), minimize, "full")


@given(graphs, DEVICES, st.randoms(use_true_random=False), st.sampled_from(["joules", "seconds"]))
def test_never_above_any_plan_that_keeps_the_order(graph: Graph, device, dice, minimize) -> None:
    """No plan within the RAM that some plan needs has less overhead than the bound; so that one has not."""
    order, homes = random_order(
        graph, dice, forget=dice.random(), page=dice.random() * (device is not DISKLESS)
    )
    problem = _problem(graph, device, 1 << 40, minimize)
    candidate = judge(problem, order, homes)
    assert candidate is not None
    firsts = dict.fromkeys(step.op for step in candidate.steps if isinstance(step, Compute))
    if list(firsts) == [op.name for op in problem.ops]:  # a run whose results are only wanted later is none
        within = problem.with_ram(candidate.certificate.peak_bytes)
        assert lower_bound(within, time_limit=2) <= candidate.overhead * (1 + 1e-9) + 1e-9


@given(
    graphs,
    st.sampled_from([PAGING, OVERLAPPING]),
    st.randoms(use_true_random=False),
    st.sampled_from(["joules", "seconds"]),
)
def test_never_above_a_plan_that_streams(graph: Graph, device, dice, minimize) -> None:
    loops = tiled(graph, dice)
    streamer = Streamer(loops, dice)
    problem = _problem(loops, device, 1 << 40, minimize)
    candidate = judge(problem, streamer.run(), streamer.homes())
    assert candidate is not None
    within = problem.with_ram(candidate.certificate.peak_bytes)
    assert lower_bound(within, time_limit=2) <= candidate.overhead * (1 + 1e-9) + 1e-9


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
