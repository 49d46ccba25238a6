"""Integers for real numbers: a tensor is a scale times integers, and a real factor is M / 2^k.

Quantization is symmetric and per tensor: x = scale * x_q. Between two scales, integers are multiplied by
their ratio as `(x_q * M + 2^(k-1)) >> k` with 31 bits of M, in 64 bits, as integer inference does everywhere
(arXiv 1712.05877, section 2.2). Nothing here is rounded by a floating-point unit once a step runs.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

ACTIVATION_MAX = 127
_FACTOR_BITS = 31


class Factor(NamedTuple):
    """The real number m / 2^k."""

    m: int
    k: int

    @property
    def real(self) -> float:
        """What it stands for."""
        return math.ldexp(self.m, -self.k)


def factor_of(real: float) -> Factor:
    """The nearest factor with 31 bits of m; `real` must be in [0, 2^30)."""
    if real == 0:
        return Factor(0, 1)
    _, exponent = math.frexp(real)
    k = min(_FACTOR_BITS - exponent, 62)
    m = round(real * 2**k)
    return Factor(m, k) if m < 2**_FACTOR_BITS else Factor(m >> 1, k - 1)


def factors_of(reals: tuple[float, ...]) -> tuple[tuple[int, ...], int]:
    """Several factors with one k: their m, and k."""
    k = factor_of(max(reals)).k
    return tuple(round(real * 2**k) for real in reals), k


def scaled(x: Tensor, factor: Factor) -> Tensor:
    """`x` (int64, changed in place) times `factor`, rounded to the nearest."""
    return x.mul_(factor.m).add_(1 << (factor.k - 1)).bitwise_right_shift_(factor.k)


def to_activation(x: Tensor, low: int, high: int) -> Tensor:
    """`x` (int64, changed in place) saturated and in 8 bits."""
    return x.clamp_(low, high).to(torch.int8)


def scale_of(largest: float, levels: int = ACTIVATION_MAX) -> float:
    """The scale at which `largest` is the integer `levels`; anything for a tensor of zeros."""
    return (largest or 1.0) / levels
