"""The replay behind the charts agrees with the independent check, whatever the plan."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.devices import CostModel, Device, load_device
from edgewise.graph import Graph
from edgewise.plan import Budget, Compute, Free, PageIn, PageOut, Plan, Step, check, plain_plan, replay
from edgewise.plan.addresses import place
from edgewise.report import ReportData
from edgewise.report.breakdown import break_down
from edgewise.report.categories import at_peak
from edgewise.report.choices import Choice, choices
from edgewise.report.timeline import plain_line
from edgewise.report.trace import GROUPS, plain_steps, trace, trace_plain
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
    plan = plan_at_random(GRAPH, seed, forget=forget, page=page, device=device)
    found = replay(plan.steps, GRAPH, device, homes=plan.homes, cost_model=cost_model)
    plan = msgspec.structs.replace(
        plan, cost_model=cost_model, seconds=found.seconds, joules=found.joules, peak_bytes=found.peak_bytes
    )
    plain = replay(plain_steps(GRAPH), GRAPH, device, cost_model=cost_model)
    return ReportData(Path("plan.json"), GRAPH, device, plan, check(plan, GRAPH, device), plain)


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


def plan_of_steps(graph: Graph, steps: tuple[Step, ...]) -> Plan:
    found = replay(steps, graph, BOARD)
    return msgspec.structs.replace(
        plan_of(plain_order(graph), graph, BOARD),
        steps=steps,
        addresses=place(steps, graph).addresses,
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
