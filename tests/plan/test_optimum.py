"""The planner against brute force on ten thousand random graphs; every solver and the bound against it."""

import random

import pytest

from edgewise.errors import BudgetInfeasible
from edgewise.plan import Budget, Plan, check, make_plan, minimum_ram, plain_plan
from edgewise.plan.bound import lower_bound
from edgewise.plan.problem import Problem
from tests.plan.brute_force import INFINITY, optimum
from tests.plan.graphs import DISKLESS, PAGING, SMALL_TIER, random_graph

GRAPHS, ALL_GRAPHS, CHUNK = 1000, 10_000, 40


def _instance(seed: int) -> tuple:
    """A graph, a device and a budget at which something has to give, now and then one that is too small."""
    dice = random.Random(seed)
    device = (PAGING, DISKLESS, SMALL_TIER, PAGING)[seed % 4]
    most_ops = 5 if device is SMALL_TIER else 7 if seed < GRAPHS and device is PAGING else 8
    graph = random_graph(seed, most_ops=most_ops)
    plain, least = plain_plan(graph, device), minimum_ram(graph, device)
    low = max(0, least.ram_bytes - (dice.random() < 0.2))
    ram_bytes = dice.randint(low, max(low, (low + plain.peak_bytes) // 2))
    seconds = dice.choice([None, None, plain.seconds * dice.uniform(1, 1.6)])
    joules = dice.choice([None, None, plain.joules * dice.uniform(1, 2)])
    return graph, device, Budget(ram_bytes, seconds, joules)


def _plan(graph, device, budget, **options) -> Plan | None:
    try:
        plan = make_plan(graph, device, budget, gap=0, **options)
    except BudgetInfeasible:
        return None
    check(plan, graph, device)
    return plan


def _compare(seeds: range) -> None:
    for seed in seeds:
        graph, device, budget = _instance(seed)
        minimize = "joules" if seed % 3 else "seconds"
        plan = _plan(graph, device, budget, minimize=minimize)
        if plan is not None and plan.status != "optimal":  # the search gave up, as it may in everyday use
            plan = _plan(graph, device, budget, minimize=minimize, solver="search", time_limit=600)
        assert plan is None or (plan.status == "optimal" and plan.gap == 0), seed
        spent = INFINITY if plan is None else plan.joules if minimize == "joules" else plan.seconds
        better = optimum(
            graph,
            device,
            budget.ram_bytes,
            seconds=INFINITY if budget.seconds is None else budget.seconds,
            joules=INFINITY if budget.joules is None else budget.joules,
            minimize=minimize,
            below=spent,
        )
        assert better is None, (seed, plan and spent, better)


@pytest.mark.parametrize("first", range(0, GRAPHS, CHUNK))
def test_equals_brute_force(first: int) -> None:
    _compare(range(first, first + CHUNK))


@pytest.mark.slow
@pytest.mark.parametrize("first", range(GRAPHS, ALL_GRAPHS, 10 * CHUNK))
def test_equals_brute_force_on_many_more(first: int) -> None:
    _compare(range(first, min(first + 10 * CHUNK, ALL_GRAPHS)))


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_bound_and_other_solvers_against_the_optimum(first: int) -> None:
    for seed in range(first, first + 20):
        graph, device, budget = _instance(seed)
        limits = {"seconds": budget.seconds or INFINITY, "joules": budget.joules or INFINITY}
        best = optimum(graph, device, budget.ram_bytes, **limits, defer=False)
        plain = plain_plan(graph, device).joules
        bound = lower_bound(Problem(graph, device, budget, "joules", "full"), time_limit=2)
        assert best is None or bound <= best - plain + 1e-9 * plain, seed
        exact = _plan(graph, device, budget)
        for solver in ("time-indexed", "poet"):
            plan = _plan(graph, device, budget, solver=solver, time_limit=2)
            assert plan is None or exact is not None, seed
            assert plan is None or exact is None or plan.joules >= exact.joules * (1 - 1e-9), seed


def test_time_indexed_finds_a_plan_wherever_there_is_one() -> None:
    for seed in range(40):
        graph, device, budget = _instance(seed)
        if budget.seconds is None and _plan(graph, device, budget) is not None:
            assert _plan(graph, device, budget, solver="time-indexed", time_limit=2) is not None, seed
