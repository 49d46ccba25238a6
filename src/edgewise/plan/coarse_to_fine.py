"""Candidates from the time-indexed program: a coarse one soon, finer ones as time allows, each repaired.

Few of the program's memory rows bind, and dense rows are what makes it slow: it starts with those of the
fullest stages. It sees the RAM at the first execution of each op, not at the recomputations before it.
Where the replay of its plan exceeds the budget, a row is added at that stage or, if it has one, that much
RAM is reserved there, and the program solved again; where it is a recomputation that exceeds it, that op gets
rows of its own. On devices whose transfers run beside compute it cannot see what waits for what: there one
more candidate prices transfers as if compute stood still meanwhile, so that fewer are made. Large graphs
start from priced cuts and the greedy pass; where the best of these plans pages nothing, noise, leaving out
actions, and neighbourhoods better it.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import msgspec

from edgewise.devices import Memory
from edgewise.plan.crowding import Excess, Rows, excess_of
from edgewise.plan.every_block import every_block
from edgewise.plan.greedy import RULES, Way, ways
from edgewise.plan.improve import improve
from edgewise.plan.milp import Watch
from edgewise.plan.neighbourhoods import neighbourhoods
from edgewise.plan.noising import noised
from edgewise.plan.prefetch import prefetch
from edgewise.plan.priced_cuts import FEW_PRICES, FLAT, PRICES, SLOPES, priced_cuts
from edgewise.plan.problem import Candidate, Problem, Tiling, fits, floor_bytes, judge
from edgewise.plan.time_indexed import TimeIndexed
from edgewise.plan.warm_start import brought, known, start
from edgewise.plan.windowed import WHOLE_OPS, is_worth_it, windowed

FEW_OPS = 60
"""Up to this many ops, the fine program needs no coarse one before it."""

MANY_OPS = 100
"""Above this, there is one between: recomputations gather at few stages, so that it is solved in seconds."""

STAGES = 24
"""Candidate stages a gap of the fine program."""

FEW_STAGES, ANCHORS = 12, 32
"""Candidate stages a gap, and stages at which recomputations gather, of the one between."""

SMALL_VALUES = 100
"""Programs of up to this many values are not made smaller."""

NEGLIGIBLE = 0.005
"""Values that together take this share of the budget are always kept: they only make the program large."""

REPAIRS = 12
"""How often rows are added, or RAM reserved, at stages where the replay exceeds the budget."""

ALL_ROWS = 400
"""Up to this many ops, the program starts with a memory row at every stage that may be too full."""

WINDOWS = 120
"""Above that, it starts with one at the fullest stage of each of that many windows."""

AFTERWARDS = 0.15
"""Share of the time that large graphs leave for addresses and other work on the plan that is found."""

WINDOWED_OPS = 150
"""Above this, windows of the program are solved before the whole of it, or the greedy pass is bettered."""

SOON = 0.05
"""Share of the time after which no further rule of the greedy pass is tried, and no further price."""

SOON_PAGED = 0.2
"""The same on devices that page: there are more ways, and later programs seldom reach the best of them."""

CUTS, NOISE, LESS, NEARBY = 0.3, 0.1, 0.25, 0.8
"""Shares of the time for priced cuts, noise, leaving actions out, and up to the end of neighbourhoods."""

NOISE_PAGED = 0.1
"""Share of the time left for noise where the best of the first plans pages."""

PAGED = 0.4
"""Of what is left of it, the share for plans that page, where the best of the first ones pages nothing."""

HOPELESS = 1.5
"""Noise is not tried where the greedy pass costs so many times as much as the best plan known."""

DIFFERENT = 8
"""So many priced cuts at most have actions left out: a dearer one may end as the cheapest."""


Passes = list[tuple[Way, Candidate]]
"""Plans of the greedy pass, with how each was decided."""


class _Level(NamedTuple):
    """How to build and solve a program: candidate stages a gap, relative gap, share of the time left."""

    most: int
    gap: float
    share: float
    serial: bool = False
    anchors: int = 0


def candidates(
    problem: Problem,
    *,
    gap: float,
    deadline: float,
    watch: Callable[[float], Watch],
    tilings: Mapping[int, Tiling] | None = None,
) -> Iterator[Candidate]:
    """Plans of ever finer programs; they need not fit, and one may be worse than the one before.

    Args:
        problem: what to plan.
        tilings: how to execute the ops that are tiled; none by default.
        gap: relative gap to which the finest program is solved.
        deadline: when to stop, by `time.monotonic`.
        watch: makes the watcher of a run from the unit of its objective.

    Raises:
        KeyboardInterrupt: Ctrl-C stopped a run; its incumbent was yielded before.
    """
    if len(problem.ops) > MANY_OPS:
        deadline -= AFTERWARDS * max(0.0, deadline - time.monotonic())
    model = problem.tiled(tilings or {})
    rows = Rows(_fullest(model), _negligible_bytes(model))
    found_yet: list[Candidate] = []  # the best first
    passes: Passes = []

    def noted(found: Iterable[Candidate]) -> Iterator[Candidate]:
        for candidate in found:
            found_yet.append(candidate)
            found_yet.sort(key=partial(_rank, problem))
            yield candidate

    if not tilings:
        yield from noted(_at_once(problem, deadline, found_yet, passes))
    if len(problem.ops) > WINDOWED_OPS:
        by_windows = partial(windowed, negligible=rows.negligible, gap=gap, deadline=deadline, watch=watch)
        yield from noted(_of_large(problem, model, found_yet, passes, rows, deadline, by_windows))
        if not _is_open(problem, model, found_yet, deadline):
            return
    for level in _levels(problem, gap):
        levelled = _serial(model) if level.serial else model
        yield from noted(_repaired(problem, levelled, level, rows, found_yet, deadline, watch))
        if time.monotonic() > deadline:
            return
        is_last = len(problem.ops) > MANY_OPS and level.most > 1 and not level.serial
        best = _fitting(problem, found_yet)
        if is_last and best is not None and not _needs_finer(problem, best):
            yield from neighbourhoods(problem, model, best, rows, deadline=deadline)
            return


def _at_once(
    problem: Problem, deadline: float, found: list[Candidate], passes: Passes
) -> Iterator[Candidate]:
    """What methods propose that decide one thing after another; those of the greedy pass go to `passes`.

    Where the best of these plans pages, noise betters it.
    """
    yield from every_block(problem)
    now = time.monotonic()
    slopes = SLOPES if len(problem.ops) > WINDOWED_OPS else FLAT
    yield from priced_cuts(problem, FEW_PRICES, slopes, deadline=now + SOON * (deadline - now))
    soon = now + (SOON_PAGED if problem.can_page else SOON) * (deadline - now)
    for way, candidate in ways(problem, RULES, deadline=soon):
        passes.append((way, candidate))
        yield candidate
    best = _fitting(problem, found)
    if len(problem.ops) > FEW_OPS and best is not None and known(problem, best) is None:
        now = time.monotonic()
        yield from _noised(problem, best, passes, now + NOISE_PAGED * (deadline - now))


def _of_large(
    problem: Problem,
    model: Problem,
    found: list[Candidate],
    passes: Passes,
    rows: Rows,
    deadline: float,
    by_windows: Callable[[Problem, Problem], Iterator[Candidate]],
) -> Iterator[Candidate]:
    """Better plans than those `found`, without paging where the best of them pages nothing, and with it."""
    best = _fitting(problem, found)
    pages_nothing = best is not None and known(problem, best) is not None
    if pages_nothing:
        end = deadline - (PAGED * (deadline - time.monotonic()) if problem.can_page else 0.0)
        unpaged = [(way, plan) for way, plan in passes if known(problem, plan) is not None]
        yield from _bettered(_unpaged(problem), _unpaged(model), found, unpaged, rows, end)
    if problem.overlaps:
        yield from by_windows(problem, _serial(model))
    if problem.can_page or not pages_nothing:
        yield from by_windows(problem, model)


def _noised(problem: Problem, best: Candidate, passes: Passes, deadline: float) -> Iterator[Candidate]:
    """Better plans by noise than the cheapest of `passes`, unless `best` is far cheaper."""
    fitting = [(way, plan) for way, plan in passes if fits(problem, plan)]
    if fitting:
        start = min(fitting, key=lambda pair: pair[1].rank)
        yield from noised(problem, start, worth=HOPELESS * best.overhead, deadline=deadline)


def _bettered(
    problem: Problem,
    model: Problem,
    found: list[Candidate],
    passes: Passes,
    rows: Rows,
    deadline: float,
) -> Iterator[Candidate]:
    """Better plans than those `found`, where nothing is paged: there windows rarely reach the greedy pass."""
    begin = time.monotonic()

    def until(share: float) -> float:
        return begin + share * (deadline - begin)

    cuts: dict[float, Candidate] = {}
    for candidate in priced_cuts(problem, PRICES, SLOPES, deadline=until(CUTS)):
        yield candidate
        if fits(problem, candidate):
            cuts[candidate.overhead] = candidate
    yield from _noised(problem, found[0], passes, until(CUTS + NOISE))
    for candidate in (found[0], *(cuts[overhead] for overhead in sorted(cuts)[:DIFFERENT])):
        if (left := until(CUTS + NOISE + LESS) - time.monotonic()) > 0:
            yield improve(problem, candidate, time_limit=left)
    end = deadline if len(problem.ops) > WHOLE_OPS else until(NEARBY)
    yield from neighbourhoods(problem, model, found[0], rows, deadline=end)


def _serial(problem: Problem) -> Problem:
    """`problem`, if compute stood still while its device pages."""
    return replace(problem, link_price=1.0)


def _unpaged(problem: Problem) -> Problem:
    """`problem`, if its device had nothing to page to."""
    ram_alone = msgspec.structs.replace(problem.device, memory=Memory(problem.device.memory.ram))
    return replace(problem, device=ram_alone)


def _needs_finer(problem: Problem, best: Candidate) -> bool:
    """Whether finer programs are to follow, because no search around a plan that pages would."""
    return len(problem.ops) <= WINDOWED_OPS and known(problem, best) is None


def _is_open(problem: Problem, model: Problem, found: list[Candidate], deadline: float) -> bool:
    """Whether the whole program may better what is found."""
    best = _fitting(problem, found)
    if best is not None and time.monotonic() > deadline:
        return False
    return best is None or is_worth_it(problem, model, best.overhead, deadline)


def _fitting(problem: Problem, found: list[Candidate]) -> Candidate | None:
    """The best of `found`, if it fits."""
    return found[0] if found and fits(problem, found[0]) else None


def _rank(problem: Problem, candidate: Candidate) -> tuple[int, float, float]:
    """What fits by its cost, and then the others by their RAM: the less the better."""
    if fits(problem, candidate):
        return 0, *candidate.rank
    return candidate.certificate.peak_bytes, *candidate.rank


def _levels(problem: Problem, gap: float) -> Iterator[_Level]:
    n = len(problem.ops)
    if FEW_OPS < n <= WINDOWED_OPS:
        yield _Level(1, max(gap, 0.02), 0.3)
    if n > MANY_OPS and problem.overlaps:
        yield _Level(FEW_STAGES, max(gap, 0.03), 0.3, serial=True, anchors=ANCHORS)
    if n > MANY_OPS:
        yield _Level(FEW_STAGES, max(gap, 0.03), 0.3, anchors=ANCHORS)
    yield _Level(STAGES, gap, 0.6 if problem.overlaps or n > MANY_OPS else 0.9)
    if problem.overlaps:
        yield _Level(min(STAGES, 8), gap, 0.9, serial=True)


def _repaired(  # one loop, and everything it needs
    problem: Problem,
    model: Problem,
    level: _Level,
    rows: Rows,
    examples: list[Candidate],
    deadline: float,
    watch: Callable[[float], Watch],
) -> Iterator[Candidate]:
    """Solve and replay; where that exceeds the budget add a row or reserve RAM; and so on until it fits."""
    reserve: dict[int, int] = {}
    crowded: dict[int, dict[int, int]] = {c: {} for c in rows.crowded}
    for _ in range(REPAIRS):
        limit = (deadline - time.monotonic()) * level.share
        if limit <= 0:
            return
        plans = [known(problem, candidate) for candidate in examples] if level.most == 1 else []
        program = TimeIndexed(
            model,
            problem.budget.ram_bytes,
            most=level.most,
            anchors=level.anchors,
            brought=brought(problem, plans) if plans else None,
            negligible=rows.negligible,
            reserve=reserve,
            stages=rows.stages,
            crowded=crowded,
        )
        begin = start(program, plans[0]) if plans and plans[0] and fits(problem, examples[0]) else None
        solution = program.solve(
            time_limit=limit, gap=level.gap, watch=watch(program.costs.unit), start=begin
        )
        if solution.status == "infeasible" and rows.negligible:
            rows.negligible = 0
            continue
        candidate = judge(problem, *program.order(solution)) if solution.values is not None else None
        if candidate is not None:
            yield prefetch(problem, candidate)
        if solution.interrupted:
            raise KeyboardInterrupt
        if candidate is None:
            return
        if candidate.certificate.peak_bytes <= problem.budget.ram_bytes:
            return
        _reserve(excess_of(problem, candidate), rows, reserve, crowded)
        rows.learn(problem, candidate)


def _reserve(excess: Excess, rows: Rows, reserve: dict[int, int], crowded: dict[int, dict[int, int]]) -> None:
    """Leave RAM free where the replay exceeds the budget although there is a row: it does not see all."""
    for t, bytes_ in excess.first.items():
        if t in rows.stages:
            reserve[t] = reserve.get(t, 0) + bytes_
    for (c, t), bytes_ in excess.again.items():
        if c in rows.crowded:
            crowded[c][t] = crowded[c].get(t, 0) + bytes_
        else:
            crowded[c] = {}


def _fullest(problem: Problem) -> set[int]:
    """The fullest stage of each window, where the plain plan exceeds the budget: these rows bind most."""
    n = len(problem.ops)
    excess = problem.excess_bytes
    width = 1 if n <= ALL_ROWS else max(1, n // WINDOWS)
    fullest = {max(range(at, min(at + width, n)), key=excess.__getitem__) for at in range(0, n, width)}
    return {t for t in fullest if excess[t] > 0}


def _negligible_bytes(problem: Problem) -> int:
    """Size up to which values are kept anyway; 0 for small programs, and where there is no room for it."""
    if len(problem.names) <= SMALL_VALUES:
        return 0
    ram_bytes = problem.budget.ram_bytes
    room = min(NEGLIGIBLE * ram_bytes, 0.2 * (ram_bytes - floor_bytes(problem)))
    negligible, total = 0, 0
    sizes = sorted(problem.bytes)
    for size in sorted(set(sizes)):
        total += size * sizes.count(size)
        if total > room:
            break
        negligible = size
    return negligible
