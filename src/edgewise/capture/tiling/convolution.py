"""Convolutions and their gradients: batch, output channels, input channels, and bands of rows.

Rows are the first dim of space. A band of output rows reads a window of input rows, which overlaps the next
one's. A band of the input's gradient is made as a convolution's gradient of its own: of just those rows, with
the zeros around the output's gradient made explicit. Transposed convolutions are not tiled.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from edgewise.capture.gradients import input_gradient, parameter_gradients
from edgewise.capture.lowering import Layout
from edgewise.capture.tiling.calls import Call
from edgewise.capture.tiling.nest import Along, At, Axis, Nest, Sources, Window

aten = torch.ops.aten
BATCH, GROUPS, CHANNELS, INPUTS, ROWS = "batch", "groups", "channels", "inputs", "rows"


class _Shape(NamedTuple):
    """What all three nests need to know; with groups, the axes `channels` and `inputs` are one, `groups`."""

    x: torch.Size
    weight: torch.Size
    out: torch.Size
    settings: tuple[Any, ...]

    @property
    def groups(self) -> int:
        return int(self.settings[-1])

    @property
    def window(self) -> dict[str, int]:
        stride, padding, dilation = (int(setting[0]) for setting in self.settings[:3])
        return {"stride": stride, "span": dilation * (self.weight[2] - 1) + 1, "padding": padding}

    def axes(self, rows: int) -> tuple[Axis, ...]:
        if self.groups > 1:
            return (Axis(BATCH, self.x[0]), Axis(GROUPS, self.groups), Axis(ROWS, rows))
        channels = (Axis(CHANNELS, self.weight[0]), Axis(INPUTS, self.weight[1]))
        return (Axis(BATCH, self.x[0]), *channels, Axis(ROWS, rows))

    def out_channels(self) -> Along:
        each = self.weight[0] // self.groups
        return Window(GROUPS, each, each) if self.groups > 1 else Window(CHANNELS)

    def in_channels(self) -> Along:
        return Window(GROUPS, self.weight[1], self.weight[1]) if self.groups > 1 else Window(INPUTS)

    def weight_along(self) -> tuple[Along, ...]:
        inner = None if self.groups > 1 else Window(INPUTS)
        return (self.out_channels(), inner, *(None,) * (len(self.weight) - 2))

    def space(self, rows: Along) -> tuple[Along, ...]:
        return (rows, *(None,) * (len(self.weight) - 3))

    def orders(self, *orders: Sequence[str]) -> tuple[tuple[str, ...], ...]:
        """`orders` over channels and inputs; with groups, an order over these instead."""
        if self.groups == 1:
            return tuple(tuple(order) for order in orders)
        replaced = {CHANNELS: GROUPS, INPUTS: GROUPS}
        return tuple(tuple(dict.fromkeys(replaced.get(axis, axis) for axis in order)) for order in orders)

    def cut_settings(self, at: At, cut: frozenset[str], padding: int | None) -> tuple[Any, ...]:
        """The settings of one tile: `padding` for its rows, and its groups."""
        stride, pads, dilation, transposed, output_padding, groups = self.settings
        if padding is not None:
            pads = (padding, *pads[1:])
        if GROUPS in cut:
            groups = at[GROUPS][1] - at[GROUPS][0]
        return stride, pads, dilation, transposed, output_padding, groups


def _shape(x: torch.Size, weight: torch.Size, out: torch.Size, settings: Sequence[Any]) -> _Shape | None:
    stride, padding, dilation, transposed, output_padding, groups = settings
    dims = len(weight) - 2
    if transposed or len(x) != len(weight) or dims < 1:
        return None
    each = (tuple(s) * dims if len(s) == 1 else tuple(s) for s in (stride, padding, dilation))
    stride, padding, dilation = each
    return _Shape(x, weight, out, (stride, padding, dilation, False, output_padding, groups))


def forward(call: Call) -> Nest | None:
    """`convolution(x, weight, bias, *settings)`."""
    x, weight, bias, *settings = call.args
    shape = _shape(call.meta(x).shape, call.meta(weight).shape, call.result(0).shape, settings)
    if shape is None:
        return None
    rows, channels = Window(ROWS, **shape.window), shape.out_channels()
    operands = [
        call.operand(x, (Window(BATCH), shape.in_channels(), *shape.space(rows)), dense=True),
        call.operand(weight, shape.weight_along(), dense=True),
        *([call.operand(bias, (channels,))] if bias is not None else []),
    ]
    out = call.output(0, (Window(BATCH), channels, *shape.space(Window(ROWS))))

    def body(tiles: Sequence[Any], at: At, cut: frozenset[str]) -> tuple[Tensor, ...]:
        first = INPUTS not in cut or at[INPUTS][0] == 0
        given = tiles[2] if bias is not None and first else None
        cut_settings = shape.cut_settings(at, cut, 0 if ROWS in cut else None)
        return (aten.convolution(tiles[0], tiles[1], given, *cut_settings),)

    orders = shape.orders((BATCH, ROWS, CHANNELS, INPUTS), (CHANNELS, BATCH, ROWS, INPUTS))
    return Nest(shape.axes(out.size[2]), call.program, tuple(operands), (out,), body, orders)


def requantized(call: Call) -> Nest | None:
    """`convolution_layer(x, weight, bias, factor, ...)`: sums are rounded, so each is whole."""
    return _of_int8(call, 4, (BATCH, ROWS, CHANNELS), (CHANNELS, BATCH, ROWS))


def by_int8(call: Call) -> Nest | None:
    """`convolution_by_int8(x, weight, factor, pairs, groups)`; parts of a sum are multiplied one by one."""
    return _of_int8(call, 3, (BATCH, ROWS, CHANNELS, INPUTS), (CHANNELS, BATCH, ROWS, INPUTS))


def _of_int8(call: Call, tensors: int, *orders: Sequence[str]) -> Nest | None:
    """`target(x, weight, numbers of each output channel, pairs, groups, the rest)`, of so many `tensors`."""
    x, weight, *by_channel = call.args[:tensors]
    pairs, groups, *rest = call.args[tensors:]
    settings = (pairs[:2], pairs[2:4], pairs[4:], False, [0, 0], groups)
    shape = _shape(call.meta(x).shape, call.meta(weight).shape, call.result(0).shape, settings)
    if shape is None:
        return None
    rows, channels = Window(ROWS, **shape.window), shape.out_channels()
    operands = (
        call.operand(x, (Window(BATCH), shape.in_channels(), *shape.space(rows)), dense=True),
        call.operand(weight, shape.weight_along(), dense=True),
        *(call.operand(each, (channels,)) for each in by_channel),
    )
    out = call.output(0, (Window(BATCH), channels, *shape.space(Window(ROWS))))

    def body(tiles: Sequence[Any], at: At, cut: frozenset[str]) -> tuple[Tensor, ...]:
        *cut_settings, groups = shape.cut_settings(at, cut, 0 if ROWS in cut else None)
        cut_pairs = [number for pair in cut_settings[:3] for number in pair]
        return (call.target(*tiles[:tensors], cut_pairs, groups, *rest),)

    return Nest(shape.axes(out.size[2]), call.program, operands, (out,), body, shape.orders(*orders))


def of_input(call: Call) -> Nest | None:
    """`input_gradient(gradient, weight, layout of x, settings)`."""
    gradient, weight, x, settings = call.args
    out = call.meta(gradient).shape
    shape = _shape(torch.Size(x.size), call.meta(weight).shape, out, settings)
    if shape is None:
        return None
    window = shape.window
    span, stride, padding = window["span"], window["stride"], window["padding"]
    rows, channels = Sources(ROWS, **window), shape.out_channels()
    operands = (
        call.operand(gradient, (Window(BATCH), channels, *shape.space(rows)), dense=True),
        call.operand(weight, shape.weight_along(), dense=True),
    )
    grow = (0, 0, stride - 1, *(0,) * (len(out) - 3))
    along = (Window(BATCH), shape.in_channels(), *shape.space(Window(ROWS)))
    result = call.output(0, along, grow=grow)

    def body(tiles: Sequence[Any], at: At, cut: frozenset[str]) -> tuple[Tensor, ...]:
        part, weight = tiles
        inputs = weight.shape[1] * (at[GROUPS][1] - at[GROUPS][0] if GROUPS in at else 1)
        size = [part.shape[0], inputs, *x.size[2:]]
        if ROWS not in cut:
            return (input_gradient(part, weight, _plain(size, x), shape.cut_settings(at, cut, None)),)
        start, stop = at[ROWS]
        first = stride * rows.reach(start, stop)[0] + span - 1 - padding  # the first row that `part` explains
        size[2] = stop - first
        made = input_gradient(part, weight, _plain(size, x), shape.cut_settings(at, cut, span - 1))
        return (made.narrow(2, start - first, stop - start),)

    orders = shape.orders((BATCH, ROWS, INPUTS, CHANNELS), (INPUTS, BATCH, ROWS, CHANNELS))
    return Nest(shape.axes(x.size[2]), call.program, operands, (result,), body, orders)


def of_parameters(call: Call) -> Nest | None:
    """`parameter_gradients(gradient, x, layout of weight, settings, wanted=...)`."""
    gradient, x, weight, settings = call.args
    wanted = call.kwargs["wanted"]
    out = call.meta(gradient).shape
    shape = _shape(call.meta(x).shape, torch.Size(weight.size), out, settings)
    if shape is None:
        return None
    rows, channels = Window(ROWS, **shape.window), shape.out_channels()
    operands = (
        call.operand(gradient, (Window(BATCH), channels, *shape.space(Window(ROWS))), dense=True),
        call.operand(x, (Window(BATCH), shape.in_channels(), *shape.space(rows)), dense=True),
    )
    along = [shape.weight_along(), (channels,)]
    kept = [i for i in (0, 1) if wanted[i]]
    results = tuple(call.output(i, along[which]) for i, which in enumerate(kept))

    def body(tiles: Sequence[Any], at: At, cut: frozenset[str]) -> tuple[Tensor | None, ...]:
        part, read = tiles
        groups = at[GROUPS][1] - at[GROUPS][0] if GROUPS in at else 1
        size = [part.shape[1], read.shape[1] // groups, *weight.size[2:]]
        bias = wanted[1] and (INPUTS not in cut or at[INPUTS][0] == 0)
        cut_settings = shape.cut_settings(at, cut, 0 if ROWS in cut else None)
        made = parameter_gradients(part, read, _plain(size, weight), cut_settings, wanted=(wanted[0], bias))
        return tuple(made[which] for which in kept)

    orders: tuple[tuple[str, ...], ...] = ((CHANNELS, INPUTS, BATCH, ROWS), (INPUTS, CHANNELS, BATCH, ROWS))
    return Nest(shape.axes(out[2]), call.program, operands, results, body, shape.orders(*orders))


def _plain(size: Sequence[int], like: Layout) -> Layout:
    """The layout of a contiguous tensor of `size`."""
    return Layout.of(torch.empty(tuple(size), dtype=like.dtype, device="meta"))
