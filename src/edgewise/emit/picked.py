"""What indices pick, and its gradient: ATen calls as calls of C kernels.

The kernels want indices of the shape of what is picked: they come repeated along the other dims.
"""

from collections.abc import Sequence

import torch

from edgewise.emit.calls import Call, Given, Unsupported, only_floats
from edgewise.emit.copies import copy
from edgewise.emit.views import Extent, View

MOST_INDICES = 2


def embedding(given: Given) -> tuple[Call, ...]:
    """`embedding(table, index)`."""
    table, index = given.args[:2]
    only_floats(table)
    return (Call("ew_embedding", (given.out, table, index)),)


def embedding_backward(given: Given) -> tuple[Call, ...]:
    """`embedding_dense_backward(dy, index, rows, padding, by frequency)`."""
    dy, index, _, padding, by_frequency = given.args
    only_floats(dy)
    if by_frequency:
        raise Unsupported("no kernel in C for gradients scaled by frequency")
    return (Call("ew_embedding_backward", (given.out, dy, index, padding)),)


def gather(given: Given) -> tuple[Call, ...]:
    """`gather(x, dim, index)`."""
    x, dim, index = given.args[:3]
    return (_picked(given.out, x, dim % max(x.dims, 1), index),)


def scatter_add(given: Given) -> tuple[Call, ...]:
    """`scatter_add(x, dim, index, source)`."""
    return _scattered(given, add=True)


def scatter(given: Given) -> tuple[Call, ...]:
    """`scatter(x, dim, index, source)`."""
    return _scattered(given, add=False)


def _scattered(given: Given, *, add: bool) -> tuple[Call, ...]:
    x, dim, index, source = given.args[:4]
    if not isinstance(source, View):
        raise Unsupported("no kernel in C that scatters one number")
    only_floats(x, source)
    return copy(given.out, x), Call("ew_scatter", (given.out, dim % x.dims, index, None, source, int(add)))


def index_select(given: Given) -> tuple[Call, ...]:
    """`index_select(x, dim, index)`."""
    x, dim, index = given.args
    return (_picked(given.out, x, dim % x.dims, _along(index, dim % x.dims, given.out.size)),)


def index_add(given: Given) -> tuple[Call, ...]:
    """`index_add(x, dim, index, source, alpha)`."""
    x, dim, index, source = given.args[:4]
    only_floats(x, source)
    if given.arg(4, "alpha", 1) != 1:
        raise Unsupported("no kernel in C that scales what it adds")
    rows = _along(index, dim % x.dims, source.size)
    return copy(given.out, x), Call("ew_scatter", (given.out, dim % x.dims, rows, None, source, 1))


def _along(index: View, dim: int, size: Sequence[Extent]) -> View:
    """An index of one dim, which goes along `dim` of `size`."""
    return _before(index, size[dim + 1 :]).expand(size)


def _before(index: View, rest: Sequence[Extent]) -> View:
    """An index with as many more dims as there are in `rest`."""
    for _ in rest:
        index = index.unsqueeze(-1)
    return index


def index(given: Given) -> tuple[Call, ...]:
    """`index(x, indices)`."""
    x, indices = given.args
    dim, asked = _indices(indices)
    wide = _broadcast(asked)
    out, table = given.out, x
    rows = [_before(view.expand(wide), x.size[dim + len(asked) :]) for view in asked]
    for _ in wide[len(asked) :]:
        table = table.unsqueeze(dim + len(asked))
    for _ in asked[len(wide) :]:
        out = out.unsqueeze(dim)
    return (_picked(out, table, dim, *(view.expand(out.size) for view in rows)),)


def index_put(given: Given) -> tuple[Call, ...]:
    """`index_put(x, indices, values, accumulate)`."""
    x, indices, values = given.args[:3]
    only_floats(x, values)
    dim, asked = _indices(indices)
    wide = _broadcast(asked)
    rest = x.size[dim + len(asked) :]
    values = values.expand((*x.size[:dim], *wide, *rest))
    rows = [_before(view.expand(wide), rest) for view in asked]
    table = given.out
    for _ in wide[len(asked) :]:
        table = table.unsqueeze(dim + len(asked))
    for _ in asked[len(wide) :]:
        values = values.unsqueeze(dim)
    first, second = (*(view.expand(values.size) for view in rows), None)[:2]
    add = int(bool(given.arg(3, "accumulate", False)))
    return copy(given.out, x), Call("ew_scatter", (table, dim, first, second, values, add))


def _indices(indices: Sequence[View | None]) -> tuple[int, list[View]]:
    """The first dim that is indexed, and the indices of it and the next ones."""
    dims = [dim for dim, view in enumerate(indices) if view is not None]
    asked = [view for view in indices if view is not None]
    if len(dims) > MOST_INDICES or dims[-1] - dims[0] != len(dims) - 1:
        raise Unsupported("no kernel in C but for an index of one dim, or of two neighbours")
    if any(view.dtype != torch.int64 for view in asked):
        raise Unsupported("no kernel in C but for indices of int64")
    return dims[0], asked


def _broadcast(views: Sequence[View]) -> tuple[int, ...]:
    sizes = [tuple(n for n in view.size if isinstance(n, int)) for view in views]
    return tuple(torch.broadcast_shapes(*sizes))  # type: ignore[no-untyped-call]


def _picked(out: View, x: View, dim: int, rows: View, columns: View | None = None) -> Call:
    if x.dtype not in (torch.float32, torch.int64):
        raise Unsupported("no kernel in C but for float32 and int64")
    return Call("ew_gather", (out, x, x.c_type, dim, rows, columns))
