"""Plans below what whole ops need: always there down to the least RAM, and they compute the same."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.devices import Device
from edgewise.errors import BudgetInfeasible
from edgewise.graph import Graph, Op, Option, Stream, Value, validate
from edgewise.plan import Budget, check, make_plan, minimum_ram, plain_plan
from edgewise.plan.problem import Problem, fits, floor_bytes, judge, page_everything
from edgewise.plan.schedule import plain_order
from edgewise.plan.streaming import streamed_plans, tilings_of
from edgewise.plan.tilings import Way, cheapest_tilings, front, undominated
from tests.plan.graphs import DISKLESS, OVERLAPPING, PAGING, graphs
from tests.plan.oracle import results
from tests.plan.streamers import tiled
from tests.support import plan_of

DEVICES = st.sampled_from([PAGING, OVERLAPPING])
DICE = st.randoms(use_true_random=False)


def problem_of(graph: Graph, device: Device, ram_bytes: int) -> Problem:
    return Problem(graph, device, Budget(ram_bytes), "joules", "full")


@given(graphs, DEVICES, DICE)
def test_the_least_ram_is_that_of_the_largest_op_in_its_least_option(graph, device, dice) -> None:
    loops = tiled(graph, dice)
    least = minimum_ram(loops, device, time_limit=2)
    assert least.exact
    assert least.ram_bytes == floor_bytes(problem_of(loops, device, 0))
    assert least.ram_bytes <= minimum_ram(graph, device, time_limit=2).ram_bytes
    plan = make_plan(loops, device, Budget(least.ram_bytes), time_limit=2)
    assert check(plan, loops, device).peak_bytes <= least.ram_bytes
    assert results(plan.steps, loops, plan.homes) == results(_plain_steps(graph), graph)
    if least.ram_bytes:
        with pytest.raises(BudgetInfeasible, match=f"Least budget: {least.ram_bytes:,} B"):
            make_plan(loops, device, Budget(least.ram_bytes - 1), time_limit=2)


@given(graphs, DEVICES, DICE, st.floats(0, 1))
def test_every_pass_computes_the_same(
    graph: Graph, device: Device, dice: random.Random, share: float
) -> None:
    loops = tiled(graph, dice)
    low, high = minimum_ram(loops, device, time_limit=2).ram_bytes, plain_plan(loops, device).peak_bytes
    problem = problem_of(loops, device, int(low + share * (high - low)))
    wanted = results(_plain_steps(graph), graph)
    for candidate in streamed_plans(problem):
        assert results(candidate.steps, loops, tuple(candidate.homes)) == wanted


@given(graphs, DEVICES, DICE, st.floats(0, 1))
def test_tilings_fit(graph: Graph, device: Device, dice: random.Random, share: float) -> None:
    """Where each op has a tiling that fits, paging everything else around them fits too."""
    loops = tiled(graph, dice)
    low, high = minimum_ram(loops, device, time_limit=2).ram_bytes, plain_plan(loops, device).peak_bytes
    problem = problem_of(loops, device, int(low + share * (high - low)))
    tilings = cheapest_tilings(problem, problem.budget.ram_bytes)
    assert tilings is not None
    candidate = judge(problem, *page_everything(problem.tiled(tilings)))
    assert candidate is not None
    assert fits(problem, candidate)
    assert tilings_of(problem, candidate).keys() == tilings.keys()


def _plain_steps(graph: Graph) -> tuple:
    return plan_of(plain_order(graph), graph).steps


LOOP = Option("rows", workspace_bytes=2, streams=(Stream("w", 2, 40, 20), Stream("y", 0, 40, 20)), tiles=20)
ONE_LARGE_OP = validate(
    Graph(
        "one-large-op",
        (Value("x", 4, "input"), Value("w", 40, "parameter"), Value("y", 40), Value("z", 4)),
        (
            Op("f", ("x", "w"), ("y",), flops=8, options=(Option("whole"), LOOP)),
            Op(
                "g",
                ("y",),
                ("z",),
                flops=8,
                options=(Option("whole"), Option("sum", streams=(Stream("y", 1, 40, 40),))),
            ),
        ),
        ("z",),
    )
)


def test_one_large_op_is_no_reason_to_fail() -> None:
    """Whole, `f` needs 84 B. In slices, 8 B: x, a row of w and a row of y."""
    assert minimum_ram(ONE_LARGE_OP, DISKLESS).ram_bytes == 84
    plan = make_plan(ONE_LARGE_OP, PAGING, Budget(20))
    found = check(plan, ONE_LARGE_OP, PAGING)
    assert found.peak_bytes <= 20
    assert found.streamed == ("f", "g")
    assert minimum_ram(ONE_LARGE_OP, PAGING).ram_bytes == 8


def test_a_loop_that_streams_nothing_needs_no_tier() -> None:
    """Its workspace is smaller: that helps a device that has RAM only."""
    options = (Option("whole", workspace_bytes=30), Option("loop", workspace_bytes=3, tiles=10))
    values = (Value("x", 4, "input"), Value("y", 4))
    graph = validate(Graph("workspace", values, (Op("f", ("x",), ("y",), flops=5, options=options),), ("y",)))
    assert minimum_ram(graph, DISKLESS).ram_bytes == 11
    plan = make_plan(graph, DISKLESS, Budget(12))
    assert plan.steps[0].option == "loop"


def test_what_is_worth_most_stays() -> None:
    """Two equal values wait for their second reader and one must leave: the one that is wanted last."""
    values = (
        Value("x", 1, "input"), Value("a", 10), Value("b", 10), Value("m", 12), Value("c", 1), Value("d", 1),
        Value("e", 1),
    )  # fmt: skip
    ops = (
        Op("a", ("x",), ("a",), recomputable=False),
        Op("b", ("x",), ("b",), recomputable=False),
        Op("m", ("x",), ("m",), recomputable=False),
        Op("c", ("m",), ("c",)),
        Op("d", ("a", "c"), ("d",)),
        Op("e", ("b", "d"), ("e",)),
    )
    graph = validate(Graph("belady", values, ops, ("e",)))
    best = min(streamed_plans(problem_of(graph, PAGING, 24)), key=lambda c: c.rank)
    assert best.certificate.paged_in == ("b",)  # wanted last


@pytest.mark.parametrize("seed", range(20))
def test_a_front_is_that_of_all_sums(seed: int) -> None:
    dice = random.Random(seed)
    parts = [[Way(dice.randint(0, 9), dice.randint(0, 9)) for _ in range(3)] for _ in range(4)]
    sums = [(0, 0.0)]
    for part in parts:
        sums = [(r + way.ram_bytes, w + way.weight) for r, w in sums for way in part]
    wanted = undominated(Way(r, w) for r, w in sums)
    assert [way[:2] for way in front(parts)] == [way[:2] for way in wanted]
