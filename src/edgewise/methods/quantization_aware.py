"""Training an int8 network: layers of int8-valued weights, and gradients scaled to fit (arXiv 2206.15472).

A layer of a real int8 graph holds W_q = W / s_w and b_q = b / (s_x s_w), whole numbers of up to 8 and 32
bits, and makes, of an input x_q = x / s_x,

    y_q = clamp( round( (W_q x_q + b_q) s_x s_w / s_y ), -128, 127 )

with one s_w for each output channel. Gradients are those of straight-through estimation: rounding has slope
1, and clamping has slope 0 outside the range of int8. Since dL/dW_q = s_w dL/dW, weights and gradients are
out of proportion: ||W_q|| / ||dL/dW_q|| is s_w^-2 times the ratio of the float network. Quantization-aware
scaling (section 3.1 of the paper) puts it right, so that a learning rate means what it means in floats:

    dL/dW_q / s_w^2                dL/db_q / (s_x s_w)^2

Parameters are int8-valued floats that keep their fractions between steps and are rounded in the forward pass.
All products and sums of whole numbers are exact below 2^24. Between layers, tensors are floats on the grid of
s_y, so that whatever else the model does (poolings, sums, activations) works as before. The layer that ends
the model hands its sums to the loss unrounded: 8 bits set on an untrained head would bound what it can learn.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from edgewise.capture.calling import call_arguments
from edgewise.capture.modes import in_evaluation
from edgewise.errors import ModelUnsupported, UsageError

LEAST, MOST = -128, 127
"""The range of int8. Weights use -127 to 127, so that they are symmetric."""


class _Round(torch.autograd.Function):
    """The nearest whole number, within limits; slope 1 inside them and `outside` beyond."""

    @staticmethod
    def forward(ctx, x: Tensor, least: int, most: int, outside: bool) -> Tensor:  # type: ignore[no-untyped-def]  # noqa: ANN001
        """Rounded and clamped."""
        rounded = x.round()
        ctx.save_for_backward(*(() if outside else ((rounded >= least) & (rounded <= most),)))
        return rounded.clamp(least, most)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[no-untyped-def]  # noqa: ANN001
        """The gradient where the mask, if there is one, lets it through."""
        (inside,) = ctx.saved_tensors or (None,)
        return (gradient if inside is None else gradient.masked_fill(~inside, 0)), None, None, None


class _Scaled(torch.autograd.Function):
    """The parameter itself; its gradient divided by `divisor`."""

    @staticmethod
    def forward(ctx, parameter: Tensor, divisor: Tensor) -> Tensor:  # type: ignore[no-untyped-def]  # noqa: ANN001
        """As it is."""
        ctx.save_for_backward(divisor)
        return parameter.view_as(parameter)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def]  # noqa: ANN001
        """Quantization-aware scaling."""
        (divisor,) = ctx.saved_tensors
        return gradient / divisor, None


def rounded(x: Tensor, least: int, most: int, *, outside: bool = False) -> Tensor:
    """Nearest whole number from `least` to `most`, straight-through; with `outside`, beyond them too."""
    out: Tensor = _Round.apply(x, least, most, outside)  # type: ignore[no-untyped-call]
    return out


class QuantizedLayer(nn.Module):
    """A convolution or linear layer of int8-valued weights, in the place of the float `layer`.

    `weight` and `bias` are W_q and b_q; `weight_scale` (one for each output channel), `input_scale` and
    `output_scale` are s_w, s_x and s_y; without s_y, outputs are not rounded to 8 bits. `scaled` says whether
    gradients get quantization-aware scaling.
    """

    weight_scale: Tensor
    input_scale: Tensor
    output_scale: Tensor | None

    def __init__(
        self, layer: nn.Conv2d | nn.Linear, input_scale: float, output_scale: float | None, *, scaled: bool
    ) -> None:
        super().__init__()
        weight = layer.weight.detach()
        s_w = weight.flatten(1).abs().amax(1).clamp(min=torch.finfo(weight.dtype).tiny) / MOST
        self.weight = nn.Parameter((weight / _rows(s_w, weight)).round(), layer.weight.requires_grad)
        self.bias: nn.Parameter | None = None
        if layer.bias is not None:
            self.bias = nn.Parameter(
                (layer.bias.detach() / (input_scale * s_w)).round(), layer.bias.requires_grad
            )
        self.register_buffer("weight_scale", s_w)
        self.register_buffer("input_scale", weight.new_tensor(input_scale))
        self.register_buffer(
            "output_scale", None if output_scale is None else weight.new_tensor(output_scale)
        )
        self.scaled = scaled
        self._of: dict[str, Any] = {}
        if isinstance(layer, nn.Conv2d):
            self._of = {
                "stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation,
                "groups": layer.groups,
            }  # fmt: skip

    def accumulated(self, x_q: Tensor) -> Tensor:
        """W_q x_q + b_q: whole numbers."""
        weight: Tensor = self.weight
        bias: Tensor | None = self.bias
        if self.scaled:
            weight = _Scaled.apply(weight, _rows(self.weight_scale.square(), weight))  # type: ignore[no-untyped-call]
            if bias is not None:
                bias = _Scaled.apply(bias, (self.input_scale * self.weight_scale).square())  # type: ignore[no-untyped-call]
        # A weight that left the range must find back into it, so the slope is 1 outside too.
        weight = rounded(weight, -MOST, MOST, outside=True)
        bias = None if bias is None else rounded(bias, -(1 << 31), (1 << 31) - 1, outside=True)
        if self._of:
            return nn.functional.conv2d(x_q, weight, bias, **self._of)
        return nn.functional.linear(x_q, weight, bias)

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output in floats, on the grid of `output_scale` if there is one."""
        sums = self.accumulated(rounded(x / self.input_scale, LEAST, MOST))
        factor = (self.input_scale * self.weight_scale).view((-1, 1, 1) if self._of else (-1,))
        if self.output_scale is None:
            return sums * factor
        return rounded(sums * (factor / self.output_scale), LEAST, MOST) * self.output_scale


def _rows(factors: Tensor, weight: Tensor) -> Tensor:
    return factors.view(-1, *[1] * (weight.dim() - 1))


def quantize(model: nn.Module, batches: Iterable[Any], *, scaled: bool = True) -> tuple[str, ...]:
    """Put an int8 layer in the place of every `nn.Conv2d` and `nn.Linear` of `model`; their paths.

    Batch norms must have been folded into the layers before them (`fold_norms`).

    Args:
        model: changed in place; called on the batches in evaluation mode first.
        batches: inputs of the model, whose ranges set the scales of activations.
        scaled: whether gradients get quantization-aware scaling.

    Raises:
        ModelUnsupported: a batch norm is left, or a convolution pads with other than zeros; with paths.
        UsageError: there is no batch, or no such layer.
    """
    layers = {p: m for p, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))}
    _check(model)
    ranges = _ranges(model, layers, batches)
    if not ranges:
        raise UsageError(
            "Quantization takes a batch, and a convolution or linear layer that it comes by. Give both."
        )
    for path, (of_input, of_output) in ranges.items():
        parent, _, name = path.rpartition(".")
        output_scale = None if of_output is None else of_output / MOST
        made = QuantizedLayer(layers[path], of_input / MOST, output_scale, scaled=scaled)
        setattr(model.get_submodule(parent), name, made.train(layers[path].training))
    return tuple(ranges)


def _check(model: nn.Module) -> None:
    parts = [
        f"{path}: {type(m).__name__}: it works in floats; fold it into the layer before it (`fold_norms`)"
        for path, m in model.named_modules()
        if isinstance(m, nn.modules.batchnorm._BatchNorm)  # noqa: SLF001  # the base of all of them
    ]
    parts += [
        f"{path}: Conv2d: it pads with `{m.padding_mode}`; only zeros are zeros in int8 too"
        for path, m in model.named_modules()
        if isinstance(m, nn.Conv2d) and m.padding_mode != "zeros"
    ]
    if parts:
        listed = "\n".join(f"  {part}" for part in parts)
        raise ModelUnsupported(
            f"{type(model).__name__} cannot be quantized because of {len(parts)} part(s):\n{listed}",
            parts=tuple(parts),
        )


def _ranges(
    model: nn.Module, layers: dict[str, Any], batches: Iterable[Any]
) -> dict[str, tuple[float, float | None]]:
    """Largest absolute input and output of each layer over the batches; no output of the model's own."""
    found: dict[str, tuple[float, float]] = {}
    last: dict[str, Tensor] = {}

    def hook(path: str) -> Any:
        def note(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            of_input, of_output = found.get(path, (1e-12, 1e-12))
            last[path] = output
            found[path] = (
                max(of_input, float(inputs[0].abs().max())),
                max(of_output, float(output.abs().max())),
            )

        return note

    handles = [m.register_forward_hook(hook(path)) for path, m in layers.items()]
    try:
        with in_evaluation(model), torch.no_grad():
            for inputs in batches:
                args, kwargs = call_arguments(inputs)
                end = model(*args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()
    return {path: (x, None if last[path] is end else y) for path, (x, y) in found.items()}


def fold_norms(model: nn.Module) -> tuple[str, ...]:
    """Fold every batch norm right behind a convolution of the same `nn.Sequential` into it; their paths.

    With the running statistics; `model` is changed in place, and is the same function in evaluation.
    """
    folded = []
    for path, parent in model.named_modules():
        if not isinstance(parent, nn.Sequential):
            continue
        for index in range(len(parent) - 1):
            conv, norm = parent[index], parent[index + 1]
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                fused = torch.nn.utils.fuse_conv_bn_eval(conv.eval(), norm.eval())
                assert fused.bias is not None  # noqa: S101  # the norm's shift is in it
                fused.bias.requires_grad_(fused.weight.requires_grad)
                parent[index] = fused.train(parent.training)
                parent[index + 1] = nn.Identity()
                folded.append(f"{path}.{index + 1}" if path else str(index + 1))
    return tuple(folded)
