"""Candidates from the time-indexed program: a coarse one soon, finer ones as time allows, each repaired.

Few of the program's memory rows bind, and dense rows are what makes it slow: it starts with those of the
fullest stages. It sees the RAM at the first execution of each op, not at the recomputations before it.
Where the replay of its plan exceeds the budget, a row is added at that stage or, if it has one, that much
RAM is reserved there, and the program solved again. On devices whose transfers run beside compute it cannot
see what waits for what: there one more candidate prices transfers as if compute stood still meanwhile, so
that fewer are made.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

import msgspec

from edgewise.devices import Device
from edgewise.plan.milp import Watch
from edgewise.plan.nouns import Compute
from edgewise.plan.problem import Candidate, Problem, Tiling, floor_bytes, judge
from edgewise.plan.time_indexed import TimeIndexed
from edgewise.plan.windowed import is_worth_it, windowed

FEW_OPS = 60
"""Up to this many ops, the fine program needs no coarse one before it."""

MANY_OPS = 100
"""Above this, the fine program takes few candidate stages a gap, so that it is solved in seconds."""

SMALL_VALUES = 100
"""Programs of up to this many values are not made smaller."""

NEGLIGIBLE = 0.005
"""Values that together take this share of the budget are always kept: they only make the program large."""

REPAIRS = 12
"""How often rows are added, or RAM reserved, at stages where the replay exceeds the budget."""

ALL_ROWS = 400
"""Up to this many ops, the program starts with a memory row at every stage that may be too full."""

WINDOWS = 40
"""Above that, it starts with one at the fullest stage of each of that many windows."""


FINEST = 24


WINDOWED_OPS = 150
"""Above this, windows of the program are solved before the whole of it."""

class _Level(NamedTuple):
    """How to build and solve a program: candidate stages a gap, relative gap, share of the time left."""

    most: int
    gap: float
    share: float
    serial: bool = False


def candidates(
    problem: Problem,
    *,
    gap: float,
    deadline: float,
    watch: Callable[[float], Watch],
    tilings: Mapping[int, Tiling] | None = None,
) -> Iterator[Candidate]:
    """Plans of ever finer programs; they need not fit, and one may be worse than the one before.

    Args:
        problem: what to plan.
        tilings: how to execute the ops that are tiled; none by default.
        gap: relative gap to which the finest program is solved.
        deadline: when to stop, by `time.monotonic`.
        watch: makes the watcher of a run from the unit of its objective.

    Raises:
        KeyboardInterrupt: Ctrl-C stopped a run; its incumbent was yielded before.
    """
    model = problem.tiled(tilings or {})
    serial = replace(model, device=_serial(problem.device))
    if len(problem.ops) > WINDOWED_OPS:
        negligible = _negligible_bytes(model)
        for seen in (model, serial) if problem.overlaps else (model,):
            yield from windowed(problem, seen, negligible=negligible, gap=gap, deadline=deadline, watch=watch)
        if not is_worth_it(problem, model, best, deadline):
            return
    for level in _levels(problem, gap):
        yield from _repaired(problem, serial if level.serial else model, level, deadline, watch)
        if time.monotonic() > deadline:
            return


def _levels(problem: Problem, gap: float) -> Iterator[_Level]:
    n = len(problem.ops)
    if FEW_OPS < n <= WINDOWED_OPS:
        yield _Level(1, max(gap, 0.05), 0.3)
    fine = 24 if n <= MANY_OPS else 8
    yield _Level(fine, gap, 0.6 if problem.overlaps else 0.9)
    if fine < FINEST:
        yield _Level(FINEST, gap, 0.5)
    if problem.overlaps:
        yield _Level(min(fine, 8), gap, 0.9, serial=True)


def _repaired(
    problem: Problem, model: Problem, level: _Level, deadline: float, watch: Callable[[float], Watch]
) -> Iterator[Candidate]:
    """Solve and replay; where that exceeds the budget add a row or reserve RAM; and so on until it fits."""
    reserve: dict[int, int] = {}
    crowded: dict[tuple[int, int], int] = {}
    stages = _fullest(model)
    negligible = _negligible_bytes(model)
    for _ in range(REPAIRS):
        limit = (deadline - time.monotonic()) * level.share
        if limit <= 0:
            return
        program = TimeIndexed(
            model,
            problem.budget.ram_bytes,
            most=level.most,
            negligible=negligible,
            reserve=reserve,
            stages=stages,
            crowded=crowded,
        )
        solution = program.solve(time_limit=limit, gap=level.gap, watch=watch(program.costs.unit))
        if solution.status == "infeasible" and negligible:
            negligible = 0
            continue
        candidate = judge(problem, *program.order(solution)) if solution.values is not None else None
        if candidate is not None:
            yield candidate
        if solution.interrupted:
            raise KeyboardInterrupt
        if candidate is None:
            return
        excess, again = _excess(problem, candidate)
        if not excess and not again:
            return
        reserve.update({t: reserve.get(t, 0) + excess[t] for t in stages & excess.keys()})
        stages |= excess.keys()
        crowded.update({at: crowded[at] + again[at] if at in crowded else 0 for at in again})


def _fullest(problem: Problem) -> set[int]:
    """The fullest stage of each window, where the plain plan exceeds the budget: these rows bind most."""
    n = len(problem.ops)
    excess = problem.excess_bytes
    width = 1 if n <= ALL_ROWS else max(1, n // WINDOWS)
    fullest = {max(range(at, min(at + width, n)), key=excess.__getitem__) for at in range(0, n, width)}
    return {t for t in fullest if excess[t] > 0}


def _excess(problem: Problem, candidate: Candidate) -> tuple[dict[int, int], dict[tuple[int, int], int]]:
    """By how many bytes the replay exceeds the budget: per stage, and per recomputation `(op, stage)`."""
    turn = {op.name: t for t, op in enumerate(problem.ops)}
    first: dict[int, int] = {}
    again: dict[tuple[int, int], int] = {}
    stage = 0
    for step, bytes_ in zip(candidate.steps, candidate.certificate.ram_bytes, strict=True):
        over = bytes_ - problem.budget.ram_bytes
        if over > 0 and isinstance(step, Compute) and turn[step.op] < stage:
            rerun = turn[step.op], stage
            again[rerun] = max(over, again.get(rerun, 0))
        elif over > 0:
            first[stage] = max(over, first.get(stage, 0))
        if isinstance(step, Compute):
            stage = max(stage, turn[step.op] + 1)
    return first, again


def _negligible_bytes(problem: Problem) -> int:
    """Size up to which values are kept anyway; 0 for small programs, and where there is no room for it."""
    if len(problem.names) <= SMALL_VALUES:
        return 0
    ram_bytes = problem.budget.ram_bytes
    room = min(NEGLIGIBLE * ram_bytes, 0.2 * (ram_bytes - floor_bytes(problem)))
    negligible, total = 0, 0
    sizes = sorted(problem.bytes)
    for size in sorted(set(sizes)):
        total += size * sizes.count(size)
        if total > room:
            break
        negligible = size
    return negligible


def _serial(device: Device) -> Device:
    """`device`, if it could do only one thing at a time."""
    paging = device.memory.paging
    if paging is None:
        return device
    name, tier = paging
    memory = msgspec.structs.replace(device.memory, **{name: msgspec.structs.replace(tier, overlap=False)})
    return msgspec.structs.replace(device, memory=memory)
