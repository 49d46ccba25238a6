"""Priced cuts: the cheapest splits, by brute force over all of them, and the plans that they become."""

from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.graph import Graph
from edgewise.plan import Budget, plain_plan
from edgewise.plan import priced_cuts as module
from edgewise.plan.checkpointing import forward_ops, on_demand
from edgewise.plan.milp import INFINITY
from edgewise.plan.priced_cuts import SLOPES, Slope, _Cut, priced_cuts
from edgewise.plan.problem import Problem, fits
from edgewise.plan.schedule import Order
from tests.plan.graphs import DISKLESS, chain, random_graph


def problem_of(graph: Graph, share: float = 1.0) -> Problem:
    peak = plain_plan(graph, DISKLESS).peak_bytes
    return Problem(graph, DISKLESS, Budget(int(share * peak)), "seconds", "full")


def cost_of(problem: Problem, kept: frozenset[int], price: float) -> float:
    """What keeping `kept` and making again all else that is wanted costs; infinite if that cannot be done."""
    forward, again = forward_ops(problem), set[int]()
    todo = [v for v, use in enumerate(problem.uses) if any(t >= forward for t in use)]
    while todo:
        v = todo.pop()
        t = problem.birth[v]
        if v in kept or not 0 <= t < forward or not problem.bytes[v]:
            continue
        ends = (problem.end_of_life[w] for w in problem.inputs[t])
        if not problem.remakable[v] or any(end is not None and end < forward for end in ends):
            return INFINITY
        if t not in again:
            again.add(t)
            todo += problem.inputs[t]
    bytes_ = sum(problem.bytes[v] for v in kept)
    return price * bytes_ + sum(problem.weight(problem.op_costs[t]) for t in again)


@given(seed=st.integers(0, 10**9), price=st.floats(0.01, 30))
def test_no_split_is_cheaper(seed: int, price: float) -> None:
    problem = problem_of(random_graph(seed))
    cut = _Cut(problem)
    kept, a_byte = cut.kept(price, Slope(0.0, 0.0)), cut.unit * price
    made = list(cut.keep)
    subsets = (frozenset(s) for count in range(len(made) + 1) for s in combinations(made, count))
    least = min(cost_of(problem, subset, a_byte) for subset in subsets)
    assert cost_of(problem, kept, a_byte) == pytest.approx(least, rel=1e-6, abs=1e-9)


def test_the_dearer_a_byte_the_less_is_kept() -> None:
    cut = _Cut(problem_of(chain(30)))
    kept = [len(cut.kept(price, Slope(0.0, 0.0))) for price in (0.01, 0.5, 1, 2, 100)]
    assert all(less <= more for more, less in pairwise(kept))
    assert kept[0] == 30
    assert 0 < kept[2] < 30
    assert kept[-1] == 0


def test_where_all_blocks_turn_at_one_price_slopes_turn_them_one_by_one() -> None:
    """A chain of equal links has no split between everything and next to nothing, but for its slopes."""
    problem = problem_of(chain(60), 0.6)
    by_one_price = [c for c in priced_cuts(problem) if fits(problem, c)]
    by_slopes = [c for c in priced_cuts(problem, slopes=SLOPES) if fits(problem, c)]
    assert by_slopes
    least = min((c.overhead for c in by_one_price), default=INFINITY)
    assert min(c.overhead for c in by_slopes) < least


def test_what_is_kept_never_exceeds_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, tried = problem_of(chain(30), 0.4), list[frozenset[int]]()

    def noting(problem: Problem, kept: frozenset[int], forward: int) -> Order:
        tried.append(kept)
        return on_demand(problem, kept, forward)

    monkeypatch.setattr(module, "on_demand", noting)
    assert list(priced_cuts(problem, slopes=SLOPES))
    assert max(sum(problem.bytes[v] for v in kept) for kept in tried) <= problem.budget.ram_bytes


def test_after_the_deadline_nothing_is_tried() -> None:
    assert not list(priced_cuts(problem_of(chain(30)), deadline=0.0))
