"""make_plan as its callers see it: properties, limits, messages, interruption."""

import dataclasses

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.errors import BudgetInfeasible, UsageError
from edgewise.graph import Graph, Op, Value
from edgewise.plan import (
    SOLVERS,
    Budget,
    Compute,
    Free,
    check,
    coarse_to_fine,
    make_plan,
    milp,
    minimum_ram,
    plain_plan,
    planner,
)
from edgewise.plan.peers import PEERS
from tests.plan.graphs import DISKLESS, OVERLAPPING, PAGING, chain, graphs, random_graph

BOARD = msgspec.structs.replace(
    PAGING, compute=msgspec.structs.replace(PAGING.compute, flops_per_second=1e3, joules_per_flop=1e-3)
)


@given(graphs, st.sampled_from([PAGING, DISKLESS]), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=100)
def test_a_larger_budget_is_never_worse(graph: Graph, device, one: float, other: float) -> None:
    least, plain = minimum_ram(graph, device).ram_bytes, plain_plan(graph, device).peak_bytes
    small, large = sorted(int(least + share * (plain - least)) for share in (one, other))
    at_small = make_plan(graph, device, Budget(small), gap=0)
    at_large = make_plan(graph, device, Budget(large), gap=0)
    assert at_large.joules <= at_small.joules * (1 + 1e-12)
    assert at_small.peak_bytes <= small


@pytest.mark.parametrize("device", [BOARD, DISKLESS, OVERLAPPING], ids=lambda d: d.name)
def test_on_a_larger_graph_a_larger_budget_is_never_worse_than_the_gap_allows(device) -> None:
    graph = chain(20)
    least, plain = minimum_ram(graph, device).ram_bytes, plain_plan(graph, device)
    overheads: list[float] = []
    for share in (0.05, 0.3, 0.6, 0.9):
        budget = Budget(int(least + share * (plain.peak_bytes - least)))
        plan = make_plan(graph, device, budget, time_limit=4)
        overhead = plan.joules - plain.joules
        assert all(overhead * (1 - plan.gap) <= smaller * (1 + 1e-6) for smaller in overheads)
        overheads.append(overhead)


@given(graphs, st.sampled_from([PAGING, DISKLESS, OVERLAPPING]))
@settings(max_examples=40)
def test_least_ram_is_enough_and_one_byte_less_is_not(graph: Graph, device) -> None:
    least = minimum_ram(graph, device)
    plan = make_plan(graph, device, Budget(least.ram_bytes), gap=0)
    assert plan.peak_bytes == least.plan.peak_bytes == least.ram_bytes
    if least.ram_bytes and least.exact:
        with pytest.raises(BudgetInfeasible) as caught:
            make_plan(graph, device, Budget(least.ram_bytes - 1), gap=0)
        assert caught.value.min_ram_bytes == least.ram_bytes
        assert caught.value.op == least.op


@given(graphs, st.sampled_from(["joules", "seconds"]), st.sampled_from(["full", "poet"]), st.floats(0, 1))
@settings(max_examples=40)
def test_overlapping_transfers(graph: Graph, minimize, cost_model, share: float) -> None:
    least, plain = minimum_ram(graph, OVERLAPPING), plain_plan(graph, OVERLAPPING, cost_model=cost_model)
    ram_bytes = int(least.ram_bytes + share * (plain.peak_bytes - least.ram_bytes))
    plan = make_plan(
        graph, OVERLAPPING, Budget(ram_bytes), minimize=minimize, cost_model=cost_model, time_limit=10
    )
    assert plan.peak_bytes <= ram_bytes
    assert plan.seconds >= plain.seconds * (1 - 1e-9)


@pytest.mark.parametrize("length", [4, 12, 30])
@pytest.mark.parametrize("device", [BOARD, DISKLESS, OVERLAPPING], ids=lambda d: d.name)
def test_chain_within_a_third_of_plain(length: int, device) -> None:
    graph = chain(length)
    plain = plain_plan(graph, device)
    least = minimum_ram(graph, device, time_limit=3)
    ram_bytes = max(least.ram_bytes, plain.peak_bytes // 3)
    plan = make_plan(graph, device, Budget(ram_bytes), time_limit=4)
    found = check(plan, graph, device)
    assert found.recomputed or found.paged_in
    assert 0 <= plan.gap <= 1
    assert plan.joules > plain.joules


def test_enough_ram_gives_the_plain_plan() -> None:
    graph = chain(5)
    plain = plain_plan(graph, BOARD)
    plan = make_plan(graph, BOARD, Budget(plain.peak_bytes))
    assert (plan.status, plan.gap, plan.solver) == ("optimal", 0.0, "plain")
    assert plan.steps == plain.steps
    assert not any(isinstance(step, Free) and step.value == "g0" for step in plan.steps)


@pytest.mark.parametrize("solver", [name for name in SOLVERS if name not in PEERS])
def test_every_solver_plans_a_small_chain(solver: str) -> None:
    graph = chain(3)
    plain = plain_plan(graph, BOARD)
    plan = make_plan(graph, BOARD, Budget(plain.peak_bytes - 100), solver=solver, time_limit=20)
    assert plan.solver == (solver if solver != "auto" else "search")
    assert plan.peak_bytes <= plain.peak_bytes - 100


def test_a_deadline_is_kept_or_refused() -> None:
    graph = chain(4)
    plain = plain_plan(graph, BOARD)
    tight = minimum_ram(graph, BOARD).ram_bytes
    slow = make_plan(graph, BOARD, Budget(tight), gap=0)
    assert slow.seconds > plain.seconds
    budget = Budget(plain.peak_bytes - 100, seconds=(plain.seconds + slow.seconds) / 2)
    assert make_plan(graph, BOARD, budget, gap=0).seconds <= budget.seconds
    with pytest.raises(BudgetInfeasible) as caught:
        make_plan(graph, BOARD, Budget(tight, seconds=plain.seconds * 1.0001))
    least = caught.value.min_ram_bytes
    assert tight < least <= plain.peak_bytes
    assert make_plan(graph, BOARD, Budget(least, seconds=plain.seconds * 1.0001)).peak_bytes <= least


def test_seconds_may_be_what_is_minimized() -> None:
    graph = chain(6)
    budget = Budget(minimum_ram(graph, BOARD).ram_bytes + 100)
    by_seconds = make_plan(graph, BOARD, budget, minimize="seconds", gap=0, time_limit=30)
    by_joules = make_plan(graph, BOARD, budget, minimize="joules", gap=0, time_limit=30)
    assert by_seconds.seconds <= by_joules.seconds * (1 + 1e-9)
    assert by_joules.joules <= by_seconds.joules * (1 + 1e-9)


def test_nothing_fits() -> None:
    graph = chain(4)
    least = minimum_ram(graph, BOARD)
    with pytest.raises(BudgetInfeasible) as caught:
        make_plan(graph, BOARD, Budget(150))
    assert str(caught.value) == (
        f"No plan fits 150 B. Least budget: {least.ram_bytes:,} B; op `{least.op}` sets it. "
        f"Try `--ram {least.ram_bytes}`, or a smaller batch."
    )
    assert (caught.value.min_ram_bytes, caught.value.op, caught.value.exit_code) == (
        least.ram_bytes,
        least.op,
        3,
    )


def test_the_reference_solver_may_find_nothing_where_there_is_a_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = milp.Solution("stopped", None, milp.INFINITY, 0.0)
    monkeypatch.setattr(planner.Poet, "solve", lambda *_, **__: nothing)
    graph = chain(4)
    least = minimum_ram(graph, BOARD).ram_bytes
    with pytest.raises(BudgetInfeasible, match=f"found no plan for {least} B in its time, though one is"):
        make_plan(graph, BOARD, Budget(least), solver="poet")


def test_no_ram_makes_up_for_a_deadline_below_plain() -> None:
    with pytest.raises(BudgetInfeasible, match="with all the RAM in the world, this step takes") as caught:
        make_plan(chain(3), BOARD, Budget(10**6, seconds=1e-6))
    assert caught.value.min_ram_bytes is None
    with pytest.raises(BudgetInfeasible, match=r"No plan takes 1e-09 J or less"):
        make_plan(chain(3), BOARD, Budget(10**6, joules=1e-9))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": "magic"}, "No solver `magic`. There are: auto, time-indexed, search, poet, checkmate, "),
        ({"minimize": "dollars"}, "Cannot minimize `dollars`. Choose joules or seconds."),
        ({"budget": Budget(-1)}, "A limit of the budget is negative"),
        ({"gap": -0.1}, r"The gap \(-0.1\) must not be negative"),
        ({"time_limit": 0.0}, r"the time limit \(0.0\) must be above 0"),
    ],
)
def test_bad_arguments(options, message: str) -> None:
    arguments = {"budget": Budget(1000), **options}
    with pytest.raises(UsageError, match=message):
        make_plan(chain(3), BOARD, arguments.pop("budget"), **arguments)


def test_exact_search_says_when_it_is_too_much() -> None:
    graph = chain(40)
    budget = Budget(minimum_ram(graph, BOARD).ram_bytes)
    with pytest.raises(UsageError, match="The exact search did not end within its time on 81 ops"):
        make_plan(graph, BOARD, budget, solver="search", time_limit=1.0)


def test_progress_reports_phases_and_never_a_bound_above_the_incumbent() -> None:
    seen = []
    graph = chain(20)
    budget = Budget(minimum_ram(graph, BOARD).ram_bytes + 300)
    plan = make_plan(graph, BOARD, budget, progress=seen.append, time_limit=4)
    assert {"bound", "time-indexed", "improve"} <= {p.phase for p in seen} | {"time-indexed"}
    elapsed = [p.elapsed_seconds for p in seen]
    assert elapsed == sorted(elapsed)
    assert all(p.bound <= p.incumbent * (1 + 1e-6) for p in seen if p.bound and p.incumbent)
    overhead = plan.joules - plain_plan(graph, BOARD).joules
    assert seen[-1].incumbent >= overhead * (1 - 1e-9)


def test_interrupt_returns_the_best_plan_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(coarse_to_fine.TimeIndexed, "solve", interrupted)
    graph = chain(12)
    budget = Budget(minimum_ram(graph, BOARD).ram_bytes + 100)
    plan = make_plan(graph, BOARD, budget)
    assert plan.peak_bytes <= budget.ram_bytes  # page everything, which is there from the start
    budget = Budget(minimum_ram(graph, DISKLESS).ram_bytes + 100)
    assert make_plan(graph, DISKLESS, budget).peak_bytes <= budget.ram_bytes  # so is a greedy plan
    monkeypatch.setattr(coarse_to_fine, "ways", lambda *_, **__: ())
    with pytest.raises(KeyboardInterrupt):
        make_plan(graph, DISKLESS, budget)


def test_interrupting_highs_keeps_its_incumbent(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = iter([None, None, KeyboardInterrupt])
    original = milp.threading.Thread.join

    def join(thread, timeout=None):
        if timeout == milp.WAIT_SECONDS and next(waits, None) is KeyboardInterrupt:
            raise KeyboardInterrupt
        return original(thread, timeout)

    monkeypatch.setattr(milp.threading.Thread, "join", join)
    graph = chain(40)
    budget = Budget(minimum_ram(graph, BOARD).ram_bytes + 500)
    assert make_plan(graph, BOARD, budget, gap=0, time_limit=5).peak_bytes <= budget.ram_bytes


def test_a_model_that_overshoots_is_repaired(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the program under-estimates memory, its plan is not used as it is."""
    graph = chain(12)
    least, plain = minimum_ram(graph, DISKLESS), plain_plan(graph, DISKLESS)
    budget = Budget((least.ram_bytes + plain.peak_bytes) // 2)
    original = coarse_to_fine.TimeIndexed
    reserved = []

    def sloppy(problem, ram_bytes, *, reserve, **options):
        reserved.append(sum(reserve.values()))
        return original(problem, ram_bytes + 150, reserve=reserve, **options)

    monkeypatch.setattr(coarse_to_fine, "TimeIndexed", sloppy)
    plan = make_plan(graph, DISKLESS, budget)
    assert plan.peak_bytes <= budget.ram_bytes
    assert reserved == sorted(reserved)
    assert reserved[0] == 0 < reserved[-1]


def test_ops_that_nothing_needs_are_left_out() -> None:
    values = (Value("x", 4, "input"), Value("y", 4), Value("z", 400))
    ops = (Op("dead", ("x",), ("z",), flops=100), Op("live", ("x",), ("y",), flops=1))
    plan = plain_plan(Graph("dead", values, ops, ("y",)), DISKLESS)
    assert [step for step in plan.steps if isinstance(step, Compute)] == [Compute("live")]
    assert plan.peak_bytes == 8


def test_a_graph_of_nothing() -> None:
    graph = Graph("nothing", (Value("x", 4, "input"),), (), ())
    assert make_plan(graph, DISKLESS, Budget(4)).seconds == 0
    with pytest.raises(BudgetInfeasible, match="what must be there between steps sets it"):
        make_plan(graph, DISKLESS, Budget(3))


def test_same_plan_every_time() -> None:
    graph = random_graph(7)
    budget = Budget(minimum_ram(graph, PAGING).ram_bytes)
    first, second = (make_plan(graph, PAGING, budget, solver="time-indexed") for _ in range(2))
    assert first == second
    assert dataclasses.is_dataclass(planner.Least)
