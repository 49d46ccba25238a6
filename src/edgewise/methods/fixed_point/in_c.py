"""Training in integers as calls of C kernels, to the bit; `edgewise.emit` finds this beside the kernels."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import torch

from edgewise.capture.lowering import Layout
from edgewise.emit.calls import Call, Settings, Table, Unsupported, c_number
from edgewise.emit.copies import copy
from edgewise.emit.directions import LAWS, first_of
from edgewise.emit.methods import RULES, KernelRule
from edgewise.emit.tile import Tile
from edgewise.emit.views import Extent, View, product, run_of, whole
from edgewise.methods.fixed_point import operators as ops
from edgewise.methods.fixed_point.arithmetic import Factor
from edgewise.methods.fixed_point.inference import ScoresKernel
from edgewise.methods.fixed_point.loss import unit_in_nats
from edgewise.methods.fixed_point.moves import Mover, Perturbation, Shift, Update
from edgewise.methods.fixed_point.network import moves
from edgewise.methods.fixed_point.passes import NodeKernel
from edgewise.methods.fixed_point.probe import Probe
from edgewise.methods.fixed_point.step import JoinKernel, LossKernel, MeanKernel, SignKernel

Layouts = Mapping[str, Layout]
Integer = (
    NodeKernel | Shift | Update | Probe | LossKernel | SignKernel | MeanKernel | JoinKernel | ScoresKernel
)
_NONE = Factor(0, 0)


def _workspace(run: Integer, layouts: Layouts) -> int:
    """Bytes that `run` works in."""
    match run:
        case MeanKernel():
            return 8
        case Update():
            return 8 * len(run.mover.directions.streams)
        case Probe():
            classes = run.shapes[0][0]
            return 4 * classes * (2 * layouts[run.x].size[0] + 1)
    return 0


def _dense(value: str, dtype: torch.dtype, shape: tuple[int, ...]) -> View:
    return View(value, dtype, shape, dense_strides(shape))


def dense_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of a tensor without gaps."""
    return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))


def _flat(name: str, layouts: Layouts) -> View:
    layout = layouts[name]
    return _dense(name, layout.dtype, (layout.count,))


# -- weights that move ----------------------------------------------------------------------------------


@cache
def rate_of(size: int) -> Factor:
    """The factor that makes of each z what `moves(size)` says.

    Raises:
        Unsupported: there is none.
    """
    upper = moves(size)[127:]
    for k in (22, 30):
        near = round(upper[-1] / 127 * 2**k) if upper[-1] else 0
        best = round(size * 3.5 / 127 * 2**k)
        for m in (best, best + 1, best - 1, near):
            if all((z * m + (1 << (k - 1))) >> k == upper[z] for z in range(128)):
                return Factor(m, k)
    raise Unsupported(f"no factor makes moves of {size} units")


def _settings(mover: Mover, streams: tuple[int, ...]) -> Settings:
    drawn = mover.directions
    mask, guidance = drawn.mask, drawn.guidance
    chance = (mask.stream, mask.below) if mask is not None and not mask.bits else (0, 0)
    shares = (*guidance.shares, guidance.after) if guidance is not None else (0, 0, 0)
    numbers = Table("uint32_t", tuple(f"{stream}u" for stream in streams))
    key = (f"{drawn.seed}u", "step", LAWS[drawn.law])
    return Settings(
        "ew_integer_directions", (*key, len(streams), numbers, *(f"{n}u" for n in chance), *shares)
    )


Elements = Callable[[str], View]
"""A value, or the slice of it that belongs to a slice of the weights, as one run of elements."""


def _given(mover: Mover, elements: Elements) -> tuple[View | None, View | None]:
    """The bits of the mask, and the last direction that was followed."""
    mask, guidance = mover.directions.mask, mover.directions.guidance
    bits = elements(mask.bits) if mask is not None and mask.bits else None
    return bits, elements(guidance.state) if guidance is not None else None


def _moved(
    run: Shift | Update, change: Mapping[Perturbation, int], elements: Elements, first: Extent
) -> tuple[Call, ...]:
    w, mover = elements(run.old), run.mover
    calls = []
    for key, times in change.items():
        rate = rate_of(mover.parameter.rho if key.sign else mover.parameter.epsilon)
        sign = elements(key.sign) if key.sign else None
        drawn = _settings(mover, (mover.directions.streams[key.direction],))
        given = (*_given(mover, elements), sign, times, Settings("ew_factor", tuple(rate)), first, drawn)
        calls.append(Call("ew_shift", (w, w.c_type, *given)))
    return tuple(calls)


def _in_place(run: Shift | Update, made: list[View], layouts: Layouts, room: str) -> tuple[Call, ...]:
    del made
    return _changed(run, lambda name: _flat(name, layouts), 0, room)


def _in_place_tile(run: Shift | Update, tile: Tile) -> tuple[Call, ...]:
    first = first_of(dense_strides(tuple(run.mover.parameter.values.shape)), tile.at)
    return _changed(run, lambda name: run_of(tile.values[name]), first, tile.room)


def _changed(run: Shift | Update, elements: Elements, first: Extent, room: str) -> tuple[Call, ...]:
    if isinstance(run, Shift):
        return _moved(run, run.change, elements, first)
    w, signs = elements(run.old), elements(run.signs)
    count = signs.size[0]
    assert isinstance(count, int)  # noqa: S101  # as all sizes of whole values
    rate = run.rate
    units = round(rate.units / count * (1 << 16))
    fields = (units, rate.decay_steps, int(rate.normalized), run.mover.parameter.most, f"{run.stream}u")
    drawn = _settings(run.mover, run.mover.directions.streams[:count])
    given = (*_given(run.mover, elements), signs, Settings("ew_rate", fields), first, drawn, room)
    back = _moved(run, run.back, elements, first)
    return (*back, Call("ew_follow", (w, w.c_type, *given)))


# -- losses and signs -----------------------------------------------------------------------------------


def _loss(run: LossKernel, made: list[View], layouts: Layouts, room: str) -> tuple[Call, ...]:
    del room
    logits = _dense(run.logits, layouts[run.logits].dtype, run.shape)
    targets = whole("batch.1", layouts)
    return (
        Call(
            "ew_integer_cross_entropy", (made[0], logits, targets, Settings("ew_factor", tuple(run.factor)))
        ),
    )


def _sign(run: SignKernel, made: list[View], layouts: Layouts, room: str) -> tuple[Call, ...]:
    del room
    return (Call("ew_integer_sign", (made[0], whole(run.plus, layouts), whole(run.minus, layouts))),)


def _join(run: JoinKernel, made: list[View], layouts: Layouts, room: str) -> tuple[Call, ...]:
    del room
    calls, start = [], 0
    for name in run.signs:
        part = _flat(name, layouts)
        calls.append(copy(made[0].narrow(0, start, layouts[name].count), part))
        start += layouts[name].count
    return tuple(calls)


def _mean(run: MeanKernel, made: list[View], layouts: Layouts, room: str) -> tuple[Call, ...]:
    total = View("", torch.int64, (), (), 0, room)
    first, *rest = (whole(name, layouts) for name in run.losses)
    calls = [copy(total, first), *(Call("ew_add_i64", (total, total, loss, 1)) for loss in rest)]
    return (*calls, Call("ew_integer_real", (made[0], total, c_number(unit_in_nats(run.samples)))))


def _scores(run: ScoresKernel, made: list[View], layouts: Layouts, room: str) -> tuple[Call, ...]:
    del room
    (scores,) = made
    logits = _dense(run.logits, layouts[run.logits].dtype, run.shape)
    return copy(scores, logits), Call("ew_mul_scalar", (scores, scores, float(run.scale)))


def _probe(run: Probe, made: list[View], layouts: Layouts, room: str) -> tuple[Call, ...]:
    x = whole(run.x, layouts)
    x = _dense(run.x, x.dtype, (layouts[run.x].size[0], run.shapes[0][1]))
    weights = [_dense(n, layouts[n].dtype, s) for n, s in zip(run.weights, run.shapes, strict=True)]
    w, b = (*weights, None)[:2]
    movers = (*run.movers, None)[:2]
    drawn: list[Any] = []
    for mover in movers:
        if mover is None:
            drawn += [None, None, None]
        else:
            drawn += [
                *_given(mover, lambda name: _flat(name, layouts)),
                _settings(mover, mover.directions.streams[: run.directions]),
            ]
    rates = tuple(tuple(rate_of(m.parameter.epsilon) if m is not None else _NONE) for m in movers)
    fields = (rates, tuple(run.bias or _NONE), tuple(run.logits))
    targets = whole("batch.1", layouts)
    settings = Settings("ew_probe_settings", fields)
    return (Call("ew_probe", (*made, x, w, b, weights[0].c_type, targets, *drawn, settings, room)),)


# -- operators ------------------------------------------------------------------------------------------


def _node(run: NodeKernel, made: list[View], layouts: Layouts, room: str) -> tuple[Call, ...]:
    del room
    node = run.node
    inputs = [
        _dense(name, layouts[name].dtype, operand.shape)
        for name, operand in zip(run.inputs, node.inputs, strict=True)
    ]
    weights = [whole(name, layouts) for name in run.weights]
    return _OPERATORS[type(node.operator)](node.operator, made[0], inputs, weights)


def _node_tile(run: NodeKernel, tile: Tile) -> tuple[Call, ...]:
    """Some samples and outputs of an operator that has weights, or some planes or elements of any other."""
    weights = [tile.values[name] for name in run.weights]
    inputs = [tile.values[name] for name in run.inputs]
    if weights:
        (x,), shape = inputs, run.node.inputs[0].shape
        inputs = [replace(x, size=(x.size[0], *shape[1:]), stride=dense_strides(shape))]
    return _OPERATORS[type(run.node.operator)](run.node.operator, tile.made[0], inputs, weights)


def _requantize(output: ops.Output, bias: Factor | None = None, factor: Factor | None = None) -> Settings:
    own = factor or output.factor or _NONE
    return Settings("ew_requantize", (tuple(own), output.low, output.high, tuple(bias or _NONE)))


def _quantize(op: ops.Quantize, y: View, inputs: list[View], _: list[View]) -> tuple[Call, ...]:
    return (Call("ew_quantize", (y, inputs[0], float(op.scale))),)


def _linear(op: ops.Linear, y: View, inputs: list[View], weights: list[View]) -> tuple[Call, ...]:
    w, b = (*weights, None)[:2]
    assert w is not None  # noqa: S101  # it is the first of the weights
    (x,) = inputs
    bias = b if op.bias is not None else None
    return (
        Call("ew_integer_linear", (_rows(y), _rows(x), w, w.c_type, bias, _requantize(op.output, op.bias))),
    )


def _rows(view: View) -> View:
    """Of all dims but the last one dim of rows, which lie evenly."""
    rows = product(view.size[:-1])
    return replace(view, size=(rows, view.size[-1]), stride=view.stride[-2:])


def _plane(view: View) -> View:
    """With a dim of height one, if there is one dim of space only."""
    return view.unsqueeze(2) if view.dims == 3 else view


def _convolution(op: ops.Convolution, y: View, inputs: list[View], weights: list[View]) -> tuple[Call, ...]:
    w, b = (*weights, None)[:2]
    assert w is not None  # noqa: S101  # as above
    window = op.window
    place = Settings("ew_convolution_settings", (window.stride, window.padding, window.dilation, op.groups))
    bias = b if op.bias is not None else None
    views = (_plane(y), _plane(inputs[0]), _plane(w), w.c_type, bias)
    return (Call("ew_integer_convolution", (*views, _requantize(op.output, op.bias), place)),)


def _pool(window: ops.Window) -> Settings:
    return Settings("ew_pool_settings", (window.kernel, window.stride, window.padding, window.dilation))


def _max_pool(op: ops.MaxPool, y: View, inputs: list[View], _: list[View]) -> tuple[Call, ...]:
    return (Call("ew_integer_max_pool", (_plane(y), _plane(inputs[0]), _pool(op.window))),)


def _mean_pool(op: ops.MeanPool, y: View, inputs: list[View], _: list[View]) -> tuple[Call, ...]:
    y = y if y.dims > 2 else y.unsqueeze(2)
    x = _plane(inputs[0])
    y = y.unsqueeze(2) if y.dims == 3 else y
    return (Call("ew_integer_mean_pool", (y, x, _requantize(op.output), _pool(op.window))),)


def _sum(op: ops.Sum, y: View, inputs: list[View], _: list[View]) -> tuple[Call, ...]:
    terms = (view.expand(y.size) for view in inputs)
    settings = _requantize(op.output, factor=Factor(1, op.k))
    return (Call("ew_integer_sum", (y, *terms, *op.factors, settings)),)


def _times(op: ops.Times, y: View, inputs: list[View], _: list[View]) -> tuple[Call, ...]:
    factors = (view.expand(y.size) for view in inputs)
    return (Call("ew_integer_product", (y, *factors, _requantize(op.output))),)


def _concatenate(op: ops.Concatenate, y: View, inputs: list[View], _: list[View]) -> tuple[Call, ...]:
    calls, start = [], 0
    for x, factor in zip(inputs, op.factors, strict=True):
        length = x.size[op.axis]
        assert isinstance(length, int)  # noqa: S101  # as all sizes of whole values
        part = y.narrow(op.axis, start, length)
        calls.append(Call("ew_integer_scale", (part, x, _requantize(ops.Output(factor)))))
        start += length
    return tuple(calls)


def _lookup(op: ops.Lookup, y: View, inputs: list[View], _: list[View]) -> tuple[Call, ...]:
    return (Call("ew_lookup", (y, inputs[0], Table("int8_t", op.table))),)


_OPERATORS: Mapping[type, Callable[..., tuple[Call, ...]]] = {
    ops.Quantize: _quantize,
    ops.Linear: _linear,
    ops.Convolution: _convolution,
    ops.MaxPool: _max_pool,
    ops.MeanPool: _mean_pool,
    ops.Sum: _sum,
    ops.Times: _times,
    ops.Concatenate: _concatenate,
    ops.Lookup: _lookup,
}

_RULES: Mapping[type, Callable[..., tuple[Call, ...]]] = {
    NodeKernel: _node,
    Shift: _in_place,
    Update: _in_place,
    Probe: _probe,
    LossKernel: _loss,
    SignKernel: _sign,
    MeanKernel: _mean,
    JoinKernel: _join,
    ScoresKernel: _scores,
}

_TILES: Mapping[type, Callable[..., tuple[Call, ...]]] = {
    NodeKernel: _node_tile,
    Shift: _in_place_tile,
    Update: _in_place_tile,
}

for _kernel, _rule in _RULES.items():
    RULES[_kernel] = KernelRule(_rule, _workspace, _TILES.get(_kernel))
