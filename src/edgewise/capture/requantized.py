"""Frozen layers on int8: products of int8 are summed in int32, and the sums rounded to int8 again.

A layer makes, of an input x = s_x x_q and weights w = s_w w_q (one s_w for each output channel),

    y_q = clamp( round( (w_q x_q + b_q) f ), least, most )

with b_q = round(b / (s_x s_w)) and f = s_x s_w / s_y (arXiv 2206.15472, section 3.1), where y = s_y y_q.
Scales are symmetric, so that zero is zero. A sum is multiplied once in float32 and the product rounded half
to even, so that the bits are the same on any machine.

In a trace, a layer is three ops: its input is rounded to int8, the layer itself, and its output in floats.
`stay_in_int8` takes out what only goes from int8 to floats and back.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from edgewise.capture import integers
from edgewise.capture.channels import call_like, fake_of
from edgewise.capture.integers import add_call, operand
from edgewise.capture.joint import JointGraph
from edgewise.capture.lowering import Lowering, Rewrite

aten = torch.ops.aten


def _rounded(sums: Tensor, factor: Tensor, least: int, most: int) -> Tensor:
    """Int8, of int32 `sums` and as many factors as they have channels, broadcast to them."""
    return (sums.to(torch.float32) * factor).round_().clamp_(least, most).to(torch.int8)


def convolution_layer(
    x: Tensor, w: Tensor, b: Tensor, factor: Tensor, pairs: Sequence[int], groups: int, limits: Sequence[int]
) -> Tensor:
    """The convolution of int8 [B, C, H, W] with int8 [outputs, C / groups, height, width], in int8.

    `pairs` are stride, padding and dilation, each along H and W.
    """
    settings = (*_settings(pairs), groups)
    sums = [integers.convolution(sample[None], w, *settings) + b[:, None, None] for sample in x]
    return torch.cat([_rounded(each, factor[:, None, None], *limits) for each in sums])


def _settings(pairs: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
    return list(pairs[:2]), list(pairs[2:4]), list(pairs[4:])


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


@convolution.register_fake
def _(x: Tensor, w: Tensor, b: Tensor, factor: Tensor, pairs: Any, groups: int, limits: Any) -> Tensor:
    del b, factor, groups, limits
    size = integers.output_size(x.shape[2:], w.shape[2:], *_settings(pairs))
    return x.new_empty((x.shape[0], w.shape[0], *size))


linear.register_fake(lambda x, w, *_: x.new_empty((x.shape[0], w.shape[0])))
floats.register_fake(lambda q, _: q.new_empty(q.shape, dtype=torch.float32))

summed.register_fake(lambda terms, *_: torch.empty_like(terms[0]))

_NEAREST = torch.ops.edgewise.int8_nearest.default
_CONVOLUTION = torch.ops.edgewise.int8_convolution_layer.default
_LINEAR = torch.ops.edgewise.int8_linear_layer.default
_FLOATS = torch.ops.edgewise.int8_floats.default
_SUM = torch.ops.edgewise.int8_sum.default


# -- what stays in int8 --------------------------------------------------------------------------------------

MOST_TERMS = 4
"""Terms of a sum; a longer one goes through floats."""

_VIEWS = {
    aten.view.default, aten.permute.default, aten.transpose.int, aten.t.default,
    aten.unsqueeze.default, aten.squeeze.dim, aten.detach.default, aten.alias.default,
}  # fmt: skip
_CLAMPS = {aten.relu.default, aten.hardtanh.default, aten.clamp.default, aten.clamp_min.default}
_LARGEST = torch.finfo(torch.float32).max


def stay_in_int8(joint: JointGraph) -> None:
    """Let layers read the int8 that others make, where the way through floats changes nothing; in place.

    A layer reads that of the layer before it if all numbers that this one can make come to it as they are:
    clamps may stand between, if the first layer's own limits are as tight. What is rounded of a sum of int8
    is made from its terms at once. The bits are those of the way through floats.
    """
    scales = {source.node: source.tensor for source in joint.sources}
    graph = joint.module.graph
    rounded: dict[tuple[fx.Node, float], fx.Node] = {}
    for node in graph.find_nodes(op="call_function", target=_NEAREST):
        x, scale = node.args
        if scale not in scales:
            continue
        before = rounded.setdefault((x, float(scales[scale])), node)
        with graph.inserting_before(node):
            if before is not node:
                node.replace_all_uses_with(before)
            elif (q := _unchanged(x, scales[scale]) or _sum(node)) is not None:
                node.replace_all_uses_with(q)
                rounded[x, float(scales[scale])] = q
    graph.eliminate_dead_code()


def _unchanged(x: Any, scale: Tensor) -> fx.Node | None:
    """The int8 that rounding `x` gives again, or `None`."""
    steps: list[fx.Node] = []
    while isinstance(x, fx.Node) and x.target is not _FLOATS:
        if x.target not in _VIEWS | _CLAMPS:
            return None
        steps.insert(0, x)
        x = x.args[0]
    if not isinstance(x, fx.Node):
        return None
    q: Any = x.args[0]
    levels = _levels(q)
    value = floats_of(levels, x.args[1])  # type: ignore[arg-type]
    for step in steps:
        if step.target in _CLAMPS:
            value = step.target(value, *step.args[1:], **step.kwargs)
    if not torch.equal(integers.round_nearest(value, scale), levels):
        return None
    for step in steps:
        if step.target in _VIEWS:
            q = call_like(step, step.target, q, *step.args[1:], **step.kwargs)
    return q  # type: ignore[no-any-return]


def _levels(q: fx.Node) -> Tensor:
    """All numbers that `q` can hold."""
    layer = q.target in (_CONVOLUTION, _LINEAR)
    limits: Any = q.args[-1] if layer else (-integers.LEVELS, integers.LEVELS)
    return torch.arange(limits[0], limits[1] + 1).to(torch.int8)


def _sum(node: fx.Node) -> fx.Node | None:
    """The op that makes the rounded sum `node` from its int8 terms, or `None` if it is no such sum."""
    found: list[tuple[Any, ...]] = []
    x: Any = node.args[0]
    while isinstance(x, fx.Node) and len(found) < MOST_TERMS:
        limits = -_LARGEST, _LARGEST
        while x.target in _CLAMPS:
            limits, x = _both(_limits(x), limits), x.args[0]
        if x.target is _FLOATS:
            terms = [(*x.args, *limits), *reversed(found)]
            if len(terms) == 1 or len({fake_of(term[0]).shape for term in terms}) > 1:
                return None
            return call_like(node, _SUM, *map(list, zip(*terms, strict=True)), node.args[1])
        if x.target is not aten.add.Tensor or x.kwargs:
            return None
        terms = [arg for arg in x.args if isinstance(arg, fx.Node) and arg.target is _FLOATS]
        if not terms:
            return None
        (*_, last) = terms
        found.append((*last.args, *limits))
        x = next((arg for arg in x.args if arg is not last), last)
    return None


def _limits(clamp: fx.Node) -> tuple[float, float]:
    """Between what `clamp` keeps its operand."""
    ends = clamp.target(torch.tensor([-_LARGEST, _LARGEST]), *clamp.args[1:], **clamp.kwargs)  # type: ignore[operator]
    return float(ends[0]), float(ends[1])


def _both(inner: tuple[float, float], outer: tuple[float, float]) -> tuple[float, float]:
    """The limits of one clamp after another."""
    low, high = (min(max(end, outer[0]), outer[1]) for end in inner)
    return low, high


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


def _sum_of(low: Lowering, node: fx.Node) -> None:
    y, terms = low.fake[node], len(node.args[0])  # type: ignore[arg-type]
    add_call(low, node, sum_of, "elementwise", flops=4 * terms * y.numel(), scratch_bytes=12 * y.numel())


def _floats(low: Lowering, node: fx.Node) -> None:
    add_call(low, node, floats_of, "elementwise", flops=2 * low.fake[node].numel())


REWRITES: dict[Any, Rewrite] = {
    _CONVOLUTION: _convolution_layer,
    _LINEAR: _linear_layer,
    _FLOATS: _floats,
    _SUM: _sum_of,
}
"""How each op of this file is lowered."""
