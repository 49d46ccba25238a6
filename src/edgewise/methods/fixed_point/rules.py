"""How each ATen op of a float model becomes an operator of its integer network."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from edgewise.methods.fixed_point import operators as ops
from edgewise.methods.fixed_point.arithmetic import ACTIVATION_MAX, Factor, factor_of, factors_of, scale_of
from edgewise.methods.fixed_point.network import LEAST_LIMIT, Operand, Range, parameter_of
from edgewise.methods.fixed_point.reading import NoOperatorError, Reader, Rule, Tail

aten = torch.ops.aten
_FUNCTIONS = {
    aten.relu6.default,
    aten.selu.default,
    aten.selu_.default,
    aten.hardswish.default,
    aten.hardswish_.default,
    aten.hardtanh.default,
    aten.hardtanh_.default,
}
"""Functions of one number that PyTorch does not tag as such."""


def _arguments(node: fx.Node, *rest: Any) -> tuple[Any, ...]:
    """The arguments of a call; `rest` are the last ones where they are not given."""
    given: tuple[Any, ...] = node.args
    return (*given, *rest[len(given) - 1 :]) if len(given) <= len(rest) else given


def _convolution(reader: Reader, node: fx.Node) -> None:
    """`conv(x, weight, bias, stride, padding, dilation, groups)`."""
    x, weight, bias, stride, padding, dilation, groups = _arguments(node, None, None, 1, 0, 1, 1)
    shape = reader.shapes[weight]
    axes = len(shape) - 2
    window = ops.Window(
        _pair(shape[2:], 1, axes),
        _pair(stride, 1, axes),
        _pair(padding, 0, axes),
        _pair(dilation, 1, axes),
    )
    kind = "depthwise_convolution" if groups > 1 and shape[1] == 1 else "convolution"

    def make(output: ops.Output, offset: Factor | None) -> ops.Operator:
        return ops.Convolution(output, window, groups, offset, kind)

    _product(reader, node, (x, weight, bias), make)


def _linear(reader: Reader, node: fx.Node) -> None:
    """`linear(x, weight, bias)`."""
    x, weight, bias = _arguments(node, None, None)
    _product(reader, node, (x, weight, bias), ops.Linear)


def _product(
    reader: Reader,
    node: fx.Node,
    arguments: tuple[Any, Any, Any],
    make: Callable[[ops.Output, Factor | None], ops.Operator],
) -> None:
    """Weight and bias with the norms behind them, as integers; the accumulators requantized or left."""
    x, weight, bias = arguments
    tail = reader.tail(node, norms=len(reader.shapes[node]) != 3 or node.target is not aten.linear.default)
    w, b, trained = _folded(reader, weight, bias, tail)
    names = _names(reader, weight, b is not None)
    scale_in, settings = reader.scale(x), reader.settings
    fan_in = w[0].numel()
    reach = Range.of(w, b, settings, trained)
    limit = reach.limit(fan_in, scale_in, settings)
    if limit < min(LEAST_LIMIT, (1 << settings.weight_bits - 1) - 1):
        raise NoOperatorError(
            f"a sum of {fan_in} products of 8-bit activations and weights, and a bias, can overflow "
            f"{settings.accumulator_bits} bits even with 8-bit weights"
        )
    held = parameter_of(w, reach.weight, limit, settings, trained=trained[0])
    reader.parameters[names[0]] = held
    product_scale = scale_in * held.scale
    offset = None
    if b is not None:
        most = (1 << settings.weight_bits - 1) - 1
        own = parameter_of(b, reach.bias, most, settings, trained=trained[1])
        reader.parameters[names[1]] = own
        offset = factor_of(own.scale / product_scale)
    last = reader.is_last(tail.end) and tail.end in (node, *tail.norms)
    scale = product_scale if last else scale_of(reader.largest[tail.end])
    output = ops.Output(None) if last else ops.Output(factor_of(product_scale / scale), *tail.bounds(scale))
    flops = 2 * fan_in * math.prod(reader.shapes[node])
    dtype = torch.int32 if last else torch.int8
    reader.emit(
        node, make(output, offset), (x,), scale, end=tail.end, weights=names, flops=flops, dtype=dtype
    )


def _names(reader: Reader, weight: fx.Node, biased: bool) -> tuple[str, ...]:
    name = str(weight.target)
    if name in reader.parameters:
        raise NoOperatorError(f"its weight `{name}` is used twice; shared weights are not supported")
    return (name, f"{name.rpartition('.')[0]}.bias".lstrip(".")) if biased else (name,)


def _folded(
    reader: Reader, weight: Any, bias: Any, tail: Tail
) -> tuple[Tensor, Tensor | None, tuple[bool, bool]]:
    """Weight and bias after the norms, and which of them are trained."""
    w, b = reader.tensor(weight), reader.tensor(bias)
    if w is None or (bias is not None and b is None):
        raise NoOperatorError("its weight is computed; it must be a parameter")
    moves = [n for n in (weight, bias) if reader.trains(n)]
    for norm in tail.norms:
        gamma, beta, mean, variance = (reader.tensor(argument) for argument in norm.args[1:5])
        if mean is None or variance is None:
            raise NoOperatorError("a batch norm without running statistics")
        factor = (variance + float(norm.args[7])).rsqrt()  # type: ignore[arg-type]
        factor = factor if gamma is None else factor * gamma
        w = w * factor.view(-1, *[1] * (w.ndim - 1))
        b = factor * ((0 if b is None else b) - mean) + (0 if beta is None else beta)
        moves += [n for n in norm.args[2:3] if reader.trains(n)]
    return w, b, (weight in moves, any(n is not weight for n in moves))


def _max_pool(reader: Reader, node: fx.Node) -> None:
    """`max_pool(x, kernel, stride, padding, dilation, ceil_mode)`."""
    x, kernel, stride, padding, dilation, ceil_mode = _arguments(node, None, None, 0, 1, False)
    if ceil_mode:
        raise NoOperatorError("ceil_mode")
    axes = len(reader.shapes[x]) - 2
    window = ops.Window(
        _pair(kernel, 1, axes),
        _pair(stride or kernel, 1, axes),
        _pair(padding, 0, axes),
        _pair(dilation, 1, axes),
    )
    reader.emit(node, ops.MaxPool(window), (x,), reader.scale(x))


def _mean_pool(reader: Reader, node: fx.Node) -> None:
    """`avg_pool(x, kernel, stride, padding, ceil_mode, count_include_pad, divisor)`."""
    x, kernel, stride, padding, ceil_mode, _, divisor = _arguments(node, None, None, 0, False, True, None)
    axes = len(reader.shapes[x]) - 2
    if any(_pair(padding, 0, axes)) or ceil_mode or divisor is not None:
        raise NoOperatorError("padding, ceil_mode or a divisor of its own")
    _mean_of(reader, node, x, _pair(kernel, 1, axes), _pair(stride or kernel, 1, axes))


def _adaptive_pool(reader: Reader, node: fx.Node) -> None:
    """`adaptive_avg_pool(x, output_size)`."""
    x, _ = _arguments(node)
    sides, made = reader.shapes[x][2:], reader.shapes[node][2:]
    if any(side % out for side, out in zip(sides, made, strict=True)):
        raise NoOperatorError(f"windows of unequal sizes, {list(sides)} to {list(made)}")
    kernel = _pair([side // out for side, out in zip(sides, made, strict=True)], 1, len(sides))
    _mean_of(reader, node, x, kernel, kernel)


def _mean(reader: Reader, node: fx.Node) -> None:
    """`mean(x, axes, keepdim)` over all axes behind the channels."""
    x, axes, *_ = _arguments(node)
    shape = reader.shapes[x]
    if {axis % len(shape) for axis in axes} != set(range(2, len(shape))):
        raise NoOperatorError("a mean over other axes than those behind the channels")
    kernel = _pair(shape[2:], 1, len(shape) - 2)
    _mean_of(reader, node, x, kernel, kernel)


def _mean_of(reader: Reader, node: fx.Node, x: Any, kernel: ops.Pair, stride: ops.Pair) -> None:
    tail = reader.tail(node)
    scale = scale_of(reader.largest[tail.end])
    factor = factor_of(reader.scale(x) / scale / math.prod(kernel))
    pool = ops.MeanPool(ops.Window(kernel, stride), ops.Output(factor, *tail.bounds(scale)))
    reader.emit(node, pool, (x,), scale, end=tail.end)


def _sum(reader: Reader, node: fx.Node) -> None:
    """`a + b`."""
    a, b = _arguments(node)
    if node.kwargs or not (isinstance(a, fx.Node) and isinstance(b, fx.Node)):
        return _any(reader, node)
    tail = reader.tail(node)
    scale = scale_of(reader.largest[tail.end])
    m, k = factors_of((reader.scale(a) / scale, reader.scale(b) / scale))
    total = ops.Sum(m, k, ops.Output(None, *tail.bounds(scale)))
    return reader.emit(node, total, (a, b), scale, end=tail.end)


def _times(reader: Reader, node: fx.Node) -> None:
    """`a b`."""
    a, b = _arguments(node)
    if not (isinstance(a, fx.Node) and isinstance(b, fx.Node)):
        return _any(reader, node)
    tail = reader.tail(node)
    scale = scale_of(reader.largest[tail.end])
    factor = factor_of(reader.scale(a) * reader.scale(b) / scale)
    product = ops.Times(ops.Output(factor, *tail.bounds(scale)))
    return reader.emit(node, product, (a, b), scale, end=tail.end)


def _concatenate(reader: Reader, node: fx.Node) -> None:
    """`cat(parts, axis)`."""
    parts, axis = _arguments(node, 0)
    if axis % len(reader.shapes[node]) == 0:
        raise NoOperatorError("it puts samples side by side")
    scale = scale_of(reader.largest[node])
    factors = tuple(factor_of(reader.scale(part) / scale) for part in parts)
    reader.emit(node, ops.Concatenate(axis, factors), tuple(parts), scale)


def _alias(reader: Reader, node: fx.Node) -> None:
    """The same numbers in another shape."""
    found = reader.operand(node.args[0])
    reader.operands[node] = Operand(found.value, reader.shapes[node])


def _any(reader: Reader, node: fx.Node) -> None:
    """A function of one number as a table; anything else has no operator."""
    tags = getattr(node.target, "tags", ())
    sources = node.all_input_nodes
    pointwise = node.target in _FUNCTIONS or torch.Tag.pointwise in tags
    if not pointwise or len(sources) != 1 or torch.Tag.nondeterministic_seeded in tags:
        raise NoOperatorError("it has no integer operator")
    (x,) = sources
    before, scale = reader.scale(x), scale_of(reader.largest[node])
    points = torch.arange(-ACTIVATION_MAX, ACTIVATION_MAX + 1, dtype=torch.float64) * before
    args, kwargs = fx.map_arg((node.args, node.kwargs), lambda _: points)
    made = node.target(*args, **kwargs) / scale  # type: ignore[operator]
    entries = made.nan_to_num().round().clamp(-ACTIVATION_MAX, ACTIVATION_MAX).to(torch.int64)
    reader.emit(node, ops.Lookup(tuple(entries.tolist())), (x,), scale)


def _pair(given: Any, neutral: int, axes: int) -> ops.Pair:
    """Two numbers for height and width; of one axis, the height has the `neutral` one."""
    listed = [given] * axes if isinstance(given, int) else [int(n) for n in given]
    listed = listed * axes if len(listed) < axes else listed
    return (neutral, listed[0]) if axes == 1 else (listed[0], listed[1])


RULES: dict[Any, Rule] = {
    aten.conv1d.default: _convolution,
    aten.conv2d.default: _convolution,
    aten.linear.default: _linear,
    aten.max_pool1d.default: _max_pool,
    aten.max_pool2d.default: _max_pool,
    aten.avg_pool1d.default: _mean_pool,
    aten.avg_pool2d.default: _mean_pool,
    aten.adaptive_avg_pool1d.default: _adaptive_pool,
    aten.adaptive_avg_pool2d.default: _adaptive_pool,
    aten.mean.dim: _mean,
    aten.add.Tensor: _sum,
    aten.add_.Tensor: _sum,
    aten.mul.Tensor: _times,
    aten.mul_.Tensor: _times,
    aten.cat.default: _concatenate,
    **dict.fromkeys(
        (
            aten.flatten.using_ints,
            aten.view.default,
            aten.reshape.default,
            aten.unsqueeze.default,
            aten.squeeze.dim,
            aten.squeeze.dims,
            aten.contiguous.default,
            aten.clone.default,
            aten.detach.default,
            aten.dropout.default,
            aten.feature_dropout.default,
        ),
        _alias,
    ),
    "any": _any,
}
