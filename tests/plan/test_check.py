"""check refuses every plan that breaks a rule, each with its words; no mutation of a plan slips through."""

import random
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.errors import PlanRejected
from edgewise.graph import Graph, Op, Option, Value, validate
from edgewise.plan import Budget, Compute, Free, PageIn, PageOut, Plan, check, replay
from edgewise.plan.schedule import Action, plain_order
from tests.plan.graphs import DISKLESS, SMALL_TIER, graphs
from tests.plan.oracle import results
from tests.support import DEVICE, plan_of, random_order

IN_PLACE = (Option("whole"), Option("in-place", (("a", "b"),)))
GRAPH = validate(
    Graph(
        "tiny",
        (
            Value("x", 8, "input"),
            Value("w", 16, "parameter"),
            Value("a", 24),
            Value("b", 24),
            Value("l", 4),
            Value("g", 16, "gradient"),
            Value("w'", 16, "parameter"),
        ),
        (
            Op("first", ("x", "w"), ("a",), flops=100),
            Op("second", ("a",), ("b",), flops=100, options=IN_PLACE),
            Op("loss", ("b",), ("l",), flops=10, recomputable=False),
            Op("back", ("l", "a"), ("g",), flops=200),
            Op("step", ("g",), (), flops=20, updates=(("w", "w'"),)),
        ),
        ("l",),
    )
)
_ORDER = ["in w", "first", "out x", "second", "loss", "in x", "in w", "first", "back", "step"]
ORDER = tuple(Action(*w.split()) if " " in w else Action("compute", w) for w in _ORDER)
PLAN = plan_of(ORDER, GRAPH, homes=frozenset({"w"}))
PLAIN = plan_of(plain_order(GRAPH), GRAPH)


def at(step: object, nth: int = 0) -> int:
    """Index of the `nth` occurrence of `step` in PLAN."""
    return [i for i, other in enumerate(PLAN.steps) if other == step][nth]


def before(step: object, new: object, nth: int = 0) -> tuple:
    index = at(step, nth)
    return (*PLAN.steps[:index], new, *PLAN.steps[index:])


def without(step: object, nth: int = 0) -> tuple:
    index = at(step, nth)
    return PLAN.steps[:index] + PLAN.steps[index + 1 :]


def test_the_plan_that_is_tampered_with_has_everything_and_is_valid() -> None:
    found = check(PLAN, GRAPH, DEVICE)
    assert (found.recomputed, found.paged_out, found.paged_in) == (("first",), ("x", "w'"), ("w", "x", "w"))
    assert Compute("second", "in-place") in PLAN.steps
    assert (found.bytes_written, found.bytes_read) == (24, 40)
    assert found.arena_bytes >= found.peak_bytes == max(found.ram_bytes)
    assert check(PLAIN, GRAPH, DEVICE).recomputed == ()


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (lambda: before(Compute("loss"), Free("nope")), "names `nope`, which is not in the graph"),
        (lambda: before(Compute("loss"), Compute("nope")), "computes `nope`, which is not in the graph"),
        (
            lambda: before(Compute("loss"), Compute("loss", "tiled")),
            "computes `loss` by `tiled`, which it does not offer",
        ),
        (
            lambda: before(Compute("loss"), Compute("loss", "whole", ("b",))),
            "by `whole` and streams `b`, which that does not offer",
        ),
        (lambda: before(Compute("loss"), Compute("loss")), "recomputes `loss`, which must run only once"),
        (lambda: without(Compute("first")), "computes `second` without its operand `a` in RAM"),
        (lambda: before(Compute("loss"), Free("a")), "frees `a`, which is not in RAM"),
        (lambda: before(Compute("loss"), PageOut("a")), "pages out `a`, which is not in RAM"),
        (lambda: before(Compute("loss"), PageIn("a")), "pages in `a`, which was not paged out"),
        (lambda: before(Compute("first"), PageIn("w")), "pages in `w`, which is in RAM already"),
        (lambda: (*PLAN.steps, PageIn("w")), "pages in `w`, which was overwritten by its update"),
        (lambda: (*PLAN.steps, Compute("step")), "computes `step` without its operand `g` in RAM"),
        (lambda: before(Free("w'"), Compute("first")), "computes `first` without its operand `x` in RAM"),
        (lambda: without(Compute("step")), "pages out `w'`, which is not in RAM"),
        (lambda: PLAN.steps[: at(Compute("step"))], "the end, but the updates of `step` were never made"),
        (lambda: without(PageOut("w'")), "but `w'` was not brought back to the slower tier where it lives"),
        (lambda: (*PLAN.steps, Free("l")), "the end, but the required value `l` is not in RAM"),
    ],
)
def test_wrong_steps(steps: Callable[[], tuple], message: str) -> None:
    plan = msgspec.structs.replace(PLAN, steps=steps())
    with pytest.raises(PlanRejected, match=f"Step \\d+ of the plan .*({message}).*plan again"):
        check(plan, GRAPH, DEVICE)


def addresses(name: str, *offsets: int) -> dict[str, tuple[int, ...]]:
    return {**PLAN.addresses, name: offsets}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"graph_sha256": "0" * 64}, "made for another graph (`tiny`, digest 000000000000; this one has"),
        ({"device": "moon"}, "This plan was made for device `moon`, not `test-board`. Plan again."),
        ({"homes": ("x",)}, "`x` cannot live in the slower tier: it is no parameter or state."),
        ({"homes": ("nope",)}, "`nope` cannot live in the slower tier: it is no parameter or state."),
        ({"addresses": addresses("l")}, "Stay 0 of `l` in RAM has no address in the plan."),
        ({"addresses": addresses("l", -4)}, "`l` has the negative address -4."),
        ({"addresses": addresses("l", PLAN.addresses["b"][0] + 23)}, "overlaps `b`"),
        (
            {"addresses": addresses("b", 10_000)},
            "`b` overwrites its operand, but has another address (10000, not",
        ),
        ({"addresses": addresses("w'", 10_000)}, "`w'` overwrites its operand, but has another address"),
        ({"addresses": addresses("l", 10_000, 10_000)}, "gives addresses to stays in RAM that do not happen"),
        ({"addresses": addresses("nope", 0)}, "gives addresses to stays in RAM that do not happen"),
        ({"peak_bytes": PLAN.peak_bytes - 1}, f"claims a peak of {PLAN.peak_bytes - 1} B, but needs"),
        ({"seconds": PLAN.seconds * 0.999}, " s, but takes "),
        ({"joules": PLAN.joules * 1.001}, " J, but takes "),
        ({"seconds": float("nan")}, "claims nan s"),
        ({"gap": -0.1}, "claims to be feasible with a gap of -0.1"),
        ({"gap": float("nan")}, "claims to be feasible with a gap of nan"),
        ({"status": "optimal"}, "claims to be optimal with a gap of 1.0"),
        ({"budget": Budget(PLAN.peak_bytes - 1)}, f"needs {PLAN.peak_bytes} B of RAM; its budget is"),
        ({"budget": Budget(PLAN.peak_bytes, seconds=PLAN.seconds / 2)}, " s; its budget is "),
        ({"budget": Budget(PLAN.peak_bytes, joules=PLAN.joules / 2)}, " J; its budget is "),
    ],
)
def test_wrong_claims(changes: dict, message: str) -> None:
    with pytest.raises(PlanRejected) as caught:
        check(msgspec.structs.replace(PLAN, **changes), GRAPH, DEVICE)
    assert message in str(caught.value)


def test_no_tier_to_page_to() -> None:
    with pytest.raises(PlanRejected, match="The plan pages, but device `diskless` has no tier to page to"):
        replay(PLAN.steps, GRAPH, DISKLESS, homes=PLAN.homes)
    with pytest.raises(PlanRejected, match="pages `x`, but device `diskless` has no tier to page to"):
        replay((PageOut("x"),), GRAPH, DISKLESS)


def test_the_tier_is_full() -> None:
    """24 B hold x beside w, whose updated value takes the slot of w; they do not hold l as well."""
    assert replay(PLAN.steps, GRAPH, SMALL_TIER, homes=PLAN.homes).paged_out == ("x", "w'")
    with pytest.raises(PlanRejected, match="stores `l`: 28 B do not fit the 24 B of `flash`"):
        replay((*PLAN.steps, PageOut("l")), GRAPH, SMALL_TIER, homes=PLAN.homes)


def test_a_graph_that_differs_in_one_byte_is_another() -> None:
    values = tuple(msgspec.structs.replace(v, bytes=v.bytes + (v.name == "x")) for v in GRAPH.values)
    with pytest.raises(PlanRejected, match="made for another graph"):
        check(PLAN, msgspec.structs.replace(GRAPH, values=values), DEVICE)


def _random_plan(graph: Graph, dice: random.Random) -> Plan:
    order, homes = random_order(graph, dice, forget=dice.random(), page=dice.random())
    return plan_of(order, graph, homes=homes)


def _mutated(plan: Plan, graph: Graph, dice: random.Random) -> tuple:
    steps = list(plan.steps)
    here = dice.randrange(len(steps) + 1)
    match dice.choice(["drop", "swap", "repeat", "insert"]):
        case "drop" if here < len(steps):
            steps.pop(here)
        case "swap" if here < len(steps):
            steps.insert(dice.randrange(len(steps)), steps.pop(here))
        case "repeat" if here < len(steps):
            steps.insert(dice.randrange(len(steps)), steps[here])
        case _:
            name = dice.choice(graph.values).name
            op = dice.choice(graph.ops)
            by = Compute(op.name, dice.choice(op.options).name)
            steps.insert(here, dice.choice([Free(name), PageIn(name), PageOut(name), by]))
    return tuple(steps)


@given(graphs, st.randoms(use_true_random=False))
def test_a_mutated_plan_is_refused_or_computes_the_same(graph: Graph, dice: random.Random) -> None:
    plan = _random_plan(graph, dice)
    wanted = results(plan_of(plain_order(graph), graph).steps, graph)
    assert results(plan.steps, graph, plan.homes) == wanted
    for _ in range(10):
        steps = _mutated(plan, graph, dice)
        try:
            found = replay(steps, graph, DEVICE, homes=plan.homes)
        except PlanRejected:
            continue
        assert results(steps, graph, plan.homes) == wanted
        assert len(found.ram_bytes) == len(steps)
        assert all(live <= peak for live, peak in zip(found.live_bytes, found.ram_bytes, strict=True))


@given(graphs, st.randoms(use_true_random=False))
def test_a_plan_whose_values_are_moved_onto_each_other_is_refused(graph: Graph, dice: random.Random) -> None:
    plan = _random_plan(graph, dice)
    check(plan, graph, DEVICE)
    held = {value.name for value in graph.sources() if value.name not in plan.homes and value.bytes}
    for one, other in [(a, b) for a in sorted(held) for b in sorted(held) if a < b][:3]:
        moved = {**plan.addresses, one: (plan.addresses[other][0], *plan.addresses[one][1:])}
        with pytest.raises(PlanRejected, match=r"overlaps|another address"):
            check(msgspec.structs.replace(plan, addresses=moved), graph, DEVICE)
