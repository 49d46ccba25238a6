"""Ops that change or draw something, rewritten so that a plan may repeat them.

Batch norm makes its new running statistics once, as updates in place; a recomputation leaves them alone.
Everything random takes the number of the training step as an operand and draws from a counter keyed by (seed,
stream, step), so that a recomputation draws the same numbers. Dropout becomes two ops, a mask and a product,
because the mask is cheap to draw again and a quarter of the size.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from edgewise.capture import philox
from edgewise.capture.gradients import split_convolution_backward
from edgewise.capture.kernels import Memory, Program, Tensors
from edgewise.capture.lowering import STEP, Lowering, Rewrite
from edgewise.graph import WHOLE, Op, Option

aten = torch.ops.aten


@dataclass(frozen=True)
class BatchNormKernel:
    """`native_batch_norm` in training; `running` names mean and variance, changed on the first run."""

    program: Program
    operands: tuple[Any, Any, Any]
    running: tuple[str, str]
    momentum: float
    eps: float

    def __call__(self, tensors: Tensors, option: str, first: bool, memory: Memory) -> tuple[Tensor, ...]:
        """Normalized x, and the mean and inverse deviation that the backward pass reads."""
        del option, memory
        slots = self.program.slots(tensors)
        x, weight, bias = (None if operand is None else slots[operand.index] for operand in self.operands)
        mean, variance = (tensors[name] for name in self.running) if first else (None, None)
        return self.normalize(x, weight, bias, mean, variance)

    def normalize(
        self, x: Any, weight: Any, bias: Any, mean: Tensor | None, variance: Tensor | None
    ) -> tuple[Tensor, ...]:
        """The three results for these channels; running `mean` and `variance` are changed if given."""
        result = aten.native_batch_norm(x, weight, bias, mean, variance, True, self.momentum, self.eps)
        return tuple(result)


Fill = Callable[..., Tensor]
"""`fill(shape, *parameters, dtype, step, stream, seed) -> tensor`: one of `philox`."""


@dataclass(frozen=True)
class DrawKernel:
    """Numbers drawn from the step's number alone: the same for the same step."""

    fill: Fill
    parameters: tuple[float, ...]
    shape: tuple[int, ...]
    dtype: torch.dtype
    stream: int
    seed: int

    def __call__(self, tensors: Tensors, option: str, first: bool, memory: Memory) -> tuple[Tensor, ...]:
        """What is drawn."""
        del option, first, memory
        step = int(tensors[STEP])
        return (self.fill(self.shape, *self.parameters, self.dtype, step, self.stream, self.seed),)


def _batch_norm(low: Lowering, node: fx.Node) -> None:
    """`_native_batch_norm_legit_functional(x, weight, bias, mean, var, training, momentum, eps)`."""
    x, weight, bias, mean, var, training, momentum, eps = node.args
    if not training or mean is None:
        low.generic(node)
        return
    result = low.fake[node]
    olds = (low.base[mean, None], low.base[var, None])  # type: ignore[index]
    outputs = tuple(low.new_value(node, result[i], suffix=f".{i}", item=i) for i in range(3))
    program, operands = low.program((x, weight, bias))
    news = tuple(low.next_version(old) for old in olds)
    for index, new in enumerate(news):
        low.declare(new, result[3 + index], "state")
        low.base[node, 3 + index] = new
    op = Op(
        low.op_name(node),
        program.operands,
        outputs,
        low.fake[x].numel(),  # type: ignore[index]
        "normalization",
        updates=tuple(zip(olds, news, strict=True)),
        layer=low.layer(node),
    )
    low.add(op, BatchNormKernel(program, operands, olds, float(momentum), float(eps)), backward=False)  # type: ignore[arg-type]


def _add_draw(low: Lowering, node: fx.Node, output: str, kernel: DrawKernel, *, backward: bool) -> None:
    """An op that draws `output` from the training step alone."""
    count = math.prod(kernel.shape)
    option = Option("whole", workspace_bytes=philox.scratch_bytes(count))
    layer = low.layer(node)
    op = Op(output, (STEP,), (output,), count, "random", options=(option,), layer=layer)
    low.add(op, kernel, backward=backward)


def _draws(fill: Fill) -> Rewrite:
    """A rewrite for an op whose result depends only on its shape, and on a probability if it has one."""

    def rewrite(low: Lowering, node: fx.Node) -> None:
        fake = low.fake[node]
        parameters = (float(node.args[1]),) if node.target is aten.bernoulli.p else ()  # type: ignore[arg-type]
        kernel = DrawKernel(fill, parameters, tuple(fake.shape), fake.dtype, low.next_stream(), low.seed)
        _add_draw(low, node, low.new_value(node, fake), kernel, backward=node not in low.forward)

    return rewrite


def _dropout(low: Lowering, node: fx.Node) -> None:
    """`native_dropout(x, p, train)`: results `x * mask / (1 - p)` and the mask."""
    x, p = node.args[:2]
    out, mask = low.fake[node]
    keep = 1 - float(p)  # type: ignore[arg-type]
    name = low.new_value(node, mask, suffix=".mask", item=1)
    shape, stream = tuple(mask.shape), low.next_stream()
    kernel = DrawKernel(philox.bernoulli, (keep,), shape, torch.bool, stream, low.seed)
    _add_draw(low, node, name, kernel, backward=False)
    _add_product(low, node, x, (node, 1), out, 1 / keep if keep else 0.0, item=0)


def _dropout_backward(low: Lowering, node: fx.Node) -> None:
    """`native_dropout_backward(gradient, mask, scale)`: `gradient * mask * scale`."""
    gradient, mask, scale = node.args
    _add_product(low, node, gradient, (mask, None), low.fake[node], float(scale), item=None)  # type: ignore[arg-type]


def _add_product(
    low: Lowering,
    node: fx.Node,
    x: Any,
    mask: tuple[Any, int | None],
    fake: Tensor,
    scale: float,
    *,
    item: int | None,
) -> None:
    """An op for `x * mask * scale`, which can take the place of `x`."""
    program, (slot,) = low.program((x,))
    mask_value = low.base[mask]
    overwritable = low.overwritable(node, 0, fake)
    output = low.new_value(node, fake, item=item)
    options = [WHOLE, *([Option("in_place", ((overwritable, output),))] if overwritable else [])]
    op = Op(
        output,
        (*program.operands, mask_value),
        (output,),
        fake.numel(),
        "elementwise",
        options=tuple(options),
        layer=low.layer(node),
    )
    kernel = ProductKernel(program, slot.index, mask_value, scale)
    low.add(op, kernel, backward=node not in low.forward)


@dataclass(frozen=True)
class ProductKernel:
    """`x * mask * scale`, the second half of a dropout."""

    program: Program
    slot: int
    mask: str
    scale: float

    def __call__(self, tensors: Tensors, option: str, first: bool, memory: Memory) -> tuple[Tensor, ...]:
        """The product, in the place of x if the option says so."""
        del first, memory
        x, mask = self.program.slots(tensors)[self.slot], tensors[self.mask]
        return ((x.mul_(mask) if option == "in_place" else x.mul(mask)).mul_(self.scale),)


REWRITES: dict[Any, Rewrite] = {
    aten._native_batch_norm_legit_functional.default: _batch_norm,  # noqa: SLF001
    aten.convolution_backward.default: split_convolution_backward,
    aten.native_dropout.default: _dropout,
    aten.native_dropout_backward.default: _dropout_backward,
    aten.bernoulli.p: _draws(philox.bernoulli),
    aten.rand.default: _draws(philox.uniform),
    aten.rand_like.default: _draws(philox.uniform),
    aten.randn.default: _draws(philox.normal),
    aten.randn_like.default: _draws(philox.normal),
}
"""How each op with a way of its own is lowered; every other op that draws random numbers is refused."""
