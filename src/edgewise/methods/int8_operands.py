"""Linear layers and convolutions whose products, forward and backward, are of int8 operands.

Under `Int8Operands`, each of them rounds its input and its weight to int8 at the scale of their largest
element, and backward the gradient of its output, stochastically (arXiv 2506.22771, section III): all three
products are int8 x int8 -> int32. Everything between layers stays float32. What is kept for the backward
pass is int8. This serves any model, and is what INT8 backpropagation is here; a chain of linear layers with
ReLU is served better by `capture.integer_layers`, where activations stay int8 between layers.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (its common name)
from torch.overrides import TorchFunctionMode

from edgewise.capture import integers

Arguments = tuple[Any, ...]


class Int8Operands(TorchFunctionMode):
    """While entered, `linear` and `conv2d` compute on int8 operands.

    `step` is the number of the training step; without it gradients are rounded to nearest.
    """

    def __init__(self, step: Tensor | None = None) -> None:
        super().__init__()
        self._step = step

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Arguments = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Replace the two."""
        del types
        if func is F.linear:
            return _linear(*args, **(kwargs or {}), step=self._step)
        if func in (F.conv2d, torch.conv2d):
            return _convolution(*args, **(kwargs or {}), step=self._step)
        return func(*args, **(kwargs or {}))


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None, *, step: Tensor | None) -> Tensor:  # noqa: A002
    y: Tensor = _Linear.apply(input.flatten(0, -2), weight, step)  # type: ignore[no-untyped-call]
    y = y if bias is None else y + bias
    return y.view(*input.shape[:-1], weight.shape[0])


def _convolution(
    input: Tensor,  # noqa: A002
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    step: Tensor | None,
) -> Tensor:
    settings = (_pair(stride), _pair(padding), _pair(dilation), groups)
    y: Tensor = _Convolution.apply(input, weight, settings, step)  # type: ignore[no-untyped-call]
    return y if bias is None else y + bias[:, None, None]


def _pair(number: int | Sequence[int]) -> list[int]:
    return [number, number] if isinstance(number, int) else list(number)


def _rounded(x: Tensor) -> tuple[Tensor, Tensor]:
    scale = integers.scale_of(x)
    return integers.nearest(x, scale), scale


def _rounded_gradient(g: Tensor, step: Tensor | None) -> tuple[Tensor, Tensor]:
    scale = integers.scale_of(g)
    if step is None:
        return integers.nearest(g, scale), scale
    return integers.stochastic(g, scale, step), scale


class _Linear(torch.autograd.Function):
    """x w^T, of x [rows, inputs] and w [outputs, inputs]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, step: Tensor | None) -> Tensor:
        q, x_scale = _rounded(x)
        v, w_scale = _rounded(w)
        ctx.save_for_backward(q, x_scale, v, w_scale, step)
        y: Tensor = integers.product(q, v.t()) * (x_scale * w_scale)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        q, x_scale, v, w_scale, step = ctx.saved_tensors
        g, scale = _rounded_gradient(gradients[0], step)
        of_x = integers.product(g, v) * (scale * w_scale) if ctx.needs_input_grad[0] else None
        of_w = integers.product(g.t(), q) * (scale * x_scale) if ctx.needs_input_grad[1] else None
        return of_x, of_w, None


class _Convolution(torch.autograd.Function):
    """The convolution of x [B, C, H, W] with w [outputs, C / groups, height, width]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, settings: Arguments, step: Tensor | None) -> Tensor:
        q, x_scale = _rounded(x)
        v, w_scale = _rounded(w)
        ctx.save_for_backward(q, x_scale, v, w_scale, step)
        ctx.settings = settings
        y: Tensor = integers.convolution(q, v, *settings) * (x_scale * w_scale)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        q, x_scale, v, w_scale, step = ctx.saved_tensors
        g, scale = _rounded_gradient(gradients[0], step)
        of_x = of_w = None
        if ctx.needs_input_grad[0]:
            of_x = integers.convolution_input(g, v, list(q.shape), *ctx.settings) * (scale * w_scale)
        if ctx.needs_input_grad[1]:
            found = integers.convolution_weight(g, q, list(v.shape), *ctx.settings)
            of_w = found * (scale * x_scale)
        return of_x, of_w, None, None
