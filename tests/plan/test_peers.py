"""The peers: checked plans, the theorems that are known of them, and never cheaper than the exact search."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.devices import Device
from edgewise.errors import BudgetInfeasible
from edgewise.graph import Graph, Op, Value, validate
from edgewise.plan import Budget, Plan, check, make_plan, minimum_ram, plain_plan
from edgewise.plan.checkpointing import forward_ops, natural_cuts
from edgewise.plan.every_block import block_cuts
from edgewise.plan.peers import PEERS
from edgewise.plan.problem import Problem
from edgewise.plan.square_root import square_root
from tests.plan.graphs import DISKLESS, OVERLAPPING, PAGING, chain, graphs

ALL = (*PEERS, "checkmate", "poet")
PLENTY = Budget(1 << 30)


def problem_of(graph: Graph, budget: Budget = PLENTY, device: Device = DISKLESS) -> Problem:
    return Problem(graph, device, budget, "joules", "full")


def try_plan(graph: Graph, device: Device, budget: Budget, solver: str, **options: float) -> Plan | None:
    try:
        plan = make_plan(graph, device, budget, solver=solver, time_limit=10, **options)
    except BudgetInfeasible:
        return None
    found = check(plan, graph, device)
    assert found.peak_bytes <= budget.ram_bytes
    return plan


def blocks(count: int) -> Graph:
    """`count` blocks of three ops, each op read once more by its backward."""
    values, ops = [Value("x", 100, "input")], []
    last = 3 * count - 1
    for i in range(3 * count):
        values.append(Value(f"h{i}", 100))
        layer = f"net.blocks.{i // 3}.part"
        ops.append(Op(f"f{i}", (f"h{i - 1}" if i else "x",), (f"h{i}",), flops=10, layer=layer))
    values.append(Value(f"g{last + 1}", 100))
    ops.append(Op("loss", (f"h{last}",), (f"g{last + 1}",), flops=1))
    for i in reversed(range(3 * count)):
        values.append(Value(f"g{i}", 100))
        ops.append(Op(f"b{i}", (f"h{i - 1}" if i else "x", f"g{i + 1}"), (f"g{i}",), flops=20))
    return validate(Graph("blocks", tuple(values), tuple(ops), ("g0",)))


@pytest.mark.parametrize("solver", PEERS)
@given(graph=graphs, device=st.sampled_from([PAGING, DISKLESS, OVERLAPPING]), share=st.floats(0, 1.2))
@settings(max_examples=80, deadline=None)
def test_any_graph_gives_a_checked_plan_within_the_budget_or_a_refusal(
    solver: str, graph: Graph, device: Device, share: float
) -> None:
    least, plain = minimum_ram(graph, device).ram_bytes, plain_plan(graph, device)
    budget = Budget(int(least + share * (plain.peak_bytes - least)))
    plan = try_plan(graph, device, budget, solver)
    assert plan is None or plan.solver == solver
    if solver == "page-everything" and device is not DISKLESS:
        assert plan is not None


@pytest.mark.parametrize("solver", ALL)
@given(graph=graphs, device=st.sampled_from([PAGING, DISKLESS]), share=st.floats(0, 1))
@settings(max_examples=25, deadline=None)
def test_none_is_cheaper_than_the_exact_search(
    solver: str, graph: Graph, device: Device, share: float
) -> None:
    least, plain = minimum_ram(graph, device).ram_bytes, plain_plan(graph, device).peak_bytes
    budget = Budget(int(least + share * (plain - least)))
    peer = try_plan(graph, device, budget, solver, gap=0)
    if peer is not None:
        exact = make_plan(graph, device, budget, solver="search", gap=0, time_limit=60)
        assert peer.joules >= exact.joules * (1 - 1e-9)


@pytest.mark.parametrize("length", [9, 36, 100, 225])
def test_square_root_of_a_chain(length: int) -> None:
    """n equal layers: the segments' ends and one segment, so 2 sqrt(n) values; each layer at most twice."""
    found = min(square_root(problem_of(chain(length))), key=lambda c: c.certificate.peak_bytes)
    assert found.certificate.peak_bytes <= 100 * (2 * math.isqrt(length) + 4)
    assert len(found.certificate.recomputed) == len(set(found.certificate.recomputed)) <= length


@pytest.mark.parametrize("count", [2, 5, 12])
def test_every_block_recomputes_all_of_a_block_but_its_end(count: int) -> None:
    """The end of a block is kept; the last block is not dropped, because backward begins with it."""
    graph = blocks(count)
    plan = make_plan(graph, DISKLESS, PLENTY, solver="every-block")
    again = [f"f{i}" for i in range(3 * count - 3) if i % 3 != 2]
    assert sorted(check(plan, graph, DISKLESS).recomputed) == sorted(again)
    assert plan.peak_bytes < plain_plan(graph, DISKLESS).peak_bytes


def test_where_forward_ends_and_where_its_blocks_do() -> None:
    problem = problem_of(blocks(4))
    assert forward_ops(problem) == 12
    assert block_cuts(problem, 12) == [3, 6, 9]
    assert natural_cuts(problem, 12) == list(range(1, 12))
    assert block_cuts(problem_of(chain(4)), 4) == [1, 2, 3]  # no layers: every natural cut


@pytest.mark.parametrize("device", [PAGING, DISKLESS], ids=lambda d: d.name)
@pytest.mark.parametrize("length", [10, 40])
def test_greedy_on_a_chain_at_half_the_plain_peak(length: int, device: Device) -> None:
    graph = chain(length)
    plain = plain_plan(graph, device)
    plan = make_plan(graph, device, Budget(plain.peak_bytes // 2 + 200), solver="greedy")
    assert plain.joules < plan.joules
    assert plan.peak_bytes <= plain.peak_bytes // 2 + 200


def test_checkmate_never_pages_and_never_beats_poet() -> None:
    graph = chain(8)
    budget = Budget(plain_plan(graph, PAGING).peak_bytes // 2 + 150)
    plans = {
        s: make_plan(graph, PAGING, budget, solver=s, gap=0, time_limit=30) for s in ("checkmate", "poet")
    }
    assert check(plans["checkmate"], graph, PAGING).paged_in == ()
    assert plans["checkmate"].joules >= plans["poet"].joules * (1 - 1e-6)


def test_a_peer_without_a_choice_of_ram_says_what_it_needs() -> None:
    graph = blocks(5)
    need = make_plan(graph, DISKLESS, PLENTY, solver="every-block").peak_bytes
    with pytest.raises(BudgetInfeasible) as caught:
        make_plan(graph, DISKLESS, Budget(need - 1), solver="every-block")
    assert str(caught.value) == (
        f"The plan of solver `every-block` needs {need:,} B of RAM, above the budget of {need - 1:,} B. "
        f"Try `--ram {need}`, or take solver `auto`."
    )
    assert caught.value.min_ram_bytes == need


def test_a_peer_that_finds_nothing_says_so() -> None:
    with pytest.raises(
        BudgetInfeasible, match=r"Solver `page-everything` found no plan within 1,000 B. Take solver"
    ):
        make_plan(chain(5), DISKLESS, Budget(1000), solver="page-everything")
    slow = Budget(1000, seconds=plain_plan(chain(5), PAGING).seconds)
    with pytest.raises(
        BudgetInfeasible, match="The plans of solver `page-everything` exceed the limit of seconds"
    ):
        make_plan(chain(5), PAGING, slow, solver="page-everything")
