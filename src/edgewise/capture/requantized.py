"""Frozen layers on int8: products of int8 are summed in int32, and the sums rounded to int8 again.

A layer makes, of an input x = s_x x_q and weights w = s_w w_q (one s_w for each output channel),

    y_q = clamp( round( (w_q x_q + b_q) f ), least, most )

with b_q = round(b / (s_x s_w)) and f = s_x s_w / s_y (arXiv 2206.15472, section 3.1), where y = s_y y_q.
Scales are symmetric, so that zero is zero. A sum is multiplied once in float32 and the product rounded half
to even, so that the bits are the same on any machine.

In a trace, a layer is three ops: its input is rounded to int8, the layer itself, and its output in floats.
`int8_chains` takes out what only goes from int8 to floats and back, and puts sums and maps of int8 in.
"""

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, fx

from edgewise.capture import integers
from edgewise.capture.integers import add_op, operand
from edgewise.capture.lowering import Lowering, Rewrite


def _rounded(sums: Tensor, factor: Tensor, least: int, most: int) -> Tensor:
    """Int8, of int32 `sums` and as many factors as they have channels, broadcast to them."""
    return (sums.to(torch.float32) * factor).round_().clamp_(least, most).to(torch.int8)


def convolution_layer(
    x: Tensor, w: Tensor, b: Tensor, factor: Tensor, pairs: Sequence[int], groups: int, limits: Sequence[int]
) -> Tensor:
    """The convolution of int8 [B, C, H, W] with int8 [outputs, C / groups, height, width], in int8.

    `pairs` are stride, padding and dilation, each along H and W.
    """
    settings = (*integers.three_pairs(pairs), groups)
    sums = [integers.convolution(sample[None], w, *settings) + b[:, None, None] for sample in x]
    return torch.cat([_rounded(each, factor[:, None, None], *limits) for each in sums])


def linear_layer(x: Tensor, w: Tensor, b: Tensor, factor: Tensor, limits: Sequence[int]) -> Tensor:
    """int8 [rows, inputs] times int8 [outputs, inputs], in int8 [rows, outputs]."""
    return _rounded(integers.multiply(x, w.t()) + b, factor, *limits)


def floats_of(q: Tensor, scale: float) -> Tensor:
    """`scale` q in float32."""
    return q.to(torch.float32).mul_(scale)


def sum_of(
    terms: Sequence[Tensor],
    scales: Sequence[float],
    lows: Sequence[float],
    highs: Sequence[float],
    scale: Tensor,
) -> Tensor:
    """int8 `terms` of one shape, times their scales, added one after another, clamped after each; in int8."""
    total = torch.zeros(terms[0].shape)
    for term, factor, low, high in zip(terms, scales, lows, highs, strict=True):
        total.add_(floats_of(term, factor)).clamp_(low, high)
    return integers.round_nearest(total, scale)


def map_of(x: Tensor, table: Tensor) -> Tensor:
    """What the int8 `table`, [256], has for each of `x`, uint8, or int8 where -n stands at 256 - n."""
    out = torch.empty(x.shape, dtype=torch.int8)
    for sample, made in zip(x.contiguous().view(torch.uint8), out, strict=True):
        torch.index_select(table, 0, sample.flatten().to(torch.int32), out=made.view(-1))
    return out


def max_pool_of(
    x: Tensor,
    kernel: list[int],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    ceil: bool,
) -> Tensor:
    """The largest of each window of int8 [B, C, H, W]."""
    settings = (kernel, stride, padding, dilation, ceil)
    return torch.cat([torch.max_pool2d(sample[None], *settings) for sample in x])


@torch.library.custom_op("edgewise::int8_convolution_layer", mutates_args=())
def convolution(
    x: Tensor, w: Tensor, b: Tensor, factor: Tensor, pairs: list[int], groups: int, limits: list[int]
) -> Tensor:
    """`convolution_layer`, as one op of a trace."""
    return convolution_layer(x, w, b, factor, pairs, groups, limits)


@torch.library.custom_op("edgewise::int8_linear_layer", mutates_args=())
def linear(x: Tensor, w: Tensor, b: Tensor, factor: Tensor, limits: list[int]) -> Tensor:
    """`linear_layer`, as one op of a trace."""
    return linear_layer(x, w, b, factor, limits)


@torch.library.custom_op("edgewise::int8_floats", mutates_args=())
def floats(q: Tensor, scale: float) -> Tensor:
    """`floats_of`, as one op of a trace."""
    return floats_of(q, scale)


@torch.library.custom_op("edgewise::int8_sum", mutates_args=())
def summed(
    terms: list[Tensor], scales: list[float], lows: list[float], highs: list[float], scale: Tensor
) -> Tensor:
    """`sum_of`, as one op of a trace."""
    return sum_of(terms, scales, lows, highs, scale)


@torch.library.custom_op("edgewise::int8_map", mutates_args=())
def mapped(x: Tensor, table: Tensor) -> Tensor:
    """`map_of`, as one op of a trace."""
    return map_of(x, table)


@torch.library.custom_op("edgewise::int8_max_pool", mutates_args=())
def max_pool(
    x: Tensor, kernel: list[int], stride: list[int], padding: list[int], dilation: list[int], ceil: bool
) -> Tensor:
    """`max_pool_of`, as one op of a trace."""
    return max_pool_of(x, kernel, stride, padding, dilation, ceil)


@convolution.register_fake
def _(x: Tensor, w: Tensor, b: Tensor, factor: Tensor, pairs: Any, groups: int, limits: Any) -> Tensor:
    del b, factor, groups, limits
    size = integers.output_size(x.shape[2:], w.shape[2:], *integers.three_pairs(pairs))
    return x.new_empty((x.shape[0], w.shape[0], *size))


linear.register_fake(lambda x, w, *_: x.new_empty((x.shape[0], w.shape[0])))
floats.register_fake(lambda q, _: q.new_empty(q.shape, dtype=torch.float32))

summed.register_fake(lambda terms, *_: torch.empty_like(terms[0]))

max_pool.register_fake(torch.max_pool2d)

mapped.register_fake(lambda x, table: torch.empty_like(x, dtype=table.dtype))

CONVOLUTION = torch.ops.edgewise.int8_convolution_layer.default
LINEAR = torch.ops.edgewise.int8_linear_layer.default
FLOATS = torch.ops.edgewise.int8_floats.default
SUM = torch.ops.edgewise.int8_sum.default
MAX_POOL = torch.ops.edgewise.int8_max_pool.default
MAP = torch.ops.edgewise.int8_map.default

MOST_TERMS = 4
"""Of a sum."""


# -- how they are lowered ------------------------------------------------------------------------------------


def _convolution_layer(low: Lowering, node: fx.Node) -> None:
    """Its scratch is that of one sample: patches side by side, sums, and these in floats."""
    y, w = low.fake[node], operand(low, node, 1)
    spots = y[0, 0].numel()
    flops = 2 * y.numel() * w[0].numel()
    patches = spots * w[0].numel()
    scratch = 8 * patches + 12 * y[0].numel()
    add_op(low, node, convolution_layer, "convolution", flops=flops, scratch_bytes=scratch, in_slices=True)


def _linear_layer(low: Lowering, node: fx.Node) -> None:
    y, w = low.fake[node], operand(low, node, 1)
    flops = 2 * y.numel() * w.shape[1]
    add_op(low, node, linear_layer, "matmul", flops=flops, scratch_bytes=12 * y.numel(), in_slices=True)


def _sum_of(low: Lowering, node: fx.Node) -> None:
    y, terms = low.fake[node], len(node.args[0])  # type: ignore[arg-type]
    add_op(
        low,
        node,
        sum_of,
        "elementwise",
        flops=4 * terms * y.numel(),
        scratch_bytes=12 * y.numel(),
        in_slices=True,
    )


def _map_of(low: Lowering, node: fx.Node) -> None:
    y = low.fake[node]
    add_op(
        low,
        node,
        map_of,
        "elementwise",
        flops=y.numel(),
        scratch_bytes=y.numel() + 4 * y[0].numel(),
        in_slices=True,
    )


def _max_pool_of(low: Lowering, node: fx.Node) -> None:
    """Its scratch: what PyTorch makes of one sample, with the place of each."""
    y, kernel = low.fake[node], cast("list[int]", node.args[1])
    flops = y.numel() * math.prod(kernel)
    scratch = y.numel() + 8 * y[0].numel()
    add_op(low, node, max_pool_of, "pooling", flops=flops, scratch_bytes=scratch, in_slices=True)


def _floats(low: Lowering, node: fx.Node) -> None:
    add_op(low, node, floats_of, "elementwise", flops=2 * low.fake[node].numel(), in_slices=True)


REWRITES: dict[Any, Rewrite] = {
    CONVOLUTION: _convolution_layer,
    LINEAR: _linear_layer,
    FLOATS: _floats,
    SUM: _sum_of,
    MAP: _map_of,
    MAX_POOL: _max_pool_of,
}
"""How each op of this file is lowered."""
