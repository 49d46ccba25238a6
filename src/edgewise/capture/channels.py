"""Gradients of some rows of a weight only, computed as such: the products are made for these rows alone.

Rows are output channels. A weight's gradient is the last of a chain of ops; taking rows of it is moved up
that chain, as far as the convolution or the product that makes it, which then reads the output gradient of
these channels only. So the step holds and computes that share of the gradient and no more, and rows that are
not trained have no gradient anywhere. The gradient of the layer's input still takes the whole weight.
"""

import operator
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx

from edgewise.capture.joint import JointGraph, Runs

aten = torch.ops.aten

_SAME_ROWS = {aten.detach.default, aten.alias.default, aten.clone.default, aten.neg.default}
_PRODUCTS = {aten.mul.Tensor, aten.div.Tensor, aten.add.Tensor, aten.sub.Tensor}
_CONVOLUTION = ("gradient", "x", "weight", "bias_sizes", "stride", "padding", "dilation", "transposed",
                "output_padding", "groups", "mask")  # fmt: skip


def runs_of(rows: Sequence[int]) -> Runs:
    """Ascending indices as runs `(start, stop)`."""
    found: list[tuple[int, int]] = []
    for row in rows:
        if found and found[-1][1] == row:
            found[-1] = (found[-1][0], row + 1)
        else:
            found.append((row, row + 1))
    return tuple(found)


def keep_rows(joint: JointGraph, parameter: str, rows: Runs) -> str | None:
    """Let the gradient of `parameter` be that of `rows` only; or say why that cannot be had for less.

    `joint` is changed in place.
    """
    whole = joint.gradients[parameter]
    graph = joint.module.graph
    try:
        with _at(whole):
            part = _part(graph, whole, 0, rows)
    except _NotSeparableError as problem:
        return str(problem)
    (output,) = graph.find_nodes(op="output")
    output.replace_input_with(whole, part)
    joint.gradients[parameter] = part
    joint.rows[parameter] = rows
    graph.eliminate_dead_code()
    return None


class _NotSeparableError(Exception):
    """Rows of a gradient take the whole of it."""


@contextmanager
def _at(node: fx.Node) -> Iterator[None]:
    """New nodes go right before `node`."""
    with node.graph.inserting_before(node):
        yield


def _part(graph: fx.Graph, node: fx.Node, dim: int, rows: Runs) -> fx.Node:
    """What `node` makes, at the indices `rows` of `dim` only."""
    target, args = node.target, node.args
    if target in _SAME_ROWS:
        return call_like(node, target, _part(graph, args[0], dim, rows), *args[1:])  # type: ignore[arg-type]
    if target is aten.t.default:
        return call_like(node, target, _part(graph, args[0], 1 - dim, rows))  # type: ignore[arg-type]
    if target is aten.mm.default:
        operands = [_taken(a, dim, rows) if i == dim else a for i, a in enumerate(args)]
        return call_like(node, target, *operands)
    if target in _PRODUCTS:
        size = fake_of(node).shape
        parts = [_broadcast_part(graph, a, dim - len(size), size[dim], rows) for a in args]
        return call_like(node, target, *parts)
    if target is operator.getitem and dim == 0 and args[1] == 1:
        made_by: fx.Node = args[0]  # type: ignore[assignment]
        if made_by.target is aten.convolution_backward.default:
            return _convolution_part(made_by, rows)
        target = made_by.target
    raise _NotSeparableError(
        f"its gradient comes out of `{target}`, which makes all channels or none; train it whole"
    )


def _broadcast_part(graph: fx.Graph, operand: Any, dim: int, size: int, rows: Runs) -> Any:
    """The part of an operand that may be a number, or of size 1 along `dim`, which counts from the end."""
    if not isinstance(operand, fx.Node):
        return operand
    shape = fake_of(operand).shape
    if len(shape) < -dim or shape[dim] != size:
        return operand
    try:
        return _part(graph, operand, dim + len(shape), rows)
    except _NotSeparableError:
        if operand.op == "placeholder" or fake_of(operand).numel() == size:  # a factor for each channel
            return _taken(operand, dim + len(shape), rows)
        raise


def _convolution_part(node: fx.Node, rows: Runs) -> fx.Node:
    """The weight gradient of a convolution for output channels `rows`."""
    given = dict(zip(_CONVOLUTION, node.args, strict=True))
    weight, x = given["weight"], given["x"]
    groups, channels = given["groups"], fake_of(weight).shape[0]
    count = sum(stop - start for start, stop in rows)
    if given["transposed"] or groups not in (1, channels):
        kind = "transposed" if given["transposed"] else f"grouped ({groups})"
        raise _NotSeparableError(
            f"its convolution is {kind}, of which no channels stand alone; train it whole"
        )
    if groups != 1:
        if fake_of(x).shape[1] != channels:
            raise _NotSeparableError(
                "its depthwise convolution has several outputs for each input; train it whole"
            )
        given |= {"x": _taken(x, 1, rows, dense=True), "groups": count}
    # Of the weight, only the layout is read: any rows will do, and the first are a view.
    given["weight"] = call_like(node, aten.slice.Tensor, weight, 0, 0, count)
    given |= {"gradient": _taken(given["gradient"], 1, rows, dense=True), "bias_sizes": None}
    result = call_like(node, node.target, *({**given, "mask": [False, True, False]}.values()))
    return call_like(node, operator.getitem, result, 1)


def _taken(node: Any, dim: int, rows: Runs, *, dense: bool = False) -> fx.Node:
    """The rows of a tensor: a view if they are one run and it need not be `dense`, else a copy."""
    slices = [call_like(node, aten.slice.Tensor, node, dim, start, stop) for start, stop in rows]
    if len(slices) > 1:
        return call_like(node, aten.cat.default, slices, dim)
    if not dense:
        return slices[0]
    return call_like(node, aten.clone.default, slices[0], memory_format=torch.contiguous_format)


def call_like(like: fx.Node, target: Any, *args: Any, **kwargs: Any) -> fx.Node:
    """A new node, of the layer of `like`."""
    node = like.graph.call_function(target, args, kwargs)
    if "custom" in like.meta:
        node.meta["custom"] = like.meta["custom"]
    fakes = fx.map_arg((args, kwargs), fake_of)
    node.meta["val"] = target(*fakes[0], **fakes[1])
    return node


def fake_of(node: Any) -> Tensor:
    """The fake tensor that stands for what `node` makes."""
    fake: Tensor = node.meta["val"]
    return fake
