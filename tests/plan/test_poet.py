"""POET's program, as published, on graphs small enough to solve by hand."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.graph import Graph, Op, Option, Value, validate
from edgewise.plan import Budget, minimum_ram, plain_plan
from edgewise.plan.milp import Solution
from edgewise.plan.poet import Poet
from edgewise.plan.problem import Candidate, Problem, fits, judge
from edgewise.plan.search import search
from tests.plan.graphs import DISKLESS, PAGING, fork, graphs

HUNGRY = (Option("whole", workspace_bytes=10),)
CHAIN = validate(
    Graph(
        "three",
        (Value("x", 2, "input"), Value("a", 8), Value("t", 1), Value("y", 1)),
        (
            Op("f", ("x",), ("a",), flops=5),
            Op("g", ("x",), ("t",), flops=1, options=HUNGRY),
            Op("h", ("a", "t"), ("y",), flops=1),
        ),
        ("y",),
    )
)
"""With a, g needs 21 B; without, 13 B. POET's stages run f first all the same, and so again: 5 J more."""


def _solved(graph: Graph, device, ram_bytes: int, **options) -> tuple[Solution, Candidate | None, float]:
    budget = Budget(ram_bytes, options.get("seconds"), options.get("joules"))
    problem = Problem(graph, device, budget, "joules", "full")
    model = Poet(problem)
    solution = model.solve(time_limit=5, gap=0)
    candidate = None if solution.values is None else judge(problem, model.order(solution))
    assert candidate is None or fits(problem, candidate)
    return solution, candidate, model.unit


def test_three_ops_by_hand() -> None:
    solution, candidate, unit = _solved(CHAIN, DISKLESS, 14)
    assert solution.status == "optimal"
    assert solution.objective * unit == pytest.approx(5.0, rel=1e-5)
    assert candidate is not None
    assert candidate.overhead == 0.0  # whose first result nobody reads: the layout drops that run


@pytest.mark.parametrize(("ram_bytes", "overhead"), [(21, 0.0), (20, 5.0), (13, 5.0)])
def test_the_ram_at_which_it_starts_to_cost(ram_bytes: int, overhead: float) -> None:
    solution, _, unit = _solved(CHAIN, DISKLESS, ram_bytes)
    assert solution.objective * unit == pytest.approx(overhead, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize(
    "limits", [{"ram_bytes": 12}, {"ram_bytes": 14, "seconds": 11.9}, {"ram_bytes": 14, "joules": 11.9}]
)
def test_infeasible(limits: dict) -> None:
    ram_bytes = limits.pop("ram_bytes")
    assert _solved(CHAIN, DISKLESS, ram_bytes, **limits)[0].status == "infeasible"


def test_what_must_not_run_again_does_not() -> None:
    ops = (msgspec.structs.replace(CHAIN.ops[0], recomputable=False), *CHAIN.ops[1:])
    assert _solved(msgspec.structs.replace(CHAIN, ops=ops), DISKLESS, 14)[0].status == "infeasible"


@pytest.mark.parametrize(("flops", "paged"), [(3, ()), (9, ("a",))])
def test_it_pages_where_recomputing_is_dear(flops: int, paged: tuple) -> None:
    solution, candidate, unit = _solved(fork(flops), PAGING, 14)
    assert candidate is not None
    assert candidate.certificate.paged_in == paged
    overhead = min(1.01 * flops, 0.76 * (2.5 + 0.25 + 8 / 3))
    assert solution.objective * unit == pytest.approx(overhead, rel=1e-5)
    assert candidate.overhead == pytest.approx(overhead)


@given(graphs, st.sampled_from([PAGING, DISKLESS]), st.floats(0, 1))
@settings(max_examples=40)
def test_never_below_the_optimum(graph: Graph, device, share: float) -> None:
    least = minimum_ram(graph, device, time_limit=1).ram_bytes
    plain = plain_plan(graph, device).peak_bytes
    ram_bytes = int(least + share * (plain - least))
    problem = Problem(graph, device, Budget(ram_bytes), "joules", "full")
    found = search(problem, most_states=1000, time_limit=1)
    _, candidate, _ = _solved(graph, device, ram_bytes)
    if found.finished and candidate is not None:
        assert found.order is not None
        best = judge(problem, found.order, found.homes)
        assert best is not None
        assert candidate.rank[0] >= best.rank[0] * (1 - 1e-9)


def test_what_is_required_at_the_end_must_fit() -> None:
    """A parameter can be paged out meanwhile, but not live in the tier, as it may elsewhere."""
    values = (Value("w", 8, "parameter"), Value("x", 4, "input"), Value("y", 8))
    graph = validate(Graph("end", values, (Op("f", ("x",), ("y",)),), ("y",)))
    assert _solved(graph, PAGING, 15)[0].status == "infeasible"
    assert _solved(graph, PAGING, 20)[1] is not None


def test_a_solution_without_values_has_no_order() -> None:
    problem = Problem(CHAIN, DISKLESS, Budget(14), "joules", "full")
    model = Poet(problem)
    with pytest.raises(ValueError, match="a solution without values has no order"):
        model.order(Solution("stopped", None, 0.0, 0.0))
