"""Batch, layer and group norms as calls of C kernels."""

import math

import torch

from edgewise.emit.calls import Call, Given, Unsupported
from edgewise.emit.views import View


def _floats(given: Given) -> None:
    if any(isinstance(view, View) and view.dtype != torch.float32 for view in given.args):
        raise Unsupported("no kernel in C but for float32")


def batch_norm_given(given: Given) -> tuple[Call, ...]:
    """A batch norm that changes nothing: in evaluation mode, or without running statistics.

    The variants of ATen differ in what stands behind `x, weight, bias`.
    """
    _floats(given)
    x, weight, bias, *rest = given.args
    views = [item for item in rest if isinstance(item, View) or item is None]
    training = next((item for item in rest if isinstance(item, bool)), False)
    momentum, eps = (float(item) for item in rest if isinstance(item, float))
    running = (*views, None, None)[:2]
    outs = (given.made[0], given.made.get(1), given.made.get(2))
    if training:
        return (Call("ew_batch_norm", (*outs, x, weight, bias, None, None, momentum, eps)),)
    return (Call("ew_batch_norm_frozen", (outs[0], x, weight, bias, *running, eps)),)


def batch_norm_backward(given: Given) -> tuple[Call, ...]:
    """`native_batch_norm_backward(dy, x, weight, running..., saved..., training, eps, mask)`."""
    _floats(given)
    dy, x, weight, running_mean, running_var, mean, rstd, training, eps, _ = given.args
    outs = tuple(given.made.get(i) for i in range(3))
    if training:
        return (Call("ew_batch_norm_backward", (*outs, dy, x, weight, mean, rstd)),)
    views = (dy, x, weight, running_mean, running_var)
    return (Call("ew_batch_norm_frozen_backward", (*outs, *views, float(eps))),)


def layer_norm(given: Given) -> tuple[Call, ...]:
    """`native_layer_norm(x, shape, weight, bias, eps)`."""
    _floats(given)
    x, shape, weight, bias, eps = given.args
    outs = (given.made[0], given.made.get(1), given.made.get(2))
    return (Call("ew_layer_norm", (*outs, x, weight, bias, len(shape), float(eps))),)


def layer_norm_backward(given: Given) -> tuple[Call, ...]:
    """`native_layer_norm_backward(dy, x, shape, mean, rstd, weight, bias, mask)`."""
    _floats(given)
    dy, x, shape, mean, rstd, weight, _, _ = given.args
    outs = tuple(given.made.get(i) for i in range(3))
    return (Call("ew_layer_norm_backward", (*outs, dy, x, mean, rstd, weight, len(shape))),)


def group_norm(given: Given) -> tuple[Call, ...]:
    """`native_group_norm(x, weight, bias, n, c, space, groups, eps)`."""
    _floats(given)
    x, weight, bias, _, _, _, groups, eps = given.args
    outs = (given.made[0], given.made.get(1), given.made.get(2))
    return (Call("ew_group_norm", (*outs, x, weight, bias, groups, float(eps))),)


def group_norm_backward(given: Given) -> tuple[Call, ...]:
    """`native_group_norm_backward(dy, x, mean, rstd, weight, n, c, space, groups, mask)`."""
    _floats(given)
    dy, x, mean, rstd, weight, n, c, space, groups, _ = given.args
    if math.prod((n, c, space)) != math.prod(size for size in x.size if isinstance(size, int)):
        raise Unsupported("its input is cut")
    outs = tuple(given.made.get(i) for i in range(3))
    return (Call("ew_group_norm_backward", (*outs, dy, x, mean, rstd, weight, groups)),)


def weight_norm(given: Given) -> tuple[Call, ...]:
    """`_weight_norm_interface(v, g, dim)`: `w = g v / ||v||`, and the norms."""
    _floats(given)
    v, g = given.args[:2]
    w, norms = given.made[0], given.made[1]
    return (
        Call("ew_norm", (norms, v)),
        Call("ew_div", (w, v, norms.expand(v.size))),
        Call("ew_mul", (w, w, g.expand(v.size))),
    )


def weight_norm_backward(given: Given) -> tuple[Call, ...]:
    """`_weight_norm_interface_backward(dw, v, g, norms, dim)`.

    `dg = sum(dw v) / ||v||` and `dv = g (dw - v dg / ||v||) / ||v||`.
    """
    _floats(given)
    dw, v, g, norms = given.args[:4]
    dv, dg = given.made[0], given.made[1]
    wide = norms.expand(v.size)
    return (
        Call("ew_mul", (dv, dw, v)),
        Call("ew_sum", (dg, dv)),
        Call("ew_div", (dg, dg, norms)),
        Call("ew_mul", (dv, v, dg.expand(v.size))),
        Call("ew_div", (dv, dv, wide)),
        Call("ew_sub", (dv, dw, dv, 1.0)),
        Call("ew_mul", (dv, dv, g.expand(v.size))),
        Call("ew_div", (dv, dv, wide)),
    )
