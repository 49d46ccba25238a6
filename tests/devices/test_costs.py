"""What an op and a transfer cost, by hand."""

import msgspec
import pytest

from edgewise.devices import Compute, Cost, Device, Memory, Ram, Tier
from edgewise.errors import UsageError
from edgewise.graph import Graph, Op, Value
from edgewise.plan import Compute as ComputeStep
from edgewise.plan import Free, PageIn, PageOut, replay

OP = Op("mul", ("x",), ("y",), flops=1000, kind="matmul")
GRAPH = Graph("one", (Value("x", 400, "input"), Value("y", 100)), (OP,), ("y",))
TIER = Tier(200.0, 100.0, read_latency_seconds=0.5, write_latency_seconds=1.0, watts=2.0)


def board(compute: Compute, **tiers: Tier) -> Device:
    return Device("board", "by hand", compute, Memory(Ram(10**6), **tiers))


@pytest.mark.parametrize(
    ("compute", "op", "cost"),
    [
        (Compute(500.0, 1e-3), OP, Cost(2.0, 1.0)),
        (Compute(500.0, watts_busy=3.0), OP, Cost(2.0, 6.0)),
        (Compute(500.0, 1e-3, watts_busy=3.0), OP, Cost(2.0, 7.0)),
        (Compute(500.0, 1e-3, class_flops_per_second={"matmul": 250.0}), OP, Cost(4.0, 1.0)),
        (Compute(500.0, 1e-3, class_flops_per_second={"copy": 250.0}), OP, Cost(2.0, 1.0)),
        (Compute(500.0, 1e-3, bytes_per_second=100.0), OP, Cost(5.0, 1.0)),  # 500 bytes of traffic bind
        (Compute(500.0, 1e-3, bytes_per_second=1000.0), OP, Cost(2.0, 1.0)),  # arithmetic binds
        (Compute(500.0, watts_busy=3.0, seconds_per_op=0.5), OP, Cost(2.5, 7.5)),
        (Compute(500.0, 1e-3, watts_idle=9.0), OP, Cost(2.0, 1.0)),  # idle power is paid by the clock
    ],
)
def test_cost_of_an_op(compute: Compute, op: Op, cost: Cost) -> None:
    assert board(compute).op_cost(GRAPH, op) == pytest.approx(cost)


def test_an_ops_own_figures_replace_the_devices() -> None:
    device = board(Compute(500.0, 1e-3, watts_busy=3.0, seconds_per_op=0.5))
    assert device.op_cost(GRAPH, msgspec.structs.replace(OP, seconds=4.0)) == Cost(4.0, 13.0)
    assert device.op_cost(GRAPH, msgspec.structs.replace(OP, joules=0.25)) == Cost(2.5, 0.25)
    assert device.op_cost(GRAPH, msgspec.structs.replace(OP, seconds=0.0, joules=0.0)) == Cost(0.0, 0.0)


def test_cost_of_a_transfer() -> None:
    device = board(Compute(500.0, 1e-3), sd=TIER)
    assert device.read_cost(100) == Cost(1.0, 2.0)
    assert device.write_cost(100) == Cost(2.0, 4.0)
    assert device.write_cost(0) == Cost(1.0, 2.0)


@pytest.mark.parametrize("name", ["sd", "flash", "ssd", "host"])
def test_a_device_pages_to_the_tier_that_it_has(name: str) -> None:
    assert board(Compute(1.0, 1.0), **{name: TIER}).memory.paging == (name, TIER)


def test_the_first_tier_is_paged_to() -> None:
    device = board(Compute(1.0, 1.0), host=Tier(1.0, 1.0), sd=TIER)
    assert device.memory.paging == ("sd", TIER)


def test_a_device_without_a_tier_cannot_page() -> None:
    device = board(Compute(1.0, 1.0))
    assert device.memory.paging is None
    assert not device.overlaps
    for cost in (device.read_cost, device.write_cost):
        with pytest.raises(
            UsageError, match=r"no tier to page to. Add `\[memory.sd\]` or `\[memory.flash\]`"
        ):
            cost(1)


STEPS = (PageOut("x"), Free("x"), PageIn("x"), ComputeStep("mul"), Free("x"))


@pytest.mark.parametrize(
    ("cost_model", "overlap", "seconds", "joules"),
    [
        # 400 bytes: out in 1 + 4 s, in again in 0.5 + 2 s, both at 2 W: 15 J. The op: 2 s, 1 J. Idle: 10 W.
        ("full", False, 9.5, 16.0 + 95.0),
        ("full", True, 9.5, 16.0 + 95.0),  # everything here waits for everything else
        ("poet", False, 2.0, 16.0),  # paging is free in time, idle power in energy
        ("poet", True, 2.0, 16.0),
    ],
)
def test_time_and_energy_of_a_plan(cost_model: str, overlap: bool, seconds: float, joules: float) -> None:
    tier = msgspec.structs.replace(TIER, overlap=overlap)
    device = board(Compute(500.0, 1e-3, watts_idle=10.0), sd=tier)
    found = replay(STEPS, GRAPH, device, cost_model=cost_model)  # type: ignore[arg-type]
    assert (found.seconds, found.joules) == pytest.approx((seconds, joules))
    assert (found.bytes_written, found.bytes_read) == (400, 400)


def test_a_transfer_runs_beside_compute_where_the_device_says_so() -> None:
    """`z` is written, 5 s, while `mul` takes 2 s: 5 s with overlap, 7 s without."""
    graph = msgspec.structs.replace(GRAPH, values=(*GRAPH.values, Value("z", 400, "input")))
    steps = (PageOut("z"), ComputeStep("mul"), Free("z"), Free("x"))
    for overlap, seconds in ((True, 5.0), (False, 7.0)):
        device = board(Compute(500.0, 1e-3), sd=msgspec.structs.replace(TIER, overlap=overlap))
        assert device.overlaps is overlap
        assert replay(steps, graph, device).seconds == pytest.approx(seconds)
