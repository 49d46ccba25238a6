"""Pooling as calls of C kernels."""

from collections.abc import Sequence
from typing import Any

import torch

from edgewise.emit.calls import Call, Given, Settings, Unsupported
from edgewise.emit.views import View


def _pair(values: Sequence[int] | int | None, default: Sequence[int] | None = None) -> tuple[int, ...]:
    if values is None or values == []:
        return tuple(default or ())
    if isinstance(values, int):
        return (values, values)
    return tuple(values) * 2 if len(values) == 1 else tuple(values)


def _settings(kernel: Any, stride: Any, padding: Any, dilation: Any = 1) -> Settings:
    kernel = _pair(kernel)
    return Settings("ew_pool_settings", (kernel, _pair(stride, kernel), _pair(padding), _pair(dilation)))


def _images(*views: View) -> tuple[View, ...]:
    """With a dim for the batch, if there is none."""
    if any(view.dtype not in (torch.float32, torch.int64) for view in views):
        raise Unsupported("no kernel in C but for float32")
    return tuple(view.unsqueeze(0) if view.dims == 3 else view for view in views)


def max_pool(given: Given) -> tuple[Call, ...]:
    """`max_pool2d_with_indices(x, kernel, stride, padding, dilation, ceil_mode)`."""
    y, index, x = _images(given.made[0], given.made[1], given.args[0])
    kernel, stride, padding, dilation = (given.arg(i, "", d) for i, d in ((1, 0), (2, None), (3, 0), (4, 1)))
    return (Call("ew_max_pool", (y, index, x, _settings(kernel, stride, padding, dilation))),)


def max_pool_backward(given: Given) -> tuple[Call, ...]:
    """`max_pool2d_with_indices_backward(dy, x, kernel, stride, padding, dilation, ceil_mode, index)`."""
    dx, dy, index = _images(given.out, given.args[0], given.args[7])
    return (Call("ew_max_pool_backward", (dx, dy, index)),)


def max_pool_of(given: Given) -> tuple[Call, ...]:
    """`max_pool_of(x, kernel, stride, padding, dilation, ceil)`, of int8."""
    x, kernel, stride, padding, dilation, _ = given.args
    return (Call("ew_integer_max_pool", (given.out, x, _settings(kernel, stride, padding, dilation))),)


def adaptive_max_pool(given: Given) -> tuple[Call, ...]:
    """`adaptive_max_pool2d(x, size)`."""
    return (Call("ew_adaptive_max_pool", _images(given.made[0], given.made[1], given.args[0])),)


def adaptive_max_pool_backward(given: Given) -> tuple[Call, ...]:
    """`adaptive_max_pool2d_backward(dy, x, index)`."""
    return (Call("ew_max_pool_backward", _images(given.out, given.args[0], given.args[2])),)


def average_pool(given: Given) -> tuple[Call, ...]:
    """`avg_pool2d(x, kernel, stride, padding, ceil_mode, count_include_pad, divisor_override)`."""
    y, x = _images(given.out, given.args[0])
    return (Call("ew_average_pool", (y, x, *_average(given, 1))),)


def average_pool_backward(given: Given) -> tuple[Call, ...]:
    """`avg_pool2d_backward(dy, x, kernel, stride, padding, ceil_mode, count_include_pad, divisor)`."""
    dx, dy = _images(given.out, given.args[0])
    return (Call("ew_average_pool_backward", (dx, dy, *_average(given, 2))),)


def _average(given: Given, first: int) -> tuple[Any, ...]:
    settings = _settings(given.arg(first), given.arg(first + 1), given.arg(first + 2, "", 0))
    count_padding = bool(given.arg(first + 4, "count_include_pad", True))
    return settings, int(count_padding), int(given.arg(first + 5, "divisor_override") or 0)


def adaptive_average_pool(given: Given) -> tuple[Call, ...]:
    """`_adaptive_avg_pool2d(x, size)`."""
    y, x = _images(given.out, given.args[0])
    return (Call("ew_adaptive_average_pool", (y, x)),)


def adaptive_average_pool_backward(given: Given) -> tuple[Call, ...]:
    """`_adaptive_avg_pool2d_backward(dy, x)`."""
    dx, dy = _images(given.out, given.args[0])
    return (Call("ew_adaptive_average_pool_backward", (dx, dy)),)
