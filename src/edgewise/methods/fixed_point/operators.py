"""What an integer network computes: 8-bit activations, weights of up to 16 bits, 32-bit accumulators.

An operator makes one tensor of integers from others. Sums of products are taken in float64, where integers
below 2^53 and their sums are exact, in blocks (`products`); all else is 64-bit integers. On a device with
integer units, 32 bits hold every accumulator: `network` sees to that.

Shapes: B batch, C channels, H and W height and width, k kernel, o output.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from edgewise.methods.fixed_point.arithmetic import ACTIVATION_MAX, Factor, scaled, to_activation
from edgewise.methods.fixed_point.products import Blocks, products

Pair = tuple[int, int]
Shape = tuple[int, ...]


class Shapes(NamedTuple):
    """Of what an operator reads and makes."""

    inputs: Sequence[Shape]
    weights: Sequence[Shape]
    output: Shape


class Operator(Protocol):
    """`operator(inputs, weights) -> output`."""

    @property
    def kind(self) -> str:
        """The class that a device's rates are given for."""

    def __call__(self, inputs: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
        """The integers it makes."""

    def scratch_bytes(self, of: Shapes) -> int:
        """RAM that it works in."""


@dataclass(frozen=True)
class Window:
    """Where a kernel looks at its input."""

    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)

    def of(self, x: Tensor, fill: int = 0) -> Tensor:
        """All windows `[B, C, kh, kw, oh, ow]` of `x`, `[B, C, H, W]` or `[B, C, W]` (of height 1).

        They are a view of it, or of a padded copy.
        """
        x = x.unsqueeze(2) if x.ndim == 3 else x
        if any(self.padding):
            x = functional.pad(x, (self.padding[1],) * 2 + (self.padding[0],) * 2, value=fill)
        places = [
            (size - d * (k - 1) - 1) // s + 1
            for size, k, s, d in zip(x.shape[2:], self.kernel, self.stride, self.dilation, strict=True)
        ]
        b, c, h, w = x.stride()
        strides = (b, c, h * self.dilation[0], w * self.dilation[1], h * self.stride[0], w * self.stride[1])
        return x.as_strided((*x.shape[:2], *self.kernel, *places), strides, x.storage_offset())

    def padded_bytes(self, x: Shape) -> int:
        """Bytes of the padded copy."""
        if not any(self.padding):
            return 0
        image = x[2:] if len(x) == 4 else (1, *x[2:])
        sides = (size + 2 * more for size, more in zip(image, self.padding, strict=True))
        return math.prod(x[:2]) * math.prod(sides)


@dataclass(frozen=True)
class Output:
    """How accumulators become what an operator makes: 8 bits at another scale, or 32 bits as they are."""

    factor: Factor | None
    low: int = -ACTIVATION_MAX
    high: int = ACTIVATION_MAX

    def of(self, accumulators: Tensor) -> Tensor:
        """From int64, changed in place."""
        if self.factor is None:
            return accumulators.to(torch.int32)
        return to_activation(scaled(accumulators, self.factor), self.low, self.high)


@dataclass(frozen=True)
class Quantize:
    """Real inputs as 8-bit integers of this scale, rounded to the nearest."""

    scale: float
    kind: str = "elementwise"

    def __call__(self, inputs: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
        """The real number over the scale."""
        del weights
        return (inputs[0] / self.scale).round_().clamp_(-ACTIVATION_MAX, ACTIVATION_MAX).to(torch.int8)

    def scratch_bytes(self, of: Shapes) -> int:
        """The quotient before it is an integer."""
        return 4 * math.prod(of.output)


@dataclass(frozen=True)
class Linear:
    """x w^T plus a bias, which `bias` brings from its own scale to that of the accumulators."""

    output: Output
    bias: Factor | None = None
    kind: str = "matmul"

    def __call__(self, inputs: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
        """`[..., fan-in]` to `[..., out]`."""
        x, w = inputs[0], weights[0]
        rows = x.reshape(-1, 1, x.shape[-1], 1, 1, 1, 1)
        out = products(rows, w.unsqueeze(0), _offsets(self.bias, weights, 1), self.output.of, self._dtype)
        return out.reshape(*x.shape[:-1], -1)

    @property
    def _dtype(self) -> torch.dtype:
        return torch.int8 if self.output.factor else torch.int32

    def scratch_bytes(self, of: Shapes) -> int:
        """One block."""
        channels, fan_in = of.weights[0]
        return Blocks.of(math.prod(of.inputs[0][:-1]), 1, channels, fan_in, (1, 1)).scratch_bytes


@dataclass(frozen=True)
class Convolution:
    """A convolution in `groups`, over one or two axes."""

    output: Output
    window: Window
    groups: int = 1
    bias: Factor | None = None
    kind: str = "convolution"

    def __call__(self, inputs: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
        """`[B, C, H, W]` or `[B, C, W]` to `[B, O, oh, ow]`."""
        patches = self.window.of(inputs[0])
        patches = patches.view(len(patches), self.groups, -1, *patches.shape[2:])
        w = weights[0].reshape(self.groups, weights[0].shape[0] // self.groups, -1)
        dtype = torch.int8 if self.output.factor else torch.int32
        return products(patches, w, _offsets(self.bias, weights, self.groups), self.output.of, dtype)

    def scratch_bytes(self, of: Shapes) -> int:
        """One block, and the padded input."""
        channels, fan_in = of.weights[0][0] // self.groups, math.prod(of.weights[0][1:])
        places = of.output[2:] if len(of.output) == 4 else (1, *of.output[2:])
        blocks = Blocks.of(of.output[0], self.groups, channels, fan_in, (places[0], places[1]))
        return blocks.scratch_bytes + self.window.padded_bytes(of.inputs[0])


def _offsets(bias: Factor | None, weights: Sequence[Tensor], groups: int) -> Tensor | None:
    if bias is None:
        return None
    return scaled(weights[1].to(torch.int64), bias).view(groups, -1, 1)


@dataclass(frozen=True)
class MaxPool:
    """The largest of each window."""

    window: Window
    kind: str = "pooling"

    def __call__(self, inputs: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
        """At the scale of the input."""
        del weights
        return self.window.of(inputs[0], fill=-128).amax((2, 3))

    def scratch_bytes(self, of: Shapes) -> int:
        """The padded input."""
        return self.window.padded_bytes(of.inputs[0])


@dataclass(frozen=True)
class MeanPool:
    """The mean of each window."""

    window: Window
    output: Output
    kind: str = "pooling"

    def __call__(self, inputs: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
        """At a scale of its own."""
        del weights
        return self.output.of(self.window.of(inputs[0]).sum((2, 3), dtype=torch.int64))

    def scratch_bytes(self, of: Shapes) -> int:
        """The padded input and the sums."""
        return self.window.padded_bytes(of.inputs[0]) + 8 * math.prod(of.output)


@dataclass(frozen=True)
class Sum:
    """a + b, each brought to the scale of the sum by m / 2^k."""

    factors: tuple[int, ...]
    k: int
    output: Output
    kind: str = "elementwise"

    def __call__(self, inputs: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
        """Of shapes that broadcast."""
        del weights
        a, b = (x.to(torch.int64).mul_(m) for x, m in zip(inputs, self.factors, strict=True))
        total = (a + b).add_(1 << (self.k - 1)).bitwise_right_shift_(self.k)
        return to_activation(total, self.output.low, self.output.high)

    def scratch_bytes(self, of: Shapes) -> int:
        """Both terms and the sum in 64 bits."""
        return 8 * (sum(map(math.prod, of.inputs)) + math.prod(of.output))


@dataclass(frozen=True)
class Times:
    """a b, as a gate by channel does it."""

    output: Output
    kind: str = "elementwise"

    def __call__(self, inputs: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
        """Of shapes that broadcast."""
        del weights
        return self.output.of(inputs[0].to(torch.int64) * inputs[1])

    def scratch_bytes(self, of: Shapes) -> int:
        """The first in 64 bits, and the product."""
        return 8 * (math.prod(of.inputs[0]) + 2 * math.prod(of.output))


@dataclass(frozen=True)
class Concatenate:
    """Inputs side by side along `axis`, each brought to one scale."""

    axis: int
    factors: tuple[Factor, ...]
    kind: str = "copy"

    def __call__(self, inputs: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
        """Of the same shape but for `axis`."""
        del weights
        parts = (Output(factor).of(x.to(torch.int64)) for x, factor in zip(inputs, self.factors, strict=True))
        return torch.cat(list(parts), self.axis)

    def scratch_bytes(self, of: Shapes) -> int:
        """Largest input in 64 bits, and all in 8."""
        return 8 * max(map(math.prod, of.inputs)) + math.prod(of.output)


@dataclass(frozen=True)
class Lookup:
    """Any function of one number: what it makes of each of the 255 integers."""

    table: tuple[int, ...]
    kind: str = "elementwise"

    def __call__(self, inputs: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
        """table[x + 127]."""
        del weights
        return torch.tensor(self.table, dtype=torch.int8)[inputs[0].to(torch.int64).add_(127)]

    def scratch_bytes(self, of: Shapes) -> int:
        """The index."""
        return 8 * math.prod(of.output)
