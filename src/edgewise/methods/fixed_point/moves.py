"""Ops that change integer weights in place: to a perturbation and back, and to what the step makes of them.

Integers are taken back exactly, so one copy of the weights is enough: w becomes w + d_1, then w - d_1 by
taking 2 d_1, then w - d_1 + d_1 + d_2, and so on, and at last w again, updated. Where the weights are is a
*displacement*: how often each perturbation has been added to them.
"""

import functools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from edgewise.capture.kernels import Memory, Tensors
from edgewise.capture.lowering import STEP
from edgewise.capture.updates import flat
from edgewise.methods.fixed_point.draws import Directions, numbers
from edgewise.methods.fixed_point.network import Parameter, moves

NOISE_BITS = 16


class Perturbation(NamedTuple):
    """Direction `direction` in the size of the finite difference; or in that of the ascent, with its sign."""

    direction: int
    sign: str = ""
    """Value that holds the sign of the ascent; none for the finite difference."""


Displacement = Mapping[Perturbation, int]


def between(start: Displacement, end: Displacement) -> dict[Perturbation, int]:
    """What has to be added to weights that are at `start`."""
    change = {key: end.get(key, 0) - start.get(key, 0) for key in {**start, **end}}
    return {key: times for key, times in change.items() if times}


@functools.cache
def _steps(size: int, times: int, dtype: torch.dtype) -> Tensor:
    return (torch.tensor(moves(size)) * times).to(dtype)


@dataclass(frozen=True)
class Mover:
    """Moves one parameter along directions of its own."""

    name: str
    parameter: Parameter
    directions: Directions

    def shift(self, weights: Tensor, change: Displacement, tensors: Tensors) -> None:
        """Add `change` to the integers `weights`, in place."""
        w = flat(weights)
        for key, times in change.items():
            by = self.steps(key, times, tensors)
            for offset, z in self.directions.pieces(key.direction, tensors):
                w[offset : offset + z.numel()] += by[z + 127]

    def steps(self, key: Perturbation, times: int, tensors: Tensors) -> Tensor:
        """What each z_q from -127 to 127 moves a weight by, `times` over, in the dtype of the weights."""
        own = self.parameter
        if key.sign:
            times *= int(tensors[key.sign])
        return _steps(own.rho if key.sign else own.epsilon, times, own.values.dtype)

    @property
    def scratch_bytes(self) -> int:
        """Bytes of scratch while weights are moved."""
        return self.directions.scratch_bytes + 2 * self.directions.held_bytes


@dataclass(frozen=True)
class Shift:
    """Kernel: the weights from one displacement to another."""

    mover: Mover
    change: dict[Perturbation, int]
    old: str

    def __call__(self, tensors: Tensors, option: str, first: bool, memory: Memory) -> tuple[Tensor, ...]:
        """Change the weights; nothing is returned."""
        del option, first, memory
        self.mover.shift(tensors[self.old], self.change, tensors)
        return ()


@dataclass(frozen=True)
class Update:
    """Kernel: w <- w - (F sum_i s_i z_i + r) >> 16, from wherever the weights are.

    F is (lr Dz / Dw / m) 2^16 and r is uniform in [0, 2^16): rounding is stochastic, and unbiased to the bit.
    The result saturates at what the parameter may become. With `normalized`, F has ||w_q|| / ||z_i|| in the
    place of Dz / Dw, the norms in integers. With a guiding state, that becomes the mean of s_i z_i.
    """

    mover: Mover
    back: dict[Perturbation, int]
    old: str
    signs: tuple[str, ...]
    rate: float
    """Units of the weight for a z_q of one, or with `normalized` the share of the weight's norm."""
    stream: int
    normalized: bool = False

    def __call__(self, tensors: Tensors, option: str, first: bool, memory: Memory) -> tuple[Tensor, ...]:
        """Change weights and state; nothing is returned."""
        del option, first, memory
        mover, most = self.mover, self.mover.parameter.most
        drawn_here = (
            {} if self.normalized else {p: n for p, n in self.back.items() if p.direction < len(self.signs)}
        )
        mover.shift(tensors[self.old], {p: n for p, n in self.back.items() if p not in drawn_here}, tensors)
        steps = {p.direction: mover.steps(p, n, tensors) for p, n in drawn_here.items()}
        w = flat(tensors[self.old])
        factors = self._factors(w, tensors)
        signs = [int(tensors[name]) for name in self.signs]
        for offset, noise, z in self._pieces(tensors):
            part = slice(offset, offset + noise.numel())
            total = sum(f * s * each for f, s, each in zip(factors, signs, z, strict=True))
            for i, by in steps.items():
                w[part] += by[z[i] + 127]
            change = noise.add_(total).bitwise_right_shift_(NOISE_BITS)
            w[part] = w[part].to(torch.int64).sub_(change).clamp_(-most, most).to(w.dtype)
            self._guide(tensors, part, signs, z)
        return ()

    def _pieces(self, tensors: Tensors) -> Iterator[tuple[int, Tensor, list[Tensor]]]:
        directions = self.mover.directions
        every = [directions.pieces(i, tensors) for i in range(len(self.signs))]
        drawn = numbers(directions.count, NOISE_BITS, int(tensors[STEP]), self.stream, directions.seed)
        for (offset, noise), *parts in zip(drawn, *every, strict=True):
            yield offset, noise, [z for _, z in parts]

    def _factors(self, w: Tensor, tensors: Tensors) -> list[int]:
        one = 1 << NOISE_BITS
        count = len(self.signs)
        if not self.normalized:
            return [round(self.rate / count * one)] * count
        weight = int(w.to(torch.int64).square_().sum())
        found = []
        for i in range(count):
            length = sum(int(z.square().sum()) for _, z in self.mover.directions.pieces(i, tensors))
            ratio = math.isqrt((weight << 2 * NOISE_BITS) // max(length, 1))
            found.append(round(self.rate / count * one) * ratio >> NOISE_BITS)
        return found

    def _guide(self, tensors: Tensors, part: slice, signs: list[int], z: list[Tensor]) -> None:
        guidance = self.mover.directions.guidance
        if guidance is None:
            return
        total = sum(s * each for s, each in zip(signs, z, strict=True))
        mean = torch.div(total, len(signs), rounding_mode="trunc")
        tensors[guidance.state].view(-1)[part] = mean.to(torch.int8)

    @property
    def scratch_bytes(self) -> int:
        """Bytes of scratch: noise, a piece of each direction, sums; for norms the squares of all weights."""
        directions = self.mover.directions
        pieces = directions.scratch_bytes + (len(self.signs) + 5) * directions.held_bytes
        return max(pieces, 16 * directions.count) if self.normalized else pieces
