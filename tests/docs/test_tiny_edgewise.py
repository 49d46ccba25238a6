"""docs/tiny_edgewise.py does what the real planner does, and fits in one sitting."""

import importlib.util
import random
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from edgewise.devices import Compute, Device, Memory, Ram, Tier
from edgewise.errors import BudgetInfeasible
from edgewise.graph import Graph, Op, Value, validate
from edgewise.plan import Budget, make_plan, plain_plan

FILE = Path(__file__).parents[2] / "docs" / "tiny_edgewise.py"
CARD = Tier(5e6, 4e6, read_latency_seconds=1e-4, write_latency_seconds=1e-4, watts=0.3)
WITHOUT_TIER = Device("bare-board", "no slower memory", Compute(1e8, 1e-9), Memory(Ram(2**30)))
WITH_TIER = Device("card-board", "an SD card", Compute(1e8, 1e-9), Memory(Ram(2**30), sd=CARD))


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tiny_edgewise", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tiny = _load()


def random_graph(rng: random.Random, *, updates: bool) -> Graph:
    """Like backprop: ops back down read what ops on the way up made. With `updates`, one changes a weight."""
    up, total = rng.randint(2, 4), 7
    values = [Value("x", 4 * rng.randint(1, 9), "input")]
    ops: list[Op] = []
    for i in range(total):
        names = [value.name for value in values]
        partner = names[max(0, 2 * up - i)] if i > up else names[-1]
        reads = dict.fromkeys([names[-1], partner, *rng.sample(names, rng.random() < 0.2)])
        values.append(Value(f"v{i}", 4 * rng.randint(1, 9)))
        cost = rng.randint(1, 40) * 1e-5
        ops.append(Op(f"op{i}", tuple(reads), (f"v{i}",), seconds=cost, joules=cost))
    if not updates:
        return validate(Graph("random", tuple(values), tuple(ops), (f"v{total - 1}",)))
    values += [Value("w", 8, "parameter"), Value("w.next", 8, "parameter")]
    ops[0] = Op("op0", ("x", "w"), ("v0",), seconds=1e-4, joules=1e-4)
    update = Op(
        "update", (ops[-1].outputs[0], "v0"), joules=0.0, recomputable=False, updates=(("w", "w.next"),)
    )
    return validate(Graph("random", tuple(values), (*ops, update), ()))


def to_tiny(graph: Graph) -> tuple:
    ops = []
    for op in graph.ops:
        olds, news = tuple(old for old, _ in op.updates), tuple(new for _, new in op.updates)
        ops.append(tiny.Op(op.name, op.inputs + olds, op.outputs + news, op.joules, olds))
    return tiny.Graph(tuple(ops), {v.name: v.bytes for v in graph.values}, graph.required)


def tier_of(device: Device) -> tuple | None:
    if device.memory.paging is None:
        return None
    return (lambda size: device.write_cost(size).joules), (lambda size: device.read_cost(size).joules)


def least_budget(small: tuple, peak: int, tier: tuple | None) -> int:
    """The least multiple of 4 bytes for which there is a plan."""
    low, high = 0, peak // 4
    while low < high:
        middle = (low + high) // 2
        try:
            tiny.plan(small, 4 * middle, tier)
            high = middle
        except ValueError:
            low = middle + 1
    return 4 * high


@pytest.mark.parametrize("device", [WITHOUT_TIER, WITH_TIER], ids=lambda device: device.name)
@pytest.mark.parametrize("seed", range(20))
def test_the_same_overhead_as_the_real_planner(seed: int, device: Device) -> None:
    rng = random.Random(seed)
    graph = random_graph(rng, updates=device is WITHOUT_TIER and seed % 2 == 1)
    small, tier = to_tiny(graph), tier_of(device)
    peak = tiny.check(small, tiny.plain(small))
    assert peak == plain_plan(graph, device).peak_bytes
    least = least_budget(small, peak, tier)

    for ram_bytes in {least, (least + peak) // 8 * 4, peak}:
        steps, overhead = tiny.plan(small, ram_bytes, tier)
        assert tiny.check(small, steps) <= ram_bytes
        for solver in ("search", "time-indexed"):
            plan = make_plan(graph, device, Budget(ram_bytes), solver=solver, gap=0.0)
            found = plan.joules - plain_plan(graph, device).joules
            best = pytest.approx(overhead, rel=1e-5, abs=1e-12)
            assert found == best or (plan.status == "feasible" and found > best.expected), solver
            assert solver != "search" or found == best
            assert found * (1 - plan.gap) <= overhead * (1 + 1e-5) + 1e-12
    with pytest.raises(BudgetInfeasible) as refusal:
        make_plan(graph, device, Budget(least - 4))
    assert refusal.value.min_ram_bytes == least


def test_its_own_run_pages_recomputes_and_keeps_the_weights() -> None:
    done = subprocess.run([sys.executable, "-W", "error", FILE], capture_output=True, text=True, check=True)
    figures, program, verdict = done.stdout.strip().splitlines()
    plain, budget, planned, measured = (int(n.replace(",", "")) for n in re.findall(r"([\d,]+) B", figures))

    assert measured <= planned <= budget < plain
    assert "page_out:" in program
    assert "page_in:" in program
    assert program.split().count("h1") == 2
    assert verdict.endswith("every weight the same, bit for bit: True")


@pytest.fixture
def chain() -> tuple:
    ops = (tiny.Op("a", ("x",), ("y",), 1.0), tiny.Op("b", ("y",), ("z",), 1.0))
    return tiny.Graph(ops, {"x": 4, "y": 4, "z": 4}, frozenset("z"))


def test_a_budget_below_the_largest_op_is_refused(chain: tuple) -> None:
    with pytest.raises(ValueError, match="No plan fits 7 bytes"):
        tiny.plan(chain, 7)


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ([("compute", "b")], "b lacks an operand"),
        ([("compute", "a")], "the step is not complete"),
        ([("page_in", "x")], "page_in x: it is not there"),
        ([("compute", "a"), ("free", "z")], "free z: it is not there"),
        ([("compute", "a"), ("free", "y"), ("compute", "b")], "b lacks an operand"),
    ],
)
def test_the_check_refuses_what_cannot_be_done(chain: tuple, steps: list, reason: str) -> None:
    with pytest.raises(AssertionError, match=reason):
        tiny.check(chain, steps)


def test_an_update_runs_only_once() -> None:
    graph = tiny.Graph((tiny.Op("u", ("w",), ("v",), 1.0, ("w",)),), {"w": 4, "v": 4}, frozenset("v"))

    with pytest.raises(AssertionError, match="ran already and must not again"):
        tiny.check(graph, [("compute", "u"), ("compute", "u")])


def test_it_fits_in_one_sitting() -> None:
    lines = FILE.read_text(encoding="utf-8").splitlines()

    assert len(lines) <= 150
    assert max(map(len, lines)) <= 120
