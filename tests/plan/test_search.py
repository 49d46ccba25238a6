"""The exact search: optima known by hand, proofs that there is no plan, and giving up."""

import pytest

from edgewise.graph import Graph, Op, Option, Value, validate
from edgewise.plan import Budget
from edgewise.plan.problem import Candidate, Problem, fits, judge
from edgewise.plan.schedule import Action
from edgewise.plan.search import Found, search
from tests.plan.graphs import DISKLESS, PAGING, SMALL_TIER, chain, fork


def _solved(graph: Graph, device, ram_bytes: int, **limits) -> tuple[Found, Candidate | None]:
    problem = Problem(graph, device, Budget(ram_bytes, **limits), "joules", "full")
    found = search(problem)
    assert found.finished
    candidate = judge(problem, found.order, found.homes) if found.order is not None else None
    assert candidate is None or fits(problem, candidate)
    return found, candidate


@pytest.mark.parametrize(
    ("device", "flops", "overhead"),
    [(DISKLESS, 3, 3.0), (DISKLESS, 9, 9.0), (PAGING, 3, 3.03), (PAGING, 9, 0.76 * (2.5 + 0.25 + 8 / 3))],
)
def test_the_cheaper_of_recomputing_and_paging(device, flops: int, overhead: float) -> None:
    _, candidate = _solved(fork(flops), device, 14)
    assert candidate is not None
    assert candidate.overhead == pytest.approx(overhead)
    assert bool(candidate.certificate.paged_in) == (overhead not in (flops, 3.03))


def test_enough_ram_costs_nothing() -> None:
    found, candidate = _solved(fork(3), DISKLESS, 21)
    assert candidate is not None
    assert candidate.overhead == 0.0
    assert Action("compute", "f") in (found.order or ())


def test_a_proof_that_there_is_no_plan() -> None:
    assert _solved(fork(3, recomputable=False), DISKLESS, 14) == (Found(None, frozenset(), True), None)
    assert _solved(fork(3), DISKLESS, 12)[1] is None
    assert _solved(fork(3), DISKLESS, 14, seconds=9.99)[1] is None
    assert _solved(fork(3), DISKLESS, 14, seconds=10.0)[1] is not None
    assert _solved(fork(3), DISKLESS, 14, joules=9.99)[1] is None


def test_what_must_not_run_again_is_paged() -> None:
    _, candidate = _solved(fork(3, recomputable=False), PAGING, 14)
    assert candidate is not None
    assert candidate.certificate.paged_in == ("a",)


def test_a_parameter_may_live_in_the_tier() -> None:
    values = (
        Value("w", 20, "parameter"),
        Value("x", 3, "input"),
        Value("a", 1),
        Value("w'", 20, "parameter"),
    )
    ops = (Op("f", ("x",), ("a",), flops=1), Op("step", ("a",), updates=(("w", "w'"),), outputs=()))
    graph = validate(Graph("home", values, ops, ()))
    found, candidate = _solved(graph, SMALL_TIER, 22)
    assert candidate is not None
    assert found.homes == {"w"}
    assert candidate.certificate.paged_out == ("w'",)


def test_giving_up_is_no_proof() -> None:
    problem = Problem(chain(8), DISKLESS, Budget(500), "joules", "full")
    assert search(problem, most_states=3) == Found(None, frozenset(), False)
    assert not search(problem, time_limit=0.0).finished


def test_an_updated_value_leaves_before_its_op_runs_again() -> None:
    """Found by brute force: its page-out stands behind the update, not behind the recomputation."""
    sizes = {"p": 10, "p'": 10, "a": 6, "b": 10, "c": 11, "d": 8, "e": 6, "y": 5, "z": 8}
    values = tuple(
        Value(n, size, "parameter" if n in ("p", "p'") else "activation") for n, size in sizes.items()
    )
    ops = (
        Op("f", (), ("a", "b"), updates=(("p", "p'"),)),
        Op("g", ("a", "b"), ("c",), flops=8),
        Op("h", ("a", "c"), ("d",), flops=7),
        Op("i", ("d",), ("e",), flops=8),
        Op("j", ("a", "e"), ("y",), flops=2, recomputable=False),
        Op("k", ("b", "y"), ("z",), options=(Option("whole", workspace_bytes=3),)),
    )
    graph = validate(Graph("late", values, ops, ("z",)))
    problem = Problem(graph, PAGING, Budget(34), "joules", "full")
    found, candidate = _solved(graph, PAGING, 34)
    assert candidate is not None
    assert fits(problem, candidate)
    assert found.order is not None
    assert found.order.index(Action("out", "p'")) == 1
