"""Element-wise ops, copies and concatenations: every dim of the result is an axis.

They are cut as one row of elements would be, in the order of the dims or in that in which an operand lies in
memory. An operand that is repeated along a dim is not cut there.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from edgewise.capture.kernels import Slot
from edgewise.capture.tiling.calls import Call
from edgewise.capture.tiling.nest import Along, At, Axis, Nest, Operand, Window

# fmt: off
ARITHMETIC = frozenset((
    "add", "sub", "rsub", "mul", "div", "neg", "abs", "clone", "_to_copy", "copy", "full_like", "zeros_like",
    "ones_like", "relu", "threshold_backward", "leaky_relu", "leaky_relu_backward", "hardtanh",
    "hardtanh_backward", "where", "masked_fill", "maximum", "minimum", "clamp", "clamp_min", "clamp_max",
    "eq", "ne", "lt", "le", "gt", "ge", "logical_not", "logical_and", "logical_or", "bitwise_not", "sqrt",
    "square", "reciprocal", "hardswish", "hardswish_backward", "round_nearest", "floats_of",
    "sum_of", "map_of",
))
# fmt: on
"""Ops whose every element is rounded in one way, however many are made at once.

Others (`gelu`, `sigmoid`, ...) have one code for full vectors and another for what is left over, which differ
in the last bit.
"""


_UNTAGGED = frozenset((
    "clone", "_to_copy", "full_like", "zeros_like", "ones_like", "hardswish", "hardswish_backward",
    "hardsigmoid_backward", "elu_backward", "softplus_backward", "log_sigmoid_backward", "mish_backward",
    "hardshrink_backward", "softshrink_backward", "hardtanh_backward", "leaky_relu_backward",
))  # fmt: skip
"""Element-wise ops and copies that PyTorch does not tag as pointwise."""


def dim_axes(size: Sequence[int]) -> tuple[Axis, ...]:
    """An axis for each dim."""
    return tuple(Axis(f"dim{i}", extent) for i, extent in enumerate(size))


def along_dims(size: Sequence[int]) -> tuple[Along, ...]:
    """Each dim follows its own axis."""
    return tuple(Window(f"dim{i}") for i in range(len(size)))


def aligned(size: Sequence[int], out: Sequence[int], along: Sequence[Along]) -> tuple[Along, ...]:
    """What the dims of a tensor of `size` follow that is broadcast to `out`, whose dims follow `along`."""
    behind = along[len(out) - len(size) :]
    wide = out[len(out) - len(size) :]
    return tuple(a if n == m else None for a, n, m in zip(behind, size, wide, strict=True))


def memory_orders(operands: Sequence[Operand], axes: Sequence[Axis]) -> tuple[tuple[str, ...], ...]:
    """The axes in the order of the dims, and in the order in which each operand lies in memory."""
    names = [axis.name for axis in axes]
    orders = {tuple(names): None}
    for operand in operands:
        stride = {
            a.axis: s for a, s in zip(operand.along, operand.stride, strict=True) if a is not None and s > 0
        }
        if len(stride) == len(names):
            orders[tuple(sorted(names, key=lambda name: (-stride[name], names.index(name))))] = None
    return tuple(orders)


def elementwise(call: Call, whole: Sequence[Slot] = ()) -> Nest | None:
    """Any pointwise op or copy with one result; every slice reads all of the operands `whole`."""
    out = call.result(0).shape
    axes, along = dim_axes(out), along_dims(out)
    broadcasts = not _all_repeat(call, len(out))
    operands = tuple(
        call.operand(slot, aligned(call.meta(slot).shape, out, along), broadcasts=broadcasts)
        if slot not in whole
        else call.operand(slot, (None,) * call.meta(slot).dim())
        for slot in call.slots
    )
    name = getattr(call.target, "overloadpacket", call.target).__name__
    return Nest(
        axes,
        call.program,
        operands,
        (call.output(0, along),),
        lambda tiles, _, __: call.repeat(tiles[: len(operands)]),
        memory_orders(operands, axes),
        linear=True,
        exact=name in ARITHMETIC,
    )


def by_table(call: Call) -> Nest | None:
    """`map_of(x, table)`."""
    return elementwise(call, whole=call.args[1:])


def _all_repeat(call: Call, dims: int) -> bool:
    """Whether all operands repeat the same elements along some dim: the result has to be made that long."""
    views = [call.meta(slot) for slot in call.slots]
    return any(
        all(view.dim() < back or view.stride(-back) == 0 for view in views) for back in range(1, dims + 1)
    )


def concatenation(call: Call) -> Nest | None:
    """`cat(tensors, dim)`: along any other dim."""
    out = call.result(0).shape
    dim = call.args[1] % len(out) if len(call.args) > 1 else 0
    axes = tuple(axis for i, axis in enumerate(dim_axes(out)) if i != dim)
    along = tuple(a if i != dim else None for i, a in enumerate(along_dims(out)))
    if any(call.meta(slot).dim() != len(out) for slot in call.slots):
        return None
    operands = tuple(call.operand(slot, along) for slot in call.slots)
    orders = (tuple(axis.name for axis in axes),)
    return Nest(axes, call.program, operands, (call.output(0, along),),
                lambda tiles, _, __: call.repeat(tiles), orders, linear=True, exact=True)  # fmt: skip


def scaled_product(call: Call, mask: Operand, scale: float) -> Nest | None:
    """`x * mask * scale`, as dropout does it."""
    out = call.result(0).shape
    axes, along = dim_axes(out), along_dims(out)
    operands = (call.operand(call.slots[0], along, broadcasts=True), mask)

    def body(tiles: Sequence[Any], at: At, cut: frozenset[str]) -> tuple[Tensor, ...]:
        del at, cut
        return (tiles[0].mul(tiles[1]).mul_(scale),)

    return Nest(axes, call.program, operands, (call.output(0, along),), body,
                memory_orders(operands[:1], axes), linear=True, exact=True)  # fmt: skip


def is_elementwise(target: Any) -> bool:
    """Whether each element of the only result depends on one of each operand."""
    if not isinstance(target, torch._ops.OpOverload):  # noqa: SLF001
        return False
    return torch.Tag.pointwise in target.tags or target.overloadpacket.__name__ in _UNTAGGED
