"""Exact improvement of a plan: leave out every action that turns out not to be needed.

A solver's model over-estimates memory here and there, so its plans hold a few recomputations and page-ins too
many. Each is left out in turn, the dearest first, and the rest laid out and replayed; what still fits and
costs less stays.
"""

import time

from edgewise.plan.problem import Candidate, Problem, fits, judge
from edgewise.plan.schedule import Action


def improve(problem: Problem, candidate: Candidate, *, time_limit: float) -> Candidate:
    """`candidate`, or a better one that fits, with fewer of its actions. Stops at `time_limit` seconds."""
    deadline = time.monotonic() + time_limit
    best = candidate
    for action in _extras(problem, best):
        if time.monotonic() > deadline:
            break
        trial = _without(problem, best, action)
        if trial is not None and fits(problem, trial) and trial.rank < best.rank:
            best = trial
    return best


def _extras(problem: Problem, candidate: Candidate) -> list[tuple[Action, int]]:
    """Recomputations and page-ins, the dearest first, each with how many of the same stand before it."""
    cost = {op.name: problem.weight(c) for op, c in zip(problem.ops, problem.op_costs, strict=True)}
    found: list[tuple[float, tuple[Action, int]]] = []
    count: dict[Action, int] = {}
    for action in candidate.order:
        number = count.get(action, 0)
        count[action] = number + 1
        if action.what == "compute" and number:
            found.append((cost[action.name], (action, number)))
        elif action.what == "in":
            found.append(
                (
                    problem.weight(problem.device.read_cost(problem.graph.value[action.name].bytes)),
                    (action, number),
                )
            )
    found.sort(key=lambda pair: -pair[0])
    return [pair[1] for pair in found]


def _without(problem: Problem, candidate: Candidate, extra: tuple[Action, int]) -> Candidate | None:
    action, number = extra
    order, seen = [], 0
    for other in candidate.order:
        if other == action:
            seen += 1
            if seen == number + 1:
                continue
        order.append(other)
    if seen <= number:
        return None
    homes = candidate.homes
    if action.what == "in" and action.name in homes and number == 0:
        homes = homes - {action.name}  # it need not be fetched if it lives in RAM
    return judge(problem, tuple(order), homes)
