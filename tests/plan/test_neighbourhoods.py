"""Known plans as incumbents: what a program makes of them, and what large neighbourhoods add."""

import time
from dataclasses import replace
from itertools import pairwise

import pytest

from edgewise.plan import Budget, plain_plan
from edgewise.plan.checkpointing import forward_ops, on_demand
from edgewise.plan.crowding import Rows, excess_of
from edgewise.plan.neighbourhoods import neighbourhoods
from edgewise.plan.problem import Candidate, Problem, fits, judge
from edgewise.plan.square_root import square_root
from edgewise.plan.time_indexed import TimeIndexed
from edgewise.plan.warm_start import brought, known, start, unseen
from tests.plan.graphs import DISKLESS, PAGING, chain

LENGTH = 30


def problem_at(share: float, device=DISKLESS) -> Problem:
    graph = chain(LENGTH)
    peak = plain_plan(graph, device).peak_bytes
    return Problem(graph, device, Budget(int(share * peak)), "seconds", "full")


def fitting(problem: Problem) -> Candidate:
    return next(candidate for candidate in square_root(problem) if fits(problem, candidate))


@pytest.mark.parametrize("share", [0.5, 0.7])
def test_a_program_counts_a_known_plan_as_the_replay_does(share: float) -> None:
    problem = problem_at(share)
    candidate = fitting(problem)
    plan = known(problem, candidate)
    assert plan is not None
    program = TimeIndexed(problem, problem.budget.ram_bytes, brought=brought(problem, [plan]))
    assert not unseen(program, plan)
    lower, upper = list(program.model.lower), list(program.model.upper)
    for variable, value in start(program, plan).items():
        lower[variable] = upper[variable] = value
    solution = replace(program.model, lower=lower, upper=upper).solve(time_limit=20, gap=0)
    assert solution.status == "optimal"
    assert solution.objective * program.costs.unit == pytest.approx(candidate.overhead, rel=1e-4)
    again = judge(problem, *program.order(solution))
    assert again is not None
    assert again.certificate.peak_bytes <= candidate.certificate.peak_bytes
    assert again.overhead == pytest.approx(candidate.overhead)


def test_neighbourhoods_only_get_better_and_always_fit() -> None:
    problem = problem_at(0.6)
    first = fitting(problem)
    rows = Rows(set(range(len(problem.ops))), 0)
    found = list(neighbourhoods(problem, problem, first, rows, deadline=time.monotonic() + 4))
    assert found
    assert all(fits(problem, candidate) for candidate in found)
    assert all(after.overhead < before.overhead for before, after in pairwise([first, *found]))


def test_plans_that_page_are_no_incumbents() -> None:
    problem = problem_at(0.6, PAGING)
    homes = frozenset(problem.names[family.head] for family in problem.families)
    candidate = fitting(problem)._replace(homes=homes or frozenset({"any"}))
    assert known(problem, candidate) is None
    rows = Rows(set(), 0)
    assert not list(neighbourhoods(problem, problem, candidate, rows, deadline=time.monotonic() + 1))


def test_rows_are_learned_once_from_what_does_not_fit() -> None:
    problem = problem_at(0.6)
    candidate = fitting(problem)
    tight = problem.with_ram(candidate.certificate.peak_bytes - 1)
    excess, rows = excess_of(tight, candidate), Rows(set(), 0)
    assert max([*excess.first.values(), *excess.again.values()]) == 1
    assert rows.learn(tight, candidate)
    assert not rows.learn(tight, candidate)
    assert not excess_of(problem, candidate).first
    assert not excess_of(problem, candidate).again


def test_on_demand_keeps_what_it_is_told_to() -> None:
    problem = problem_at(1.0)
    forward = forward_ops(problem) + 1  # with the loss
    everything = judge(problem, on_demand(problem, set(range(len(problem.names))), forward))
    nothing = judge(problem, on_demand(problem, set(problem.outputs[forward - 1]), forward))
    assert everything is not None
    assert nothing is not None
    assert not everything.certificate.recomputed
    assert len(nothing.certificate.recomputed) > 0
    assert len(set(nothing.certificate.recomputed)) == len(nothing.certificate.recomputed)
