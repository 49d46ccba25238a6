"""Tiled options: what a step that streams needs and costs, what is refused, and that it computes the same."""

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.devices import Compute as ComputeRates
from edgewise.devices import Device, Memory, Ram, Tier
from edgewise.errors import CorruptArtifact, PlanRejected
from edgewise.graph import Graph, Op, Option, Stream, Value, validate
from edgewise.plan import Compute, Free, PageIn, PageOut, check, replay
from edgewise.plan.schedule import Action, lay_out, plain_order
from tests.plan.graphs import DISKLESS, OVERLAPPING, PAGING, graphs
from tests.plan.oracle import results
from tests.plan.streamers import Streamer, tiled
from tests.support import plan_of

DEVICE = Device(
    "tiler",
    "one byte a second, half a second a transfer, a quarter of a second an op",
    ComputeRates(1.0, 1.0, seconds_per_op=0.25),
    Memory(Ram(1 << 30), sd=Tier(1.0, 1.0, read_latency_seconds=0.5, write_latency_seconds=0.5, watts=2.0)),
)
ROWS = Option(
    "rows 2",
    workspace_bytes=5,
    streams=(Stream("x", 4, 12, 3), Stream("y", 0, 20, 4), Stream("w", 2, 6, 2)),
    tiles=4,
    exact=False,
)
GRAPH = validate(
    Graph(
        "streams",
        (
            Value("x", 10, "input"),
            Value("w", 6, "parameter"),
            Value("y", 20),
            Value("l", 1),
            Value("w'", 6, "parameter"),
        ),
        (
            Op("f", ("x",), ("y",), flops=3, options=(Option("whole"), ROWS), updates=(("w", "w'"),)),
            Op("loss", ("y",), ("l",), flops=1),
        ),
        ("l",),
    )
)


def test_everything_streamed() -> None:
    """RAM: 5 + 4 + 2. The link: 12 B in 3, 20 B in 4, 6 B in 2 both ways. Four iterations."""
    steps = (
        PageOut("x"),
        Free("x"),
        Compute("f", "rows 2", ("w", "x", "y")),
        PageIn("y"),
        Compute("loss"),
        Free("y"),
    )
    found = replay(steps, GRAPH, DEVICE, homes=("w",))
    assert found.ram_bytes == (10, 10, 11, 20, 21, 21)
    assert (found.bytes_read, found.bytes_written) == (12 + 6 + 20, 10 + 20 + 6)
    moved = (12 + 3 * 0.5) + (20 + 4 * 0.5) + 2 * (6 + 2 * 0.5)
    paged = (10 + 0.5) + (20 + 0.5)
    assert found.seconds == pytest.approx(moved + paged + (3 + 4 * 0.25) + (1 + 0.25))
    assert found.joules == pytest.approx(2.0 * (moved + paged) + 3 + 1)
    assert (found.streamed, found.exact) == (("f",), False)


def test_operands_in_ram_are_not_streamed() -> None:
    """The tiled option with everything in RAM is a loop that moves nothing."""
    found = replay((Compute("f", "rows 2"), Free("x"), Compute("loss"), Free("y")), GRAPH, DEVICE)
    assert found.ram_bytes[0] == 10 + 6 + 20 + 5
    assert (found.bytes_read, found.bytes_written, found.streamed) == (0, 0, ())
    assert found.seconds == pytest.approx(3 + 4 * 0.25 + 1.25)


def test_streams_and_transfers_share_the_link() -> None:
    """A stream waits until the page-out before it is over, and what comes after it waits for the stream."""
    slow = msgspec.structs.replace(DEVICE.memory.paging[1], overlap=True)
    device = msgspec.structs.replace(DEVICE, memory=Memory(Ram(1 << 30), sd=slow))
    serial = (PageOut("x"), Free("x"), Compute("f", "rows 2", ("x",)), Compute("loss"), Free("y"))
    assert replay(serial, GRAPH, device).seconds == replay(serial, GRAPH, DEVICE).seconds
    free_of_time = replay(serial, GRAPH, device, cost_model="poet")
    assert free_of_time.seconds == pytest.approx(3 + 4 * 0.25 + 1.25)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ((Compute("f", "rows 2", ("x",)),), "streams `x`, which is in RAM"),
        ((Free("x"), Compute("f", "rows 2", ("x",))), "streams `x`, which is not in the slower tier"),
        ((Compute("f", "whole", ("y",)),), "by `whole` and streams `y`, which that does not offer"),
        ((Compute("f", "rows 2", ("l",)),), "streams `l`, which that does not offer"),
        ((Compute("f", "rows 2", ("y", "y")),), "streams a value twice"),
        ((Compute("f"), Compute("f", "rows 2", ("w",))), "streams `w`, which that does not offer"),
        ((Compute("f"), Compute("f", "rows 2", ("y",))), "streams `y`, which is in RAM"),
        ((Free("w"), Compute("f")), "computes `f` without its operand `w` in RAM"),
        ((Compute("f", "rows 2", ("y",)), Compute("loss")), "computes `loss` without its operand `y`"),
    ],
)
def test_refused(steps: tuple, message: str) -> None:
    with pytest.raises(PlanRejected, match=message):
        replay(steps, GRAPH, DEVICE)


def test_no_tier_to_stream_from() -> None:
    with pytest.raises(PlanRejected, match="has no tier to stream from"):
        replay((Compute("f", "rows 2", ("y",)),), GRAPH, DISKLESS)


def test_a_streamed_update_takes_the_place_of_the_old_one() -> None:
    """The tier has room for `w` alone; the updated weight stays there, and nothing is left to page out."""
    tier = msgspec.structs.replace(DEVICE.memory.paging[1], bytes=6)
    device = msgspec.structs.replace(DEVICE, memory=Memory(Ram(1 << 30), sd=tier))
    order = (Action("compute", "f", "rows 2", frozenset({"w"})), Action("compute", "loss"))
    steps = lay_out(order, GRAPH, frozenset({"w"}))
    assert steps[0] == Compute("f", "rows 2", ("w",))
    assert replay(steps, GRAPH, device, homes=("w",)).paged_out == ()
    with pytest.raises(PlanRejected, match="stores `y`: 26 B do not fit the 6 B of `sd`"):
        replay((Compute("f", "rows 2", ("w", "y")),), GRAPH, device, homes=("w",))


def test_laid_out_streams_are_what_is_not_in_ram() -> None:
    """`x` is held for a later reader, so it is not read from the tier, and never paged out."""
    ops = (*GRAPH.ops, Op("again", ("x", "l"), ("z",)))
    graph = validate(Graph("held", (*GRAPH.values, Value("z", 1)), ops, ("z",)))
    tiled = Action("compute", "f", "rows 2", frozenset({"x", "y"}))
    order = (Action("out", "x"), tiled, Action("in", "y"), *map(_compute, ("loss", "again")))
    assert lay_out(order, graph)[0] == Compute("f", "rows 2", ("y",))


def _compute(name: str) -> Action:
    return Action("compute", name)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (Option("whole", tiles=2), "may be neither `whole` nor overwrite"),
        (Option("t", tiles=0), "has 0 tiles"),
        (Option("t", streams=(Stream("q", 1, 1, 1),)), "streams `q`, not its operand"),
        (Option("t", streams=(Stream("l", 1, 1, 1),)), "streams `l`, not its operand"),
        (Option("t", streams=(Stream("x", 1, 1, 1),) * 2), "streams a value twice"),
        (Option("t", streams=(Stream("x", 1, -1, 1),)), "negative or endless"),
    ],
)
def test_options_that_no_graph_may_have(option: Option, message: str) -> None:
    options = (Option("whole"), option) if option.name != "whole" else (option,)
    op = msgspec.structs.replace(GRAPH.ops[0], options=options)
    with pytest.raises(CorruptArtifact, match=message):
        validate(Graph("bad", GRAPH.values, (op, GRAPH.ops[1]), ("l",)))


@given(graphs, st.randoms(use_true_random=False), st.sampled_from([PAGING, OVERLAPPING]))
def test_streaming_computes_the_same(graph: Graph, dice: random.Random, device: Device) -> None:
    wanted = results(plan_of(plain_order(graph), graph).steps, graph)
    loops = tiled(graph, dice)
    streamer = Streamer(loops, dice)
    plan = plan_of(streamer.run(), loops, device, streamer.homes())
    certificate = check(plan, loops, device)
    assert results(plan.steps, loops, plan.homes) == wanted
    assert certificate.exact
    assert all(peak >= live for peak, live in zip(certificate.ram_bytes, certificate.live_bytes, strict=True))
