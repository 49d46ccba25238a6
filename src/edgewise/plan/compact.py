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
from collections.abc import Iterable, Iterator, Sequence

from edgewise.plan.addresses import Placement, place
from edgewise.plan.milp import INFINITY
from edgewise.plan.prefetch import prefetch
from edgewise.plan.problem import Candidate, Problem, fits, judge
from edgewise.plan.streaming import streamed_plans

HELD = (0.95, 0.9, 0.8, 0.7)
"""Parts of the budget that plans may hold which leave room between values, tried in turn."""

LITTLE_DEARER = 1.1
"""Most that such a plan's overhead may be, as a multiple of that of the plan that fills RAM."""

LITTLE = 0.005
"""Dearer by this share of the plain plan's cost is little dearer too."""

FAR = 1.05
"""Arenas up to this multiple of the budget are not worth any price; larger ones are."""

Placed = tuple[Candidate, Placement]
"""A plan, and where its values lie."""

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
    begin, ram_bytes = time.monotonic(), problem.budget.ram_bytes
    placement = _place(problem, candidate)
    if placement.arena_bytes <= ram_bytes:
        return candidate, placement
    deadline -= time.monotonic() - begin  # the last trial takes as long
    spare = _first_that_fits(problem, others, (time.monotonic() + deadline) / 2)
    trials = [*_retimed(problem, candidate, spare), *([spare] if spare is not None else [])]
    fitting = _cheapest(trial for trial in trials if trial[1].arena_bytes <= ram_bytes)
    if fitting is not None and _is_little_dearer(problem, candidate, fitting[0]):
        return fitting
    best = _loosened(problem, candidate, placement, deadline) if loosen else (candidate, placement)
    if best[1].arena_bytes <= FAR * ram_bytes:
        return best
    near = _cheapest(trial for trial in trials if trial[1].arena_bytes <= FAR * ram_bytes)
    return near or min((best, *trials), key=lambda trial: trial[1].arena_bytes)


def _cheapest(trials: Iterable[Placed]) -> Placed | None:
    return min(trials, key=lambda trial: trial[0].rank, default=None)


def _retimed(problem: Problem, candidate: Candidate, spare: Placed | None) -> Iterator[Placed]:
    """`candidate` with less and less begun early, until it fits or is as dear as `spare`."""
    hurries = problem.overlaps and candidate.certificate.paged_in
    lazy = judge(problem, candidate.order, candidate.homes) if hurries else None
    for share in SHARES if lazy is not None and lazy.steps != candidate.steps else ():
        assert lazy is not None  # noqa: S101  # as said in the line before
        less = problem.with_ram(int(share * problem.budget.ram_bytes))
        trial = lazy.retimed(problem, *prefetch(lazy.steps, lazy.certificate, less, lazy.homes))
        if spare is not None and spare[0].rank <= trial.rank:
            return
        if fits(problem, trial):
            found = _place(problem, trial)
            yield trial, found
            if found.arena_bytes <= problem.budget.ram_bytes:
                return


def _first_that_fits(problem: Problem, others: Sequence[Candidate], deadline: float) -> Placed | None:
    """The first of `others` with an arena within the budget."""
    for other in others:
        if time.monotonic() > deadline:
            break
        placement = _place(problem, other)
        if placement.arena_bytes <= problem.budget.ram_bytes:
            return other, placement
    return None


def _is_little_dearer(problem: Problem, candidate: Candidate, other: Candidate) -> bool:
    """Whether `other` costs little more than `candidate`."""
    little = LITTLE * problem.primary(problem.plain_cost)
    return other.overhead <= max(LITTLE_DEARER * candidate.overhead, candidate.overhead + little)


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
