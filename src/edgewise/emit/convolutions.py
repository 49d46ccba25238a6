"""Convolutions and their gradients, whole or a tile of one, as calls of C kernels."""

from collections.abc import Sequence
from typing import Any

import torch

from edgewise.emit.calls import Call, Given, Settings, Unsupported, only_floats
from edgewise.emit.views import Extent, View


def settings_of(values: Sequence[Any], dims: int, rows_padding: Extent | None = None) -> Settings:
    """`stride, padding, dilation, transposed, output_padding, groups` of ATen, for `dims` dims of space.

    A convolution over one dim is one over rows of height one. `rows_padding` stands for the padding of the
    first dim of space.
    """
    stride, padding, dilation, _, _, groups = values
    pairs = [_pair(stride, dims, 1), _pair(padding, dims, 0), _pair(dilation, dims, 1)]
    if rows_padding is not None:
        at = 0 if dims == 2 else 1
        pairs[1] = tuple(rows_padding if i == at else p for i, p in enumerate(pairs[1]))
    return Settings("ew_convolution_settings", (*pairs, groups))


def _pair(values: Sequence[int], dims: int, neutral: int) -> tuple[Extent, ...]:
    full = tuple(values) * dims if len(values) == 1 else tuple(values)
    return (neutral, *full) if dims == 1 else full


def _plane(view: View) -> View:
    """With a dim of height one, if there is one dim of space only."""
    return view.unsqueeze(2) if view.dims == 3 else view


def _dims(weight: View, *views: View) -> int:
    """Dims of space.

    Raises:
        Unsupported: there are three of them, or operands are not float32 (weights may be int8).
    """
    if weight.dims not in (3, 4) or any(view.dims != weight.dims for view in views):
        raise Unsupported(f"no kernel in C for a convolution over {weight.dims - 2} dims")
    only_floats(*views)
    if weight.dtype not in (torch.float32, torch.int8):
        raise Unsupported("no kernel in C but for weights in float32 or int8")
    return weight.dims - 2


def _suffix(weight: View) -> str:
    return "_by_i8" if weight.dtype == torch.int8 else ""


def convolution_by_int8(given: Given, rows_padding: Extent | None = None) -> tuple[Call, ...]:
    """`convolution_by_int8(x, weight, factor, pairs, groups)`."""
    x, weight, factor, pairs, groups = given.args
    values = (pairs[:2], pairs[2:4], pairs[4:], False, [0, 0], groups)
    settings = settings_of(values, _dims(weight, x, given.out), rows_padding)
    return (Call("ew_convolution_by_i8", (given.out, x, weight, factor, settings)),)


def convolution(given: Given, rows_padding: Extent | None = None) -> tuple[Call, ...]:
    """`convolution(x, weight, bias, *settings)`; a transposed one is the gradient of another's input."""
    x, weight, bias, *values = given.args
    dims = _dims(weight, x, given.out)
    settings = settings_of(values, dims, rows_padding)
    y, x, weight = (_plane(view) for view in (given.out, x, weight))
    if not values[3]:
        return (Call("ew_convolution", (y, x, weight, bias, settings)),)
    calls = [Call("ew_convolution_input_gradient", (y, x, weight, settings))]
    if bias is not None:
        spread = bias.unsqueeze(1).unsqueeze(2).expand(y.size)
        calls.append(Call("ew_add", (y, y, spread, 1.0)))
    return tuple(calls)


def convolution_input_gradient(given: Given, rows_padding: Extent | None = None) -> tuple[Call, ...]:
    """`input_gradient(dy, weight, layout of x, settings)`."""
    dy, weight, _, values = given.args
    settings = settings_of(values, _dims(weight, dy, given.out), rows_padding)
    dx, dy, weight = (_plane(view) for view in (given.out, dy, weight))
    function = "ew_convolution" if values[3] else f"ew_convolution_input_gradient{_suffix(weight)}"
    arguments = (dx, dy, weight, None, settings) if values[3] else (dx, dy, weight, settings)
    return (Call(function, arguments),)


def convolution_parameter_gradients(given: Given, rows_padding: Extent | None = None) -> tuple[Call, ...]:
    """`parameter_gradients(dy, x, layout of weight, settings, wanted=...)`."""
    dy, x, _, values = given.args
    dy, x = _plane(dy), _plane(x)
    calls = []
    if 0 in given.made:
        dw = given.made[0]
        settings = settings_of(values, _dims(dw, x, dy) if dw.dims == 4 else 1, rows_padding)
        pair = (x, dy) if values[3] else (dy, x)
        calls.append(Call("ew_convolution_weight_gradient", (_plane(dw), *pair, settings)))
    if 1 in given.made:
        calls.append(Call("ew_convolution_bias_gradient", (given.made[1], dy)))
    return tuple(calls)
