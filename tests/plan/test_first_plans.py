"""First plans where nothing can be paged: the greedy pass, its noise, and the bound of what stands in RAM."""

import math
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from edgewise.devices import Device, Memory, Ram, Tier
from edgewise.errors import BudgetInfeasible
from edgewise.graph import Graph, Op, Option, Value, validate
from edgewise.plan import Budget, check, make_plan, minimum_ram, plain_plan
from edgewise.plan.greedy import RULES, Way, evicting, greedy, ways
from edgewise.plan.noising import noised
from edgewise.plan.problem import Problem, fits, floor_bytes
from edgewise.plan.standing import standing_bytes
from tests.plan.brute_force import optimum
from tests.plan.graphs import DISKLESS, OVERLAPPING, PAGING, chain, graphs, random_graph
from tests.plan.oracle import results


def problem_of(graph: Graph, ram_bytes: int, device=DISKLESS) -> Problem:
    return Problem(graph, device, Budget(ram_bytes), "joules", "full")


class _Net:
    """A training step of residual blocks, as captured: norms, shortcuts, an update as soon as can be."""

    def __init__(self, blocks: int, size: int) -> None:
        self.size = size
        self.values, self.ops = [Value("x", size, "input")], []
        self.outputs = ["x"]
        for b in range(blocks):
            self.forward(b)
        self.loss(blocks)
        for b in reversed(range(blocks)):
            self.backward(b)
        self.graph = validate(Graph(f"bottleneck-{blocks}", tuple(self.values), tuple(self.ops), ("gx0",)))

    def op(self, name: str, inputs: list[str], *, flops: int, bytes_: int, over: str | None = None) -> str:
        self.values.append(Value(name, bytes_))
        options = (Option("whole"), *([Option("in_place", ((over, name),))] if over else []))
        self.ops.append(Op(f"op:{name}", tuple(inputs), (name,), flops=flops, options=options))
        return name

    def forward(self, b: int) -> None:
        weight, size = f"w{b}", self.size
        self.values.append(Value(weight, 1, "parameter"))
        x = self.outputs[-1]
        h = self.op(f"c{b}", [x, weight], flops=100, bytes_=size // 4)
        h = self.op(f"n{b}", [h], flops=5, bytes_=size // 4)
        h = self.op(f"d{b}", [h, weight], flops=100, bytes_=size)
        h = self.op(f"m{b}", [h], flops=10, bytes_=size)
        h = self.op(f"a{b}", [h, x], flops=2, bytes_=size, over=h)
        self.outputs.append(self.op(f"r{b}", [h], flops=2, bytes_=size, over=h))

    def loss(self, blocks: int) -> None:
        self.op(f"gx{blocks}", [self.outputs[-1]], flops=1, bytes_=self.size)

    def backward(self, b: int) -> None:
        size, g, weight = self.size, f"gx{b + 1}", f"w{b}"
        g = self.op(f"gr{b}", [g, self.outputs[b + 1]], flops=2, bytes_=size, over=g)
        h = self.op(f"gm{b}", [g, f"d{b}"], flops=10, bytes_=size)
        below = self.op(f"gd{b}", [h, weight], flops=100, bytes_=size // 4)
        inner = self.op(f"gwd{b}", [h, f"n{b}"], flops=100, bytes_=1)
        h = self.op(f"gn{b}", [below, f"c{b}"], flops=5, bytes_=size // 4)
        below = self.op(f"gc{b}", [h, weight], flops=100, bytes_=size)
        outer = self.op(f"gwc{b}", [h, self.outputs[b]], flops=100, bytes_=1)
        self.values.append(Value(f"{weight}.next", 1, "parameter"))
        self.ops.append(
            Op(f"update{b}", (inner, outer), (), updates=((weight, f"{weight}.next"),), recomputable=False)
        )
        self.op(f"gx{b}", [g, below], flops=2, bytes_=size, over=g)


def bottleneck(blocks: int, *, size: int = 1000) -> Graph:
    return _Net(blocks, size).graph


@given(
    graph=graphs,
    rule=st.sampled_from(RULES),
    device=st.sampled_from([DISKLESS, PAGING]),
    share=st.floats(0, 1),
)
@settings(max_examples=150, deadline=None)
def test_any_pass_keeps_to_the_ram_and_computes_the_same(graph: Graph, rule, device, share: float) -> None:
    plain = plain_plan(graph, device)
    problem = problem_of(graph, int(share * plain.peak_bytes), device)
    wanted = results(plain.steps, graph)
    for candidate in greedy(problem, (rule,)):
        assert candidate.certificate.peak_bytes <= problem.budget.ram_bytes
        found = results(candidate.steps, graph, tuple(candidate.homes))
        assert {name: found[name] for name in wanted} == wanted


@pytest.mark.parametrize("first", range(0, 160, 40))
def test_a_pass_plans_nothing_that_brute_force_cannot_and_the_planner_all_that_it_can(first: int) -> None:
    for seed in range(first, first + 40):
        graph = random_graph(seed, most_ops=6)
        plain = plain_plan(graph, DISKLESS).peak_bytes
        budget = Budget((seed % 7 + 3) * plain // 10)
        best = optimum(graph, DISKLESS, budget.ram_bytes, defer=True)
        proposed = list(greedy(problem_of(graph, budget.ram_bytes), RULES))
        if best is None:
            assert not proposed, seed
            with pytest.raises(BudgetInfeasible):
                make_plan(graph, DISKLESS, budget)
        else:
            plan = make_plan(graph, DISKLESS, budget)
            assert plan.joules <= best * (1 + 1e-9), seed
            assert all(c.certificate.joules >= best * (1 - 1e-9) for c in proposed), seed


@given(graphs)
@settings(max_examples=150, deadline=None)
def test_nothing_in_order_needs_less_than_what_stands(graph: Graph) -> None:
    plain = plain_plan(graph, DISKLESS)
    bound = standing_bytes(problem_of(graph, plain.peak_bytes))
    assert floor_bytes(problem_of(graph, 0)) <= bound <= plain.peak_bytes
    if bound:
        assert optimum(graph, DISKLESS, bound - 1, defer=False) is None


def test_what_stands_knows_what_must_come_together() -> None:
    """Op h reads a and b: the one that is made last is made beside the other, and b is made from 59 B."""
    sizes = {"x": 1, "a": 50, "m": 59, "b": 20, "y": 1}
    values = tuple(Value(n, s, "input" if n == "x" else "activation") for n, s in sizes.items())
    ops = (
        Op("a", ("x",), ("a",), flops=1),
        Op("m", ("x",), ("m",), flops=1),
        Op("b", ("m",), ("b",), flops=1),
        Op("h", ("a", "b"), ("y",), flops=1),
    )
    problem = problem_of(validate(Graph("together", values, ops, ("y",))), 0)
    assert floor_bytes(problem) == 79  # m and b
    assert standing_bytes(problem) == 79  # then a beside b, from x
    kept = replace(ops[0], recomputable=False)
    problem = problem_of(validate(Graph("together", values, (kept, *ops[1:]), ("y",))), 0)
    assert standing_bytes(problem) == 129  # a beside m and b


@pytest.mark.parametrize("blocks", [4, 12])
def test_a_bottleneck_net_near_its_largest_op(blocks: int) -> None:
    """The more blocks, the smaller a share of the plain peak is enough: that of about one block."""
    graph = bottleneck(blocks)
    problem = problem_of(graph, 1 << 40)
    assert max(problem.least_working_bytes) == 3000
    least = minimum_ram(graph, DISKLESS, time_limit=10)
    assert standing_bytes(problem) <= least.ram_bytes <= 5300
    plan = make_plan(graph, DISKLESS, Budget(least.ram_bytes), time_limit=10)
    assert check(plan, graph, DISKLESS).peak_bytes <= least.ram_bytes
    with pytest.raises(BudgetInfeasible, match="No plan fits"):
        make_plan(graph, DISKLESS, Budget(standing_bytes(problem) - 1), time_limit=10)


def test_a_chain_longer_than_python_recurses() -> None:
    graph = chain(1500)
    problem = problem_of(graph, 20_000)
    (candidate,) = greedy(problem, RULES, deadline=0.0)  # the first rule only
    assert candidate.certificate.peak_bytes <= 20_000


@pytest.mark.parametrize("bytes_per_second", [1e-3, 1.0, 10.0, 1e4])
def test_a_disk_beside_compute_does_no_harm(bytes_per_second: float) -> None:
    """Where transfers cost nothing until the link is busy, a pass that takes them for free pages all."""
    graph = bottleneck(12)
    tier = Tier(bytes_per_second, bytes_per_second, overlap=True)
    disk = replace(DISKLESS, memory=Memory(Ram(1 << 30), ssd=tier))
    budget = Budget(int(0.4 * plain_plan(graph, DISKLESS).peak_bytes))
    least = [
        min(c.rank for c in greedy(problem, RULES) if fits(problem, c))
        for problem in (Problem(graph, device, budget, "seconds", "full") for device in (DISKLESS, disk))
    ]
    assert least[1] <= least[0]


def test_a_faster_link_carries_more() -> None:
    graph = bottleneck(12)
    budget = Budget(int(0.4 * plain_plan(graph, OVERLAPPING).peak_bytes))
    problem = Problem(graph, OVERLAPPING, budget, "seconds", "full")
    paged = [
        len(candidate.certificate.paged_in)
        for price in (None, 0.25, 1.0, 1e6)
        if (candidate := evicting(problem, Way(link_price=price))) is not None
    ]
    assert paged == sorted(paged, reverse=True)
    assert paged[-1] == 0 < paged[0]


@pytest.mark.parametrize("device", [DISKLESS, PAGING])
def test_noise_betters(device: Device) -> None:
    graph = bottleneck(6)
    problem = problem_of(graph, int(0.5 * plain_plan(graph, device).peak_bytes), device)
    start = next(ways(problem))
    found = list(noised(problem, start, deadline=time.monotonic() + 3))
    assert found
    assert all(fits(problem, candidate) for candidate in found)
    assert all(one.rank > other.rank for one, other in pairwise([start[1], *found]))


@pytest.mark.parametrize("device", [DISKLESS, PAGING, OVERLAPPING])
def test_the_ways_vary_one_choice_at_a_time(device: Device) -> None:
    graph = bottleneck(12)
    problem = problem_of(graph, int(0.4 * plain_plan(graph, device).peak_bytes), device)
    found = list(ways(problem))
    tried = [way for way, _ in found]
    assert len(set(tried)) == len(tried)
    best, least = tried[0], (math.inf, math.inf)
    for way, candidate in found:
        assert sum(a != b for a, b in zip(way, best, strict=True)) <= 1
        if fits(problem, candidate) and candidate.rank < least:
            best, least = way, candidate.rank


def test_noise_where_the_start_is_hopeless_says_nothing() -> None:
    graph = bottleneck(12)
    problem = problem_of(graph, int(0.4 * plain_plan(graph, DISKLESS).peak_bytes))
    start = next(ways(problem))
    worth = start[1].overhead / 2
    assert list(noised(problem, start, worth=worth, deadline=time.monotonic() + 3)) == []


def test_a_gradient_is_made_again_before_its_weight_is_overwritten() -> None:
    """Between its readers s and y there is no room for g, and the weight that it is made with changes."""
    sizes = {"x": 1, "w": 1, "w'": 1, "d": 10, "g": 40, "s": 1, "b": 50, "v": 1, "y": 1}
    kinds = {"x": "input", "w": "parameter", "w'": "parameter"}
    values = tuple(Value(n, s, kinds.get(n, "activation")) for n, s in sizes.items())
    ops = (
        Op("d", ("x",), ("d",), flops=1, recomputable=False),
        Op("g", ("d", "w"), ("g",), flops=3),
        Op("s", ("g",), ("s",), flops=1),
        Op("b", ("x",), ("b",), flops=1),
        Op("v", ("d", "b"), ("v",), flops=1),
        Op("u", ("v",), (), updates=(("w", "w'"),), recomputable=False),
        Op("y", ("g", "s"), ("y",), flops=1),
    )
    graph = validate(Graph("gradient", values, ops, ("y",)))
    candidate = evicting(problem_of(graph, 70), Way())
    assert candidate is not None
    assert candidate.certificate.peak_bytes <= 70
    assert candidate.certificate.recomputed == ("g",)
    ran = [action.name for action in candidate.order]
    assert ran[-3:] == ["g", "u", "y"]


def test_values_without_bytes_are_no_division_by_nothing() -> None:
    graph = random_graph(33918, most_ops=5)
    assert not all(value.bytes for value in graph.values)
    for device in (DISKLESS, PAGING, OVERLAPPING):
        least, plain = minimum_ram(graph, device).ram_bytes, plain_plan(graph, device).peak_bytes
        for ram_bytes in range(least, plain + 1):
            for plan in greedy(problem_of(graph, ram_bytes, device), RULES, deadline=time.monotonic() + 1):
                assert plan is not None
