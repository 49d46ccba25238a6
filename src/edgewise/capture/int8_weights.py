"""Frozen convolutions whose weights are int8 and whose arithmetic is float32: for layers that gradients pass.

With w = f_o w_q for each output channel o, the layer makes f_o (w_q * x)_o. The gradient of its input is that
of a convolution with w_q, of dL/dy_o f_o. In C no weight is in float32 but one at a time.
"""

from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional as F  # noqa: N812 (its common name)

from edgewise.capture.gradients import input_gradient
from edgewise.capture.integers import add_op, operand, output_size, three_pairs
from edgewise.capture.kernels import AtenKernel, Instruction
from edgewise.capture.lowering import Layout, Lowering, Rewrite
from edgewise.graph import Op, Option


def convolution_by_int8(x: Tensor, w: Tensor, factor: Tensor, pairs: list[int], groups: int) -> Tensor:
    """The convolution of float32 [B, C, H, W] with int8 [outputs, C / groups, height, width], scaled.

    `pairs` are stride, padding and dilation, each along H and W; `factor` is float32, [outputs].
    """
    sums = F.conv2d(x, w.to(x.dtype), None, *three_pairs(pairs), groups)
    return sums.mul_(factor[:, None, None])


@torch.library.custom_op("edgewise::convolution_by_int8", mutates_args=())
def convolution(x: Tensor, w: Tensor, factor: Tensor, pairs: list[int], groups: int) -> Tensor:
    """`convolution_by_int8`, as one op of a trace."""
    return convolution_by_int8(x, w, factor, pairs, groups)


@torch.library.custom_op("edgewise::convolution_by_int8_input", mutates_args=())
def _input(dy: Tensor, w: Tensor, size: list[int], pairs: list[int], groups: int) -> Tensor:
    x = Layout.of(torch.empty(size, device="meta"))
    return input_gradient(dy, w, x, (*three_pairs(pairs), False, [0, 0], groups))


@convolution.register_fake
def _(x: Tensor, w: Tensor, factor: Tensor, pairs: Any, groups: int) -> Tensor:
    del factor, groups
    return x.new_empty((x.shape[0], w.shape[0], *output_size(x.shape[2:], w.shape[2:], *three_pairs(pairs))))


_input.register_fake(lambda dy, _, size, *__: dy.new_empty(size))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    del output
    x, w, factor, ctx.pairs, ctx.groups = inputs
    ctx.size = list(x.shape)
    ctx.save_for_backward(w, factor)


def _backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    w, factor = ctx.saved_tensors
    dx = _input(dy * factor[:, None, None], w, ctx.size, ctx.pairs, ctx.groups)
    return dx, None, None, None, None


convolution.register_autograd(_backward, setup_context=_keep)


# -- how they are lowered ------------------------------------------------------------------------------------


def _convolution(low: Lowering, node: fx.Node) -> None:
    """Its scratch is the weight in floats: PyTorch has no such product."""
    y, w = low.fake[node], operand(low, node, 1)
    flops = 2 * y.numel() * w[0].numel()
    add_op(
        low,
        node,
        convolution_by_int8,
        "convolution",
        flops=flops,
        scratch_bytes=4 * w.numel(),
        in_slices=True,
    )


def _input_gradient(low: Lowering, node: fx.Node) -> None:
    dy, w, _, pairs, groups = node.args
    x, weight = low.fake[node], operand(low, node, 1)
    settings = (*three_pairs(pairs), False, [0, 0], groups)  # type: ignore[arg-type]
    program, slots = low.program((dy, w, Layout.of(x), settings))
    made = low.new_value(node, x)
    flops = 2 * operand(low, node, 0).numel() * weight[0].numel()
    whole = Option("whole", workspace_bytes=4 * weight.numel())
    op = Op(made, program.operands, (made,), flops, "convolution", options=(whole,), layer=low.layer(node))
    low.add(op, AtenKernel(program, Instruction(input_gradient, slots, {}), None, {}), backward=True)


REWRITES: dict[Any, Rewrite] = {
    torch.ops.edgewise.convolution_by_int8.default: _convolution,
    torch.ops.edgewise.convolution_by_int8_input.default: _input_gradient,
}
"""How each op of this file is lowered."""
