"""`make_plan`: one way in to all solvers, and the only place that turns their proposals into checked Plans.

`auto` searches small graphs exactly and gives larger ones to the time-indexed program; whatever it proposes
is replayed, improved, given addresses, and checked. `Plan.gap` is always against a bound that holds for every
plan of the graph with its order of first executions (the better of `caching_bound.py` and `bound.py`), never
against the bound of a solver's own restricted model.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import NamedTuple, get_args

import msgspec

from edgewise.devices import CostModel, Device
from edgewise.errors import BudgetInfeasible, UsageError
from edgewise.graph import Graph
from edgewise.plan.bound import MOST_CHECKPOINTS, lower_bound
from edgewise.plan.caching_bound import caching_bound
from edgewise.plan.check import check
from edgewise.plan.checkmate import Checkmate
from edgewise.plan.coarse_to_fine import candidates
from edgewise.plan.compact import compact
from edgewise.plan.improve import improve
from edgewise.plan.milp import INFINITY, Watch
from edgewise.plan.minimum import UNLIMITED, Least, least_possible, least_ram
from edgewise.plan.nouns import Budget, Compute, Objective, Plan, Progress, ProgressCallback
from edgewise.plan.peers import PEERS, infeasible_words
from edgewise.plan.poet import Poet
from edgewise.plan.prefetch import prefetch
from edgewise.plan.problem import Candidate, Problem, Tiling, fits, floor_bytes, judge, page_everything
from edgewise.plan.schedule import plain_order
from edgewise.plan.search import search
from edgewise.plan.streaming import streamed_plans, tilings_of
from edgewise.plan.tilings import cheapest_tilings, resident_loops

PROGRAMS = {"poet": Poet, "checkmate": Checkmate}
"""Peers that are programs for HiGHS; the others propose plans by themselves (`peers.py`)."""

SOLVERS = ("auto", "time-indexed", "search", *PROGRAMS, *PEERS)

SEARCHED_OPS = 8
"""`auto` tries the exact search on graphs of up to this many ops first."""

STREAMING_SHARE = 0.2
"""Share of the time limit for plans that stream."""

LEAST_SECONDS = 5.0
"""Time for finding the least RAM when the time limit has passed."""

WORTH_THE_BITS = 0.01
"""Share of the overhead that a plan must save which takes sums in another order than the plain one."""

FINISH = 25.0
"""Addresses and the last check take about so many times as long as judging a plan."""

MOST_FINISH = 0.25
"""Share of the time limit that is left for them at most."""

LEAST_COMPACTION = 5.0
"""Seconds for making the arena smaller, whatever the time limit."""

OTHERS = 12
"""Plans of which one may take the place of the best where that has no addresses within the budget."""

CLOSED = 1e-6
"""A gap below this is the rounding of the solver: the plan is called optimal."""

FIRST_CHECKPOINTS = 4
"""Checkpoints of the first merged relaxation that is tried where the gap is open after the search."""

PROOF_SHARE = 0.2
"""Share of the time limit that each of the bounds may take."""


class Minimum(NamedTuple):
    """Least RAM, the op that sets it, whether that is proved, and the plan that needs just that."""

    ram_bytes: int
    op: str | None
    exact: bool
    plan: Plan


def make_plan(  # noqa: PLR0913  # the one door to every solver
    graph: Graph,
    device: Device,
    budget: Budget,
    *,
    minimize: Objective = "joules",
    cost_model: CostModel = "full",
    solver: str = "auto",
    gap: float = 0.01,
    time_limit: float = 60.0,
    progress: ProgressCallback | None = None,
) -> Plan:
    """A checked plan for one step of `graph` on `device` within `budget`, as cheap as `solver` finds it.

    Args:
        graph: what to plan; first executions keep its order.
        device: whose costs count.
        budget: RAM, and optionally seconds and joules of the step.
        minimize: `joules` or `seconds`; the other decides between equals.
        cost_model: `full`, or POET's, in which paging takes no time.
        solver: one of `SOLVERS`.
        gap: the solver stops when its own model is solved to this share of the overhead.
        time_limit: seconds for the whole call; addresses may take a little more. Ctrl-C ends it early with
            the best plan so far.
        progress: called now and then with the best overhead so far and the bound.

    Raises:
        BudgetInfeasible: no plan fits; with the least RAM that would and the op that sets it.
        UsageError: there is no such solver, or a limit is negative.
        KeyboardInterrupt: it came before there was any plan.
    """
    _check_arguments(budget, minimize, solver, gap, time_limit)
    problem = Problem(graph, device, budget, minimize, cost_model)
    if solver in PEERS:
        return _by_peer(problem, solver)
    work = _Work(problem, gap, time_limit, progress)
    candidate, bound = work.solve(solver)
    if candidate is None:
        raise _infeasible(problem, work.least)
    # POET's model knows no addresses; and what the exact search found is no longer the optimum elsewhere.
    loosen = work.solver not in (*PROGRAMS, "search") and cost_model == "full"
    return planned(
        problem,
        candidate,
        bound,
        work.solver,
        others=work.others(candidate) if loosen else (),
        loosen=loosen,
        deadline=work.end_of_compaction(),
    )


def plain_plan(
    graph: Graph, device: Device, *, minimize: Objective = "joules", cost_model: CostModel = "full"
) -> Plan:
    """What training without a plan does: every op once, nothing paged, each value held until its last use.

    Its budget is its own peak. Overheads and multiples such as `0.5x` are measured against it.
    """
    problem = Problem(graph, device, Budget(UNLIMITED), minimize, cost_model)
    candidate = judge(problem, plain_order(graph))
    assert candidate is not None  # noqa: S101  # a valid graph can always run in its own order
    return planned(problem.with_ram(candidate.certificate.peak_bytes), candidate, 0.0, "plain")


def minimum_ram(
    graph: Graph,
    device: Device,
    *,
    seconds: float | None = None,
    minimize: Objective = "joules",
    cost_model: CostModel = "full",
    time_limit: float = 60.0,
) -> Minimum:
    """The least RAM with which `graph` can be planned on `device`, optionally within a limit of `seconds`.

    Raises:
        BudgetInfeasible: no RAM is enough, because of `seconds`.
    """
    problem = Problem(graph, device, Budget(UNLIMITED, seconds), minimize, cost_model)
    least = least_ram(problem, time_limit=time_limit)
    if least is None:
        raise _infeasible(problem, None)
    plan = planned(problem.with_ram(least.ram_bytes), least.candidate, 0.0, "minimum")
    return Minimum(least.ram_bytes, least.op, least.exact, plan)


def _check_arguments(budget: Budget, minimize: str, solver: str, gap: float, time_limit: float) -> None:
    if solver not in SOLVERS:
        raise UsageError(f"No solver `{solver}`. There are: {', '.join(SOLVERS)}.")
    if minimize not in get_args(Objective):
        raise UsageError(f"Cannot minimize `{minimize}`. Choose {' or '.join(get_args(Objective))}.")
    limits = (budget.ram_bytes, budget.seconds, budget.joules, budget.written_bytes)
    if any(limit is not None and limit < 0 for limit in limits):
        raise UsageError(f"A limit of the budget is negative: {budget}.")
    if not gap >= 0 or not time_limit > 0:
        raise UsageError(
            f"The gap ({gap}) must not be negative, and the time limit ({time_limit}) must be above 0."
        )


def _by_peer(problem: Problem, solver: str) -> Plan:
    """The cheapest plan of a peer that fits, as it is: not improved, and no bound known but 0."""
    proposals = list(PEERS[solver](problem))
    fitting = [candidate for candidate in proposals if fits(problem, candidate)]
    if not fitting:
        words, least = infeasible_words(problem, solver, proposals)
        raise BudgetInfeasible(words, min_ram_bytes=least)
    return planned(problem, min(fitting, key=lambda candidate: candidate.rank), 0.0, solver)


def _is_better(candidate: Candidate, best: Candidate) -> bool:
    """Whether `candidate` costs less; one that may change bits must save something worth having for it."""
    if candidate.certificate.exact == best.certificate.exact:
        return candidate.rank < best.rank
    if candidate.certificate.exact:
        return candidate.overhead * (1 - WORTH_THE_BITS) <= best.overhead
    return candidate.overhead < best.overhead * (1 - WORTH_THE_BITS)


class _Work:
    """One call of `make_plan`: the clock, the best candidate so far and the bound."""

    def __init__(
        self, problem: Problem, gap: float, time_limit: float, progress: ProgressCallback | None
    ) -> None:
        self.problem, self.gap, self.progress = problem, gap, progress
        self.begin, self.time_limit = time.monotonic(), time_limit
        self.end = self.deadline = self.begin + time_limit
        self.best: Candidate | None = None
        self.kinds: dict[tuple[int, int], Candidate] = {}  # recomputations and page-ins -> the cheapest
        self.bound = 0.0
        self.solver = "plain"

    def left(self) -> float:
        """Seconds until the time limit, at least a little."""
        return max(0.5, self.deadline - time.monotonic())

    def end_of_compaction(self) -> float:
        """Until when a smaller arena may be looked for, by `time.monotonic`: always a little."""
        return max(self.end, time.monotonic() + LEAST_COMPACTION)

    def say(self, phase: str, incumbent: float | None = None, bound: float | None = None) -> None:
        if self.progress is not None:
            best = self.best.overhead if self.best else incumbent
            bounds = [b for b in (self.bound or None, bound) if b is not None]
            self.progress(Progress(time.monotonic() - self.begin, best, max(bounds, default=None), phase))

    def offer(self, candidate: Candidate | None) -> bool:
        """Take `candidate` if it fits and is better; say whether it fits."""
        if candidate is None or not fits(self.problem, candidate):
            return False
        if self.best is None or _is_better(candidate, self.best):
            self.best = candidate
        kind = len(candidate.certificate.recomputed), len(candidate.certificate.paged_in)
        if kind not in self.kinds or candidate.rank < self.kinds[kind].rank:
            self.kinds[kind] = candidate
        return True

    def others(self, best: Candidate) -> list[Candidate]:
        """The cheapest plans found of each kind, whose bits are no worse than those of `best`."""
        found = (c for c in self.kinds.values() if c.certificate.exact or not best.certificate.exact)
        return sorted(found, key=lambda candidate: candidate.rank)[:OTHERS]

    def solve(self, solver: str) -> tuple[Candidate | None, float]:
        """The best candidate and the lower bound of its overhead."""
        problem = self.problem
        begin = time.monotonic()
        plain = judge(problem, plain_order(problem.graph))
        if self.offer(plain):
            return self.best, self.best.overhead if self.best else 0.0
        finish = FINISH * (time.monotonic() - begin)
        self.deadline -= min(finish, MOST_FINISH * self.time_limit)
        if least_possible(problem) > problem.budget.ram_bytes:
            return None, INFINITY
        try:
            self._by_solver(solver)
        except KeyboardInterrupt:
            if self.best is None:
                raise
        return self.best, min(self.bound, self.best.overhead) if self.best else INFINITY

    def _by_solver(self, solver: str) -> None:
        exact = solver == "search" or (solver == "auto" and len(self.problem.ops) <= SEARCHED_OPS)
        if exact and self._by_search(demanded=solver == "search"):
            return
        self.solver = solver if solver in PROGRAMS else "time-indexed"
        if self.solver not in PROGRAMS:
            self._by_streaming()  # so that something is there at once
        self.say("bound")
        self.bound = caching_bound(self.problem, time_limit=PROOF_SHARE * self.time_limit)
        if self.bound == INFINITY:
            self.best = None
            return
        self.say(self.solver)
        if solver in PROGRAMS:
            self._by_program(solver)
        else:
            self._by_time_indexed()
        if self.best is None and solver not in PROGRAMS:
            self._by_leave_to_write(solver)
        if self.best is None and solver not in PROGRAMS:
            self._by_least_ram()
        if self.best is not None and solver not in PROGRAMS:
            self.say("improve")
            self.best = self._polish(self.best)
            self._prove_more()

    def _by_streaming(self) -> None:
        """Plans that run every op once, and take from the tier what RAM does not hold, whole or in slices."""
        if not self.problem.can_page:
            return
        self.say("streaming")
        tilings = cheapest_tilings(self.problem, self.problem.budget.ram_bytes)
        if tilings is not None:
            self.offer(judge(self.problem, *page_everything(self.problem.tiled(tilings))))
        deadline = time.monotonic() + STREAMING_SHARE * self.time_limit
        for candidate in streamed_plans(self.problem):
            self.offer(candidate)
            if time.monotonic() > deadline:
                return

    def _by_search(self, *, demanded: bool) -> bool:
        """Exact search; whether it settled the matter."""
        self.say("search")
        most = {} if not demanded else {"most_states": 1 << 40}
        found = search(self.problem, time_limit=self.left(), **most)
        self.solver = "search"
        if found.order is not None:
            self.offer(judge(self.problem, found.order, found.homes))
        exact = self.problem.is_additive and self.problem.budget.written_bytes is None
        settled = found.finished and exact and not self.problem.has_tiles
        if settled and self.best is not None:
            self.bound = self.best.overhead
        if demanded and not settled and self.best is None:
            raise UsageError(
                f"The exact search did not end within its time on {len(self.problem.ops)} ops. "
                "Use `--solver time-indexed`, or a longer `--time-limit`."
            )
        return settled or (demanded and self.best is not None)

    def _prove(self, checkpoints: int) -> None:
        """Bound the overhead of every plan from below."""
        self.say("bound")
        limit = min(self.left(), PROOF_SHARE * self.time_limit)
        bound = lower_bound(
            self.problem, time_limit=limit, checkpoints=checkpoints, watch=lambda *_: self.say("bound")
        )
        self.bound = max(self.bound, bound)

    def _prove_more(self) -> None:
        """A finer bound, if the gap is still wider than asked for."""
        for checkpoints in (FIRST_CHECKPOINTS, MOST_CHECKPOINTS):
            if not self._is_closed() and time.monotonic() < self.deadline:
                self._prove(checkpoints)

    def _is_closed(self) -> bool:
        """Whether the gap is no wider than asked for."""
        if self.best is None:
            return False
        return self.best.overhead - self.bound <= max(self.gap, CLOSED) * self.best.overhead

    def _by_program(self, solver: str) -> None:
        self.best = None  # the reference is to show what it finds by itself
        model = PROGRAMS[solver](self.problem)
        solution = model.solve(time_limit=self.left(), gap=self.gap, watch=self._watch(solver, model.unit))
        if solution.values is not None:
            self.offer(judge(self.problem, model.order(solution)))

    def _by_time_indexed(self) -> None:
        for tilings, share in self._tilings():
            deadline = time.monotonic() + share * (self.deadline - time.monotonic())
            found = candidates(
                self.problem,
                gap=self.gap,
                deadline=deadline,
                watch=partial(self._watch, "time-indexed"),
                tilings=tilings,
            )
            for candidate in found:
                is_first = self.best is None
                self.offer(candidate)
                if is_first and self.best is not None:
                    self.say("time-indexed")
                if self._is_closed():
                    return

    def _tilings(self) -> Iterator[tuple[Mapping[int, Tiling], float]]:
        """Tilings to solve the program with, each with a share of the time left: none, and the best known."""
        problem, best = self.problem, self.best
        known: Mapping[int, Tiling] | None = tilings_of(problem, best) if best is not None else None
        if floor_bytes(problem, tiled=False) <= problem.budget.ram_bytes:
            yield {}, 0.7 if known else 1.0
            loops: Mapping[int, Tiling] = {}
        else:
            loops = resident_loops(problem)
            if loops and floor_bytes(problem.tiled(loops), tiled=False) <= problem.budget.ram_bytes:
                yield loops, 0.5 if known else 1.0
            known = known or cheapest_tilings(problem, problem.budget.ram_bytes)
        if known:
            yield {**loops, **known}, 1.0

    def _by_leave_to_write(self, solver: str) -> None:
        """When the model found nothing that writes so little, the best plan of all may."""
        budget = self.problem.budget
        if budget.written_bytes is not None:
            free = replace(self.problem, budget=msgspec.structs.replace(budget, written_bytes=None))
            self.offer(_Work(free, self.gap, self.left(), self.progress).solve(solver)[0])

    def _by_least_ram(self) -> None:
        """When the model found nothing, the plan of least RAM may still fit."""
        least = self.least
        self.offer(least.candidate if least else None)

    @cached_property
    def least(self) -> Least | None:
        """The least RAM, in what time is left or a little more: nobody wants to hear "no" without it."""
        self.say("least RAM")
        return least_ram(self.problem, time_limit=max(LEAST_SECONDS, self.left()))

    def _polish(self, candidate: Candidate) -> Candidate:
        better = improve(self.problem, candidate, time_limit=self.left() / 2)
        return prefetch(self.problem, better)

    def _watch(self, phase: str, unit: float) -> Watch:
        def watch(incumbent: float | None, _: float | None) -> None:
            self.say(phase, None if incumbent is None else incumbent * unit)

        return watch


def planned(
    problem: Problem,
    candidate: Candidate,
    bound: float,
    solver: str,
    *,
    others: Sequence[Candidate] = (),
    loosen: bool = False,
    deadline: float = INFINITY,
) -> Plan:
    """The plan for `candidate`, with addresses, checked; `others`, `loosen` and `deadline`: see `compact`."""
    candidate, placement = compact(problem, candidate, others=others, loosen=loosen, deadline=deadline)
    found, overhead = candidate.certificate, candidate.overhead
    gap = max(0.0, (overhead - bound) / overhead) if overhead > 0 else 0.0
    closed = gap <= CLOSED
    homes = tuple(sorted(candidate.homes))
    plan = Plan(
        graph=problem.graph.name,
        graph_sha256=problem.graph.sha256,
        device=problem.device.name,
        budget=problem.budget,
        minimize=problem.minimize,
        cost_model=problem.cost_model,
        solver=solver,
        status="optimal" if closed else "feasible",
        gap=0.0 if closed else gap,
        peak_bytes=found.peak_bytes,
        seconds=found.seconds,
        joules=found.joules,
        steps=candidate.steps,
        addresses=placement.addresses,
        workspaces=placement.workspaces,
        homes=homes,
    )
    check(plan, problem.graph, problem.device)
    return plan


def _infeasible(problem: Problem, least: Least | None) -> BudgetInfeasible:
    """What stands in the way, and what would be enough."""
    budget, plain = problem.budget, problem.plain_cost
    for what, limit, needed in (("s", budget.seconds, plain.seconds), ("J", budget.joules, plain.joules)):
        if limit is not None and needed > limit:
            return BudgetInfeasible(
                f"No plan takes {limit:.6g} {what} or less: with all the RAM in the world, this step takes "
                f"{needed:.6g} {what} on `{problem.device.name}`. Raise that limit, or take a smaller batch."
            )
    if least is None:
        return BudgetInfeasible("No plan keeps all limits of the budget, whatever the RAM. Raise them.")
    return BudgetInfeasible(_explain(problem, least), min_ram_bytes=least.ram_bytes, op=least.op)


def _explain(problem: Problem, least: Least) -> str:
    if least.ram_bytes <= problem.budget.ram_bytes:
        return (
            f"The solver found no plan for {problem.budget.ram_bytes:,} B in its time, though one is known "
            f"that needs {least.ram_bytes:,} B. Take the solver `auto`, or a longer time limit."
        )
    if least.op is None:
        where = "what must be there between steps sets it"
    else:
        layer = problem.graph.op[least.op].layer
        where = (
            f"op `{least.op}`{f' of layer `{layer}`' if layer else ''} sets it{_loop_words(problem, least)}"
        )
    proof = "" if least.exact else ", the least a plan was found for"
    written = problem.budget.written_bytes
    wear = f" and writes at most {written:,} B to the slower tier" if written is not None else ""
    return (
        f"No plan fits {problem.budget.ram_bytes:,} B{wear}. "
        f"Least budget: {least.ram_bytes:,} B{proof}; {where}. "
        f"Try `--ram {least.ram_bytes}`, or a smaller batch."
    )


def _loop_words(problem: Problem, least: Least) -> str:
    """By which loop the op runs that sets the least RAM, if it is one."""
    step = next(s for s in least.candidate.steps if isinstance(s, Compute) and s.op == least.op)
    option = problem.graph.op[step.op].option(step.option)
    return f", even in slices (`{step.option}`)" if option is not None and option.is_tiled else ""
