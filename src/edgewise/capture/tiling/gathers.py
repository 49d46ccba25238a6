"""Embeddings: of the table, only the rows that are looked up are read."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from edgewise.capture.tiling.broadcast import along_dims, dim_axes
from edgewise.capture.tiling.calls import Call
from edgewise.capture.tiling.nest import At, Axis, Nest, Window

aten = torch.ops.aten
TABLE, WIDTH = "table rows", "columns"


def embedding(call: Call) -> Nest | None:
    """`embedding(table, indices, ...)`, by positions."""
    table, indices = call.args[:2]
    size = call.meta(indices).shape
    axes, along = dim_axes(size), along_dims(size)
    if not axes or call.meta(table).dim() != 2 or not call.meta(table).is_contiguous():
        return None
    names = tuple(axis.name for axis in axes)
    operands = (call.operand(table, (None, None), gathered=names), call.operand(indices, along))
    return Nest(axes, call.program, operands, (call.output(0, (*along, None)),),
                lambda tiles, _, __: call.repeat(tiles), (names,), linear=True, exact=True)  # fmt: skip


def embedding_backward(call: Call) -> Nest | None:
    """`embedding_dense_backward(gradient, indices, rows, padding index, by frequency)`, by table rows."""
    gradient, indices, rows, padding, by_frequency = call.args
    if by_frequency:
        return None
    count = call.meta(indices).dim()
    operands = (
        call.operand(gradient, (*(None,) * count, Window(WIDTH))),
        call.operand(indices, (None,) * count),
    )

    def body(tiles: Sequence[Any], at: At, cut: frozenset[str]) -> tuple[Tensor, ...]:
        part, found = tiles
        if TABLE not in cut:
            return (aten.embedding_dense_backward(part, found, rows, padding, by_frequency),)
        start, stop = at[TABLE]
        # Out of range of the block counts as padding, which the kernel leaves out.
        inside = (found >= start) & (found < stop) & (found != padding)
        local = torch.where(inside, found - start, stop - start)
        made = aten.embedding_dense_backward(part, local, stop - start + 1, stop - start, by_frequency)
        return (made[: stop - start],)

    result = call.output(0, (Window(TABLE), Window(WIDTH)), grow=(1, 0))
    axes = (Axis(TABLE, rows), Axis(WIDTH, call.meta(gradient).shape[-1]))
    return Nest(axes, call.program, operands, (result,), body, ((TABLE, WIDTH), (WIDTH, TABLE)), exact=True)
