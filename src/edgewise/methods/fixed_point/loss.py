"""Cross entropy in integers: the sign of a difference of losses needs no floating point.

    log2 sum_j 2^(l_j - l_y)        l = logits / ln 2, in units of 2^-20

2^f and log2(1 + t) on [0, 1) are tables of 257 entries with linear interpolation, exact to 3e-6: about three
units. (That the sign is all a zeroth-order step needs, and can be had from an integer cross entropy, is
arXiv 2501.04287, section 4.)
"""

import math

import torch
from torch import Tensor

from edgewise.methods.fixed_point.arithmetic import Factor, factor_of, scaled

UNIT_BITS = 20
_ONE = 1 << UNIT_BITS
_STEP_BITS = UNIT_BITS - 8
_SUM_BITS = 30  # bits behind the point of the powers that are added up

_POWERS = torch.tensor([round(2 ** (i / 256) * 2**_SUM_BITS) for i in range(257)])
_LOGARITHMS = torch.tensor([round(math.log2(1 + i / 256) * _ONE) for i in range(257)])


def factor_of_logits(scale: float) -> Factor:
    """From logits of this scale to units of 2^-20 of binary logarithms."""
    return factor_of(scale / math.log(2) * _ONE)


def cross_entropy(logits: Tensor, targets: Tensor, factor: Factor) -> Tensor:
    """Sum over the batch, in units of 2^-20 bits (int64, one number, or one for each of the leading axes).

    Args:
        logits: integers `[..., B, C]`.
        targets: int64 `[B]`.
        factor: of `factor_of_logits`.
    """
    units = scaled(logits.to(torch.int64), factor)
    top = units.amax(-1, keepdim=True)
    below = (top - units).clamp_(max=40 * _ONE)
    whole = (below + _ONE - 1) >> UNIT_BITS  # 2^-below = 2^fraction / 2^whole
    powers = _interpolated(_POWERS, (whole << UNIT_BITS) - below)
    total = (powers >> whole).sum(-1)
    chosen = units.gather(-1, targets.expand(total.shape).unsqueeze(-1)).squeeze(-1)
    return (_log2(total) + top.squeeze(-1) - chosen).sum(-1)


def _interpolated(table: Tensor, fraction: Tensor) -> Tensor:
    """`table` at `fraction` / 2^20, which lies in [0, 1)."""
    index, rest = fraction >> _STEP_BITS, fraction & ((1 << _STEP_BITS) - 1)
    low, high = table[index], table[index + 1]
    return low + (((high - low) * rest + (1 << (_STEP_BITS - 1))) >> _STEP_BITS)


def _log2(total: Tensor) -> Tensor:
    """log2(total / 2^30) in units; `total` is at least 2^30, as the top class adds 1."""
    # How many bits a number has: by the exponent of float64, which holds all numbers below 2^53 as they are.
    exponent = torch.frexp(total.to(torch.float64)).exponent.to(torch.int64) - (_SUM_BITS + 1)
    fraction = ((total >> exponent) - (1 << _SUM_BITS)) >> (_SUM_BITS - UNIT_BITS)
    return (exponent << UNIT_BITS) + _interpolated(_LOGARITHMS, fraction)


def in_nats(units: Tensor, samples: int) -> Tensor:
    """The mean over `samples` for people, float32."""
    return (units.to(torch.float64) * unit_in_nats(samples)).to(torch.float32)


def unit_in_nats(samples: int) -> float:
    """What a unit of the sum is in the mean over `samples`."""
    return math.log(2) / _ONE / samples
