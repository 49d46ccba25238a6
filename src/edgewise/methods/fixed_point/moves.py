"""Ops that change integer weights in place: to a perturbation and back, and to what the step makes of them.

Integers are taken back exactly, so one copy of the weights is enough: w becomes w + d_1, then w - d_1 by
taking 2 d_1, then w - d_1 + d_1 + d_2, and so on, and at last w again, updated. Where the weights are is a
*displacement*: how often each perturbation has been added to them.
"""

import functools
import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from edgewise.capture.kernels import Memory, Tensors
from edgewise.capture.lowering import STEP, Layout
from edgewise.capture.tiling.broadcast import along_dims
from edgewise.capture.tiling.drawn import begin_of, run_of_elements
from edgewise.capture.tiling.nest import At, Nest, Sliced
from edgewise.capture.tiling.updating import stored
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
        if not change:
            return
        w = flat(weights)
        by = [self.steps(key, times, tensors) for key, times in change.items()]
        for offset, every in self.directions.together([key.direction for key in change], tensors):
            for steps, z in zip(by, every, strict=True):
                w[offset : offset + z.numel()] += steps[z + 127]

    def steps(self, key: Perturbation, times: int, tensors: Tensors) -> Tensor:
        """What each z_q from -127 to 127 moves a weight by, `times` over, in the dtype of the weights."""
        own = self.parameter
        if key.sign:
            times *= int(tensors[key.sign])
        return _steps(own.rho if key.sign else own.epsilon, times, own.values.dtype)

    def reads(self, change: Displacement) -> tuple[str, ...]:
        """Values that moves by `change` are made of, but for the weights and the state of a guidance."""
        return (*self.directions.reads, *(key.sign for key in change if key.sign))

    def of_slice(self, first: int, count: int) -> "Mover":
        """The mover of so many elements of the parameter, from the `first` on."""
        return replace(self, directions=self.directions.of_slice(first, count))

    def scratch_bytes(self, change: Displacement) -> int:
        """Bytes of scratch while weights are moved."""
        return self.directions.scratch_bytes(max(len(change), 1)) + 2 * self.directions.held_bytes


@dataclass(frozen=True)
class InPlace(Sliced):
    """Kernel that changes the integers `old`, whole or a slice of them."""

    mover: Mover
    old: str

    def __call__(self, tensors: Tensors, option: str, first: bool, memory: Memory) -> tuple[Tensor, ...]:
        """Change the weights; nothing is returned."""
        del option, first, memory
        self.apply(tensors)
        return ()

    @abstractmethod
    def apply(self, tensors: Tensors) -> None:
        """Change the weights, and what moves on with them."""

    @property
    @abstractmethod
    def scratch_bytes(self) -> int:
        """RAM that it works in."""

    @property
    @abstractmethod
    def reads(self) -> tuple[str, ...]:
        """Values that each slice wants whole."""

    @property
    def changes_state(self) -> bool:
        """Whether the direction that was followed changes too."""
        return False

    def of_slice(self, first: int, count: int) -> Self:
        """The kernel of so many elements of the weights, from the `first` on."""
        return replace(self, mover=self.mover.of_slice(first, count))

    def nest(self, outputs: tuple[str, ...], layouts: Mapping[str, Layout]) -> Nest | None:
        """Runs of weights: each draws what the whole would draw for it."""
        del outputs
        layout, guidance = layouts[self.old], self.mover.directions.guidance
        dims = along_dims(layout.size)
        states = (stored(guidance.state, layouts[guidance.state], dims),) if guidance else ()
        read = tuple(stored(name, layouts[name]) for name in self.reads)
        old = stored(self.old, layout, dims)
        operands = read if self.changes_state else (*read, *states)
        inouts = (old, *states) if self.changes_state else (old,)
        names = [operand.value for operand in (*operands, *inouts)]

        def body(tiles: Sequence[Any], at: At, cut: frozenset[str]) -> tuple[Tensor, ...]:
            del cut
            tensors = dict(zip(names, tiles, strict=True))
            self.of_slice(begin_of(layout, at), tensors[self.old].numel()).apply(tensors)
            return ()

        def scratch(count: int) -> int:
            return self.of_slice(0, count).scratch_bytes

        return run_of_elements(layout, None, operands, body, scratch, inouts=inouts)


@dataclass(frozen=True)
class Shift(InPlace):
    """Kernel: the weights from one displacement to another."""

    change: dict[Perturbation, int]

    def apply(self, tensors: Tensors) -> None:
        """Move the weights."""
        self.mover.shift(tensors[self.old], self.change, tensors)

    @property
    def scratch_bytes(self) -> int:
        """That of the mover."""
        return self.mover.scratch_bytes(self.change)

    @property
    def reads(self) -> tuple[str, ...]:
        """What directions are drawn from, and signs."""
        return self.mover.reads(self.change)


@dataclass(frozen=True)
class Rate:
    """How far a step goes."""

    units: float
    """Units of the weight for a z_q of one, or with `normalized` the share of the weight's norm."""
    decay_steps: int = 0
    """Steps over which it falls to nothing, on a straight line; 0: it stays."""
    normalized: bool = False

    def factor(self, step: int, directions: int) -> int:
        """What the sum of so many signed directions is multiplied by, in units of 2^-16."""
        whole = round(self.units / directions * (1 << NOISE_BITS))
        return whole * max(self.decay_steps - step, 0) // self.decay_steps if self.decay_steps else whole


@dataclass(frozen=True)
class Update(InPlace):
    """Kernel: w <- w - (F sum_i s_i z_i + r) >> 16, once the weights are taken `back`.

    F is (lr Dz / Dw / m) 2^16 and r is uniform in [0, 2^16): rounding is stochastic, and unbiased to the bit.
    The result saturates at what the parameter may become. With a normalized rate, F has ||w_q|| / ||z_i|| in
    the place of Dz / Dw, the norms in integers. With a guiding state, that becomes the mean of s_i z_i.
    """

    back: dict[Perturbation, int]
    signs: str
    """Value that holds the s_i, `[m]`."""
    rate: Rate
    stream: int
    groups: list[range]
    """Directions that are drawn together."""

    def apply(self, tensors: Tensors) -> None:
        """Change weights and state."""
        mover, most = self.mover, self.mover.parameter.most
        mover.shift(tensors[self.old], self.back, tensors)
        w, signs = flat(tensors[self.old]), tensors[self.signs].to(torch.int64)
        factors = signs * self._factors(w, len(signs), tensors)
        state = mover.directions.guidance.state if mover.directions.guidance else None
        for offset, noise, followed, change in self._sums(signs, factors, tensors):
            part = slice(offset, offset + noise.numel())
            change.add_(noise).bitwise_right_shift_(NOISE_BITS)
            w[part] = w[part].to(torch.int64).sub_(change).clamp_(-most, most).to(w.dtype)
            if state:
                mean = followed.div_(len(signs), rounding_mode="trunc")
                flat(tensors[state])[part] = mean.to(torch.int8)

    def _sums(
        self, signs: Tensor, factors: Tensor, tensors: Tensors
    ) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
        """`(offset, r, sum_i s_i z_i, sum_i F_i s_i z_i)`, a piece at a time."""
        directions = self.mover.directions
        every = [directions.together(group, tensors) for group in self.groups]
        count, begin, step = directions.count, directions.first, int(tensors[STEP])
        drawn = numbers(count, NOISE_BITS, step, self.stream, directions.seed, begin)
        for offset, bits in drawn:
            noise = bits.to(torch.int64)
            followed, change = torch.zeros_like(noise), torch.zeros_like(noise)
            for group, pieces in zip(self.groups, every, strict=True):
                _, z = next(pieces)
                part = slice(group.start, group.stop)
                followed += signs[part] @ z
                change += factors[part] @ z
            yield offset, noise, followed, change

    def _factors(self, w: Tensor, count: int, tensors: Tensors) -> Tensor:
        factor = self.rate.factor(int(tensors[STEP]), count)
        if not self.rate.normalized:
            return torch.full((count,), factor)
        weight = int(w.to(torch.int64).square_().sum())
        found = []
        for i in range(count):
            length = sum(int(z.square().sum()) for _, z in self.mover.directions.pieces(i, tensors))
            ratio = math.isqrt((weight << 2 * NOISE_BITS) // max(length, 1))
            found.append(factor * ratio >> NOISE_BITS)
        return torch.tensor(found)

    @property
    def reads(self) -> tuple[str, ...]:
        """What directions are drawn from, and signs."""
        return tuple(dict.fromkeys((*self.mover.reads(self.back), self.signs)))

    @property
    def changes_state(self) -> bool:
        """With a guidance."""
        return self.mover.directions.guidance is not None

    def nest(self, outputs: tuple[str, ...], layouts: Mapping[str, Layout]) -> Nest | None:
        """As of all; a norm is that of all weights, which no slice knows."""
        return None if self.rate.normalized else super().nest(outputs, layouts)

    @property
    def scratch_bytes(self) -> int:
        """Bytes of scratch: pieces of some directions, noise, sums; for norms the squares of all weights."""
        drawn = self.mover.directions
        pieces = drawn.scratch_bytes(len(self.groups[0])) + 6 * drawn.held_bytes
        return max(pieces, 16 * drawn.count) if self.rate.normalized else pieces
