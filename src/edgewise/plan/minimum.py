"""The least RAM with which any plan exists, and the op that sets it.

Where the device can page and no limit but RAM binds, holding nothing between ops is possible, and the largest
working set is the answer, exactly. Otherwise small graphs are searched exactly, by bisection. For larger ones
the answer is the least that a plan was found for: by the greedy pass with less and less RAM, or where that
finds little, by the time-indexed program with its memory rows as the objective. It is exact only where it
meets the bound of `standing.py`; between that and the answer a plan may exist that was not found.
"""

import time
from dataclasses import dataclass

from edgewise.plan.greedy import RULES, greedy
from edgewise.plan.improve import improve
from edgewise.plan.problem import Candidate, Problem, fits, floor_bytes, judge, page_everything
from edgewise.plan.schedule import plain_order
from edgewise.plan.search import search
from edgewise.plan.standing import standing_bytes
from edgewise.plan.tilings import cheapest_tilings
from edgewise.plan.time_indexed import TimeIndexed

SEARCHED_OPS = 12
"""Graphs of up to this many ops are searched exactly."""

UNLIMITED = 1 << 62

FINE = 0.002
"""The greedy pass with less and less RAM ends when it is this share of the answer from what it cannot do."""

PROGRAM_OPS = 150
"""Up to this many ops, and wherever the device pages, the program tries to better the greedy pass."""


@dataclass(frozen=True)
class Least:
    """Least RAM, a plan, and the op whose working set is its peak (`None`: the start or the end of the step).

    `exact` says that no plan needs less; on graphs of more than `SEARCHED_OPS` ops, none with their order of
    first executions. Otherwise a plan with less may exist, but was not found.
    """

    ram_bytes: int
    op: str | None
    exact: bool
    candidate: Candidate


def least_possible(problem: Problem) -> int:
    """RAM below which no plan can be. Small graphs are searched in more orders than `standing.py` bounds."""
    return floor_bytes(problem) if len(problem.ops) <= SEARCHED_OPS else standing_bytes(problem)


def least_ram(problem: Problem, *, time_limit: float) -> Least | None:
    """The least RAM for `problem`, whose own RAM budget is ignored; `None` if no amount is enough.

    Unless the result says `exact`, it is the least that a plan was found for, not the least there is.
    """
    deadline = time.monotonic() + time_limit
    free = problem.with_ram(UNLIMITED)
    plain = judge(free, plain_order(problem.graph))
    paged = (_paged(free, tiled=False), _paged(free, tiled=True))
    found = [c for c in (plain, *paged) if c is not None and fits(free, c)]
    if not found:
        return None
    floor = floor_bytes(problem)
    best = min(found, key=lambda c: (c.certificate.peak_bytes, c.rank))
    if best.certificate.peak_bytes > floor:
        exact = problem.is_additive and problem.budget.written_bytes is None and not problem.has_tiles
        if len(problem.ops) <= SEARCHED_OPS and exact:
            return _bisect(problem, floor, best, deadline)
        floor = least_possible(problem)
        best = _descend(problem, floor, best, deadline)
        is_open = best.certificate.peak_bytes > floor
        if is_open and (problem.can_page or len(problem.ops) <= PROGRAM_OPS):
            best = _smallest(free, best, deadline)
    return _least(best, exact=best.certificate.peak_bytes <= floor)


def _paged(problem: Problem, *, tiled: bool) -> Candidate | None:
    """Everything paged or, where that takes more RAM than must be, streamed."""
    if not problem.can_page:
        return None
    tilings = cheapest_tilings(problem, floor_bytes(problem)) if tiled else {}
    return judge(problem, *page_everything(problem.tiled(tilings or {})))


def _bisect(problem: Problem, floor: int, best: Candidate, deadline: float) -> Least:
    """Exact search with less and less RAM. Whatever is found says how much it needs."""
    low, exact = floor, True
    while low < best.certificate.peak_bytes:
        tried = problem.with_ram((low + best.certificate.peak_bytes) // 2)
        found = search(tried, time_limit=deadline - time.monotonic())
        candidate = judge(tried, found.order, found.homes) if found.order is not None else None
        if candidate is not None and fits(tried, candidate):
            best = candidate
        elif found.finished:
            low = tried.budget.ram_bytes + 1
        else:
            exact = False
            break
    return _least(best, exact=exact)


def _descend(problem: Problem, floor: int, best: Candidate, deadline: float) -> Candidate:
    """The greedy plan with the least RAM: by each rule in turn, at the bound and then by bisection."""
    for rule in RULES:
        low, tried = floor, floor
        while low < best.certificate.peak_bytes and time.monotonic() < deadline:
            within = problem.with_ram(tried)
            found = [c for c in greedy(within, (rule,)) if fits(within, c)]
            if found:
                best = min(found, key=lambda c: (c.certificate.peak_bytes, c.rank))
            else:
                low = tried + 1
            peak = best.certificate.peak_bytes
            if peak - low <= FINE * peak:
                break
            tried = (low + peak) // 2
    return best


def _smallest(problem: Problem, best: Candidate, deadline: float) -> Candidate:
    """The plan of the time-indexed program that minimizes RAM, if it is smaller than `best`."""
    tilings = cheapest_tilings(problem, floor_bytes(problem)) or {}
    ti = TimeIndexed(problem.tiled(tilings), None)
    solution = ti.solve(time_limit=max(1.0, deadline - time.monotonic()), gap=1e-3)
    if solution.values is None:
        return best
    candidate = judge(problem, *ti.order(solution))
    if candidate is None or not fits(problem, candidate):
        return best
    if candidate.certificate.peak_bytes >= best.certificate.peak_bytes:
        return best
    within = problem.with_ram(candidate.certificate.peak_bytes)
    return improve(within, candidate, time_limit=max(1.0, deadline - time.monotonic()))


def _least(best: Candidate, *, exact: bool) -> Least:
    found = best.certificate
    peak = found.peak_bytes
    op = None
    for step, bytes_ in zip(best.steps, found.ram_bytes, strict=True):
        if bytes_ == peak and hasattr(step, "op"):
            op = step.op
            break
    return Least(peak, op, exact, best)
