"""Exact sums of products of integers, in blocks of bounded scratch.

A product of a 16-bit weight and an 8-bit activation is below 2^22, and float64 adds such numbers without
rounding up to 2^53: far above the 32-bit accumulators that are emulated. PyTorch has no faster exact way for
16 by 8 bits on a CPU.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

BLOCK = 32768
"""Elements of a block of patches, of weights or of accumulators, if one place alone has no more."""


class Blocks(NamedTuple):
    """Sizes of a block, and how far each axis goes."""

    samples: int
    groups: int
    channels: int
    fan_in: int
    rows: int
    width: int

    @classmethod
    def of(cls, samples: int, groups: int, channels: int, fan_in: int, places: tuple[int, int]) -> "Blocks":
        """Blocks for a product of these sizes; `places` are rows and columns of the output."""
        some = min(channels, max(1, BLOCK // fan_in))
        line = max(fan_in, some) * places[1]
        rows = min(places[0], max(1, BLOCK // line))
        images = min(samples, max(1, BLOCK // (line * rows)))
        groups = min(groups, max(1, BLOCK // (line * rows * images)), max(1, BLOCK // (some * fan_in)))
        return cls(images, groups, some, fan_in, rows, places[1])

    @property
    def scratch_bytes(self) -> int:
        """Patches in 8 and 64 bits, weights in 64, accumulators as float64, int64 and in what they become."""
        places = self.samples * self.rows * self.width * self.groups
        weights = self.groups * self.channels * self.fan_in
        return places * (9 * self.fan_in + 20 * self.channels) + 8 * weights


def products(
    x: Tensor, w: Tensor, offsets: Tensor | None, finish: Callable[[Tensor], Tensor], dtype: torch.dtype
) -> Tensor:
    """Sums over the fan-in of x w, plus `offsets`, made into `dtype` by `finish`.

    Args:
        x: int8 `[B, G, c, kh, kw, oh, ow]`, a view of overlapping windows.
        w: integers `[G, O, c * kh * kw]`.
        offsets: int64 `[G, O, 1]`.
        finish: what becomes of accumulators (int64).
        dtype: of what `finish` returns.

    Returns:
        `[B, G * O, oh, ow]`.
    """
    samples, groups, *_, height, width = x.shape
    channels, fan_in = w.shape[1:]
    out = torch.empty(samples, groups, channels, height, width, dtype=dtype)
    size = Blocks.of(samples, groups, channels, fan_in, (height, width))
    for b, g, r in itertools.product(
        _cut(samples, size.samples), _cut(groups, size.groups), _cut(height, size.rows)
    ):
        part = x[b, g, ..., r, :]
        patches = part.permute(1, 2, 3, 4, 0, 5, 6).reshape(part.shape[1], fan_in, -1).to(torch.float64)
        for c in _cut(channels, size.channels):
            total = torch.bmm(w[g, c].to(torch.float64), patches).to(torch.int64)
            if offsets is not None:
                total += offsets[g, c]
            made = finish(total).view(*total.shape[:2], part.shape[0], -1, width)
            out[b, g, c, r] = made.permute(2, 0, 1, 3, 4)
    return out.flatten(1, 2)


def _cut(length: int, size: int) -> Iterator[slice]:
    return (slice(i, min(i + size, length)) for i in range(0, length, size))
