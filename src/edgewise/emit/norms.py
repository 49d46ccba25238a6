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
