"""Addresses: never two values on one byte, never below the peak, near it on chains."""

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.graph import Graph, Op, Value, validate
from edgewise.plan import Budget, check, make_plan, minimum_ram, plain_plan
from edgewise.plan.addresses import place
from tests.plan.graphs import DISKLESS, chain, graphs
from tests.support import DEVICE, plan_of, random_order


@given(graphs, st.randoms(use_true_random=False))
def test_check_accepts_the_addresses_of_any_plan(graph: Graph, dice: random.Random) -> None:
    order, homes = random_order(graph, dice, forget=dice.random(), page=dice.random())
    plan = plan_of(order, graph, homes=homes)
    addresses, workspaces, arena, bound = place(plan.steps, graph, plan.homes)
    packed = msgspec.structs.replace(plan, addresses=addresses, workspaces=workspaces)
    found = check(packed, graph, DEVICE)
    assert found.arena_bytes == arena >= bound >= max(found.live_bytes, default=0)
    assert bound <= found.peak_bytes
    assert arena <= 2 * bound


@pytest.mark.parametrize("length", [3, 20, 60])
def test_equal_sizes_need_no_more_than_the_peak(length: int) -> None:
    graph = chain(length)
    _, _, arena, bound = place(plain_plan(graph, DISKLESS).steps, graph)
    assert arena == bound == plain_plan(graph, DISKLESS).peak_bytes


def _uneven(seed: int, length: int = 30) -> Graph:
    dice = random.Random(seed)
    graph = chain(length)
    sizes = {name: dice.randint(1, 1000) for value in graph.values for name in [value.name[1:]]}
    values = tuple(msgspec.structs.replace(v, bytes=sizes[v.name[1:]]) for v in graph.values)
    return validate(msgspec.structs.replace(graph, values=values))


@pytest.mark.parametrize("seed", range(6))
def test_within_a_twentieth_of_the_peak_on_chains_of_uneven_sizes(seed: int) -> None:
    graph = _uneven(seed)
    least = minimum_ram(graph, DEVICE).ram_bytes
    budget = Budget((2 * least + plain_plan(graph, DEVICE).peak_bytes) // 3)
    plan = make_plan(graph, DEVICE, budget, time_limit=2, gap=0.1)
    _, _, arena, bound = place(plan.steps, graph, plan.homes)
    assert bound <= arena <= 1.05 * bound


def test_what_overwrites_its_operand_has_its_address() -> None:
    values = (Value("w", 8, "parameter"), Value("v", 8, "parameter"), Value("x", 4, "input"))
    graph = validate(Graph("update", values, (Op("step", ("x",), updates=(("w", "v"),)),), ()))
    plan = plain_plan(graph, DISKLESS)
    assert plan.addresses["v"] == plan.addresses["w"]
    assert check(plan, graph, DISKLESS).arena_bytes == 12


def test_the_same_every_time() -> None:
    graph = _uneven(1)
    steps = plain_plan(graph, DISKLESS).steps
    assert place(steps, graph) == place(steps, graph)
