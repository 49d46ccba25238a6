"""Better plans from the greedy pass by noise: some values are made dearer or cheaper to lose than they are.

The pass decides one eviction after another and cannot know that a small loss now saves a large one later. So
it is run again and again with scores multiplied by random factors, a few of which change each time; factors
with which the plan costs no more are kept. Noising methods: Charon and Hudry, Operations Research Letters
14(3), 1993. The choice is random, from a fixed seed.
"""

import math
import random
import time
from collections.abc import Iterator

from edgewise.plan.greedy import Way, evicting
from edgewise.plan.milp import INFINITY
from edgewise.plan.problem import Candidate, Problem, fits

SHARES = (0.01, 0.03, 0.1, 0.3)
"""Of the factors, how many change at a time."""

LARGE = 0.001
"""Values of this share of the RAM have factors; others matter little."""

STALE = 60
"""Passes in a row that better nothing, after which the search ends."""


def noised(
    problem: Problem, start: tuple[Way, Candidate], *, worth: float = INFINITY, deadline: float
) -> Iterator[Candidate]:
    """Ever better plans than that of `start`, which fits, by its way of deciding.

    None are looked for where the overhead of `start` is more than `worth`.
    """
    way, best = start
    if best.overhead > worth:
        return
    large = [v for v, size in enumerate(problem.bytes) if size >= LARGE * problem.budget.ram_bytes]
    dice = random.Random(0)  # noqa: S311  # a plan must be the same every time
    bias = dict.fromkeys(large, 1.0)
    idle = 0
    while time.monotonic() < deadline and idle < STALE and best.overhead > 0:
        share = dice.choice(SHARES)
        trial = {v: x * math.exp(dice.gauss(0, 1)) if dice.random() < share else x for v, x in bias.items()}
        found = evicting(problem, way, trial)
        idle += 1
        if found is None or not fits(problem, found) or found.rank > best.rank:
            continue
        bias = trial
        if found.rank < best.rank:
            best, idle = found, 0
            yield best
