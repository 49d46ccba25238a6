"""The builder of programs: small ones with known answers, and every way in which a run may end."""

import random

import pytest

from edgewise.plan import milp
from edgewise.plan.milp import INFINITY, Model


def knapsack(values: list[int], weights: list[int], room: int) -> Model:
    model = Model()
    items = [model.binary(-value) for value in values]
    model.row(zip(items, weights, strict=True), -INFINITY, room)
    return model


def market_split(seed: int = 0, count: int = 40, rows: int = 5) -> Model:
    """A program that no branch and bound solves soon, nor finds any solution of."""
    dice, model = random.Random(seed), Model()
    xs = [model.binary(dice.random()) for _ in range(count)]
    for _ in range(rows):
        weights = [dice.randrange(1000) for _ in xs]
        model.row(zip(xs, weights, strict=True), sum(weights) // 2, sum(weights) // 2)
    return model


def test_knapsack() -> None:
    solution = knapsack([6, 10, 12], [1, 2, 3], 5).solve(time_limit=10, gap=0)
    assert solution.status == "optimal"
    assert solution.objective == pytest.approx(-22)
    assert solution.bound == pytest.approx(-22)
    assert solution.values is not None
    assert solution.values.round().tolist() == [0, 1, 1]
    assert not solution.interrupted


def test_a_program_without_integers() -> None:
    model = Model()
    x, y = model.variable(0, 4, -1.0), model.variable(0, INFINITY, -1.0)
    model.row({x: 1.0, y: 2.0}, -INFINITY, 8.0)
    solution = model.solve(time_limit=10, gap=0)
    assert (solution.status, solution.objective, solution.bound) == ("optimal", -6.0, -6.0)


def test_terms_of_the_same_variable_add_up() -> None:
    model = Model()
    x = model.variable(0, 10, -1.0)
    model.row([(x, 1.0), (x, 1.0)], -INFINITY, 6.0)
    model.row([(x, 1.0), (x, -1.0)], 0.0, 0.0)
    assert model.solve(time_limit=10, gap=0).objective == -3.0


def test_infeasible() -> None:
    model = Model()
    x = model.binary()
    model.row([(x, 2.0)], 1.0, 1.0)
    solution = model.solve(time_limit=10, gap=0)
    assert (solution.status, solution.values, solution.bound) == ("infeasible", None, INFINITY)


@pytest.mark.parametrize(("upper", "status"), [(0.0, "optimal"), (-1.0, "infeasible")])
def test_no_variables(upper: float, status: str) -> None:
    model = Model()
    model.row([], -INFINITY, upper)
    assert model.solve(time_limit=1, gap=0).status == status


def test_time_limit_without_an_incumbent() -> None:
    solution = market_split().solve(time_limit=0.3, gap=0)
    assert (solution.status, solution.values, solution.objective) == ("stopped", None, INFINITY)
    assert solution.bound < INFINITY
    assert not solution.interrupted


def test_interrupt_is_no_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = iter([None, None, None, KeyboardInterrupt])
    original = milp.threading.Thread.join

    def join(thread, timeout=None):
        if timeout == milp.WAIT_SECONDS and next(waits, None) is KeyboardInterrupt:
            raise KeyboardInterrupt
        return original(thread, timeout)

    monkeypatch.setattr(milp.threading.Thread, "join", join)
    solution = market_split().solve(time_limit=60, gap=0)
    assert (solution.status, solution.interrupted, solution.values) == ("stopped", True, None)


def test_the_watcher_hears_of_the_bound() -> None:
    heard = []
    market_split().solve(time_limit=1.6, gap=0, watch=lambda *seen: heard.append(seen))
    assert heard
    assert all(incumbent is None for incumbent, _ in heard)


def test_a_start_is_taken() -> None:
    model = knapsack([6, 10, 12], [1, 2, 3], 5)
    assert model.solve(time_limit=10, gap=1.0, start={0: 0.0, 1: 1.0, 2: 1.0}).objective == pytest.approx(-22)
