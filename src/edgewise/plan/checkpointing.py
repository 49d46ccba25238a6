"""Gradient checkpointing: of a segment of the forward pass keep what later ones read, make the rest again.

What plain backward would read of a segment and that was not kept is recomputed, all of the segment at once,
just before the first backward op that wants any of it; then it stays until its last use. That is what
`torch.utils.checkpoint` does around each segment. Values that cannot be made again at that time are kept.
"""

from collections import defaultdict
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from edgewise.plan.problem import Problem
from edgewise.plan.schedule import Action, Order


def forward_ops(problem: Problem) -> int:
    """How many ops stand before the backward pass: up to the plain plan's peak of what is read across.

    The moment at which most bytes of made values wait for a later reader is the end of the forward pass.
    """
    change = [0] * (len(problem.ops) + 1)
    for v, birth in enumerate(problem.birth):
        if birth >= 0 and problem.uses[v] and v not in problem.family_of:
            change[birth] += problem.bytes[v]
            change[problem.uses[v][-1]] -= problem.bytes[v]
    most, at, waiting = -1, 0, 0
    for t in range(len(problem.ops)):
        waiting += change[t]
        if waiting > most:
            most, at = waiting, t
    return at + 1


def crossing(problem: Problem, forward: int) -> list[list[int]]:
    """Per number of forward ops done, the values made by them that a later forward op reads."""
    across: list[list[int]] = [[] for _ in range(forward + 1)]
    for v, birth in enumerate(problem.birth):
        last = max((t for t in problem.uses[v] if t < forward), default=-1)
        if birth >= 0 and problem.bytes[v]:
            for at in range(birth + 1, last + 1):
                across[at].append(v)
    return across


def natural_cuts(problem: Problem, forward: int) -> list[int]:
    """Where one value only is handed on: the ends of layers in a chain, of blocks in a residual network."""
    across = crossing(problem, forward)
    return [at for at in range(1, forward) if len(across[at]) == 1]


def checkpointed(problem: Problem, cuts: Sequence[int], forward: int) -> Order:
    """The order that keeps what crosses `cuts` (numbers of forward ops done) and recomputes the rest."""
    segment = _segments(cuts, forward)
    kept = {v for v, birth in enumerate(problem.birth) if birth < 0 or birth >= forward}
    for v, birth in enumerate(problem.birth):
        if 0 <= birth < forward:
            readers = [t for t in problem.uses[v] if t < forward]
            if not problem.remakable[v] or any(segment[t] != segment[birth] for t in readers):
                kept.add(v)
    order = [Action("compute", op.name) for op in problem.ops[:forward]]
    again: set[int] = set()
    for t in range(forward, len(problem.ops)):
        wanted = {segment[problem.birth[v]] for v in problem.reads[t] if v not in kept}
        for s in sorted(wanted - again):
            again.add(s)
            order += [Action("compute", problem.ops[c].name) for c in _remade(problem, segment, s, kept, t)]
        order.append(Action("compute", problem.ops[t].name))
    return tuple(order)


def _segments(cuts: Sequence[int], forward: int) -> list[int]:
    """Per forward op, the number of its segment."""
    ends = sorted(cuts)
    numbers, number = [], 0
    for c in range(forward):
        while number < len(ends) and c >= ends[number]:
            number += 1
        numbers.append(number)
    return numbers


def _remade(problem: Problem, segment: list[int], s: int, kept: set[int], t: int) -> list[int]:
    """Ops of segment `s`, in order, that make what ops from `t` on read, and can still run then."""
    made_by: dict[int, list[int]] = defaultdict(list)
    for c, number in enumerate(segment):
        if number == s:
            made_by[c] = [v for v in problem.outputs[c] if v not in kept]
    wanted = {v for vs in made_by.values() for v in vs if problem.uses[v] and problem.uses[v][-1] >= t}
    ops = []
    for c in sorted(made_by, reverse=True):
        ends = (problem.end_of_life[v] for v in problem.inputs[c])
        if wanted.intersection(made_by[c]) and all(end is None or end >= t for end in ends):
            ops.append(c)
            wanted.update(problem.inputs[c])
    return ops[::-1]


def on_demand(problem: Problem, kept: AbstractSet[int], forward: int) -> Order:
    """The order that keeps `kept` of the forward pass, and makes each other value again when it is wanted.

    That is right before its first reader of the backward pass, with all that is missing for it; then it stays
    until its last. Values that cannot be made again, or not any more by then, are kept too.
    """
    keep = {v for v, remakable in enumerate(problem.remakable) if v in kept or not remakable}
    while True:
        order, lost = _on_demand(problem, keep, forward)
        if not lost:
            return order
        keep |= lost


def _on_demand(problem: Problem, keep: set[int], forward: int) -> tuple[Order, set[int]]:
    """The order, and values that it would make again from what is overwritten by then."""
    there = {v for v, birth in enumerate(problem.birth) if v in keep or not 0 <= birth < forward}
    order = [Action("compute", op.name) for op in problem.ops[:forward]]
    lost: set[int] = set()
    for t in range(forward, len(problem.ops)):
        again = _missing(problem, t, there)
        for c in sorted(again):
            order.append(Action("compute", problem.ops[c].name))
            ends = (problem.end_of_life[v] for v in problem.inputs[c])
            if any(end is not None and end < t for end in ends):
                lost.update(problem.outputs[c])
        order.append(Action("compute", problem.ops[t].name))
        there.update(v for c in again for v in problem.outputs[c])
    return tuple(order), lost


def _missing(problem: Problem, t: int, there: AbstractSet[int]) -> set[int]:
    """Ops that must run again before op `t` can."""
    again: set[int] = set()
    todo = [v for v in problem.reads[t] if v not in there]
    while todo:
        c = problem.birth[todo.pop()]
        if c not in again:
            again.add(c)
            todo += [v for v in problem.inputs[c] if v not in there]
    return again
