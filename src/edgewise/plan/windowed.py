"""Candidates for large graphs: sweeps over windows of the time-indexed program, each replayed.

The program sees the RAM at the first execution of each op, not at the recomputations before it. Where the
replay exceeds the budget by more than the program knows, that much RAM is reserved there, and the next sweep
makes room. The search ends when a sweep gains little.
"""

import time
from collections.abc import Callable, Iterator

from edgewise.plan.milp import INFINITY, Watch
from edgewise.plan.nouns import Compute
from edgewise.plan.prefetch import prefetch
from edgewise.plan.problem import Candidate, Problem, judge
from edgewise.plan.time_indexed import TimeIndexed
from edgewise.plan.windows import WindowSearch

STAGES = 8
"""Candidate stages a gap."""

SWEEPS = 40
"""Most sweeps over the windows."""

WHOLE_OPS = 600
"""Above this, the whole program is solved only where its relaxation says much: then HiGHS is fast."""

TIGHT = 0.5
"""What the relaxation has to prove for that, as a share of the overhead found."""


def windowed(
    problem: Problem,
    model: Problem,
    *,
    negligible: int,
    gap: float,
    deadline: float,
    watch: Callable[[float], Watch],
) -> Iterator[Candidate]:
    """A plan after the first pass and after each sweep; the first ones may not fit.

    Args:
        problem: what to plan.
        model: the same as the program is to see it.
        negligible: values up to this many bytes are always kept.
        gap: the search ends when a sweep gains less than this share.
        deadline: when to stop, by `time.monotonic`.
        watch: makes the watcher of a run from the unit of its objective.

    Raises:
        KeyboardInterrupt: Ctrl-C stopped a run; what was found was yielded before.
    """
    program = TimeIndexed(model, problem.budget.ram_bytes, most=STAGES, negligible=negligible, stages=())
    search, tell = WindowSearch(program), watch(program.costs.unit)
    search.first_pass(deadline, gap)
    before = INFINITY
    for _ in range(SWEEPS):
        solution, over = search.solution(), search.excess()
        candidate = judge(problem, *program.order(solution))
        if candidate is not None:
            yield prefetch(problem, candidate)
        if search.interrupted:
            raise KeyboardInterrupt
        replayed = _replayed(problem, candidate) if candidate is not None else {}
        unseen = {t: most for t, x in replayed.items() if (most := x - int(over.get(t, 0.0))) > 0}
        is_stuck = solution.objective > before * (1 - gap) and not unseen and not over
        if is_stuck or time.monotonic() > deadline:
            return
        tell(None if over else solution.objective, None)
        before = solution.objective if not over else INFINITY
        search.reserve(unseen)
        search.sweep(deadline, gap)


def is_worth_it(problem: Problem, model: Problem, overhead: float, deadline: float) -> bool:
    """Whether to solve the whole program too, now that a plan of that `overhead` is known."""
    if len(problem.ops) <= WHOLE_OPS:
        return True
    program = TimeIndexed(model, model.budget.ram_bytes, most=STAGES, stages=_full(model))
    program.model.integer = [False] * len(program.model.integer)
    solution = program.solve(time_limit=max(0.1, deadline - time.monotonic()), gap=0.0)
    return solution.bound * program.costs.unit > TIGHT * overhead


def _full(problem: Problem) -> set[int]:
    """The fullest stages."""
    excess = problem.excess_bytes
    width = max(1, len(excess) // 40)
    windows = (range(at, min(at + width, len(excess))) for at in range(0, len(excess), width))
    return {max(window, key=excess.__getitem__) for window in windows}


def _replayed(problem: Problem, candidate: Candidate) -> dict[int, int]:
    """Per stage, by how many bytes the replay exceeds the budget."""
    turn = {op.name: t for t, op in enumerate(problem.ops)}
    excess: dict[int, int] = {}
    stage = 0
    for step, bytes_ in zip(candidate.steps, candidate.certificate.ram_bytes, strict=True):
        over = bytes_ - problem.budget.ram_bytes
        if over > 0:
            excess[stage] = max(over, excess.get(stage, 0))
        if isinstance(step, Compute):
            stage = max(stage, turn[step.op] + 1)
    return excess
