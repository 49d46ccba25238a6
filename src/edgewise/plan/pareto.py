"""The trade-off curve: what a step costs at budgets of RAM from the least to plain training's.

Budgets are close together near the least RAM, where costs change fastest. They are planned in parallel
processes, each by itself; then, from small to large, the plan of the next smaller budget is a candidate for
the larger, where some of what it does can be left out. So a curve never rises. The knee is the point
farthest below the straight line between the ends, both axes scaled to 1 (Satopaa et al., *Finding a kneedle
in a haystack*, 2011, section III).
"""

import multiprocessing
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Literal, NamedTuple

import msgspec

from edgewise.devices import CostModel, Device
from edgewise.errors import BudgetInfeasible, CorruptArtifact
from edgewise.graph import Graph, decode_graph, encode_graph
from edgewise.plan.check import check
from edgewise.plan.file import decode_plan, encode_plan
from edgewise.plan.improve import improve
from edgewise.plan.nouns import Budget, Compute, Objective, PageIn, PageOut, Plan, Status
from edgewise.plan.planner import make_plan, minimum_ram, plain_plan, planned
from edgewise.plan.problem import Candidate, Problem, fits, judge
from edgewise.plan.schedule import Action, Order

FORMAT: Literal["edgewise.pareto/1"] = "edgewise.pareto/1"

POINTS = 12
"""Budgets of a curve."""

MOST_POINTS = 1000
"""Points of a curve that is read from a file."""

CLOSEST = 0.01
"""Second budget, as a share of the way from the least RAM to the plain peak."""

REUSE_SECONDS = 2.0
"""Most time to improve a smaller budget's plan for a larger one."""

Told = Callable[[int, int], None]
"""Called with the number of budgets planned so far, and of all."""


class Point(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A budget, and what the plan for it needs by the independent check; `streamed` counts ops."""

    ram_bytes: int
    peak_bytes: int
    arena_bytes: int
    seconds: float
    joules: float
    status: Status
    gap: float
    recomputed: int
    paged_in: int
    streamed: int = 0
    bytes_written: int = 0


class Curve(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Points by rising budget; `knee` is the index of one of them. `pareto.json` holds this."""

    graph: str
    graph_sha256: str
    device: str
    minimize: Objective
    cost_model: CostModel
    seconds_limit: float | None
    knee: int
    points: tuple[Point, ...]


class TradeOff(NamedTuple):
    """The curve, and the plan of each of its points."""

    curve: Curve
    plans: tuple[Plan, ...]


@dataclass(frozen=True)
class _Task:
    """What a process is to plan. Graph and device travel as JSON."""

    graph: bytes
    device: bytes
    budget: Budget
    minimize: Objective
    cost_model: CostModel
    time_limit: float


def trade_off(  # noqa: PLR0913  -- what `make_plan` takes, and how many at once
    graph: Graph,
    device: Device,
    *,
    seconds: float | None = None,
    minimize: Objective = "joules",
    cost_model: CostModel = "full",
    points: int = POINTS,
    time_limit: float = 60.0,
    processes: int | None = None,
    told: Told | None = None,
) -> TradeOff:
    """The curve of `graph` on `device`, in about `time_limit` seconds of `processes` (else of all cores).

    Raises:
        BudgetInfeasible: no RAM is enough, because of `seconds`.
    """
    least = minimum_ram(
        graph, device, seconds=seconds, minimize=minimize, cost_model=cost_model, time_limit=time_limit
    )
    plain = plain_plan(graph, device, minimize=minimize, cost_model=cost_model)
    budgets = [Budget(ram, seconds) for ram in budgets_between(least.ram_bytes, plain.peak_bytes, points)]
    workers = min(processes or os.cpu_count() or 1, len(budgets))
    share = time_limit * workers / len(budgets)
    encoded = encode_graph(graph), msgspec.json.encode(device)
    tasks = [_Task(*encoded, budget, minimize, cost_model, share) for budget in budgets]
    alone = _solve_all(tasks, workers, told)
    plans: list[Plan] = []
    for budget, plan in zip(budgets, alone, strict=True):
        problem = Problem(graph, device, budget, minimize, cost_model)
        plans.append(_better(problem, plan, plans[-1] if plans else least.plan))
    curve = _curve(plans, graph, device)
    return TradeOff(curve, tuple(plans))


def budgets_between(least: int, plain: int, points: int = POINTS) -> list[int]:
    """Rising budgets: the least, then growing shares of the way to the plain peak, in a geometric series."""
    if points < 2 or plain <= least:
        return [max(least, plain)]
    shares = [CLOSEST ** (1 - i / (points - 2)) for i in range(points - 1)] if points > 2 else [1.0]
    return sorted({least, *(int(least + share * (plain - least)) for share in shares[:-1]), plain})


def _solve_all(tasks: list[_Task], workers: int, told: Told | None) -> list[Plan | None]:
    if workers == 1:
        return _count((_solve(task) for task in tasks), len(tasks), told)
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        return _count(pool.map(_solve, tasks), len(tasks), told)


def _count(found: Iterable[bytes | None], total: int, told: Told | None) -> list[Plan | None]:
    plans = []
    for number, data in enumerate(found, start=1):
        plans.append(None if data is None else decode_plan(data, where="the plan of a process"))
        if told is not None:
            told(number, total)
    return plans


def _solve(task: _Task) -> bytes | None:
    """Plan one budget; `None` if nothing was found in time."""
    graph = decode_graph(task.graph, where="the graph of a process")
    device = msgspec.json.decode(task.device, type=Device)
    try:
        plan = make_plan(
            graph,
            device,
            task.budget,
            minimize=task.minimize,
            cost_model=task.cost_model,
            time_limit=task.time_limit,
        )
    except BudgetInfeasible:
        return None
    return encode_plan(plan)


def _better(problem: Problem, plan: Plan | None, smaller: Plan) -> Plan:
    """The cheapest of `plan`, the plan for a smaller budget, and what the latter becomes with more RAM."""
    bound = 0.0
    if plan is not None:
        own = judge(problem, order_of(plan, problem.graph), frozenset(plan.homes))
        bound = 0.0 if own is None else own.overhead * (1 - plan.gap)
    reused = [
        planned(problem, candidate, min(bound, candidate.overhead), smaller.solver)
        for candidate in _reused(problem, smaller)
        if plan is None or candidate.rank < _rank(plan)
    ]
    return min([*([plan] if plan else []), *reused], key=_rank, default=smaller)


def _rank(plan: Plan) -> tuple[float, float]:
    return (plan.joules, plan.seconds) if plan.minimize == "joules" else (plan.seconds, plan.joules)


def _reused(problem: Problem, smaller: Plan) -> list[Candidate]:
    """The plan of a smaller budget, as it is and without what the larger one makes needless."""
    lazy = judge(problem, order_of(smaller, problem.graph), frozenset(smaller.homes))
    if lazy is None:
        return []
    same = lazy.retimed(problem, smaller.steps, check(smaller, problem.graph, problem.device))
    better = improve(problem, lazy, time_limit=REUSE_SECONDS) if fits(problem, lazy) else same
    return [
        candidate for candidate in {same.rank: same, better.rank: better}.values() if fits(problem, candidate)
    ]


def order_of(plan: Plan, graph: Graph) -> Order:
    """The actions of `plan`; a loop is named, and which values it streams."""
    tiled = {(op.name, option.name) for op in graph.ops for option in op.options if option.is_tiled}
    order: list[Action] = []
    for step in plan.steps:
        match step:
            case Compute(op, option, streamed):
                loop = option if (op, option) in tiled else ""
                order.append(Action("compute", op, loop, frozenset(streamed)))
            case PageOut(value):
                order.append(Action("out", value))
            case PageIn(value):
                order.append(Action("in", value))
            case _:
                pass
    return tuple(order)


def _curve(plans: list[Plan], graph: Graph, device: Device) -> Curve:
    points = tuple(_point(plan, graph, device) for plan in plans)
    first = plans[0]
    costs = [point.joules if first.minimize == "joules" else point.seconds for point in points]
    return Curve(
        graph=graph.name,
        graph_sha256=graph.sha256,
        device=device.name,
        minimize=first.minimize,
        cost_model=first.cost_model,
        seconds_limit=first.budget.seconds,
        knee=knee([point.ram_bytes for point in points], costs),
        points=points,
    )


def _point(plan: Plan, graph: Graph, device: Device) -> Point:
    found = check(plan, graph, device)
    return Point(
        ram_bytes=plan.budget.ram_bytes,
        peak_bytes=found.peak_bytes,
        arena_bytes=found.arena_bytes,
        seconds=found.seconds,
        joules=found.joules,
        status=plan.status,
        gap=plan.gap,
        recomputed=len(found.recomputed),
        paged_in=len(found.paged_in),
        streamed=len(set(found.streamed)),
        bytes_written=found.bytes_written,
    )


def knee(sizes: list[int], costs: list[float]) -> int:
    """Index of the point farthest below the line from the first to the last; 0 if none is below it."""
    width, height = (sizes[-1] - sizes[0]) or 1, (costs[0] - costs[-1]) or 1.0
    below = [
        1 - (size - sizes[0]) / width - (cost - costs[-1]) / height
        for size, cost in zip(sizes, costs, strict=True)
    ]
    return max(range(len(below)), key=below.__getitem__)


def encode_curve(curve: Curve) -> bytes:
    """`curve` as the bytes of a `pareto.json`."""
    return msgspec.json.format(msgspec.json.encode({"format": FORMAT, **msgspec.structs.asdict(curve)}))


def decode_curve(data: bytes, *, where: str = "pareto.json") -> Curve:
    """The curve in `data`; `where` names it in errors.

    Raises:
        CorruptArtifact: no JSON, another format, an unknown or missing field, or no such knee.
    """
    try:
        fields = msgspec.json.decode(data, type=dict[str, object])
        found = fields.pop("format", None)
        if found != FORMAT:
            raise CorruptArtifact(f"{where}: format `{found}` is not `{FORMAT}`, the one this version reads.")
        curve = msgspec.convert(fields, Curve)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptArtifact(
            f"{where} is not a trade-off curve: {error}. Plan again with `--pareto`."
        ) from error
    if len(curve.points) > MOST_POINTS:
        raise CorruptArtifact(f"{where}: {len(curve.points):,} points are more than {MOST_POINTS:,}.")
    if not 0 <= curve.knee < len(curve.points):
        raise CorruptArtifact(
            f"{where}: the knee is point {curve.knee} of {len(curve.points)}. Plan again with `--pareto`."
        )
    return curve
