"""A known plan as the incumbent of a time-indexed program, so that the solver starts where others ended.

What a plan recomputes and keeps is read off its steps, stage by stage. The program must have a candidate at
each stage at which the plan brings a value back: `brought` tells them before the program is built, `start`
gives its variables their values. Plans that page are left out. A plan may still do what the program has no
words for, such as to drop a value late in a gap, or run an op twice in a stage: `admit` then widens the rows
that stand in its way by as much as it needs. What is found with them is replayed, so that no harm is done.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import NamedTuple

from edgewise.plan.milp import INFINITY, Model
from edgewise.plan.nouns import Compute, Free
from edgewise.plan.problem import Candidate, Problem
from edgewise.plan.time_indexed import TimeIndexed

ADMISSION_SECONDS = 5.0
"""Most time for finding which rows are to be widened: a linear program that HiGHS mostly presolves away."""

EXACT = 1e-7
"""A violation of a row by less is rounding."""


class Stay(NamedTuple):
    """A value is in RAM from some time in stage `begin` to some time in stage `end`."""

    begin: int
    end: int


class Known(NamedTuple):
    """Per value its stays in RAM, and the recomputations `(op, stage)` of a plan."""

    stays: Mapping[int, list[Stay]]
    reruns: frozenset[tuple[int, int]]


def brought(problem: Problem, plans: Iterable[Known | None]) -> dict[int, set[int]]:
    """Per value, the stages at which any of `plans` makes it again, or makes something again from it."""
    stages: dict[int, set[int]] = defaultdict(set)
    for c, t in (rerun for plan in plans if plan for rerun in plan.reruns):
        for v in (*problem.outputs[c], *problem.inputs[c]):
            stages[v].add(t)
    return stages


def known(problem: Problem, candidate: Candidate) -> Known | None:
    """The stays and recomputations of `candidate`, unless it pages."""
    if candidate.homes or candidate.certificate.paged_in or candidate.certificate.paged_out:
        return None
    turn = {op.name: t for t, op in enumerate(problem.ops)}
    stays: dict[int, list[Stay]] = defaultdict(list)
    since = {v: -1 for v, birth in enumerate(problem.birth) if birth < 0}
    reruns: set[tuple[int, int]] = set()
    stage = 0
    for step in candidate.steps:
        if isinstance(step, Compute) and step.op in turn:
            c = turn[step.op]
            again = c < stage
            if again:
                reruns.add((c, stage))
            made = problem.outputs[c] if again else [problem.index[name] for name in problem.ops[c].writes]
            for v in made:
                since.setdefault(v, stage)
            stage = max(stage, c + 1)
            option = problem.graph.op[step.op].option(step.option)
            for old, _ in option.overwrites if option else ():
                _end(stays, since, problem.index[old], stage)
            for old, _ in () if again else problem.ops[c].updates:
                _end(stays, since, problem.index[old], stage)
        elif isinstance(step, Free) and step.value in problem.index:
            _end(stays, since, problem.index[step.value], stage)
    for v in list(since):
        _end(stays, since, v, len(problem.ops) + 2)
    return Known(stays, frozenset(reruns))


def _end(stays: dict[int, list[Stay]], since: dict[int, int], v: int, stage: int) -> None:
    if v in since:
        stays[v].append(Stay(since.pop(v), stage))


def start(program: TimeIndexed, plan: Known) -> dict[int, float]:
    """Values of the program's integer variables that stand for `plan`."""
    values: dict[int, float] = {}
    for rerun, variable in program.rerun.items():
        values[variable] = float(rerun in plan.reruns)
    for g, keep in program.keep.items():
        gap = program.gaps[g]
        if gap.role == "middle":
            stay = _stay_at(plan, gap.value, gap.end)
            kept = stay is not None and stay.begin <= max(gap.start, 0)
        else:
            stay = _stay_at(plan, gap.value, gap.start)
            kept = stay is not None and stay.end >= gap.stages[0]
        values[keep] = float(kept)
        maker = program.problem.birth[gap.value]
        for t, terms in program.visit[g].items():
            values.update({variable: float((maker, t) in plan.reruns) for variable, _ in terms})
        for t, terms in program.stay[g].items():
            for var, _ in terms:
                values[var] = float(stay is not None and not kept and stay.begin == t)
    return values


def unseen(program: TimeIndexed, plan: Known) -> set[int]:
    """Values that `plan` holds in a way that the program has no variables for."""
    values: set[int] = set()
    for c, t in plan.reruns:
        for v in program.problem.inputs[c]:
            if (program.problem.birth[v], t) in plan.reruns:
                continue
            for g in program.of_value[v]:
                gap = program.gaps[g]
                if gap.role == "middle" and gap.start < t < gap.end and g in program.keep:
                    last = _stay_at(plan, v, gap.end)
                    if last is None or last.begin > t:
                        values.add(v)
    return values


def _stay_at(plan: Known, v: int, t: int) -> Stay | None:
    """The stay of `v` that op `t` runs in."""
    return next((stay for stay in plan.stays.get(v, ()) if stay.begin <= t < stay.end), None)


def admit(model: Model, values: Mapping[int, float]) -> None:
    """Widen the rows of `model` by the least, in all, with which its variables can have these `values`."""
    elastic, slacks = _elastic(model, values)
    found = elastic.solve(time_limit=ADMISSION_SECONDS, gap=0.0).values
    if found is None:
        return
    for variable, (row, sign) in slacks.items():
        if found[variable] > EXACT:
            bounds = model.row_upper if sign > 0 else model.row_lower
            bounds[row] += sign * (found[variable] + EXACT)


def _elastic(model: Model, values: Mapping[int, float]) -> tuple[Model, dict[int, tuple[int, int]]]:
    """The rows of `model` with variables held at `values`; per slack variable, its row and direction."""
    elastic = Model()
    for variable, bounds in enumerate(zip(model.lower, model.upper, strict=True)):
        held = values.get(variable)
        elastic.variable(*(bounds if held is None else (held, held)))
    slacks: dict[int, tuple[int, int]] = {}
    for row, (begin, end) in enumerate(pairwise(model.starts)):
        terms = list(zip(model.columns[begin:end], model.coefficients[begin:end], strict=True))
        for sign, bound in ((1, model.row_upper[row]), (-1, model.row_lower[row])):
            if abs(bound) < INFINITY:
                slack = elastic.variable(0.0, INFINITY, 1.0)
                slacks[slack] = row, sign
                terms.append((slack, -float(sign)))
        elastic.row(terms, model.row_lower[row], model.row_upper[row])
    return elastic, slacks
