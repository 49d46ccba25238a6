"""The integer network of a model: its operators in order, its weights as integers, and their ranges.

A weight of scale Dw is an integer of at most `limit`, the least of what its bits hold and of what the
accumulators allow: fan-in times 127 times `limit`, plus the bias, must stay below 2^31, whatever the
activations are. Of that, `most` is for the weight itself, and the rest for perturbing it, so that w + d can
always be taken back exactly. So Dw = (headroom max|w| + 3.5 (epsilon + rho)) / limit.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from edgewise.methods.fixed_point.arithmetic import ACTIVATION_MAX
from edgewise.methods.fixed_point.draws import Z_MAX, Z_SCALE
from edgewise.methods.fixed_point.operators import Operator, Shape, Shapes
from edgewise.methods.settings import FixedPoint

LEAST_LIMIT = 127
"""A layer whose weights would have fewer levels than 8 bits is refused."""


@dataclass(frozen=True)
class Operand:
    """A value, and the shape in which it is read."""

    value: str
    shape: Shape

    def for_samples(self, samples: int) -> "Operand":
        """The same of another batch."""
        return Operand(self.value, (samples, *self.shape[1:]))


@dataclass(frozen=True)
class Node:
    """One operator of the network, which makes the value `name`."""

    name: str
    layer: str
    operator: Operator
    inputs: tuple[Operand, ...]
    weights: tuple[str, ...]
    shape: Shape
    dtype: torch.dtype
    flops: int

    def run(self, inputs: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
        """What it makes of a batch, which may be of another size than the example."""
        seen = [
            x.view(x.shape[0], *operand.shape[1:]) for x, operand in zip(inputs, self.inputs, strict=True)
        ]
        return self.operator(seen, weights).reshape(-1, *self.shape[1:])

    def for_samples(self, samples: int) -> "Node":
        """The same with the shapes and costs of another batch."""
        inputs = tuple(operand.for_samples(samples) for operand in self.inputs)
        flops = self.flops * samples // self.shape[0]
        return replace(self, inputs=inputs, shape=(samples, *self.shape[1:]), flops=flops)

    def scratch_bytes(self, shapes: Mapping[str, Shape]) -> int:
        """RAM that it works in; `shapes` are those of the weights."""
        weights = [shapes[name] for name in self.weights]
        return self.operator.scratch_bytes(Shapes([o.shape for o in self.inputs], weights, self.shape))


@dataclass(frozen=True)
class Parameter:
    """A weight or bias as integers `values` times `scale`."""

    values: Tensor
    scale: float
    most: int
    """The largest that an update may make of it."""
    epsilon: int
    """The perturbation's size in units of `scale`; 0 if it is not trained."""
    rho: int
    trained: bool


@dataclass(frozen=True)
class Network:
    """An integer network. Its input is `batch.0`, real; its logits are integers of `logit_scale`."""

    nodes: tuple[Node, ...]
    parameters: dict[str, Parameter]
    settings: FixedPoint
    """What the scales of the parameters were made for."""
    logits: Operand
    logit_scale: float

    @property
    def samples(self) -> int:
        """Size of the batch that shapes are for."""
        return self.logits.shape[0]

    def for_samples(self, samples: int) -> "Network":
        """The same network with the shapes and costs of another batch."""
        nodes = tuple(node.for_samples(samples) for node in self.nodes)
        return replace(self, nodes=nodes, logits=self.logits.for_samples(samples))


@functools.cache
def moves(size: int) -> tuple[int, ...]:
    """What a perturbation of `size` units moves a weight by, for z_q from -127 to 127: round(size z_q Dz)."""
    positive = [math.floor(size * z * Z_SCALE + 0.5) for z in range(1, 128)]
    return (*(-d for d in reversed(positive)), 0, *positive)


@dataclass(frozen=True)
class Range:
    """What a weight and the bias beside it may become, as real numbers: `weight` and `bias`, moved or not."""

    weight: float
    bias: float
    reach: float

    @classmethod
    def of(
        cls, weight: Tensor, bias: Tensor | None, settings: FixedPoint, trained: tuple[bool, bool]
    ) -> "Range":
        """Of one layer; what is all zeros gets the range of a fresh layer."""
        fan_in = weight[0].numel()
        largest = float(weight.abs().max()) or fan_in**-0.5
        offset = max(float(bias.abs().max()), largest) if bias is not None else 0.0
        grow = [settings.headroom if own else 1.0 for own in trained]
        return cls(largest * grow[0], offset * grow[1], Z_MAX * (settings.epsilon + settings.sharpness))

    def limit(self, fan_in: int, input_scale: float, settings: FixedPoint) -> int:
        """Largest integer weight with which no accumulator overflows, or that its bits hold."""
        room = (1 << settings.accumulator_bits - 1) - 2
        # The bias in units of the accumulators is (bias + reach) / (input_scale Dw), and Dw is whole / limit.
        whole = self.weight + self.reach
        offset = (self.bias + self.reach) / (input_scale * whole) if self.bias else 0.0
        return min(int(room / (fan_in * ACTIVATION_MAX + offset)), (1 << settings.weight_bits - 1) - 1)


def parameter_of(
    tensor: Tensor, largest: float, limit: int, settings: FixedPoint, *, trained: bool
) -> Parameter:
    """`tensor` as integers of at most `limit`, where its elements may come to be `largest`."""
    reach = Z_MAX * (settings.epsilon + settings.sharpness) if trained else 0.0
    scale = (largest + reach) / limit
    epsilon, rho = (round(s / scale) if trained else 0 for s in (settings.epsilon, settings.sharpness))
    most = limit - moves(epsilon)[-1] - moves(rho)[-1]
    values = (tensor.detach().to(torch.float64) / scale).round_().clamp_(-most, most)
    dtype = torch.int8 if settings.weight_bits <= 8 else torch.int16
    return Parameter(values.to(dtype), scale, most, epsilon, rho, trained)
