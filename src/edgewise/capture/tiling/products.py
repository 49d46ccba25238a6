"""Matrix products: rows, columns, batch, and the contracted axis, whose parts are added up."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from edgewise.capture.kernels import Slot
from edgewise.capture.tiling.broadcast import aligned
from edgewise.capture.tiling.calls import Call
from edgewise.capture.tiling.nest import Along, At, Axis, Nest, Window

aten = torch.ops.aten
BATCH, ROWS, COLUMNS, INNER = "batch", "rows", "columns", "inner"


def product(call: Call) -> Nest | None:
    """`mm(a, b)` and `bmm(a, b)`."""
    a, b = call.args
    return _nest(call, a, b, None)


def product_and_sum(call: Call) -> Nest | None:
    """`addmm(c, a, b)` and `baddbmm(c, a, b)`; with `beta` and `alpha` they are left whole."""
    if call.kwargs or len(call.args) > 3:
        return None
    c, a, b = call.args
    return _nest(call, a, b, c)


def requantized(call: Call) -> Nest:
    """`linear_layer(x, weight, bias, factor, limits)`: sums are rounded, so each is whole."""
    x, weight, bias, factor, limits = call.args
    out = call.output(0, (Window(ROWS), Window(COLUMNS)))
    operands = (
        call.operand(x, (Window(ROWS), None)),
        call.operand(weight, (Window(COLUMNS), None)),
        *(call.operand(each, (Window(COLUMNS),)) for each in (bias, factor)),
    )
    axes = (Axis(ROWS, out.size[0]), Axis(COLUMNS, out.size[1]))
    return Nest(
        axes,
        call.program,
        operands,
        (out,),
        lambda tiles, _, __: (call.target(*tiles[:4], limits),),
        ((ROWS, COLUMNS), (COLUMNS, ROWS)),
    )


def _nest(call: Call, a: Slot, b: Slot, c: Slot | None) -> Nest:
    batch: tuple[Along, ...] = (Window(BATCH),) if call.meta(a).dim() == 3 else ()
    along = (*batch, Window(ROWS), Window(COLUMNS))
    out = call.output(0, along)
    operands = [
        call.operand(a, (*batch, Window(ROWS), Window(INNER))),
        call.operand(b, (*batch, Window(INNER), Window(COLUMNS))),
    ]
    if c is not None:
        operands.append(call.operand(c, aligned(call.meta(c).shape, out.size, along)))
    multiply = aten.bmm if batch else aten.mm

    def body(tiles: Sequence[Any], at: At, cut: frozenset[str]) -> tuple[Tensor, ...]:
        if c is None or (INNER in cut and at[INNER][0] > 0):
            return (multiply(tiles[0], tiles[1]),)
        return (call.target(tiles[2], tiles[0], tiles[1]),)

    rows, inner = call.meta(a).shape[-2:]
    extents = {BATCH: out.size[0] if batch else 1, ROWS: rows, COLUMNS: out.size[-1], INNER: inner}
    axes = tuple(Axis(name, extent) for name, extent in extents.items())
    orders = ((BATCH, ROWS, COLUMNS, INNER), (BATCH, COLUMNS, ROWS, INNER))
    return Nest(axes, call.program, tuple(operands), (out,), body, orders)
