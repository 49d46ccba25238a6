"""Where transfers run beside compute: begin each page-in early, and drop what is paged out late.

The steps of a plan are issued in order; a transfer that was begun runs on while the next ops compute, one
transfer at a time. `lay_out` pages in just before the value is needed, so that the op waits for all of the
transfer. Moving a page-in forward by as much compute as it takes, as far as RAM allows, hides it; so does
freeing a paged-out value only when its transfer is over. The set of actions is left as it is, so only seconds
(and the idle energy in them) change.
"""

from edgewise.errors import PlanRejected
from edgewise.graph import Graph
from edgewise.plan.check import replay
from edgewise.plan.nouns import Certificate, Compute, Free, PageIn, PageOut, Step
from edgewise.plan.problem import Candidate, Problem


def prefetch(problem: Problem, candidate: Candidate) -> Candidate:
    """`candidate` with transfers moved to overlap with compute, within the budget of RAM; never slower.

    Where it exceeds the budget as it is, transfers do not add to that.
    """
    if not problem.overlaps or not candidate.certificate.paged_in:
        return candidate
    limit = max(problem.budget.ram_bytes, candidate.certificate.peak_bytes)
    homes = tuple(sorted(candidate.homes))
    best = candidate
    for move in (_free_late, _page_in_early, _free_late):
        moved = move(best.steps, best.certificate, problem)
        try:
            found = replay(moved, problem.graph, problem.device, homes=homes, cost_model=problem.cost_model)
        except PlanRejected:
            continue
        if found.peak_bytes <= limit and found.seconds < best.certificate.seconds:
            best = best.retimed(problem, moved, found)
    return best


def _durations(steps: list[Step], problem: Problem) -> list[float]:
    """Seconds of compute of each step, nothing waiting for anything."""
    seconds = {op.name: cost.seconds for op, cost in zip(problem.ops, problem.op_costs, strict=True)}
    return [seconds[step.op] if isinstance(step, Compute) else 0.0 for step in steps]


def _page_in_early(steps: tuple[Step, ...], certificate: Certificate, problem: Problem) -> tuple[Step, ...]:
    """Move page-ins forward, the last one first: each ends when it, or the link, is wanted next."""
    order, live = list(steps), list(certificate.ram_bytes)
    durations = _durations(order, problem)
    clock = [0.0]
    for duration in durations:
        clock.append(clock[-1] + duration)
    link = clock[-1]
    for i in range(len(order) - 1, -1, -1):
        step = order[i]
        if not isinstance(step, PageIn):
            continue
        v = problem.index[step.value]
        begin = min(clock[i], link) - problem.link_seconds[v][0]
        at = i
        while at and clock[at] > begin and _may_pass(order[at - 1], step, problem.graph):
            if live[at - 1] + problem.bytes[v] > problem.budget.ram_bytes:
                break
            at -= 1
        link = begin
        if at < i:
            order.insert(at, order.pop(i))
            live.pop(i)
            live[at:i] = [bytes_ + problem.bytes[v] for bytes_ in live[at:i]]
            live.insert(at, live[at])
            clock.insert(at, clock[at])
            clock.pop(i + 1)
    return tuple(order)


def _may_pass(earlier: Step, page_in: PageIn, graph: Graph) -> bool:
    """Whether `page_in` may be issued before `earlier`: not if that brings, drops, stores or streams it."""
    match earlier:
        case Free(value) | PageOut(value) | PageIn(value):
            return value != page_in.value
        case Compute(op, _, streamed):
            replaced = {old for old, new in graph.op[op].updates if new == page_in.value}
            return streamed == () or not {page_in.value, *replaced}.intersection(streamed)


def _free_late(steps: tuple[Step, ...], certificate: Certificate, problem: Problem) -> tuple[Step, ...]:
    """Move the frees of values that were just paged out backward until their transfers are over."""
    order, live = list(steps), list(certificate.ram_bytes)
    durations = _durations(order, problem)
    link = now = 0.0
    over: dict[str, float] = {}
    i = 0
    while i < len(order):
        step = order[i]
        now += durations[i]
        if isinstance(step, PageOut):
            link = max(now, link) + problem.link_seconds[problem.index[step.value]][1]
            over[step.value] = link
        elif isinstance(step, PageIn):
            link = max(now, link) + problem.link_seconds[problem.index[step.value]][0]
        elif isinstance(step, Free) and over.pop(step.value, 0.0) > now:
            _delay(order, live, durations, i, problem)
            continue
        i += 1
    return tuple(order)


def _delay(order: list[Step], live: list[int], durations: list[float], i: int, problem: Problem) -> None:
    """Move the free at `i` behind the next steps, as long as RAM allows and nobody brings the value again."""
    step = order[i]
    assert isinstance(step, Free)  # noqa: S101
    size = problem.bytes[problem.index[step.value]]
    at = i
    reach = problem.link_seconds[problem.index[step.value]][1]
    passed = 0.0
    while at + 1 < len(order) and passed < reach and live[at + 1] + size <= problem.budget.ram_bytes:
        if _brings(order[at + 1], step.value, problem):
            break
        passed += durations[at + 1]
        at += 1
    if at > i:
        order.insert(at, order.pop(i))
        durations.insert(at, durations.pop(i))
        live.pop(i)
        live[i:at] = [bytes_ + size for bytes_ in live[i:at]]
        live.insert(at, live[at - 1])


def _brings(step: Step, value: str, problem: Problem) -> bool:
    """Whether `step` needs `value` to be out of RAM, or makes it again."""
    match step:
        case PageIn(name) | Free(name):
            return name == value
        case Compute(op, _, streamed):
            return value in problem.graph.op[op].writes or value in streamed
        case _:
            return False
