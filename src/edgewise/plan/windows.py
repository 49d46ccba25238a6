"""Large graphs, a window at a time: large-neighbourhood search over the time-indexed program.

Branch and bound on the whole program takes time that grows fast with the graph, while what to do with a
value depends on few others: those used at about the same time, and the RAM that the rest leaves. So all
variables are fixed but those of the gaps that end in a *window* of stages, and HiGHS solves for these; then
those of another window, or of two at once, so that RAM moves between them. The search begins with all values
kept. Its first pass goes through the windows one after another and leaves to each its share of the RAM: at
every stage, what is to be decided later shrinks by the same factor. A row that is violated may stay so at a
price, but never more than before. Large-neighbourhood search: Shaw, CP 1998; as here, with a solver of
mixed-integer programs, Danna, Rothberg and Le Pape (Mathematical Programming 102, 2005).
"""

import random
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from edgewise.plan.milp import INFINITY, Model, Solution
from edgewise.plan.time_indexed import TimeIndexed

Floats = np.ndarray[Any, np.dtype[np.float64]]
Ints = np.ndarray[Any, np.dtype[np.int64]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]

WINDOW_VARIABLES = 400
"""Variables of a window: HiGHS takes a fraction of a second for so many."""

WINDOW_SECONDS = 5.0
"""Most time for one window."""

PENALTY = 20.0
"""What it costs, in mean costs of an action, to exceed a memory row by a ten thousandth of the RAM."""

EXACT = 1e-7
"""A violation of a row by less is rounding."""


class _Usage:
    """RAM by stage, as a linear function of the variables: each counts from one stage to another.

    A variable of negative size counts where it is 0: a home that is not used leaves the value in RAM.
    """

    def __init__(self, ti: TimeIndexed) -> None:
        self.ti, self.n = ti, ti.n
        self.constant = np.zeros(ti.n + 2)
        found: list[tuple[int, int, int, float]] = []
        for g in range(len(ti.gaps)):
            found += self._of_gap(g)
        for t in range(ti.n):
            saved, terms = ti.saved_in_place(t)
            self.constant[t] += ti.problem.working_bytes[t] - saved + ti.reserve.get(t, 0)
            found += [(var, t, t + 1, size) for var, size in terms]
        # the start and the end of the step have rows of their own
        self.variable = np.array([f[0] for f in found], dtype=np.int64)
        self.begin = np.array([f[1] for f in found], dtype=np.int64)
        self.end = np.array([f[2] for f in found], dtype=np.int64)
        self.size = np.array([f[3] for f in found])

    def _of_gap(self, g: int) -> Iterator[tuple[int, int, int, float]]:
        gap, ti = self.ti.gaps[g], self.ti
        size = float(ti.problem.bytes[gap.value])
        begin, end = gap.start + 1, min(gap.end, self.n)
        constant, terms = ti.gap_presence(g, begin, visiting=False)
        if constant and not terms:
            self.constant[max(begin, 0) : end] += size
        elif constant:
            yield terms[0][0], max(begin, 0), end, -size
        else:
            cuts = [begin, *(t for t in sorted(ti.held[g]) if t < end), end]
            for one, other in pairwise(cuts):
                if one < other:
                    yield ti.gap_presence(g, one, visiting=False)[1][0][0], one, other, size

    def by_stage(self, x: Floats, chosen: Flags) -> Floats:
        """Bytes by stage of the `chosen` variables at values `x`."""
        share = np.where(self.size > 0, x[self.variable], 1 - x[self.variable])
        bytes_ = np.abs(self.size) * share * chosen[self.variable]
        change = np.bincount(self.begin, bytes_, self.n + 2) - np.bincount(self.end, bytes_, self.n + 2)
        return np.cumsum(change)


class _Places:
    """Which variables decide about which stages."""

    def __init__(self, ti: TimeIndexed) -> None:
        self.ti = ti
        at: list[tuple[int, int]] = []  # stage, variable
        visits: list[tuple[int, int]] = []
        first: dict[int, int] = {}
        for g, gap in enumerate(ti.gaps):
            if ti.fixed[g] or gap.role == "head":
                continue
            if gap.role == "middle":
                at += [(gap.end, var) for var in self._of_middle(g)]
                first[gap.end] = min(first.get(gap.end, gap.end), gap.stages[0])
            else:
                visits += [(t, var) for t, terms in ti.visit[g].items() for var in self._back(g, t, terms)]
                last = max(0, gap.start, *gap.stages)
                at += [(last, var) for var in (ti.keep.get(g), ti.home_of(gap.value)) if var is not None]
            if gap.value in ti.page_out:
                at.append((gap.end, ti.page_out[gap.value]))
        self.stage, self.variable = _columns(at)
        self.visit_stage, self.visit_variable = _columns(visits)
        self.first = np.arange(ti.n + 2)
        for end, stage in first.items():
            self.first[end] = stage

    def _of_middle(self, g: int) -> list[int]:
        found = [self.ti.keep[g], *self.ti.held[g].values()]
        for t, terms in self.ti.stay[g].items():
            found += self._back(g, t, terms)
        return found

    def _back(self, g: int, t: int, terms: list[tuple[int, float]]) -> list[int]:
        """The variables of bringing the value of gap `g` back at `t`, the rerun itself included."""
        rerun = self.ti.rerun.get((self.ti.problem.birth[self.ti.gaps[g].value], t))
        return [*(var for var, _ in terms), *([rerun] if rerun is not None else [])]

    def cuts(self, most: int) -> list[tuple[int, int]]:
        """Stages from one to before another, such that about `most` variables belong to each."""
        stages = np.sort(self.stage)
        bounds = [0, *sorted({int(t) for t in stages[most::most]}), self.ti.n + 2]
        return [(a, b) for a, b in pairwise(bounds) if a < b]

    def free(self, begin: int, end: int) -> Ints:
        """Variables of the gaps that end in the window, and of visits that these may need."""
        since = int(self.first[begin:end].min())
        inside = (self.stage >= begin) & (self.stage < end)
        needed = (self.visit_stage >= since) & (self.visit_stage < end)
        return np.concatenate((self.variable[inside], self.visit_variable[needed]))


def _columns(pairs: list[tuple[int, int]]) -> tuple[Ints, Ints]:
    return np.array([p[0] for p in pairs], dtype=np.int64), np.array([p[1] for p in pairs], dtype=np.int64)


def _all_kept(ti: TimeIndexed) -> Floats:
    """Where the search begins: every value stays, but what an op leaves in the tier is paged in when used."""
    x = np.zeros(len(ti.model.cost))
    for g, var in ti.keep.items():
        if ti.gaps[g].role == "middle" and ti.model.upper[var] > 0:
            x[[var, *ti.held[g].values()]] = 1.0
        elif ti.gaps[g].role == "middle":
            x[ti.stay[g][ti.gaps[g].end][-1][0]] = 1.0
    for f, var in ti.home.items():
        if ti.problem.born_in_tier.intersection(ti.problem.families[f].members):
            x[var] = 1.0
    return x


class WindowSearch:
    """The search; `x` holds the values of all variables of the program at any time."""

    def __init__(self, ti: TimeIndexed) -> None:
        self.ti, model = ti, ti.model
        self.cost = np.array(model.cost)
        self.column = np.array(model.columns, dtype=np.int64)
        self.coefficient = np.array(model.coefficients)
        self.row = np.repeat(np.arange(len(model.row_lower)), np.diff(model.starts))
        self.lower, self.upper = np.array(model.row_lower), np.array(model.row_upper)
        self.usage, self.places = _Usage(ti), _Places(ti)
        self.windows = self.places.cuts(WINDOW_VARIABLES)
        self.room = float(ti.problem.budget.ram_bytes)
        self.x = _all_kept(ti)
        self.always = np.array([var for var, upper in enumerate(model.upper) if upper > 1], dtype=np.int64)
        self.interrupted = False
        self.dice = random.Random(0)  # noqa: S311  # a plan must be the same every time

    # -- the course of the search --

    def first_pass(self, deadline: float, gap: float) -> None:
        """Every window in turn, with its share of the RAM."""
        later = np.ones(len(self.x), dtype=np.bool_)
        for begin, end in self.windows:
            free = self._flags(self.places.free(begin, end)) & later
            later &= ~free
            self._solve(free, deadline, gap, later)
            if self.interrupted or time.monotonic() > deadline:
                return

    def sweep(self, deadline: float, gap: float) -> None:
        """As many windows as there are, each with another one chosen by chance."""
        order = list(range(len(self.windows)))
        self.dice.shuffle(order)
        shift = self.dice.random()
        for number in order:
            if self.interrupted or time.monotonic() > deadline:
                return
            begin, end = self.windows[number]
            width = int(shift * (end - begin))
            free = self._flags(self.places.free(max(0, begin - width), max(1, end - width)))
            free |= self._flags(self.places.free(*self.dice.choice(self.windows)))
            self._solve(free, deadline, gap, None)

    def reserve(self, excess: dict[int, int]) -> None:
        """Leave that many bytes more free at these stages."""
        for t, bytes_ in excess.items():
            self.usage.constant[t] += bytes_

    def excess(self) -> dict[int, float]:
        """By how many bytes the memory rows are exceeded, by stage."""
        over = self._used(np.ones(len(self.x), dtype=np.bool_))[: self.ti.n] - self.room
        return {int(t): float(over[t]) for t in np.flatnonzero(over > 0)}

    def solution(self) -> Solution:
        """The program's solution so far, for `TimeIndexed.order`."""
        return Solution("stopped", self.x, float(self.cost @ self.x), -INFINITY)

    def _flags(self, variables: Ints) -> Flags:
        flags = np.zeros(len(self.x), dtype=np.bool_)
        flags[variables] = True
        flags[self.always] = True
        return flags

    # -- one window --

    def _used(self, chosen: Flags) -> Floats:
        return self.usage.constant + self.usage.by_stage(self.x, chosen)

    def _solve(self, free: Flags, deadline: float, gap: float, later: Flags | None) -> None:
        """The best values of the `free` variables, those `later` to be decided given their share only."""
        chosen = np.flatnonzero(free)
        model, number = Model(), np.full(len(self.x), -1)
        for var in chosen:
            number[var] = model.variable(
                self.ti.model.lower[var],
                self.ti.model.upper[var],
                self.cost[var],
                integer=self.ti.model.integer[var],
            )
        start = dict(zip(number[chosen].tolist(), self.x[chosen].tolist(), strict=True))
        self._add_rows(model, free, number, start)
        self._add_memory(model, free, number, start, later)
        limit = min(WINDOW_SECONDS, max(0.1, deadline - time.monotonic()))
        solution = model.solve(time_limit=limit, gap=gap, start=start)
        self.interrupted = self.interrupted or solution.interrupted
        if solution.values is None:
            return
        before = sum(model.cost[var] * value for var, value in start.items())
        if solution.objective < before - EXACT * max(1.0, abs(before)):
            found = solution.values[: len(chosen)]
            bounded = np.array([self.ti.model.upper[var] <= 1 for var in chosen])
            self.x[chosen] = np.where(bounded, np.round(found), found)

    def _elastic(self, model: Model, excess: float, start: dict[int, float]) -> list[tuple[int, float]]:
        """A variable by which a row may be exceeded, if it is now."""
        if excess <= EXACT:
            return []
        variable = model.variable(0.0, excess, PENALTY)
        start[variable] = excess
        return [(variable, -1.0)]

    def _add_rows(self, model: Model, free: Flags, number: Ints, start: dict[int, float]) -> None:
        """The rows of the program in which a `free` variable stands, the others fixed."""
        count = len(self.lower)
        parts = self.coefficient * self.x[self.column]
        entries = np.flatnonzero(free[self.column])
        total = np.bincount(self.row, parts, count)
        fixed = total - np.bincount(self.row[entries], parts[entries], count)
        terms: dict[int, list[tuple[int, float]]] = {}
        for row, var, coefficient in zip(
            self.row[entries].tolist(),
            number[self.column[entries]].tolist(),
            self.coefficient[entries].tolist(),
            strict=True,
        ):
            terms.setdefault(row, []).append((var, coefficient))
        for row, found in terms.items():
            over = self._elastic(model, total[row] - self.upper[row], start)
            under = self._elastic(model, self.lower[row] - total[row], start)
            found += [*over, *((var, -sign) for var, sign in under)]
            model.row(found, self.lower[row] - fixed[row], self.upper[row] - fixed[row])

    def _add_memory(
        self, model: Model, free: Flags, number: Ints, start: dict[int, float], later: Flags | None
    ) -> None:
        """A row for each stretch of stages over which the same `free` variables count."""
        usage, scale = self.usage, self.ti.scale
        mine = np.flatnonzero(free[usage.variable])
        points = np.unique(np.concatenate((usage.begin[mine], usage.end[mine])))
        if len(points) < 2:
            return
        fixed = self._fixed(free, later)
        size, variable = usage.size[mine], number[usage.variable[mine]]
        worst = np.maximum.reduceat(fixed, points)
        for i, point in enumerate(points[:-1].tolist()):
            here = np.flatnonzero((usage.begin[mine] <= point) & (usage.end[mine] > point))
            room = self.room - worst[i] - np.abs(np.minimum(size[here], 0.0)).sum()
            if np.maximum(size[here], 0.0).sum() <= room:
                continue
            found = list(zip(variable[here].tolist(), (size[here] / scale).tolist(), strict=True))
            used = sum(start[var] * x for var, x in found)
            found += self._elastic(model, used - room / scale, start)
            model.row(found, -INFINITY, room / scale)

    def _fixed(self, free: Flags, later: Flags | None) -> Floats:
        """Bytes by stage of all but the `free` variables; of those decided `later`, their share."""
        if later is None:
            return self._used(~free)
        decided, rest = self._used(~free & ~later), self.usage.by_stage(self.x, later)
        flexible = rest + self.usage.by_stage(self.x, free)
        share = float(np.clip((self.room - decided) / np.maximum(flexible, 1.0), 0.0, 1.0).min())
        return decided + share * rest
