"""Embeddings: of the table, only the rows that are looked up are read.

An optimizer that leaves elements without a gradient as they are changes these rows and no others. What is
moved is counted as if no row was looked up twice, since a plan cannot know.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from edgewise.capture.optimizers import Optimizer
from edgewise.capture.tiling.broadcast import along_dims, dim_axes
from edgewise.capture.tiling.calls import Call
from edgewise.capture.tiling.nest import At, Axis, Nest, Operand, Result, Window
from edgewise.capture.updates import Change

aten = torch.ops.aten
TABLE, WIDTH, TOUCHED = "table rows", "columns", "touched rows"


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


def touched_rows(call: Call, change: Change, optimizer: Optimizer) -> Nest | None:
    """The update of a table by `embedding_dense_backward`, by rows that were looked up, each once."""
    gradient, indices, rows, padding, by_frequency = call.args
    layout = call.layouts[change.parameter]
    contiguous = layout.size[1:] == layout.stride[:1]
    if by_frequency or change.program.views or not optimizer.skips_zeros or not contiguous:
        return None
    width, dims = layout.size[1], call.meta(indices).dim()
    operands = (
        call.operand(gradient, (*(None,) * dims, Window(WIDTH))),
        call.operand(indices, (None,) * dims),
    )
    itemsize = layout.dtype.itemsize
    along = (None, Window(WIDTH))
    table = Operand(change.parameter, None, layout.size, layout.stride, itemsize, along, gathered=(TOUCHED,))

    def body(tiles: Sequence[Any], at: At, cut: frozenset[str]) -> tuple[Tensor | None, ...]:
        del cut
        part, found, table = tiles
        start, stop = at[TOUCHED]
        picked = found[found != padding].unique()[start:stop]
        count = len(picked)
        if not count:
            return None, None
        place = torch.searchsorted(picked, found).clamp_(max=count - 1)
        local = torch.where(picked[place] == found, place, count)
        made = aten.embedding_dense_backward(part, local, count + 1, count, by_frequency)
        held = table[picked]
        optimizer.update(held, made[:count], {}, 0)
        table.index_copy_(0, picked, held)
        return made, held

    extent = min(math.prod(call.meta(indices).shape), rows)
    size, stride, follows = (extent, width), (width, 1), (Window(TOUCHED), Window(WIDTH))
    results = tuple(Result(None, size, stride, itemsize, follows, grow=grow) for grow in ((1, 0), (0, 0)))
    axes = (Axis(TOUCHED, extent), Axis(WIDTH, width))
    orders = ((WIDTH, TOUCHED), (TOUCHED, WIDTH))
    return Nest(axes, call.program, operands, results, body, orders, exact=True, inouts=(table,))
