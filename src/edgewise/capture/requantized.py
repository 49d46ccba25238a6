"""Frozen layers on int8: products of int8 are summed in int32, and the sums rounded to int8 again.

A layer makes, of an input x = s_x x_q and weights w = s_w w_q (one s_w for each output channel),

    y_q = clamp( round( (w_q x_q + b_q) f ), least, most )        f = s_x s_w / s_y    b_q = round(b / (s_x s_w))

(arXiv 2206.15472, section 3.1), where y = s_y y_q. Scales are symmetric, so that zero is zero. A float32
multiplies each sum once and the product is rounded half to even, so that the bits are the same on any machine.

In a trace, a layer is three ops: its input is rounded to int8, the layer itself, and its output in floats.
`stay_in_int8` takes out the pairs that only go from int8 to floats and back.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from edgewise.capture import integers
from edgewise.capture.channels import call_like
from edgewise.capture.integers import add_call, operand
from edgewise.capture.joint import JointGraph
from edgewise.capture.lowering import Lowering, Rewrite

aten = torch.ops.aten


def _rounded(sums: Tensor, factor: Tensor, least: int, most: int) -> Tensor:
    """Int8, of int32 `sums` and as many factors as they have channels, broadcast to them."""
    return (sums.to(torch.float32) * factor).round_().clamp_(least, most).to(torch.int8)


def convolution_layer(
    x: Tensor,
    w: Tensor,
    b: Tensor,
    factor: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    least: int,
    most: int,
) -> Tensor:
    """The convolution of int8 [B, C, H, W] with int8 [outputs, C / groups, height, width], in int8."""
    settings = list(stride), list(padding), list(dilation), groups
    sums = [integers.convolution(sample[None], w, *settings) + b[:, None, None] for sample in x]
    return torch.cat([_rounded(each, factor[:, None, None], least, most) for each in sums])


def linear_layer(x: Tensor, w: Tensor, b: Tensor, factor: Tensor, least: int, most: int) -> Tensor:
    """int8 [rows, inputs] times int8 [outputs, inputs], in int8 [rows, outputs]."""
    return _rounded(integers.multiply(x, w.t()) + b, factor, least, most)


def floats_of(q: Tensor, scale: float) -> Tensor:
    """`scale` q in float32."""
    return q.to(torch.float32).mul_(scale)


@torch.library.custom_op("edgewise::int8_convolution_layer", mutates_args=())
def convolution(
    x: Tensor,
    w: Tensor,
    b: Tensor,
    factor: Tensor,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
    least: int,
    most: int,
) -> Tensor:
    """`convolution_layer`, as one op of a trace."""
    return convolution_layer(x, w, b, factor, stride, padding, dilation, groups, least, most)


@torch.library.custom_op("edgewise::int8_linear_layer", mutates_args=())
def linear(x: Tensor, w: Tensor, b: Tensor, factor: Tensor, least: int, most: int) -> Tensor:
    """`linear_layer`, as one op of a trace."""
    return linear_layer(x, w, b, factor, least, most)


@torch.library.custom_op("edgewise::int8_floats", mutates_args=())
def floats(q: Tensor, scale: float) -> Tensor:
    """`floats_of`, as one op of a trace."""
    return floats_of(q, scale)


@convolution.register_fake
def _(x: Tensor, w: Tensor, b: Tensor, factor: Tensor, stride: Any, padding: Any, dilation: Any,
      groups: int, least: int, most: int) -> Tensor:  # fmt: skip
    del b, factor, groups, least, most
    size = integers.output_size(x.shape[2:], w.shape[2:], stride, padding, dilation)
    return x.new_empty((x.shape[0], w.shape[0], *size))


linear.register_fake(lambda x, w, *_: x.new_empty((x.shape[0], w.shape[0])))
floats.register_fake(lambda q, _: q.new_empty(q.shape, dtype=torch.float32))

_NEAREST = torch.ops.edgewise.int8_nearest.default
_CONVOLUTION = torch.ops.edgewise.int8_convolution_layer.default
_LINEAR = torch.ops.edgewise.int8_linear_layer.default
_FLOATS = torch.ops.edgewise.int8_floats.default


# -- what stays in int8 --------------------------------------------------------------------------------------

_VIEWS = {aten.view.default, aten._unsafe_view.default, aten.permute.default, aten.transpose.int,  # noqa: SLF001
          aten.t.default, aten.unsqueeze.default, aten.squeeze.dim, aten.detach.default, aten.alias.default}  # fmt: skip


def stay_in_int8(joint: JointGraph) -> None:
    """Let a layer read the int8 of the layer before it, where what lies between changes nothing; in place.

    That is so if all numbers that the first can make come out of it as they were: what clamps may stand
    between, if the first layer's own limits are as tight.
    """
    scales = {source.node: source.tensor for source in joint.sources}
    graph = joint.module.graph
    for node in graph.find_nodes(op="call_function", target=_NEAREST):
        x, scale = node.args
        between = _chain(x)
        if between is None or scale not in scales:
            continue
        begin, *steps = between
        q, of_floats = begin.args
        levels = _levels(q)  # type: ignore[arg-type]
        value = floats_of(levels, of_floats)  # type: ignore[arg-type]
        for step in steps:
            value = value if step.target in _VIEWS else step.target(value, *step.args[1:], **step.kwargs)  # type: ignore[operator]
        if not torch.equal(integers.round_nearest(value, scales[scale]), levels):
            continue
        with graph.inserting_before(node):
            for step in steps:
                if step.target in _VIEWS:
                    q = call_like(step, step.target, q, *step.args[1:], **step.kwargs)
        node.replace_all_uses_with(q)  # type: ignore[arg-type]
    graph.eliminate_dead_code()


def _chain(x: Any) -> list[fx.Node] | None:
    """From the node that turns int8 into floats to `x`, through ops of one operand each; or `None`."""
    found: list[fx.Node] = []
    while isinstance(x, fx.Node) and x.op == "call_function":
        found.append(x)
        if x.target is _FLOATS:
            return found[::-1]
        pointwise = torch.Tag.pointwise in getattr(x.target, "tags", ())
        if not (pointwise or x.target in _VIEWS) or len(x.all_input_nodes) != 1:
            return None
        x = x.args[0]
    return None


def _levels(q: fx.Node) -> Tensor:
    """All numbers that `q` can hold."""
    layer = q.target in (_CONVOLUTION, _LINEAR)
    least, most = q.args[-2:] if layer else (-integers.LEVELS, integers.LEVELS)
    return torch.arange(least, most + 1).to(torch.int8)  # type: ignore[operator]


# -- how they are lowered ------------------------------------------------------------------------------------


def _convolution_layer(low: Lowering, node: fx.Node) -> None:
    """Its scratch is that of one sample: patches side by side, sums, and these in floats."""
    y, w = low.fake[node], operand(low, node, 1)
    spots = y[0, 0].numel()
    flops = 2 * y.numel() * w[0].numel()
    patches = spots * w[0].numel()
    scratch = 8 * patches + 12 * y[0].numel()
    add_call(low, node, convolution_layer, "convolution", flops=flops, scratch_bytes=scratch)


def _linear_layer(low: Lowering, node: fx.Node) -> None:
    y, w = low.fake[node], operand(low, node, 1)
    flops = 2 * y.numel() * w.shape[1]
    add_call(low, node, linear_layer, "matmul", flops=flops, scratch_bytes=12 * y.numel())


def _floats(low: Lowering, node: fx.Node) -> None:
    add_call(low, node, floats_of, "elementwise", flops=2 * low.fake[node].numel())


REWRITES: dict[Any, Rewrite] = {
    _CONVOLUTION: _convolution_layer,
    _LINEAR: _linear_layer,
    _FLOATS: _floats,
}
"""How each op of this file is lowered."""
