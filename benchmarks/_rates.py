"""The learning rate of each method, out of the powers of the root of ten."""

import math
from collections.abc import Callable


def rate(power: int) -> float:
    """The root of ten to that power, in one digit."""
    return float(f"{10 ** (power / 2):.0e}")


def climb(start: int, loss: Callable[[float], float]) -> float:
    """From `rate(start)`, whichever neighbour is better, until neither is: so the best is at no edge.

    `loss` of a rate is infinite where it diverges, and then the way is down.
    """
    here = start
    while True:
        near = (here - 1,) if loss(rate(here)) == math.inf else (here, here - 1, here + 1)
        best = min(near, key=lambda power: loss(rate(power)))  # the first of equal ones stays
        if best == here:
            return rate(here)
        here = best
