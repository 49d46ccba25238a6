"""ATen calls as calls of C kernels: one rule for each op, in the order of ew.h.

A rule gets views in the place of tensors and returns the calls that make the results. It broadcasts, and puts
dims where the kernel expects them; it never looks at addresses, so that it serves whole ops and tiles alike.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from edgewise.capture import gradients, integers, requantized
from edgewise.capture.kernels import AtenKernel
from edgewise.emit.calls import Call, Given, Rule, Unsupported, c_number
from edgewise.emit.convolutions import (
    convolution,
    convolution_input_gradient,
    convolution_parameter_gradients,
)
from edgewise.emit.counting import WHOLE, arange, remainder, rounded_quotient, whole_numbers
from edgewise.emit.integers import convolution_layer, floats_of, linear_layer, round_nearest, sum_of
from edgewise.emit.norms import (
    batch_norm_backward,
    batch_norm_given,
    group_norm,
    group_norm_backward,
    layer_norm,
    layer_norm_backward,
)
from edgewise.emit.pooling import (
    adaptive_average_pool,
    adaptive_average_pool_backward,
    average_pool,
    average_pool_backward,
    max_pool,
    max_pool_backward,
)
from edgewise.emit.views import MOST_DIMS, View

_UNLIMITED = 3.4028234663852886e38
"""The largest float32."""


def rule_of(kernel: AtenKernel) -> Rule:
    """The rule for the call of `kernel`.

    Raises:
        Unsupported: there is none.
    """
    target = kernel.whole.target
    if target in _FUNCTIONS:
        return _FUNCTIONS[target]
    name = packet_of(kernel)
    if name not in RULES:
        raise Unsupported("no kernel in C")
    return RULES[name]


def packet_of(kernel: AtenKernel) -> str:
    """The name of the ATen op that `kernel` calls; empty if it is a function of the house."""
    packet = getattr(kernel.whole.target, "overloadpacket", None)
    return str(packet.__name__) if packet is not None else ""


# -- element by element ---------------------------------------------------------------------------------


def _floats(*views: Any) -> None:
    for view in views:
        if isinstance(view, View) and view.dtype != torch.float32:
            raise Unsupported(f"no kernel in C for {str(view.dtype).removeprefix('torch.')}")


def _unary(function: str, *settings: Callable[[Given], Any]) -> Rule:
    """`function(out, x, settings)`."""

    def rule(given: Given) -> tuple[Call, ...]:
        x = given.args[0]
        _floats(x, given.out)
        return (Call(function, (given.out, x.expand(given.out.size), *(s(given) for s in settings))),)

    return rule


def _kept(function: str, *settings: Callable[[Given], Any]) -> Rule:
    """`function(dx, dy, what was kept, settings)`."""

    def rule(given: Given) -> tuple[Call, ...]:
        dy, kept = given.args[:2]
        _floats(dy, kept)
        views = (given.out, dy.expand(given.out.size), kept.expand(given.out.size))
        return (Call(function, (*views, *(s(given) for s in settings))),)

    return rule


def _at(index: int, name: str = "", default: Any = None) -> Callable[[Given], float]:
    return lambda given: float(given.arg(index, name, default))


def _is_tanh(given: Given) -> int:
    return int(given.kwargs.get("approximate", "none") == "tanh")


def _binary(function: str, scalar: str, *, alpha: bool = False) -> Rule:
    """`function(out, a, b)`, or `scalar(out, a, number)`."""

    def rule(given: Given) -> tuple[Call, ...]:
        a, b = given.args[:2]
        factor = given.kwargs.get("alpha", 1)
        if any(isinstance(x, View) and x.dtype in WHOLE for x in (a, b)):
            return whole_numbers(function, rule, given)
        _floats(a, b, given.out)
        if not isinstance(b, View):
            number = float(b) * factor * (-1 if function == "ew_sub" else 1)
            return (Call(scalar, (given.out, a.expand(given.out.size), number)),)
        views = (given.out, a.expand(given.out.size), b.expand(given.out.size))
        return (Call(function, (*views, *((float(factor),) if alpha else ()))),)

    return rule


def _div(given: Given) -> tuple[Call, ...]:
    if given.kwargs.get("rounding_mode") is not None:
        return rounded_quotient(given)
    return _binary("ew_div", "ew_div_scalar")(given)


def _rsub(given: Given) -> tuple[Call, ...]:
    x, number = given.args[:2]
    _floats(x, number)
    if isinstance(number, View):
        return (Call("ew_sub", (given.out, number.expand(given.out.size), x.expand(given.out.size), 1.0)),)
    return (Call("ew_rsub_scalar", (given.out, x.expand(given.out.size), float(number))),)


def _mul(given: Given) -> tuple[Call, ...]:
    a, b = given.args[:2]
    if isinstance(b, View) and b.dtype == torch.bool and isinstance(a, View):
        _floats(a)
        return (
            Call("ew_masked_scale", (given.out, a.expand(given.out.size), b.expand(given.out.size), 1.0)),
        )
    return _binary("ew_mul", "ew_mul_scalar")(given)


def _clamp(given: Given) -> tuple[Call, ...]:
    low, high = given.arg(1, "min"), given.arg(2, "max")
    _floats(given.args[0], low, high)
    if isinstance(low, View) or isinstance(high, View):
        raise Unsupported("no kernel in C for limits that are tensors")
    limits = (-_UNLIMITED if low is None else float(low), _UNLIMITED if high is None else float(high))
    return (Call("ew_clamp", (given.out, given.args[0].expand(given.out.size), *limits)),)


def _clamp_min(given: Given) -> tuple[Call, ...]:
    return _clamp(Given((given.args[0], given.args[1], None), {}, given.made))


def _clamp_max(given: Given) -> tuple[Call, ...]:
    return _clamp(Given((given.args[0], None, given.args[1]), {}, given.made))


def _compare(relation: str) -> Rule:
    def rule(given: Given) -> tuple[Call, ...]:
        a, b = given.args[:2]
        a = a.expand(given.out.size)
        if isinstance(b, View):
            if a.dtype != b.dtype:
                raise Unsupported("no kernel in C that compares two types")
            return (Call("ew_compare", (given.out, a, b.expand(given.out.size), a.c_type, relation)),)
        return (Call("ew_compare_scalar", (given.out, a, a.c_type, c_number(float(b)), relation)),)

    return rule


def _where(given: Given) -> tuple[Call, ...]:
    _floats(*given.args[1:], given.out)
    return (Call("ew_where", (given.out, *(view.expand(given.out.size) for view in given.args))),)


def _masked_fill(given: Given) -> tuple[Call, ...]:
    x, mask, number = given.args
    _floats(x)
    if isinstance(number, View):
        return (Call("ew_where", (given.out, *(v.expand(given.out.size) for v in (mask, number, x)))),)
    views = (x.expand(given.out.size), mask.expand(given.out.size))
    return (Call("ew_masked_fill", (given.out, *views, float(number))),)


def _not(given: Given) -> tuple[Call, ...]:
    if given.args[0].dtype != torch.bool:
        raise Unsupported("no kernel in C but for masks")
    return (Call("ew_logical_not", (given.out, given.args[0].expand(given.out.size))),)


# -- copies and constants -------------------------------------------------------------------------------


def copy(target: View, source: View) -> Call:
    """`target = source`, of one type or of two."""
    source = source.expand(target.size)
    if torch.int16 in (source.dtype, target.dtype):
        raise Unsupported("no kernel in C for int16")
    if source.dtype == target.dtype:
        return Call("ew_copy", (target, source, source.c_type))
    return Call("ew_cast", (target, target.c_type, source, source.c_type))


def fill(target: View, number: float) -> Call:
    """Every element the same."""
    if target.dtype == torch.float32:
        return Call("ew_fill", (target, float(number)))
    return Call("ew_fill_bytes", (target, target.c_type, int(number)))


def _copied(given: Given) -> tuple[Call, ...]:
    return (copy(given.out, given.args[0]),)


def _copied_over(given: Given) -> tuple[Call, ...]:
    """`copy(old, new)` is `new`."""
    return (copy(given.out, given.args[1]),)


def _constant(position: int | None, number: float = 0.0) -> Rule:
    """Filled with argument `position`, or with `number`."""
    return lambda given: (fill(given.out, number if position is None else given.args[position]),)


def _triangle(upper: int) -> Rule:
    def rule(given: Given) -> tuple[Call, ...]:
        x = given.args[0]
        return (Call("ew_triangle", (given.out, x, x.c_type, int(given.arg(1, "diagonal", 0)), upper)),)

    return rule


def _concatenation(given: Given) -> tuple[Call, ...]:
    dim = given.arg(1, "dim", 0) % given.out.dims
    calls, start = [], 0
    for part in given.args[0]:
        length = part.size[dim]
        if not isinstance(length, int):
            raise Unsupported("its parts are cut along the dim that it joins")
        calls.append(copy(given.out.narrow(dim, start, length), part))
        start += length
    return tuple(calls)


def _stack(given: Given) -> tuple[Call, ...]:
    dim = given.arg(1, "dim", 0) % given.out.dims
    return tuple(
        copy(given.out.narrow(dim, at, 1).squeeze(dim), part) for at, part in enumerate(given.args[0])
    )


def _repeat(given: Given) -> tuple[Call, ...]:
    """Each dim that repeats is two of the result."""
    x, times = given.args
    out, size = given.out, [1] * (len(times) - x.dims) + list(x.size)
    x = x.expand(size)
    for dim in reversed(range(len(times))):
        if times[dim] > 1:
            n, stride = out.size[dim], out.stride[dim]
            if n != size[dim] * times[dim]:
                raise Unsupported("its result is cut")
            split = (times[dim], size[dim]), (stride * size[dim], stride)
            out = replace(
                out,
                size=(*out.size[:dim], *split[0], *out.size[dim + 1 :]),
                stride=(*out.stride[:dim], *split[1], *out.stride[dim + 1 :]),
            )
            x = x.unsqueeze(dim)
    if out.dims > MOST_DIMS:
        raise Unsupported(f"no kernel in C for {out.dims} dims")
    return (copy(out, x),)


def _pad(given: Given) -> tuple[Call, ...]:
    """Where padding is below zero, x is cut; so is the gradient of one that is above."""
    source, pads = given.args[:2]
    target = given.out
    for back, (before, behind) in enumerate(zip(pads[::2], pads[1::2], strict=True)):
        dim = source.dims - 1 - back
        length = source.size[dim] + min(before, 0) + min(behind, 0)
        source = source.narrow(dim, max(-before, 0), length)
        target = target.narrow(dim, max(before, 0), length)
    return fill(given.out, float(given.arg(2, "value", 0) or 0)), copy(target, source)


def _nothing(given: Given) -> tuple[Call, ...]:
    """A tensor whose content does not matter."""
    del given
    return ()


def _slice_backward(given: Given) -> tuple[Call, ...]:
    dy, _, dim, start, end, step = given.args
    if step != 1:
        raise Unsupported("no kernel in C for a slice with steps")
    size = given.out.size[dim]
    begin = start + (size if start < 0 else 0)
    del end  # dy is as long as the slice was
    return fill(given.out, 0), copy(given.out.narrow(dim, begin, dy.size[dim]), dy)


def _select_backward(given: Given) -> tuple[Call, ...]:
    dy, _, dim, index = given.args
    dim %= given.out.dims
    at = index % given.out.size[dim]
    return fill(given.out, 0), copy(given.out.narrow(dim, at, 1).squeeze(dim), dy)


# -- products -------------------------------------------------------------------------------------------


def _product(given: Given) -> tuple[Call, ...]:
    _floats(*given.args, given.out)
    return (Call("ew_matmul", (given.out, *given.args)),)


def _product_and_sum(given: Given) -> tuple[Call, ...]:
    c, a, b = given.args
    _floats(c, a, b, given.out)
    beta, alpha = float(given.kwargs.get("beta", 1)), float(given.kwargs.get("alpha", 1))
    return (Call("ew_matmul_add", (given.out, c.expand(given.out.size), a, b, beta, alpha)),)


# -- softmax and losses ---------------------------------------------------------------------------------


def _softmax(function: str) -> Rule:
    def rule(given: Given) -> tuple[Call, ...]:
        x, dim = given.args[:2]
        _floats(x, given.out)
        return (Call(function, (given.out, x, dim % max(x.dims, 1))),)

    return rule


def _softmax_backward(function: str) -> Rule:
    def rule(given: Given) -> tuple[Call, ...]:
        dy, y, dim = given.args[:3]
        _floats(dy, y, given.out)
        return (Call(function, (given.out, dy.expand(y.size), y, dim % max(y.dims, 1))),)

    return rule


_REDUCTIONS = ("EW_NONE", "EW_MEAN", "EW_SUM")


def _nll(given: Given) -> tuple[Call, ...]:
    logp, target, weight, reduction, ignored = given.args
    _floats(logp, weight)
    if logp.dims == 1:
        logp, target = logp.unsqueeze(0), target.unsqueeze(0)
    outs = (given.made[0], given.made.get(1))
    return (Call("ew_nll_loss", (*outs, logp, target, weight, _REDUCTIONS[reduction], ignored)),)


def _nll_backward(given: Given) -> tuple[Call, ...]:
    dloss, logp, target, weight, reduction, ignored, total = given.args
    _floats(dloss, logp, weight)
    out = given.out
    if logp.dims == 1:
        out, target = out.unsqueeze(0), target.unsqueeze(0)
    views = (out, dloss, target, weight, total)
    return (Call("ew_nll_loss_backward", (*views, _REDUCTIONS[reduction], ignored)),)


def _mse(given: Given) -> tuple[Call, ...]:
    x, target = given.args[:2]
    _floats(x, target)
    return (Call("ew_mse_loss", (given.out, x, target, _REDUCTIONS[given.arg(2, "reduction", 1)])),)


def _mse_backward(given: Given) -> tuple[Call, ...]:
    dloss, x, target, reduction = given.args
    _floats(dloss, x, target)
    return (Call("ew_mse_loss_backward", (given.out, dloss, x, target, _REDUCTIONS[reduction])),)


# -- reductions -----------------------------------------------------------------------------------------


def _reduction(function: str) -> Rule:
    def rule(given: Given) -> tuple[Call, ...]:
        x = given.args[0]
        exact = function == "ew_sum" and x.dtype == torch.int8
        _floats(*(() if exact else (x, given.out)))
        asked = given.arg(1, "dim")
        dims = [asked] if isinstance(asked, int) else asked
        over = sorted(d % max(x.dims, 1) for d in (dims or range(x.dims)))
        out = given.out
        if not given.arg(2, "keepdim", False):
            for dim in over if x.dims else ():
                out = out.unsqueeze(dim)
        return (Call("ew_sum_i8" if exact else function, (out, x)),)

    return rule


def _elu_backward(given: Given) -> tuple[Call, ...]:
    dy, alpha, scale, input_scale, of_result, kept = given.args
    _floats(dy, kept)
    settings = (float(alpha), float(scale), float(input_scale), int(of_result))
    return (Call("ew_elu_backward", (given.out, dy.expand(given.out.size), kept, *settings)),)


def _cumsum(given: Given) -> tuple[Call, ...]:
    x, dim = given.args[:2]
    if x.dtype != given.out.dtype:
        raise Unsupported("no kernel in C that adds up in another type")
    return (Call("ew_cumsum", (given.out, x, x.c_type, dim % max(x.dims, 1))),)


def _both(function: str) -> Rule:
    """A logical op of two masks."""

    def rule(given: Given) -> tuple[Call, ...]:
        a, b = given.args
        if torch.bool not in (a.dtype, b.dtype) or a.dtype != b.dtype:
            raise Unsupported("no kernel in C but for masks")
        return (Call(function, (given.out, a.expand(given.out.size), b.expand(given.out.size))),)

    return rule


def _amin(given: Given) -> tuple[Call, ...]:
    _floats(given.args[0])
    if given.arg(1, "dim"):
        raise Unsupported("no kernel in C for the least along a dim")
    return (Call("ew_amin", (given.out, given.args[0])),)


def _argmax(given: Given) -> tuple[Call, ...]:
    x, dim = given.args[0], given.arg(1, "dim")
    _floats(x)
    if dim is None:
        raise Unsupported("no kernel in C for the largest of all")
    out = given.out if given.arg(2, "keepdim", False) else given.out.unsqueeze(dim % x.dims)
    return (Call("ew_argmax", (out, x)),)


def _embedding(given: Given) -> tuple[Call, ...]:
    table, index = given.args[:2]
    _floats(table)
    return (Call("ew_embedding", (given.out, table, index)),)


def _embedding_backward(given: Given) -> tuple[Call, ...]:
    dy, index, _, padding, by_frequency = given.args
    _floats(dy)
    if by_frequency:
        raise Unsupported("no kernel in C for gradients scaled by frequency")
    return (Call("ew_embedding_backward", (given.out, dy, index, padding)),)


def _gather(given: Given) -> tuple[Call, ...]:
    x, dim, index = given.args[:3]
    if x.dtype not in (torch.float32, torch.int64):
        raise Unsupported("no kernel in C but for float32 and int64")
    return (Call("ew_gather", (given.out, x, x.c_type, dim % max(x.dims, 1), index)),)


_FUNCTIONS: dict[object, Rule] = {
    gradients.input_gradient: convolution_input_gradient,
    gradients.parameter_gradients: convolution_parameter_gradients,
    integers.round_nearest: round_nearest,
    requantized.floats_of: floats_of,
    requantized.sum_of: sum_of,
    requantized.convolution_layer: convolution_layer,
    requantized.linear_layer: linear_layer,
}

RULES: Mapping[str, Rule] = {
    "relu": _unary("ew_relu"),
    "threshold_backward": _kept("ew_threshold_backward", _at(2)),
    "hardtanh": _unary("ew_clamp", _at(1, "min_val", -1.0), _at(2, "max_val", 1.0)),
    "hardtanh_backward": _kept("ew_hardtanh_backward", _at(2), _at(3)),
    "gelu": _unary("ew_gelu", _is_tanh),
    "gelu_backward": _kept("ew_gelu_backward", _is_tanh),
    "sigmoid": _unary("ew_sigmoid"),
    "sigmoid_backward": _kept("ew_sigmoid_backward"),
    "tanh": _unary("ew_tanh"),
    "tanh_backward": _kept("ew_tanh_backward"),
    "silu": _unary("ew_silu"),
    "silu_backward": _kept("ew_silu_backward"),
    "hardswish": _unary("ew_hardswish"),
    "hardswish_backward": _kept("ew_hardswish_backward"),
    "hardsigmoid": _unary("ew_hardsigmoid"),
    "hardsigmoid_backward": _kept("ew_hardsigmoid_backward"),
    "leaky_relu": _unary("ew_leaky_relu", _at(1, "negative_slope", 0.01)),
    "leaky_relu_backward": _kept("ew_leaky_relu_backward", _at(2)),
    "softplus": _unary("ew_softplus", _at(1, "beta", 1.0), _at(2, "threshold", 20.0)),
    "softplus_backward": _kept("ew_softplus_backward", _at(2), _at(3)),
    "elu": _unary("ew_elu", _at(1, "alpha", 1.0), _at(2, "scale", 1.0), _at(3, "input_scale", 1.0)),
    "elu_backward": _elu_backward,
    "log_sigmoid_forward": _unary("ew_log_sigmoid"),
    "log_sigmoid_backward": _kept("ew_log_sigmoid_backward"),
    "log1p": _unary("ew_log1p"),
    "erf": _unary("ew_erf"),
    "sin": _unary("ew_sin"),
    "floor": _unary("ew_floor"),
    "round": _unary("ew_round"),
    "cumsum": _cumsum,
    "neg": _unary("ew_neg"),
    "abs": _unary("ew_abs"),
    "sign": _unary("ew_sign"),
    "sgn": _unary("ew_sign"),
    "cos": _unary("ew_cos"),
    "exp": _unary("ew_exp"),
    "log": _unary("ew_log"),
    "sqrt": _unary("ew_sqrt"),
    "rsqrt": _unary("ew_rsqrt"),
    "reciprocal": _unary("ew_reciprocal"),
    "add": _binary("ew_add", "ew_add_scalar", alpha=True),
    "sub": _binary("ew_sub", "ew_add_scalar", alpha=True),
    "rsub": _rsub,
    "mul": _mul,
    "div": _div,
    "remainder": remainder,
    "pow": _unary("ew_pow_scalar", _at(1)),
    "maximum": _binary("ew_maximum", ""),
    "minimum": _binary("ew_minimum", ""),
    "clamp": _clamp,
    "clamp_min": _clamp_min,
    "clamp_max": _clamp_max,
    "eq": _compare("EW_EQ"),
    "ne": _compare("EW_NE"),
    "lt": _compare("EW_LT"),
    "le": _compare("EW_LE"),
    "gt": _compare("EW_GT"),
    "ge": _compare("EW_GE"),
    "where": _where,
    "masked_fill": _masked_fill,
    "logical_not": _not,
    "logical_and": _both("ew_logical_and"),
    "logical_or": _both("ew_logical_or"),
    "bitwise_not": _not,
    "bitwise_and": _both("ew_logical_and"),
    "bitwise_or": _both("ew_logical_or"),
    "arange": arange,
    "repeat": _repeat,
    "expand": _copied,
    "clone": _copied,
    "copy": _copied_over,
    "_to_copy": _copied,
    "zeros": _constant(None, 0),
    "ones": _constant(None, 1),
    "zeros_like": _constant(None, 0),
    "ones_like": _constant(None, 1),
    "new_zeros": _constant(None, 0),
    "new_ones": _constant(None, 1),
    "full": _constant(1),
    "full_like": _constant(1),
    "scalar_tensor": _constant(0),
    "tril": _triangle(0),
    "triu": _triangle(1),
    "cat": _concatenation,
    "stack": _stack,
    "constant_pad_nd": _pad,
    "empty": _nothing,
    "empty_like": _nothing,
    "new_empty": _nothing,
    "slice_backward": _slice_backward,
    "select_backward": _select_backward,
    "mm": _product,
    "bmm": _product,
    "addmm": _product_and_sum,
    "baddbmm": _product_and_sum,
    "convolution": convolution,
    "native_batch_norm": batch_norm_given,
    "_native_batch_norm_legit": batch_norm_given,
    "_native_batch_norm_legit_no_training": batch_norm_given,
    "_native_batch_norm_legit_functional": batch_norm_given,
    "native_batch_norm_backward": batch_norm_backward,
    "native_layer_norm": layer_norm,
    "native_layer_norm_backward": layer_norm_backward,
    "native_group_norm": group_norm,
    "native_group_norm_backward": group_norm_backward,
    "_softmax": _softmax("ew_softmax"),
    "_safe_softmax": _softmax("ew_softmax"),
    "_log_softmax": _softmax("ew_log_softmax"),
    "_softmax_backward_data": _softmax_backward("ew_softmax_backward"),
    "_log_softmax_backward_data": _softmax_backward("ew_log_softmax_backward"),
    "nll_loss_forward": _nll,
    "nll_loss2d_forward": _nll,
    "nll_loss_backward": _nll_backward,
    "nll_loss2d_backward": _nll_backward,
    "mse_loss": _mse,
    "mse_loss_backward": _mse_backward,
    "max_pool2d_with_indices": max_pool,
    "max_pool2d_with_indices_backward": max_pool_backward,
    "avg_pool2d": average_pool,
    "avg_pool2d_backward": average_pool_backward,
    "_adaptive_avg_pool2d": adaptive_average_pool,
    "_adaptive_avg_pool2d_backward": adaptive_average_pool_backward,
    "sum": _reduction("ew_sum"),
    "mean": _reduction("ew_mean"),
    "amax": _reduction("ew_amax"),
    "amin": _amin,
    "argmax": _argmax,
    "gather": _gather,
    "embedding": _embedding,
    "embedding_dense_backward": _embedding_backward,
}
"""Rules by the name of the ATen op."""
