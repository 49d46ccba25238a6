"""Keep what is worth its bytes: at a price a byte, the cheapest split of the forward pass in kept and remade.

A value that the backward pass reads is kept, at the price of its bytes, or made again, at the cost of its op;
then the operands of that op are kept or made again in turn. The cheapest choice is a minimum cut, as in
PyTorch's partitioner, where the cost of making again counts besides the bytes. The linear program of it has
whole numbers for its solution and takes hundredths of a second for a thousand ops. The split becomes a plan
by making again what is wanted, when it is wanted.

The higher the price, the less is kept, but plans lie only at the corners of the curve of cost against bytes.
A network of equal blocks has few: all blocks turn at the same price. So prices are also *tilted* along the
forward pass, by which blocks turn one after another, from the first or from the last. And along the sums of
residual networks a value may be made again long before the backward pass itself comes to it, which then waits
in RAM: a *stay* is what that costs, as a share of the price, in proportion to its length.
"""

import time
from collections.abc import Iterator
from functools import cached_property
from itertools import product
from typing import NamedTuple

import numpy as np

from edgewise.plan.checkpointing import forward_ops, on_demand
from edgewise.plan.milp import INFINITY, Model
from edgewise.plan.problem import Candidate, Problem, fits, judge

PRICES = tuple(float(price) for price in np.geomspace(0.05, 20, 30))
"""Of a byte, in multiples of what the forward pass costs for each byte that waits for the backward pass."""

FEW_PRICES = PRICES[4:24:4]


class Slope(NamedTuple):
    """How prices differ: by `tilt` more for the first value and less for the last; `stay` for the early."""

    tilt: float
    stay: float


FLAT = (Slope(0.0, 0.0),)
SLOPES = tuple(Slope(tilt, stay) for tilt, stay in product((0.0, 0.5, -0.5, 0.99, -0.99), (0.0, 0.35)))

TOO_DEAR = 2.0
"""How much dearer than a plan that fits one may be that could become cheaper by leaving actions out."""

CUT_SECONDS = 5.0
"""Most time for one cut."""


def priced_cuts(
    problem: Problem,
    prices: tuple[float, ...] = PRICES,
    slopes: tuple[Slope, ...] = FLAT,
    *,
    deadline: float = INFINITY,
) -> Iterator[Candidate]:
    """A plan for each split that some price and slope lead to, unless what is kept exceeds the budget.

    The plans need not fit: what is made again takes RAM too. Higher prices lead to dearer plans, so those of
    a slope end where one costs far more than another that fits. After `deadline`, by `time.monotonic`, no
    further price is tried.
    """
    cut = _Cut(problem)
    seen: set[frozenset[int]] = set()
    least = INFINITY
    for slope in slopes:
        for price in sorted(prices):
            if time.monotonic() > deadline:
                return
            kept = cut.kept(price, slope)
            if kept in seen or sum(problem.bytes[v] for v in kept) > problem.budget.ram_bytes:
                continue
            seen.add(kept)
            candidate = judge(problem, on_demand(problem, kept, cut.forward))
            if candidate is None:
                continue
            yield candidate
            if fits(problem, candidate):
                least = min(least, candidate.overhead)
            if candidate.overhead > TOO_DEAR * least:
                break


class _Cut:
    """The linear program: which values are kept, which the backward pass needs, and which ops run again."""

    def __init__(self, problem: Problem) -> None:
        self.problem, self.forward = problem, forward_ops(problem)
        self.model = Model()
        made = [v for v, birth in enumerate(problem.birth) if 0 <= birth < self.forward and problem.bytes[v]]
        self.keep = {v: self.model.binary(integer=False) for v in made}
        self.stay: dict[int, float] = {}  # variable -> bytes, as a share of the time that they wait
        self._build()
        cost = sum(problem.weight(problem.op_costs[t]) for t in range(self.forward))
        self.unit = cost / max(1, sum(problem.bytes[v] for v in made if self.reader[v] < INFINITY))

    @cached_property
    def reader(self) -> list[float]:
        """Per value, the first op of the backward pass that reads it."""
        return [min((t for t in use if t >= self.forward), default=INFINITY) for use in self.problem.uses]

    @cached_property
    def demand(self) -> list[float]:
        """Per value, when the backward pass first wants it, if all is made again."""
        demand = self.reader.copy()
        for t in range(self.forward - 1, -1, -1):
            soonest = self._wanted(t, demand)
            for v in self.problem.inputs[t]:
                demand[v] = min(demand[v], soonest)
        return demand

    def _wanted(self, t: int, demand: list[float]) -> float:
        return min(
            (demand[v] for v in self.problem.outputs[t] if self.problem.remakable[v]), default=INFINITY
        )

    def _build(self) -> None:
        problem, model = self.problem, self.model
        need = {v: model.variable(float(self.reader[v] < INFINITY), 1.0) for v in self.keep}
        again = {t: self._rerun(t) for t in range(self.forward) if self._can_rerun(t)}
        for v, keep in self.keep.items():
            terms = [(keep, 1.0), (need[v], -1.0)]
            if problem.remakable[v] and problem.birth[v] in again:
                terms.append((again[problem.birth[v]], 1.0))
            model.row(terms, 0.0, INFINITY)
        for t, rerun in again.items():
            begin = self._wanted(t, self.demand)
            for v in (v for v in problem.inputs[t] if v in need):
                model.row([(need[v], 1.0), (rerun, -1.0)], 0.0, INFINITY)
                if problem.remakable[v] and begin < self.reader[v] < INFINITY:
                    waits = model.binary(integer=False)
                    model.row([(waits, 1.0), (rerun, -1.0), (self.keep[v], 1.0)], 0.0, INFINITY)
                    length = (self.reader[v] - begin) / (len(problem.ops) - self.forward)
                    self.stay[waits] = problem.bytes[v] * length

    def _rerun(self, t: int) -> int:
        return self.model.binary(self.problem.weight(self.problem.op_costs[t]), integer=False)

    def _can_rerun(self, t: int) -> bool:
        """Whether op `t` may run in the backward pass, and would make something there."""
        problem = self.problem
        ends = (problem.end_of_life[v] for v in problem.inputs[t])
        lasting = all(end is None or end >= self.forward for end in ends)
        return lasting and any(problem.remakable[v] for v in problem.outputs[t])

    def kept(self, price: float, slope: Slope) -> frozenset[int]:
        """What is kept where a byte costs `price`."""
        cost, unit = self.model.cost, self.unit * price
        for v, variable in self.keep.items():
            place = 1 - 2 * self.problem.birth[v] / self.forward
            cost[variable] = unit * (1 + slope.tilt * place) * self.problem.bytes[v]
        for variable, bytes_ in self.stay.items():
            cost[variable] = unit * slope.stay * bytes_
        values = self.model.solve(time_limit=CUT_SECONDS, gap=0.0).values
        if values is None:
            return frozenset(self.keep)
        return frozenset(v for v, variable in self.keep.items() if values[variable] > 0.5)
