"""Class and arithmetic of an ATen op: what the device's rates are multiplied with.

Products count a multiply-add as two flops, and a backward convolution or product counts each gradient that it
makes. Everything else counts one per element of its largest operand or result: such ops are bound by memory
traffic on every device we know, and devices whose rates differ say so per class.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

_MATMUL = {"mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "dot", "vdot", "addbmm"}
# fmt: off
_COPY = {
    "clone", "cat", "stack", "_to_copy", "copy", "constant_pad_nd", "select_backward", "slice_backward",
    "slice_scatter", "select_scatter", "repeat", "roll", "flip", "full", "full_like", "zeros", "zeros_like",
    "ones", "ones_like", "arange", "new_zeros", "new_ones", "new_full", "scalar_tensor", "empty",
    "empty_like", "lift_fresh_copy", "tril", "triu", "_unsafe_view", "im2col", "col2im", "expand_copy",
}
_GATHER = {
    "embedding", "embedding_dense_backward", "index", "index_put", "_unsafe_index", "_unsafe_index_put",
    "index_select", "index_add", "gather", "scatter", "scatter_add", "nll_loss_forward", "nll_loss_backward",
    "nll_loss2d_forward", "nll_loss2d_backward", "embedding_bag",
}
# fmt: on


_REDUCED_LOSSES = {"mse_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy"}


def workspace_of(target: Any, args: Sequence[Any]) -> int:
    """Bytes that the ATen overload `target` is known to need beside its operands and results.

    A reduced loss makes the loss of every element first.
    """
    if _name_of(target) not in _REDUCED_LOSSES:
        return 0
    schema = [argument.name for argument in target._schema.arguments]  # noqa: SLF001
    reduction = dict(zip(schema, args, strict=False)).get("reduction", 1)
    return args[0].numel() * args[0].element_size() if reduction else 0


def _name_of(target: Any) -> str:
    return target.overloadpacket.__name__ if isinstance(target, torch._ops.OpOverload) else str(target)  # noqa: SLF001


def cost_of(target: Any, args: Sequence[Any], outputs: Sequence[Tensor]) -> tuple[str, int]:
    """`(kind, flops)` of calling the ATen overload `target` with `args`, which makes `outputs`."""
    name = _name_of(target)
    if name == "convolution":
        flops = _convolution_flops(args[0] if args[6] else outputs[0], args[1])
        return _convolution_kind(args[1], args[8]), flops
    if name == "convolution_backward":
        grad, data, weight = args[:3]
        flops = _convolution_flops(data if args[7] else grad, weight)
        return _convolution_kind(weight, args[9]), flops * sum(args[10][:2])
    if name in _MATMUL:
        return "matmul", _matmul_flops(name, args, outputs[0])
    largest = max((t.numel() for t in (*_tensors(args), *outputs)), default=0)
    return _class_of(name, target), largest


def _tensors(args: Sequence[Any]) -> list[Tensor]:
    found: list[Tensor] = []
    for arg in args:
        if isinstance(arg, Tensor):
            found.append(arg)
        elif isinstance(arg, (list, tuple)):
            found.extend(_tensors(arg))
    return found


def _convolution_kind(weight: Tensor, groups: int) -> str:
    return "depthwise_convolution" if groups > 1 and weight.shape[1] == 1 else "convolution"


def _convolution_flops(positions: Tensor, weight: Tensor) -> int:
    """The weight is applied at each position of the output (of the input if it is transposed)."""
    return 2 * positions.shape[0] * math.prod(positions.shape[2:]) * weight.numel()


def _matmul_flops(name: str, args: Sequence[Any], output: Tensor) -> int:
    left = args[1] if name.startswith("add") or name == "baddbmm" else args[0]
    return 2 * output.numel() * int(left.shape[-1])


def _class_of(name: str, target: Any) -> str:
    if name in _GATHER:
        return "embedding"
    if name in _COPY:
        return "copy"
    for part, kind in (("norm", "normalization"), ("softmax", "softmax"), ("pool", "pooling")):
        if part in name:
            return kind
    tags = getattr(target, "tags", ())
    if torch.Tag.reduction in tags or name in {
        "sum",
        "mean",
        "amax",
        "amin",
        "var",
        "argmax",
        "argmin",
        "prod",
    }:
        return "reduction"
    if torch.Tag.pointwise in tags or name.endswith("_backward"):
        return "elementwise"
    return "other"
