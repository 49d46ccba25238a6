"""The rates of the benchmarks on methods are off the edge of what was tried."""

import math

import pytest
from _rates import climb, rate


@pytest.mark.parametrize("start", [-9, -4, 0])
def test_the_best_has_a_worse_neighbour_on_either_side(start: int) -> None:
    tried: dict[float, float] = {}

    def loss(lr: float) -> float:
        tried[lr] = math.inf if lr > 0.05 else abs(math.log10(lr) + 2.4)
        return tried[lr]

    assert climb(start, loss) == 3e-3
    assert tried[1e-3] > tried[3e-3] < tried[1e-2]


def test_of_equal_ones_the_first_stays() -> None:
    assert climb(-4, lambda lr: 1.0) == rate(-4) == 0.01
