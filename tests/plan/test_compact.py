"""Transfers are timed such that the values they bring find room."""

from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.graph import Graph
from edgewise.plan import Budget, minimum_ram, plain_plan
from edgewise.plan.compact import _place, compact
from edgewise.plan.prefetch import prefetch
from edgewise.plan.problem import Candidate, Problem, fits, judge, page_everything
from tests.plan.graphs import OVERLAPPING, PAGING, chain, graphs


def _hurried(graph: Graph, share: float) -> tuple[Problem, Candidate]:
    least, plain = minimum_ram(graph, OVERLAPPING).ram_bytes, plain_plan(graph, OVERLAPPING).peak_bytes
    problem = Problem(graph, OVERLAPPING, Budget(int(least + share * (plain - least))), "joules", "full")
    lazy = judge(problem, *page_everything(problem))
    assert lazy is not None
    return problem, prefetch(problem, lazy)


@given(graphs, st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_a_compacted_plan_fits_and_does_the_same(graph: Graph, share: float) -> None:
    problem, hurried = _hurried(graph, share)
    candidate, placement = compact(problem, hurried)
    before, after = _place(problem, hurried), _place(problem, candidate)
    assert after == placement
    assert after.arena_bytes <= before.arena_bytes
    assert fits(problem, candidate) == fits(problem, hurried)
    assert sorted(candidate.certificate.paged_in) == sorted(hurried.certificate.paged_in)
    if before.arena_bytes <= problem.budget.ram_bytes:
        assert candidate == hurried


def test_prefetching_gives_way_to_the_arena() -> None:
    found = [_compacted(chain(length), share) for length in (6, 9, 12) for share in (0.1, 0.2, 0.4)]
    assert all(arena <= budget for arena, budget in found)


def _compacted(graph: Graph, share: float) -> tuple[int, int]:
    problem, hurried = _hurried(graph, share)
    candidate, _ = compact(problem, hurried)
    return _place(problem, candidate).arena_bytes, problem.budget.ram_bytes


def test_nothing_changes_where_nothing_overlaps() -> None:
    graph = chain(5)
    problem = Problem(graph, PAGING, Budget(400), "joules", "full")
    candidate = judge(problem, *page_everything(problem))
    assert candidate is not None
    assert compact(problem, candidate)[0] is candidate
