"""The replay behind the charts agrees with the independent check, whatever the plan."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.devices import CostModel, Device, load_device
from edgewise.graph import WHOLE, Graph, Op, Option, Stream, Value, validate
from edgewise.plan import Budget, Compute, Free, PageIn, PageOut, Plan, Step, check, plain_plan, replay
from edgewise.plan.addresses import place
from edgewise.report import ReportData
from edgewise.report.breakdown import break_down
from edgewise.report.categories import at_peak
from edgewise.report.choices import Choice, choices
from edgewise.report.loops import loops
from edgewise.report.timeline import plain_line
from edgewise.report.trace import GROUPS, plain_steps, trace, trace_plain
from edgewise.report.units import joules_text
from tests.plan.graphs import OVERLAPPING, graphs
from tests.plan.streamers import Streamer, tiled
from tests.report.inputs import BOARD, graph_of, plan_at_random
from tests.support import plain_order, plan_of

GRAPH = graph_of(3)
WATTS = load_device("jetson-tx2")
"""A device that draws idle power."""


def data_of(
    seed: int,
    forget: float = 0.5,
    page: float = 0.5,
    *,
    device: Device = BOARD,
    cost_model: CostModel = "full",
) -> ReportData:
    return loaded(
        plan_at_random(GRAPH, seed, forget=forget, page=page, device=device), GRAPH, device, cost_model
    )


def loaded(plan: Plan, graph: Graph, device: Device, cost_model: CostModel) -> ReportData:
    """`plan` under `cost_model`, checked."""
    found = replay(plan.steps, graph, device, homes=plan.homes, cost_model=cost_model)
    plan = msgspec.structs.replace(
        plan, cost_model=cost_model, seconds=found.seconds, joules=found.joules, peak_bytes=found.peak_bytes
    )
    plain = replay(plain_steps(graph), graph, device, cost_model=cost_model)
    return ReportData(Path("plan.json"), graph, device, plan, check(plan, graph, device), plain)


def streamed_data(
    graph: Graph, dice: random.Random, device: Device = BOARD, cost_model: CostModel = "full"
) -> ReportData:
    """A plan that streams and pages at random."""
    loops = tiled(graph, dice)
    streamer = Streamer(loops, dice)
    plan = plan_of(streamer.run(), loops, device, streamer.homes())
    packed = place(plan.steps, loops, plan.homes)
    plan = msgspec.structs.replace(plan, addresses=packed.addresses, workspaces=packed.workspaces)
    return loaded(plan, loops, device, cost_model)


streams = given(graph=graphs, dice=st.randoms(use_true_random=False))


@streams
def test_the_groups_add_up_where_ops_run_as_loops(graph: Graph, dice: random.Random) -> None:
    data = streamed_data(graph, dice)
    found = trace(data.plan, data.graph, BOARD)

    together = tuple(sum(sizes) for sizes in zip(*(found.bytes_by_group[g] for g in GROUPS), strict=True))
    assert together == data.certificate.ram_bytes
    assert {n: tuple(s.offset for s in stays) for n, stays in found.stays_of.items()} == data.plan.addresses


@pytest.mark.parametrize("cost_model", ["full", "poet"])
@pytest.mark.parametrize("device", [BOARD, WATTS, OVERLAPPING], ids=lambda device: device.name)
@streams
def test_the_parts_add_up_where_ops_run_as_loops(
    device: Device, cost_model: CostModel, graph: Graph, dice: random.Random
) -> None:
    data = streamed_data(graph, dice, device, cost_model)
    found = break_down(data, trace(data.plan, data.graph, device))

    assert found.seconds.total == pytest.approx(data.certificate.seconds, rel=1e-9)
    assert found.joules.total == pytest.approx(data.certificate.joules, rel=1e-9)
    listed = loops(data.plan, data.graph, device)
    assert found.joules.streaming == pytest.approx(sum(loop.moved.joules for loop in listed))
    assert found.seconds.streaming == pytest.approx(sum(loop.moved.seconds for loop in listed))
    assert found.seconds.streaming == 0 or cost_model == "full"


@streams
def test_the_rooms_are_those_of_the_arena(graph: Graph, dice: random.Random) -> None:
    data = streamed_data(graph, dice)
    found = trace(data.plan, data.graph, BOARD)

    where: dict[str, tuple[int, ...]] = {}
    for room in found.rooms:
        where[room.op] = (*where.get(room.op, ()), room.offset)
        step = data.plan.steps[room.step]
        assert isinstance(step, Compute)
        option = data.graph.op[room.op].option(step.option)
        assert (room.bytes, room.group) == (
            option.room_bytes(step.streamed), "loop" if option.is_tiled else "other"
        )  # fmt: skip
    assert where == data.plan.workspaces
    size = {value.name: value.bytes for value in data.graph.values}
    ends = [room.offset + room.bytes for room in found.rooms]
    ends += [stay.offset + size[stay.value] for stay in found.stays]
    assert max(ends, default=0) == data.certificate.arena_bytes


@streams
def test_loops_are_what_the_check_counted(graph: Graph, dice: random.Random) -> None:
    data = streamed_data(graph, dice)
    found, size = data.certificate, {value.name: value.bytes for value in data.graph.values}
    listed = loops(data.plan, data.graph, BOARD)

    assert tuple(loop.op.name for loop in listed if loop.streamed) == found.streamed
    assert sum(loop.bytes_read for loop in listed) == found.bytes_read - sum(size[n] for n in found.paged_in)
    assert sum(loop.bytes_written for loop in listed) == found.bytes_written - sum(
        size[n] for n in found.paged_out
    )
    for loop in listed:
        assert data.plan.steps[loop.step] == Compute(loop.op.name, "loop", loop.streamed)
        assert loop.ram_bytes <= found.ram_bytes[loop.step]


plans = given(seed=st.integers(0, 2**20), forget=st.floats(0, 1), page=st.floats(0, 1))


@plans
@settings(max_examples=60, deadline=None)
def test_the_groups_add_up_to_the_certificate(seed: int, forget: float, page: float) -> None:
    data = data_of(seed, forget, page)
    found = trace(data.plan, GRAPH, BOARD)

    together = tuple(sum(sizes) for sizes in zip(*(found.bytes_by_group[g] for g in GROUPS), strict=True))
    assert together == data.certificate.ram_bytes


@plans
@settings(max_examples=60, deadline=None)
def test_the_stays_are_those_of_the_arena(seed: int, forget: float, page: float) -> None:
    data = data_of(seed, forget, page)
    found = trace(data.plan, GRAPH, BOARD)

    size = {value.name: value.bytes for value in GRAPH.values}
    assert {n: tuple(s.offset for s in stays) for n, stays in found.stays_of.items()} == data.plan.addresses
    assert max(stay.offset + size[stay.value] for stay in found.stays) == data.certificate.arena_bytes


@pytest.mark.parametrize("cost_model", ["full", "poet"])
@pytest.mark.parametrize("device", [BOARD, WATTS], ids=lambda device: device.name)
@plans
@settings(max_examples=20, deadline=None)
def test_the_parts_add_up_to_the_price(
    device: Device, cost_model: CostModel, seed: int, forget: float, page: float
) -> None:
    data = data_of(seed, forget, page, device=device, cost_model=cost_model)
    found = break_down(data, trace(data.plan, GRAPH, device))

    assert found.seconds.total == pytest.approx(data.certificate.seconds, rel=1e-9)
    assert found.joules.total == pytest.approx(data.certificate.joules, rel=1e-9)
    assert found.plain_seconds.total == pytest.approx(data.plain.seconds, rel=1e-9)
    assert found.plain_joules.total == pytest.approx(data.plain.joules, rel=1e-9)
    assert found.extra_joules == pytest.approx(data.certificate.joules / data.plain.joules - 1, rel=1e-9)


def test_plain_training_holds_what_the_check_says() -> None:
    plain = replay(plain_steps(GRAPH), GRAPH, BOARD)
    found = trace_plain(GRAPH, BOARD)

    assert sum(at_peak(found)[1].values()) == plain.peak_bytes
    assert {moment.what for moment in found.moments} == {"compute", "free"}
    assert [m.name for m in found.moments if m.updates] == ["update3", "update2", "update1"]


@pytest.mark.parametrize("cost_model", ["full", "poet"])
@pytest.mark.parametrize("device", [BOARD, WATTS], ids=lambda device: device.name)
def test_plain_training_is_the_planners(device: Device, cost_model: CostModel) -> None:
    plan = plain_plan(GRAPH, device, cost_model=cost_model)
    plain = replay(plain_steps(GRAPH), GRAPH, device, cost_model=cost_model)

    assert (plan.peak_bytes, plan.seconds, plan.joules) == (plain.peak_bytes, plain.seconds, plain.joules)


def test_the_backward_pass_begins_where_the_first_gradient_is_made() -> None:
    found = trace_plain(GRAPH, BOARD)

    assert found.backward_begin is not None
    assert found.moments[found.backward_begin].name == "criterion"


def test_the_line_of_plain_training_follows_the_plan_op_by_op() -> None:
    data = data_of(1)
    sizes = plain_line(data, trace(data.plan, GRAPH, BOARD))

    assert len(sizes) == len(data.plan.steps)
    assert max(sizes) == data.plain.peak_bytes
    firsts = {}
    for step, size in zip(data.plan.steps, sizes, strict=True):
        if isinstance(step, Compute):
            firsts.setdefault(step.op, size)
    plain = zip(plain_steps(GRAPH), data.plain.ram_bytes, strict=True)
    assert firsts == {step.op: size for step, size in plain if isinstance(step, Compute)}


def plan_of_steps(graph: Graph, steps: tuple[Step, ...], homes: tuple[str, ...] = ()) -> Plan:
    found = replay(steps, graph, BOARD, homes=homes)
    packed = place(steps, graph, homes)
    return msgspec.structs.replace(
        plan_of(plain_order(graph), graph, BOARD),
        steps=steps,
        addresses=packed.addresses,
        workspaces=packed.workspaces,
        budget=Budget(found.peak_bytes),
        peak_bytes=found.peak_bytes,
        seconds=found.seconds,
        joules=found.joules,
    )


class TestChoices:
    """Which values were away, and what that cost."""

    def found(self, data: ReportData) -> dict[str, Choice]:
        return {choice.value: choice for choice in choices(data, trace(data.plan, GRAPH, data.device))}

    @plans
    @settings(max_examples=60, deadline=None)
    def test_they_are_what_came_back(self, seed: int, forget: float, page: float) -> None:
        data = data_of(seed, forget, page)
        found = self.found(data)

        assert {c.value for c in found.values() if c.how != "recomputed"} >= set(data.plan.homes) & set(found)
        for choice in found.values():
            assert choice.times >= 1
            assert choice.idle_steps == sum(end - begin for begin, end in choice.gaps)
            assert choice.keep_peak_bytes >= choice.bytes
            returned = set(data.certificate.paged_in) if choice.how != "recomputed" else set(GRAPH.producer)
            assert choice.value in returned

    def test_nothing_is_away_where_everything_is_kept(self) -> None:
        assert self.found(data_of(0, forget=0.0, page=0.0)) == {}

    def test_a_value_that_was_paged(self) -> None:
        data = data_of(3, forget=0.9, page=1.0)
        choice = next(c for c in self.found(data).values() if c.how == "paged" and c.recompute is not None)

        read, write = BOARD.read_cost(choice.bytes), BOARD.write_cost(choice.bytes)
        assert choice.paid == pytest.approx(
            tuple(w + choice.times * r for r, w in zip(read, write, strict=True))
        )
        assert choice.paging == pytest.approx(choice.paid)
        assert choice.otherwise.startswith("recomputing: ")

    def test_what_is_brought_in_only_to_be_updated(self) -> None:
        """The state is overwritten in the step after its page-in."""
        steps = (
            Compute("linear1"), Compute("relu1"), Free("a1"), Compute("criterion"), Compute("backward1"),
            PageIn("m1"), Compute("update1"), PageOut("m1.next"), Free("m1.next"),
        )  # fmt: skip
        one = graph_of(1)
        found = replay(steps, one, BOARD, homes=("m1",))
        plan = msgspec.structs.replace(plan_of_steps(one, steps, homes=("m1",)), homes=("m1",))
        data = ReportData(Path("plan.json"), one, BOARD, plan, found, found)
        (choice,) = (c for c in choices(data, trace(plan, one, BOARD)) if c.value == "m1")

        assert (choice.how, choice.times, choice.gaps) == ("lives in the slower tier", 1, ((0, 5),))

    def test_a_parameter_that_lives_elsewhere(self) -> None:
        data = data_of(3, forget=0.9, page=1.0)
        choice = self.found(data)["w1"]

        assert choice.how == "lives in the slower tier"
        assert choice.gaps[0][0] == 0 or data.plan.steps[0].value == "w1"
        assert choice.otherwise == "none: no op makes it"
        assert choice.layer == "body.1"

    def test_a_value_that_was_recomputed(self) -> None:
        data = data_of(3, forget=1.0, page=0.0)
        choice = next(iter(self.found(data).values()))
        op = GRAPH.producer[choice.value]

        assert choice.how == "recomputed"
        assert choice.paid.joules == pytest.approx(choice.times * BOARD.op_cost(GRAPH, op).joules)
        assert choice.otherwise.startswith("paging: ")

    def test_a_value_that_came_back_in_both_ways(self) -> None:
        steps = (
            *(Compute(name) for name in ("linear1", "relu1")),
            Free("a1"),
            PageOut("h1"),
            Free("h1"),
            PageIn("h1"),
            Compute("linear2"),
            Free("h1"),
            *(Compute(name) for name in ("relu2", "criterion")),
            *(Compute(name) for name in ("linear1", "relu1")),
            *(Compute(name) for name in ("backward2", "update2", "backward1", "update1")),
        )
        two = graph_of(2)
        found = replay(steps, two, BOARD)
        plan = plan_of_steps(two, steps)
        data = ReportData(Path("plan.json"), two, BOARD, plan, check(plan, two, BOARD), found)
        choice = next(c for c in choices(data, trace(plan, two, BOARD)) if c.value == "h1")

        assert (choice.how, choice.times) == ("recomputed and paged", 2)
        size = choice.bytes
        costs = BOARD.write_cost(size), BOARD.read_cost(size), BOARD.op_cost(two, two.op["relu1"])
        assert choice.paid == pytest.approx(tuple(map(sum, zip(*costs, strict=True))))
        assert choice.otherwise.startswith("recomputing only: ")
        assert ", paging only: " in choice.otherwise

    def test_there_may_be_no_tier(self) -> None:
        alone = msgspec.structs.replace(
            BOARD, memory=msgspec.structs.replace(BOARD.memory, sd=None, flash=None)
        )
        found = self.found(data_of(3, forget=1.0, page=0.0, device=alone))

        assert found
        assert {choice.otherwise for choice in found.values()} == {"none: no tier to page to"}

    def test_the_price_is_in_what_is_minimized(self) -> None:
        data = data_of(3, forget=1.0, page=0.0)
        data = msgspec.structs.replace(data, plan=msgspec.structs.replace(data.plan, minimize="seconds"))

        assert all(choice.otherwise.endswith("s") for choice in self.found(data).values())

    def test_idle_power_is_part_of_a_price(self) -> None:
        data = data_of(3, forget=1.0, page=0.0, device=WATTS)
        choice = next(iter(self.found(data).values()))
        cost = WATTS.op_cost(GRAPH, GRAPH.producer[choice.value])

        assert choice.recompute is not None
        assert WATTS.compute.watts_idle > 0
        assert choice.recompute.joules == pytest.approx(
            choice.times * (cost.joules + cost.seconds * WATTS.compute.watts_idle)
        )


class TestStreamed:
    """What was streamed: how often, how much, for how long it was away, and what else could be done."""

    @streams
    def test_they_are_what_loops_moved(self, graph: Graph, dice: random.Random) -> None:
        data = streamed_data(graph, dice)
        found = {c.value: c for c in choices(data, trace(data.plan, data.graph, BOARD)) if c.streams}
        steps = [step for step in data.plan.steps if isinstance(step, Compute)]

        assert {name: choice.streams for name, choice in found.items()} == Counter(
            name for step in steps for name in step.streamed
        )
        moved = sum(loop.bytes_read + loop.bytes_written for loop in loops(data.plan, data.graph, BOARD))
        assert sum(choice.moved_bytes for choice in found.values()) == moved
        for choice in found.values():
            assert choice.keep_peak_bytes >= choice.bytes
            assert choice.idle_steps >= choice.streams
            assert choice.otherwise.startswith("in one piece: ")

    def found(self, budget: int | None = None, **changes: Any) -> dict[str, Choice]:
        """`f` makes y in two slices of 40 B from x and w; `g` reads it in four. Only w is updated."""
        device = msgspec.structs.replace(BOARD, **changes)
        streams, again = (Stream("w", 4, 12, 2), Stream("y", 0, 80, 2)), (Stream("y", 10, 90, 4),)
        ops = (
            Op("f", ("x",), ("y",), flops=3, options=(WHOLE, Option("two", (), 9, streams, 2)),
               updates=(("w", "w2"),), layer="body"),
            Op("g", ("y",), ("z",), flops=3, options=(WHOLE, Option("four", (), 0, again, 4))),
        )  # fmt: skip
        values = (
            Value("x", 5, "input"), Value("w", 8, "parameter"), Value("y", 80), Value("z", 1),
            Value("w2", 8, "parameter"),
        )  # fmt: skip
        graph = validate(Graph("two-loops", values, ops, ("z",)))
        steps = (Compute("f", "two", ("w", "y")), Free("x"), Compute("g", "four", ("y",)))
        cost = replay(steps, graph, device, homes=("w",))
        plan = msgspec.structs.replace(
            plan_of(plain_order(graph), graph, device),
            steps=steps,
            homes=("w",),
            addresses={"x": (0,), "z": (0,)},
            workspaces={"f": (5,), "g": (1,)},
            budget=Budget(budget or cost.peak_bytes),
            peak_bytes=cost.peak_bytes,
            seconds=cost.seconds,
            joules=cost.joules,
        )
        data = ReportData(Path("plan.json"), graph, device, plan, check(plan, graph, device), cost)
        return {choice.value: choice for choice in choices(data, trace(plan, graph, device))}

    def test_a_value_that_is_never_whole(self) -> None:
        choice = self.found()["y"]
        write, read = BOARD.write_cost(80, transfers=2), BOARD.read_cost(90, transfers=4)

        assert (choice.how, choice.times, choice.streams, choice.moved_bytes) == ("streamed", 0, 2, 170)
        assert choice.gaps == ((0, 3),)
        assert choice.keep_peak_bytes == 18 + 80  # f: x, a tile of w, 9 B of workspace
        assert choice.paid == pytest.approx((write.seconds + read.seconds, write.joules + read.joules))
        assert choice.layer == "body"

    def test_a_parameter_that_is_streamed_where_it_lives(self) -> None:
        choice = self.found()["w"]
        both = BOARD.write_cost(12, transfers=2), BOARD.read_cost(12, transfers=2)

        assert (choice.how, choice.streams, choice.moved_bytes) == ("lives in the slower tier", 1, 24)
        assert choice.gaps == ((0, 1),)
        assert choice.keep_peak_bytes == 18 - 4 + 8
        assert choice.paid.joules == pytest.approx(sum(cost.joules for cost in both))

    @pytest.mark.parametrize(
        ("budget", "words"), [(18, ", but 98 B of RAM"), (97, ", but 98 B of RAM"), (98, "")]
    )
    def test_in_one_piece_it_may_not_fit(self, budget: int, words: str) -> None:
        choice = self.found(budget)["y"]
        joules = BOARD.write_cost(80).joules + BOARD.read_cost(80).joules

        assert choice.otherwise == f"in one piece: {joules_text(joules)}{words}"
        assert choice.looks_dearer is not bool(words)
