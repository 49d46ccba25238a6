"""A planning problem in numbers: costs by hand, what is left out, what fits, and the plan of least RAM."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.graph import Graph, Op, Option, Value, validate
from edgewise.plan import Budget, Compute, plain_plan
from edgewise.plan.problem import Candidate, Problem, fits, judge, page_everything
from edgewise.plan.schedule import plain_order
from tests.plan.graphs import DISKLESS, OVERLAPPING, PAGING, chain, graphs

GRAPH = validate(
    Graph(
        "small",
        (
            Value("x", 8, "input"),
            Value("w", 6, "parameter"),
            Value("s", 2, "state"),
            Value("a", 8),
            Value("d", 100),
            Value("b", 8),
            Value("w'", 6, "parameter"),
        ),
        (
            Op("f", ("x", "w"), ("a",), flops=4),
            Op("dead", ("a",), ("d",), flops=50),
            Op("g", ("a",), ("b",), flops=2, options=(Option("whole"), Option("in-place", (("a", "b"),)))),
            Op("step", ("b",), (), flops=1, recomputable=False, updates=(("w", "w'"),)),
        ),
        ("b",),
    )
)


def problem(device=PAGING, *, ram_bytes: int = 1000, graph: Graph = GRAPH, **options) -> Problem:
    budget = Budget(ram_bytes, options.pop("seconds", None), options.pop("joules", None))
    return Problem(
        graph, device, budget, options.pop("minimize", "joules"), options.pop("cost_model", "full")
    )


def test_ops_and_values_that_nothing_needs_are_left_out() -> None:
    p = problem()
    assert [op.name for op in p.ops] == ["f", "g", "step"]
    assert p.names == ("x", "w", "s", "a", "b", "w'")
    assert p.plain_cost.seconds == 7.0
    plain = judge(p, plain_order(GRAPH))
    assert plain is not None
    assert Compute("dead") not in plain.steps


def test_what_values_are() -> None:
    p = problem()
    x, w, s, a, b, new = range(6)
    assert (p.birth[x], p.birth[a], p.birth[b], p.birth[new]) == (-1, 0, 1, 2)
    assert [p.remakable[v] for v in (x, w, a, b, new)] == [False, False, True, True, False]
    assert (p.end_of_life[w], p.end_of_life[s], p.end_of_life[a]) == (2, None, None)
    assert (p.uses[x], p.uses[w], p.uses[a], p.uses[b]) == ((0,), (0, 2), (1,), (2,))
    assert [family.members for family in p.families] == [(w, new), (s,)]
    assert p.required == {s, b, new}
    assert p.working_bytes == [22, 16, 14]
    assert p.least_working_bytes == [22, 8, 14]
    assert p.in_place[1] is not None
    assert (p.in_place[1].olds, p.in_place[1].saves) == ((a,), 8)


def test_costs_with_idle_power_and_transfers_one_by_one() -> None:
    p = problem()
    assert p.op_costs[0] == pytest.approx((4.0, 4.0 + 0.04))
    assert p.read_costs[0] == pytest.approx((2.5, 2.5 * 0.76))  # 0.5 s and 8 B at 4 B/s, at 0.75 and 0.01 W
    assert p.write_costs[1] == pytest.approx((2.25, 2.25 * 0.76))  # 0.25 s and 6 B at 3 B/s
    assert p.link_seconds[0] == (0.0, 0.0)
    assert p.is_additive


def test_costs_of_transfers_beside_compute() -> None:
    p = problem(OVERLAPPING)
    assert p.read_costs[0] == pytest.approx((0.0, 2.5 * 0.75))
    assert p.link_seconds[0] == pytest.approx((2.5, 8 / 3))
    assert not p.is_additive


def test_poets_costs_know_neither_idle_power_nor_the_time_of_transfers() -> None:
    p = problem(OVERLAPPING, cost_model="poet")
    assert p.op_costs[0] == (4.0, 4.0)
    assert p.read_costs[0] == pytest.approx((0.0, 2.5 * 0.75))
    assert p.is_additive


def test_a_device_that_cannot_page() -> None:
    p = problem(DISKLESS)
    assert not p.can_page
    assert p.read_costs == p.write_costs == []


@pytest.mark.parametrize(("minimize", "primary"), [("joules", 2.0), ("seconds", 1.0)])
def test_the_other_objective_only_breaks_ties(minimize: str, primary: float) -> None:
    p = problem(minimize=minimize)
    cost = p.plain_cost._replace(seconds=1.0, joules=2.0)
    assert p.primary(cost) == primary
    assert p.primary(cost) < p.weight(cost) < primary * (1 + 1e-5)


def test_judge_counts_and_refuses() -> None:
    p = problem()
    plain = judge(p, plain_order(GRAPH))
    assert plain is not None
    assert plain.overhead == 0.0
    assert plain.rank == (plain.certificate.joules, plain.certificate.seconds)
    assert judge(p, ()) is None
    assert judge(p, plain_order(GRAPH)[::-1]) is None


@pytest.mark.parametrize(
    ("limits", "fit"),
    [
        ({}, True),
        ({"ram_bytes": 24}, True),
        ({"ram_bytes": 23}, False),
        ({"seconds": 7.0}, True),
        ({"seconds": 6.99}, False),
        ({"joules": 7.07}, True),
        ({"joules": 7.06}, False),
    ],
)
def test_fits(limits: dict, fit: bool) -> None:
    p = problem(**limits)
    plain = judge(p, plain_order(GRAPH))
    assert plain is not None
    assert fits(p, plain) is fit


def test_another_budget_of_ram_leaves_the_other_limits() -> None:
    p = problem(seconds=9.0, joules=8.0)
    assert p.with_ram(5).budget == Budget(5, 9.0, 8.0)


def test_the_same_actions_issued_in_another_order_are_ranked_anew() -> None:
    p = problem()
    plain = judge(p, plain_order(GRAPH))
    assert plain is not None
    slower = msgspec.structs.replace(plain.certificate, seconds=8.0, joules=9.07)
    again = plain.retimed(p, plain.steps, slower)
    assert again.rank == (9.07, 8.0)
    assert again.overhead == pytest.approx(2.0)


@given(graphs, st.sampled_from([PAGING, OVERLAPPING]))
def test_page_everything_needs_no_more_than_the_largest_op_and_the_ends(graph: Graph, device) -> None:
    p = problem(device, graph=graph)
    paged = judge(p, *page_everything(p))
    plain = judge(p, plain_order(graph))
    assert isinstance(paged, Candidate)
    assert isinstance(plain, Candidate)
    carried = {v.name for v in graph.sources() if v.kind in ("parameter", "state")}
    start = sum(v.bytes for v in graph.sources() if v.name not in carried)
    at_home = {graph.carries.get(name, name) for name in carried}
    end = sum(graph.value[name].bytes for name in graph.required - at_home)
    assert paged.certificate.peak_bytes <= max([start, end, *p.working_bytes])
    assert paged.rank >= plain.rank or paged.overhead == 0


def test_plain_costs_are_those_of_the_plain_plan() -> None:
    graph = chain(7)
    p, plain = problem(graph=graph), plain_plan(graph, PAGING)
    assert (plain.seconds, plain.joules) == pytest.approx(tuple(p.plain_cost))
