"""The trade-off curve never rises, its plans are checked, and its file is read strictly."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.devices import Device
from edgewise.errors import BudgetInfeasible, CorruptArtifact
from edgewise.graph import Graph
from edgewise.plan import (
    Budget,
    Curve,
    check,
    decode_curve,
    encode_curve,
    make_plan,
    minimum_ram,
    pareto,
    plain_plan,
    trade_off,
)
from edgewise.plan.pareto import budgets_between, knee, order_of
from edgewise.plan.problem import Problem, judge
from tests.plan.graphs import DISKLESS, OVERLAPPING, PAGING, chain, graphs
from tests.support import looped


@given(graphs, st.sampled_from([PAGING, DISKLESS, OVERLAPPING]), st.sampled_from(["joules", "seconds"]))
@settings(max_examples=25, deadline=None)
def test_a_curve_never_rises_and_ends_at_plain_training(graph: Graph, device: Device, minimize) -> None:
    found = trade_off(graph, device, minimize=minimize, points=5, time_limit=10, processes=1)
    plain = plain_plan(graph, device, minimize=minimize)
    points = found.curve.points
    costs = [getattr(point, minimize) for point in points]
    assert costs == sorted(costs, reverse=True)
    assert getattr(points[-1], minimize) == getattr(plain, minimize)
    assert points[0].ram_bytes == minimum_ram(graph, device, minimize=minimize).ram_bytes
    for point, plan in zip(points, found.plans, strict=True):
        certificate = check(plan, graph, device)
        assert plan.budget == Budget(point.ram_bytes)
        assert certificate.peak_bytes == point.peak_bytes <= point.ram_bytes
        assert (certificate.seconds, certificate.joules) == (point.seconds, point.joules)


def test_processes_find_what_one_finds() -> None:
    graph = chain(4)
    one, two = (trade_off(graph, PAGING, points=4, time_limit=40, processes=n) for n in (1, 2))
    assert one.curve == two.curve
    assert one.plans == two.plans


def test_a_smaller_budgets_plan_is_taken_where_the_solver_finds_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """A solver that only knows the least RAM's plan: every point gets that, or what improves on it."""
    graph = chain(8)
    monkeypatch.setattr(pareto, "_solve", lambda task: None)
    found = trade_off(graph, PAGING, points=6, time_limit=10, processes=1)
    costs = [point.joules for point in found.curve.points]
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] < costs[0]


def test_each_budget_is_told() -> None:
    told: list[tuple[int, int]] = []
    trade_off(chain(2), PAGING, points=4, time_limit=5, processes=1, told=lambda *n: told.append(n))
    assert told == [(n, 4) for n in range(1, 5)]


def test_a_limit_of_seconds_holds_at_every_point() -> None:
    graph = chain(3)
    limit = plain_plan(graph, PAGING).seconds * 1.3
    found = trade_off(graph, PAGING, seconds=limit, points=4, time_limit=10, processes=1)
    assert found.curve.seconds_limit == limit
    assert all(point.seconds <= limit * (1 + 1e-9) for point in found.curve.points)
    with pytest.raises(BudgetInfeasible):
        trade_off(graph, PAGING, seconds=limit / 100, points=4, time_limit=5, processes=1)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(1, 20))
def test_budgets_rise_from_the_least_to_plain(least: int, more: int, points: int) -> None:
    budgets = budgets_between(least, least + more, points)
    assert budgets == sorted(set(budgets))
    assert len(budgets) <= points
    assert budgets[-1] == least + more
    assert budgets[0] == least or points == 1


def test_budgets_are_close_together_near_the_least() -> None:
    assert budgets_between(0, 10_000, 4) == [0, 100, 1000, 10_000]
    assert budgets_between(500, 500) == [500]


@pytest.mark.parametrize(
    ("sizes", "costs", "expected"),
    [
        ([0, 1, 10], [10.0, 1.0, 0.0], 1),
        ([0, 5, 10], [10.0, 9.0, 0.0], 0),
        ([3], [7.0], 0),
        ([1, 2], [5.0, 5.0], 0),
    ],
)
def test_knee(sizes: list[int], costs: list[float], expected: int) -> None:
    assert knee(sizes, costs) == expected


def test_the_order_of_a_plan_makes_the_same_plan() -> None:
    graph = chain(6)
    plan = make_plan(graph, PAGING, Budget(minimum_ram(graph, PAGING).ram_bytes + 100), time_limit=10)
    problem = Problem(graph, PAGING, plan.budget, "joules", "full")
    again = judge(problem, order_of(plan, problem.graph), frozenset(plan.homes))
    assert again is not None
    assert again.steps == plan.steps


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3])
def test_the_order_of_a_plan_that_streams_streams_the_same(share: float) -> None:
    graph = looped(chain(6, size=1000))
    least, whole = minimum_ram(graph, PAGING).ram_bytes, minimum_ram(chain(6, size=1000), PAGING).ram_bytes
    plan = make_plan(graph, PAGING, Budget(int(least + share * (whole - least))), time_limit=5)
    problem = Problem(graph, PAGING, plan.budget, "joules", "full")
    again = judge(problem, order_of(plan, graph), frozenset(plan.homes))
    assert again is not None
    assert again.certificate.streamed
    assert again.steps == plan.steps


def _curve() -> Curve:
    return trade_off(chain(3), DISKLESS, points=3, time_limit=5, processes=1).curve


def test_a_curve_survives_its_file() -> None:
    assert decode_curve(encode_curve(_curve())) == _curve()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "edgewise.pareto/9"}, "p.json: format `edgewise.pareto/9` is not `edgewise.pareto/1`"),
        ({"points": []}, "p.json: the knee is point [0-9] of 0. Plan again with `--pareto`."),
        ({"knee": -1}, "p.json: the knee is point -1 of 3"),
        ({"surprise": 1}, "p.json is not a trade-off curve: .*surprise"),
        ({"minimize": "dollars"}, "p.json is not a trade-off curve: .*dollars"),
    ],
)
def test_a_damaged_curve_is_refused(change: dict[str, object], message: str) -> None:
    fields = {**msgspec.json.decode(encode_curve(_curve())), **change}
    with pytest.raises(CorruptArtifact, match=message):
        decode_curve(msgspec.json.encode(fields), where="p.json")


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_curve_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptArtifact, match="is not a trade-off curve"):
        decode_curve(data)


def test_a_curve_of_too_many_points_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pareto, "MOST_POINTS", 2)
    with pytest.raises(CorruptArtifact, match="3 points are more than 2"):
        decode_curve(encode_curve(_curve()))
