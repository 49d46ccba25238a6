"""ATen calls as calls of C kernels: one rule for each op, in the order of ew.h.

A rule gets views in the place of tensors and returns the calls that make the results. It broadcasts, and puts
dims where the kernel expects them; it never looks at addresses, so that it serves whole ops and tiles alike.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from edgewise.capture import gradients, int8_weights, integers, requantized
from edgewise.capture.kernels import AtenKernel
from edgewise.emit import copies, losses, picked, rearranged
from edgewise.emit.calls import Call, Given, Rule, Unsupported, c_number
from edgewise.emit.convolutions import (
    convolution,
    convolution_by_int8,
    convolution_input_gradient,
    convolution_parameter_gradients,
)
from edgewise.emit.counting import (
    WHOLE,
    arange,
    linspace,
    number_less_whole,
    remainder,
    rounded_quotient,
    whole_clamp,
    whole_numbers,
)
from edgewise.emit.integers import convolution_layer, floats_of, linear_layer, map_of, round_nearest, sum_of
from edgewise.emit.norms import (
    batch_norm_backward,
    batch_norm_given,
    group_norm,
    group_norm_backward,
    layer_norm,
    layer_norm_backward,
    weight_norm,
    weight_norm_backward,
)
from edgewise.emit.pooling import (
    adaptive_average_pool,
    adaptive_average_pool_backward,
    adaptive_max_pool,
    adaptive_max_pool_backward,
    average_pool,
    average_pool_backward,
    max_pool,
    max_pool_backward,
    max_pool_of,
)
from edgewise.emit.views import View

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
    if given.arg(2, "alpha", 1) != 1:
        raise Unsupported("no kernel in C that scales what it takes away")
    if x.dtype in WHOLE and not isinstance(number, View):
        return number_less_whole(_rsub, given)
    _floats(x, number)
    if isinstance(number, View):
        return (Call("ew_sub", (given.out, number.expand(given.out.size), x.expand(given.out.size), 1.0)),)
    return (Call("ew_rsub_scalar", (given.out, x.expand(given.out.size), float(number))),)


def _mul(given: Given) -> tuple[Call, ...]:
    a, b = given.args[:2]
    if given.out.dtype == torch.bool:
        return _both("ew_logical_and")(given)
    if isinstance(b, View) and b.dtype == torch.bool and isinstance(a, View):
        _floats(a)
        return (
            Call("ew_masked_scale", (given.out, a.expand(given.out.size), b.expand(given.out.size), 1.0)),
        )
    return _binary("ew_mul", "ew_mul_scalar")(given)


def _clamp(given: Given) -> tuple[Call, ...]:
    low, high = given.arg(1, "min"), given.arg(2, "max")
    if isinstance(low, View) or isinstance(high, View):
        return _clamp_between(given, low, high)
    if given.out.dtype == torch.int64:
        return whole_clamp(given, low, high)
    _floats(given.args[0])
    limits = (-_UNLIMITED if low is None else float(low), _UNLIMITED if high is None else float(high))
    return (Call("ew_clamp", (given.out, given.args[0].expand(given.out.size), *limits)),)


def _clamp_between(given: Given, low: View | None, high: View | None) -> tuple[Call, ...]:
    """Limits that are tensors."""
    x, calls = given.args[0], []
    _floats(x, low, high)
    for function, limit in (("ew_maximum", low), ("ew_minimum", high)):
        if limit is not None:
            calls.append(Call(function, (given.out, x.expand(given.out.size), limit.expand(given.out.size))))
            x = given.out
    return tuple(calls)


def _clamp_min(given: Given) -> tuple[Call, ...]:
    return _clamp(Given((given.args[0], given.args[1], None), {}, given.made))


def _clamp_max(given: Given) -> tuple[Call, ...]:
    return _clamp(Given((given.args[0], None, given.args[1]), {}, given.made))


def _pow(given: Given) -> tuple[Call, ...]:
    a, b = given.args
    _floats(a, b)
    if not isinstance(a, View):
        return (
            copies.fill(given.out, float(a)),
            Call("ew_pow", (given.out, given.out, b.expand(given.out.size))),
        )
    return _binary("ew_pow", "ew_pow_scalar")(given)


def _exp2(given: Given) -> tuple[Call, ...]:
    return _pow(Given((2.0, given.args[0]), {}, given.made))


def _scaled(function: str, factor: float) -> Rule:
    """`factor function(x)`."""
    return lambda given: (*_unary(function)(given), Call("ew_mul_scalar", (given.out, given.out, factor)))


def _ceil(given: Given) -> tuple[Call, ...]:
    negated, floored = (Call(function, (given.out, given.out)) for function in ("ew_neg", "ew_floor"))
    return (*_unary("ew_neg")(given), floored, negated)


def _addcmul(given: Given) -> tuple[Call, ...]:
    out, (x, a, b) = given.out, (view.expand(given.out.size) for view in given.args[:3])
    _floats(x, a, b)
    factor = float(given.kwargs.get("value", 1))
    return Call("ew_mul", (out, a, b)), Call("ew_add", (out, x, out, factor))


def _lerp(given: Given) -> tuple[Call, ...]:
    x, end, weight = given.args
    out = given.out
    _floats(x, end)
    if isinstance(weight, View):
        raise Unsupported("no kernel in C for a weight that is a tensor")
    x, end = x.expand(out.size), end.expand(out.size)
    return Call("ew_sub", (out, end, x, 1.0)), Call("ew_add", (out, x, out, float(weight)))


def _prelu_backward(given: Given) -> tuple[Call, ...]:
    _floats(*given.args)
    outs = given.made[0], given.made[1]
    return (Call("ew_prelu_backward", (*outs, *(view.expand(outs[0].size) for view in given.args))),)


def _isnan(given: Given) -> tuple[Call, ...]:
    x = given.args[0].expand(given.out.size)
    return (Call("ew_compare", (given.out, x, x, x.c_type, "EW_NE")),)


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
    views = [view.expand(given.out.size) for view in given.args]
    if all(view.dtype == torch.int64 for view in (given.out, *views[1:])):
        return (Call("ew_where_i64", (given.out, *views)),)
    _floats(*views[1:], given.out)
    return (Call("ew_where", (given.out, *views)),)


def _masked_fill(given: Given) -> tuple[Call, ...]:
    x, mask, number = given.args
    if isinstance(number, View):
        return _where(Given((mask, number, x), {}, given.made))
    if x.dtype == torch.int64:
        filled = copies.fill(given.out, number)
        return (filled, *_where(Given((mask, given.out, x), {}, given.made)))
    _floats(x)
    views = (x.expand(given.out.size), mask.expand(given.out.size))
    return (Call("ew_masked_fill", (given.out, *views, float(number))),)


def _not(given: Given) -> tuple[Call, ...]:
    if given.args[0].dtype != torch.bool:
        raise Unsupported("no kernel in C but for masks")
    return (Call("ew_logical_not", (given.out, given.args[0].expand(given.out.size))),)


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


# -- reductions -----------------------------------------------------------------------------------------


def _reduction(function: str) -> Rule:
    def rule(given: Given) -> tuple[Call, ...]:
        x = given.args[0]
        counts = function == "ew_sum" and x.dtype in (torch.int8, torch.bool)
        _floats(*(() if counts else (x, given.out)))
        out = _with_dims(given.out, x, given.arg(1, "dim"), given.arg(2, "keepdim", False))
        return (Call("ew_sum_i8" if counts else function, (out, x)),)

    return rule


def _with_dims(out: View, x: View, asked: Any, keepdim: bool) -> View:
    """`out` with a dim of one element for each that it is a reduction over: those asked for, or all."""
    dims = [asked] if isinstance(asked, int) else asked
    if not keepdim:
        for dim in sorted(d % x.dims for d in (dims or range(x.dims))) if x.dims else ():
            out = out.unsqueeze(dim)
    return out


def _extreme(name: str) -> Rule:
    """`max(x)`, `max(x, dim, keepdim)` with the place of each, or `max(x, y)`; `min` alike."""

    def rule(given: Given) -> tuple[Call, ...]:
        x, other = given.args[0], given.arg(1, "dim")
        _floats(x, other)
        if isinstance(other, View):
            views = (given.out, x.expand(given.out.size), other.expand(given.out.size))
            return (Call(f"ew_{name}imum", views),)
        keepdim = given.arg(2, "keepdim", False)
        outs = {i: _with_dims(out, x, other, keepdim) for i, out in given.made.items()}
        return tuple(Call(f"ew_{'arg' if i else 'a'}{name}", (out, x)) for i, out in outs.items())

    return rule


def _norm(given: Given) -> tuple[Call, ...]:
    """`linalg_vector_norm(x, order, dim, keepdim)`, and `norm` alike."""
    x = given.args[0]
    _floats(x, given.out)
    if given.arg(1, "ord", 2) != 2:
        raise Unsupported("no kernel in C but for the norm of order 2")
    out = _with_dims(given.out, x, given.arg(2, "dim"), given.arg(3, "keepdim", False))
    return (Call("ew_norm", (out, x)),)


def _variance(given: Given) -> tuple[Call, ...]:
    """`var(x, dim, correction=..., keepdim=...)`."""
    x, correction = given.args[0], given.kwargs.get("correction", 1)
    _floats(x)
    if len(given.args) > 2:
        raise Unsupported("no kernel in C for this form of it")
    out = _with_dims(given.out, x, given.arg(1, "dim"), given.kwargs.get("keepdim", False))
    return (Call("ew_variance", (out, x, float(1 if correction is None else correction))),)


def _variance_and_mean(given: Given) -> tuple[Call, ...]:
    """`var_mean(x, dim, correction=..., keepdim=...)`."""
    x, means = given.args[0], given.made[1]
    out = _with_dims(means, x, given.arg(1, "dim"), given.kwargs.get("keepdim", False))
    return (*_variance(given), Call("ew_mean", (out, x)))


def _deviation(given: Given) -> tuple[Call, ...]:
    return (*_variance(given), Call("ew_sqrt", (given.out, given.out)))


def _celu(given: Given) -> tuple[Call, ...]:
    """`celu(x, alpha)`."""
    x, alpha = given.args[0], float(given.arg(1, "alpha", 1.0))
    _floats(x)
    return (Call("ew_elu", (given.out, x, alpha, 1.0, 1 / alpha)),)


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
        if any(not isinstance(x, View) or x.dtype != torch.bool for x in given.args):
            raise Unsupported("no kernel in C but for masks")
        return (Call(function, (given.out, *(x.expand(given.out.size) for x in given.args))),)

    return rule


def _place(function: str) -> Rule:
    """`argmax(x, dim, keepdim)`, or `argmin`."""

    def rule(given: Given) -> tuple[Call, ...]:
        x, dim = given.args[0], given.arg(1, "dim")
        _floats(x)
        if dim is None:
            raise Unsupported("no kernel in C for the place among all")
        return (Call(function, (_with_dims(given.out, x, dim, given.arg(2, "keepdim", False)), x)),)

    return rule


_FUNCTIONS: dict[object, Rule] = {
    gradients.input_gradient: convolution_input_gradient,
    gradients.parameter_gradients: convolution_parameter_gradients,
    integers.round_nearest: round_nearest,
    requantized.floats_of: floats_of,
    requantized.sum_of: sum_of,
    requantized.map_of: map_of,
    requantized.max_pool_of: max_pool_of,
    requantized.convolution_layer: convolution_layer,
    int8_weights.convolution_by_int8: convolution_by_int8,
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
    "mish": _unary("ew_mish"),
    "mish_backward": _kept("ew_mish_backward"),
    "_prelu_kernel": _binary("ew_prelu", ""),
    "_prelu_kernel_backward": _prelu_backward,
    "hardswish": _unary("ew_hardswish"),
    "hardswish_backward": _kept("ew_hardswish_backward"),
    "hardsigmoid": _unary("ew_hardsigmoid"),
    "hardsigmoid_backward": _kept("ew_hardsigmoid_backward"),
    "leaky_relu": _unary("ew_leaky_relu", _at(1, "negative_slope", 0.01)),
    "leaky_relu_backward": _kept("ew_leaky_relu_backward", _at(2)),
    "softplus": _unary("ew_softplus", _at(1, "beta", 1.0), _at(2, "threshold", 20.0)),
    "softplus_backward": _kept("ew_softplus_backward", _at(2), _at(3)),
    "elu": _unary("ew_elu", _at(1, "alpha", 1.0), _at(2, "scale", 1.0), _at(3, "input_scale", 1.0)),
    "celu": _celu,
    "elu_backward": _elu_backward,
    "log_sigmoid_forward": _unary("ew_log_sigmoid"),
    "log_sigmoid_backward": _kept("ew_log_sigmoid_backward"),
    "expm1": _unary("ew_expm1"),
    "exp2": _exp2,
    "log2": _scaled("ew_log", 1 / math.log(2)),
    "log10": _scaled("ew_log", 1 / math.log(10)),
    "log1p": _unary("ew_log1p"),
    "erf": _unary("ew_erf"),
    "sin": _unary("ew_sin"),
    "ceil": _ceil,
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
    "pow": _pow,
    "xlogy": _binary("ew_xlogy", ""),
    "addcmul": _addcmul,
    "lerp": _lerp,
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
    "isnan": _isnan,
    "where": _where,
    "masked_fill": _masked_fill,
    "logical_not": _not,
    "logical_and": _both("ew_logical_and"),
    "logical_or": _both("ew_logical_or"),
    "bitwise_not": _not,
    "bitwise_and": _both("ew_logical_and"),
    "bitwise_or": _both("ew_logical_or"),
    "arange": arange,
    "linspace": linspace,
    "repeat": copies.repeat,
    "expand": copies.copied,
    "clone": copies.copied,
    "lift_fresh_copy": copies.copied,
    "copy": copies.copied_over,
    "_to_copy": copies.copied,
    "zeros": copies.constant(None, 0),
    "ones": copies.constant(None, 1),
    "zeros_like": copies.constant(None, 0),
    "ones_like": copies.constant(None, 1),
    "new_zeros": copies.constant(None, 0),
    "new_ones": copies.constant(None, 1),
    "full": copies.constant(1),
    "full_like": copies.constant(1),
    "scalar_tensor": copies.constant(0),
    "tril": copies.triangle(0),
    "triu": copies.triangle(1),
    "cat": copies.concatenation,
    "stack": copies.stack,
    "constant_pad_nd": copies.pad,
    "empty": copies.nothing,
    "empty_like": copies.nothing,
    "new_empty": copies.nothing,
    "new_empty_strided": copies.nothing,
    "fill": copies.constant(1),
    "slice_backward": copies.slice_backward,
    "slice_scatter": copies.slice_scatter,
    "select_scatter": copies.select_scatter,
    "diagonal_backward": copies.diagonal_backward,
    "flip": rearranged.flip,
    "roll": rearranged.roll,
    "pixel_shuffle": rearranged.pixel_shuffle,
    "pixel_unshuffle": rearranged.pixel_unshuffle,
    "channel_shuffle": rearranged.channel_shuffle,
    "reflection_pad1d": rearranged.padded(rearranged.reflection),
    "reflection_pad2d": rearranged.padded(rearranged.reflection),
    "reflection_pad1d_backward": rearranged.padded_backward(rearranged.reflection),
    "reflection_pad2d_backward": rearranged.padded_backward(rearranged.reflection),
    "replication_pad1d": rearranged.padded(rearranged.repeated_edges),
    "replication_pad2d": rearranged.padded(rearranged.repeated_edges),
    "replication_pad1d_backward": rearranged.padded_backward(rearranged.repeated_edges),
    "replication_pad2d_backward": rearranged.padded_backward(rearranged.repeated_edges),
    "glu": rearranged.gated,
    "glu_backward": rearranged.gated_backward,
    "select_backward": copies.select_backward,
    "mm": _product,
    "bmm": _product,
    "addmm": _product_and_sum,
    "baddbmm": _product_and_sum,
    "convolution": convolution,
    "_weight_norm_interface": weight_norm,
    "_weight_norm_interface_backward": weight_norm_backward,
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
    "nll_loss_forward": losses.nll,
    "nll_loss2d_forward": losses.nll,
    "nll_loss_backward": losses.nll_backward,
    "nll_loss2d_backward": losses.nll_backward,
    "mse_loss": losses.mse,
    "mse_loss_backward": losses.mse_backward,
    "huber_loss": losses.huber,
    "huber_loss_backward": losses.huber_backward,
    "smooth_l1_loss": losses.smooth_l1,
    "smooth_l1_loss_backward": losses.smooth_l1_backward,
    "binary_cross_entropy": losses.binary_cross_entropy,
    "binary_cross_entropy_backward": losses.binary_cross_entropy_backward,
    "binary_cross_entropy_with_logits": losses.of_logits,
    "max_pool2d_with_indices": max_pool,
    "max_pool2d_with_indices_backward": max_pool_backward,
    "avg_pool2d": average_pool,
    "avg_pool2d_backward": average_pool_backward,
    "adaptive_max_pool2d": adaptive_max_pool,
    "adaptive_max_pool2d_backward": adaptive_max_pool_backward,
    "_adaptive_avg_pool2d": adaptive_average_pool,
    "_adaptive_avg_pool2d_backward": adaptive_average_pool_backward,
    "sum": _reduction("ew_sum"),
    "mean": _reduction("ew_mean"),
    "amax": _reduction("ew_amax"),
    "max": _extreme("max"),
    "min": _extreme("min"),
    "logsumexp": _reduction("ew_log_sum_exp"),
    "var": _variance,
    "std": _deviation,
    "var_mean": _variance_and_mean,
    "linalg_vector_norm": _norm,
    "norm": _norm,
    "amin": _reduction("ew_amin"),
    "argmax": _place("ew_argmax"),
    "argmin": _place("ew_argmin"),
    "gather": picked.gather,
    "scatter": picked.scatter,
    "scatter_add": picked.scatter_add,
    "index_select": picked.index_select,
    "index_add": picked.index_add,
    "index": picked.index,
    "_unsafe_index": picked.index,
    "index_put": picked.index_put,
    "_unsafe_index_put": picked.index_put,
    "embedding": picked.embedding,
    "embedding_dense_backward": picked.embedding_backward,
}
"""Rules by the name of the ATen op."""
