"""Addresses within the budget of RAM, where that takes no more than to prefetch a little less.

A page-in that begins early fills RAM that would be free, and where RAM is full all the time there is no
order of values in it without holes. So where the arena exceeds the budget, the transfers are timed again
for less and less RAM, at last with none begun early, until it fits. What is computed and paged stays the
same. Waiting for transfers can cost more than what other plans recompute: of those that the search found, the
cheapest whose arena fits is taken where it costs less. Where nothing fits, plans that are made for less than
RAM is large are tried too. All this only where it is little dearer, or the arena far too large.
"""

import time
from collections.abc import Iterable, Iterator, Sequence

from edgewise.plan.addresses import Placement, place
from edgewise.plan.greedy import greedy
from edgewise.plan.milp import INFINITY
from edgewise.plan.prefetch import prefetch
from edgewise.plan.problem import Candidate, Problem, fits, judge
from edgewise.plan.streaming import streamed_plans

HELD = (0.97, 0.95, 0.9, 0.8, 0.7)
"""Parts of the budget that plans may hold which leave room between values, tried in turn."""

LITTLE_DEARER = 1.1
"""Most that such a plan's overhead may be, as a multiple of that of the plan that fills RAM."""

HARDLY_DEARER = 1.02
"""Up to this multiple, nothing cheaper is looked for."""

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
    is_far = placement.arena_bytes > FAR * ram_bytes
    little = _little_dearer(problem, candidate)
    trials = [*_retimed(problem, candidate, spare), *([spare] if spare is not None else [])]
    fitting = _cheapest(trials, ram_bytes)
    if loosen and (fitting is None or fitting[0].overhead > HARDLY_DEARER * candidate.overhead):
        most = min(INFINITY if is_far else little, fitting[0].overhead if fitting else INFINITY)
        trials += _loosened(problem, most, deadline)
        fitting = _cheapest(trials, ram_bytes)
    if fitting is not None and fitting[0].overhead <= little:
        return fitting
    if not is_far:
        return candidate, placement
    near = _cheapest(trials, FAR * ram_bytes)
    return near or min(((candidate, placement), *trials), key=lambda trial: trial[1].arena_bytes)


def _cheapest(trials: Iterable[Placed], most_bytes: float) -> Placed | None:
    """The cheapest plan whose arena has so many bytes at most."""
    small = (trial for trial in trials if trial[1].arena_bytes <= most_bytes)
    return min(small, key=lambda trial: trial[0].rank, default=None)


def _retimed(problem: Problem, candidate: Candidate, spare: Placed | None) -> Iterator[Placed]:
    """`candidate` with less and less begun early, until it fits or is as dear as `spare`."""
    hurries = problem.overlaps and candidate.certificate.paged_in
    lazy = judge(problem, candidate.order, candidate.homes) if hurries else None
    for share in SHARES if lazy is not None and lazy.steps != candidate.steps else ():
        assert lazy is not None  # noqa: S101  # as said in the line before
        less = problem.with_ram(int(share * problem.budget.ram_bytes))
        trial = prefetch(less, lazy)
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


def _little_dearer(problem: Problem, candidate: Candidate) -> float:
    """The most overhead that is little more than that of `candidate`."""
    little = LITTLE * problem.primary(problem.plain_cost)
    return max(LITTLE_DEARER * candidate.overhead, candidate.overhead + little)


def _loosened(problem: Problem, most: float, deadline: float) -> Iterator[Placed]:
    """Plans that hold less and less, of at most so much overhead, until the arena of one fits."""
    for share in HELD:
        hold_bytes = int(share * problem.budget.ram_bytes)
        within = problem.with_ram(hold_bytes)
        plans = [*streamed_plans(problem, hold_bytes=hold_bytes), *greedy(within, deadline=deadline)]
        hurried = [prefetch(within, plan) for plan in plans if fits(problem, plan)]
        trial = min(hurried, key=lambda plan: plan.rank, default=None)
        if trial is None or trial.overhead > most or time.monotonic() > deadline:
            return
        found = _place(problem, trial)
        yield trial, found
        if found.arena_bytes <= problem.budget.ram_bytes:
            return


def _place(problem: Problem, candidate: Candidate) -> Placement:
    return place(candidate.steps, problem.graph, tuple(sorted(candidate.homes)))
