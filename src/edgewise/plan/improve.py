"""Exact improvement of a plan: leave out every action that turns out not to be needed.

A solver's model over-estimates memory here and there, so its plans hold a few recomputations and page-ins too
many. Each is left out in turn, the dearest first, and the rest laid out and replayed; what still fits and
costs less stays. Most need no replay: without the action its value has to stay since it last left RAM, and
there is no room for that.
"""

import time
from collections.abc import Iterator

import numpy as np

from edgewise.plan.nouns import Compute, Free, PageIn, Step
from edgewise.plan.prefetch import prefetch
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
        if trial is not None and fits(problem, trial):
            best = min(best, prefetch(problem, trial), key=lambda plan: plan.rank)
    return best


def _extras(problem: Problem, candidate: Candidate) -> list[tuple[Action, int]]:
    """Recomputations and page-ins that may not be needed, the dearest first.

    Each with how many of the same stand before it.
    """
    turn = {op.name: t for t, op in enumerate(problem.ops)}
    found: list[tuple[float, tuple[Action, int]]] = []
    count: dict[Action, int] = {}
    needed = _needed(problem, candidate)
    for action in candidate.order:
        number = count.get(action, 0)
        count[action] = number + 1
        if (action.what, action.name, number) in needed:
            continue
        if action.what == "compute" and number:
            found.append((problem.weight(problem.op_costs[turn[action.name]]), (action, number)))
        elif action.what == "in":
            read = problem.device.read_cost(problem.graph.value[action.name].bytes)
            found.append((problem.weight(read), (action, number)))
    found.sort(key=lambda pair: -pair[0])
    return [pair[1] for pair in found]


def _needed(problem: Problem, candidate: Candidate) -> set[tuple[str, str, int]]:
    """Actions without which RAM surely does not suffice, each with how many of the same stand before it."""
    plan = judge(problem, candidate.order, candidate.homes)
    if plan is None or not fits(problem, plan):
        return set()
    ram = np.array(plan.certificate.ram_bytes)
    needed: set[tuple[str, str, int]] = set()
    count: dict[tuple[str, str], int] = {}
    left: dict[str, int] = {}  # value -> step at which it last left RAM
    for s, step in enumerate(plan.steps):
        brought = _brought(problem, step)
        if brought is not None:
            what, name, value, released = brought
            number = count.get((what, name), 0)
            count[what, name] = number + 1
            if number or what == "in":
                since = left.get(value, -1) + 1
                most = int(ram[since:s].max(initial=0)) - released
                if value in left and most + problem.graph.value[value].bytes > problem.budget.ram_bytes:
                    needed.add((what, name, number))
        for value in _arriving(problem, step):
            left.pop(value, None)
        left.update(dict.fromkeys(_leaving(problem, step), s))
    return needed


def _brought(problem: Problem, step: Step) -> tuple[str, str, str, int] | None:
    """The action that `step` performs, the one value it brings, and the most RAM it would release."""
    match step:
        case PageIn(value):
            return "in", value, value, 0
        case Compute(op=name):
            op = problem.graph.op[name]
            if len(op.outputs) == 1:
                inputs = sum(problem.graph.value[v].bytes for v in dict.fromkeys(op.inputs))
                return "compute", name, op.outputs[0], inputs
    return None


def _arriving(problem: Problem, step: Step) -> tuple[str, ...]:
    match step:
        case PageIn(value):
            return (value,)
        case Compute(op=name):
            return problem.graph.op[name].writes
    return ()


def _leaving(problem: Problem, step: Step) -> Iterator[str]:
    match step:
        case Free(value):
            yield value
        case Compute(op=name):
            option = problem.graph.op[name].option(step.option)
            yield from (old for old, _ in option.overwrites) if option is not None else ()


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
