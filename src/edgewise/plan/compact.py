"""Addresses within the budget of RAM, where that takes no more than to prefetch a little less.

A page-in that begins early fills RAM that would be free, and where RAM is full all the time there is no
order of values in it without holes. So where the arena exceeds the budget, the transfers are timed again
for less and less RAM, at last with none begun early, until it fits. What is computed and paged stays the
same. Waiting for transfers can cost more than what other plans recompute: of those that the search found, the
cheapest whose arena fits is taken where it costs less. All this only where it is little dearer, or the arena
far too large. Where nothing fits and the device has a tier, plans that hold less than RAM is large are tried
too, and one that is little dearer is taken.
"""

import time
from collections.abc import Sequence

from edgewise.plan.addresses import Placement, place
from edgewise.plan.milp import INFINITY
from edgewise.plan.prefetch import prefetch
from edgewise.plan.problem import Candidate, Problem, fits, judge
from edgewise.plan.streaming import streamed_plans

HELD = (0.95, 0.9, 0.8, 0.7)
"""Parts of the budget that plans may hold which leave room between values, tried in turn."""

LITTLE_DEARER = 1.1
"""Most that such a plan's overhead may be, as a multiple of that of the plan that fills RAM."""

LITTLE = 0.02
"""Dearer by this share of the plain plan's cost is little dearer too."""

FAR = 1.05
"""Arenas up to this multiple of the budget are not worth any price; larger ones are."""

SHARES = (0.985, 0.96, 0.9, 0.0)
"""Parts of the budget that prefetching may fill, tried in turn; 0 is no prefetching."""


def compact(
    problem: Problem,
    candidate: Candidate,
    *,
    others: Sequence[Candidate] = (),
    loosen: bool = False,
    deadline: float = INFINITY,
) -> tuple[Candidate, Placement]:
    """`candidate` with addresses, its page-ins later where they would not fit the budget otherwise.

    Args:
        problem: what it is a plan for.
        candidate: a plan that fits.
        others: more of them, the cheapest first.
        loosen: it may give way to another plan, which holds less.
        deadline: when to stop trying other plans, by `time.monotonic`; retiming this one always has its time.
    """
    begin = time.monotonic()
    placement = _place(problem, candidate)
    if placement.arena_bytes <= problem.budget.ram_bytes:
        return candidate, placement
    deadline -= time.monotonic() - begin  # the last trial takes as long
    spare = _first_that_fits(problem, others, (time.monotonic() + deadline) / 2)
    best, found = _retimed(problem, candidate, placement, spare)
    if spare is not None and (found.arena_bytes > problem.budget.ram_bytes or spare[0].rank < best.rank):
        best, found = spare
    if _is_worth_it(problem, candidate, placement, best, found):
        return best, found
    return _loosened(problem, candidate, placement, deadline) if loosen else (candidate, placement)


def _retimed(
    problem: Problem, candidate: Candidate, placement: Placement, spare: tuple[Candidate, Placement] | None
) -> tuple[Candidate, Placement]:
    """`candidate` with less begun early, until it fits or is as dear as `spare`; that of the least arena."""
    best = candidate
    hurries = problem.overlaps and candidate.certificate.paged_in
    lazy = judge(problem, candidate.order, candidate.homes) if hurries else None
    for share in SHARES if lazy is not None and lazy.steps != best.steps else ():
        if placement.arena_bytes <= problem.budget.ram_bytes or lazy is None:
            break
        less = problem.with_ram(int(share * problem.budget.ram_bytes))
        trial = lazy.retimed(problem, *prefetch(lazy.steps, lazy.certificate, less, lazy.homes))
        if spare is not None and spare[0].rank <= trial.rank:
            break
        found = _place(problem, trial)
        if fits(problem, trial) and found.arena_bytes < placement.arena_bytes:
            best, placement = trial, found
    return best, placement


def _first_that_fits(
    problem: Problem, others: Sequence[Candidate], deadline: float
) -> tuple[Candidate, Placement] | None:
    """The first of `others` with an arena within the budget."""
    for other in others:
        if time.monotonic() > deadline:
            break
        placement = _place(problem, other)
        if placement.arena_bytes <= problem.budget.ram_bytes:
            return other, placement
    return None


def _is_worth_it(
    problem: Problem, candidate: Candidate, placement: Placement, other: Candidate, found: Placement
) -> bool:
    """Whether to take `other` for its arena: it fits and is little dearer, or the first is far too large."""
    ram_bytes, plain = problem.budget.ram_bytes, problem.primary(problem.plain_cost)
    if placement.arena_bytes > FAR * ram_bytes:
        return found.arena_bytes < placement.arena_bytes
    allowed = max(LITTLE_DEARER * candidate.overhead, candidate.overhead + LITTLE * plain)
    return found.arena_bytes <= ram_bytes and other.overhead <= allowed


def _loosened(
    problem: Problem, candidate: Candidate, placement: Placement, deadline: float
) -> tuple[Candidate, Placement]:
    """A plan that holds less, if its arena fits and it is little dearer; else `candidate`."""
    for share in HELD:
        if time.monotonic() > deadline:
            break
        hold_bytes = int(share * problem.budget.ram_bytes)
        plans = [c for c in streamed_plans(problem, hold_bytes=hold_bytes) if fits(problem, c)]
        if not plans:
            break
        trial = min(plans, key=lambda c: c.rank)
        if trial.overhead > LITTLE_DEARER * candidate.overhead:
            break
        found = _place(problem, trial)
        if found.arena_bytes <= problem.budget.ram_bytes:
            return trial, found
    return candidate, placement


def _place(problem: Problem, candidate: Candidate) -> Placement:
    return place(candidate.steps, problem.graph, tuple(sorted(candidate.homes)))
