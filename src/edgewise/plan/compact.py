"""Addresses within the budget of RAM, where that takes no more than to prefetch a little less.

A page-in that begins early fills RAM that would be free, and where RAM is full all the time there is no
order of values in it without holes. So where the arena exceeds the budget, the transfers are timed again
for less and less RAM, at last with none begun early, until it fits. What is computed and paged stays the
same.
"""

from edgewise.plan.addresses import Placement, place
from edgewise.plan.prefetch import prefetch
from edgewise.plan.problem import Candidate, Problem, fits, judge

SHARES = (0.985, 0.96, 0.9, 0.0)
"""Parts of the budget that prefetching may fill, tried in turn; 0 is no prefetching."""


def compact(problem: Problem, candidate: Candidate) -> tuple[Candidate, Placement]:
    """`candidate` with addresses, its page-ins later where they would not fit the budget otherwise."""
    best, placement = candidate, _place(problem, candidate)
    hurries = problem.overlaps and candidate.certificate.paged_in
    lazy = judge(problem, candidate.order, candidate.homes) if hurries else None
    for share in SHARES if lazy is not None and lazy.steps != best.steps else ():
        if placement.arena_bytes <= problem.budget.ram_bytes or lazy is None:
            break
        less = problem.with_ram(int(share * problem.budget.ram_bytes))
        trial = lazy.retimed(problem, *prefetch(lazy.steps, lazy.certificate, less, lazy.homes))
        found = _place(problem, trial)
        if fits(problem, trial) and found.arena_bytes < placement.arena_bytes:
            best, placement = trial, found
    return best, placement


def _place(problem: Problem, candidate: Candidate) -> Placement:
    return place(candidate.steps, problem.graph, tuple(sorted(candidate.homes)))
