"""The search by windows: the whole program where that is small, close to it where it is large."""

from itertools import pairwise

import pytest

from edgewise.plan import Budget, check, make_plan, milp, minimum_ram, plain_plan
from edgewise.plan.problem import Problem, fits, floor_bytes, judge
from edgewise.plan.time_indexed import TimeIndexed
from edgewise.plan.windows import WindowSearch
from tests.plan.graphs import DISKLESS, OVERLAPPING, PAGING, SMALL_TIER, chain, random_graph

SOON = 1e9
"""A deadline by `time.monotonic` that never comes."""


def _search(problem: Problem, sweeps: int) -> tuple[TimeIndexed, WindowSearch]:
    program = TimeIndexed(problem, problem.budget.ram_bytes, most=8, stages=())
    search = WindowSearch(program)
    search.first_pass(SOON, 0.0)
    for _ in range(sweeps):
        search.sweep(SOON, 0.0)
    return program, search


def _problem(graph, device, share: float) -> Problem:
    problem = Problem(graph, device, Budget(0), "joules", "full")
    floor, plain = floor_bytes(problem), plain_plan(graph, device).peak_bytes
    return problem.with_ram(int(floor + share * (plain - floor)))


@pytest.mark.parametrize("device", [PAGING, DISKLESS, OVERLAPPING], ids=lambda d: d.name)
@pytest.mark.parametrize("share", [0.3, 0.7])
def test_its_solution_keeps_every_row_of_the_whole_program(device, share: float) -> None:
    problem = _problem(chain(60), device, share)
    _, search = _search(problem, 1)
    assert not search.excess()
    whole = TimeIndexed(problem, problem.budget.ram_bytes, most=8)
    assert whole.model.cost == search.ti.model.cost
    values = search.solution().values
    assert values is not None
    for (begin, end), low, high in zip(
        pairwise(whole.model.starts), whole.model.row_lower, whole.model.row_upper, strict=True
    ):
        terms = zip(whole.model.columns[begin:end], whole.model.coefficients[begin:end], strict=True)
        assert low - 1e-4 <= sum(values[var] * x for var, x in terms) <= high + 1e-4


@pytest.mark.parametrize("device", [PAGING, DISKLESS, SMALL_TIER], ids=lambda d: d.name)
def test_one_window_is_the_whole_program(device) -> None:
    for seed in range(60):
        graph = random_graph(seed)
        least = minimum_ram(graph, device).ram_bytes
        problem = Problem(graph, device, Budget(least), "joules", "full")
        program, search = _search(problem, 1)
        whole = TimeIndexed(problem, least, most=8).solve(time_limit=5, gap=0)
        if whole.values is None:
            continue
        assert not search.excess(), seed
        assert len(search.windows) == 1
        assert search.solution().objective == pytest.approx(whole.objective, abs=1e-5), seed
        assert judge(problem, *program.order(search.solution())) is not None, seed


def test_a_sweep_is_never_worse_and_many_windows_come_close_to_the_whole() -> None:
    problem = _problem(chain(150), DISKLESS, 0.4)
    program, search = _search(problem, 0)
    assert len(search.windows) > 2
    overheads = []
    for _ in range(6):
        overheads.append(search.solution().objective)
        search.sweep(SOON, 0.0)
    assert all(after <= before + 1e-9 for before, after in pairwise(overheads))
    whole = TimeIndexed(problem, problem.budget.ram_bytes, most=8).solve(time_limit=20, gap=0.01)
    assert search.solution().objective <= 1.1 * whole.objective
    candidate = judge(problem, *program.order(search.solution()))
    assert candidate is not None
    assert candidate.overhead > 0


def test_reserved_bytes_are_left_free() -> None:
    problem = _problem(chain(60), DISKLESS, 0.5)
    program, search = _search(problem, 1)
    search.reserve({60: 300})
    assert search.excess().get(60, 0.0) > 0
    for _ in range(3):
        search.sweep(SOON, 0.0)
    assert not search.excess()
    candidate = judge(problem, *program.order(search.solution()))
    assert candidate is not None
    assert fits(problem, candidate)


def test_an_interrupt_ends_the_search_with_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = _problem(chain(150), DISKLESS, 0.4)
    search = WindowSearch(TimeIndexed(problem, problem.budget.ram_bytes, most=8, stages=()))
    calls = []

    def interrupted(*_: object, **__: object) -> milp.Solution:
        calls.append(1)
        return milp.Solution("stopped", None, milp.INFINITY, 0.0, interrupted=True)

    monkeypatch.setattr(milp.Model, "solve", interrupted)
    search.first_pass(SOON, 0.0)
    search.sweep(SOON, 0.0)
    assert len(calls) == 1
    assert search.interrupted


@pytest.mark.parametrize("device", [PAGING, DISKLESS, OVERLAPPING], ids=lambda d: d.name)
def test_large_graphs_are_planned_by_windows(device) -> None:
    graph = chain(120)
    plain = plain_plan(graph, device)
    plan = make_plan(graph, device, Budget(plain.peak_bytes // 3), time_limit=8)
    found = check(plan, graph, device)
    assert found.recomputed or found.paged_in
