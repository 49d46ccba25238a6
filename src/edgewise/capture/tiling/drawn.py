"""Random directions slice by slice: any run of a direction can be drawn without what stands before it.

A parameter is cut into runs of its storage, so that neither it nor what is added to it is ever whole.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from edgewise.capture.directions import AlongKernel, DirectionKernel, PerturbedKernel
from edgewise.capture.kernels import Program
from edgewise.capture.lowering import STEP, Layout
from edgewise.capture.tiling.broadcast import along_dims, dim_axes
from edgewise.capture.tiling.calls import value_behind, views_of
from edgewise.capture.tiling.nest import Along, At, Body, Nest, Operand, Result
from edgewise.capture.updates import flat

Layouts = Mapping[str, Layout]


def nest_of(kernel: DirectionKernel | PerturbedKernel | AlongKernel, output: str, layouts: Layouts) -> Nest:
    """The nest of an op that draws a direction and makes `output`."""
    match kernel:
        case DirectionKernel():
            return direction(kernel, output)
        case PerturbedKernel():
            return perturbed(kernel, output, layouts)
        case AlongKernel():
            return along(kernel, output, layouts)


def perturbed(kernel: PerturbedKernel, output: str, layouts: Layouts) -> Nest:
    """The sum w + scale z, where w is read and the sum stored slice by slice."""
    layout = layouts[output]
    w = _whole(kernel.operands[0], layout, along_dims(layout.size))
    threshold = [_whole(name, layouts[name]) for name in kernel.operands[1:]]

    def body(tiles: Sequence[Any], at: At, cut: frozenset[str]) -> tuple[Tensor, ...]:
        del cut
        part, step, *rest = tiles
        return (kernel.moved(part, int(step), _begin(layout, at), *rest),)

    return _nest(layout, output, (w, _STEP, *threshold), body, kernel.scratch_bytes, Program((), ()))


def along(kernel: AlongKernel, output: str, layouts: Layouts) -> Nest:
    """sum_i c_i z_i; as the gradient within an update, it is never stored."""
    layout, views = kernel.like, views_of(kernel.program, layouts)
    read = []
    for slot in kernel.slots:
        view, value = views[slot.index], value_behind(kernel.program, slot)
        dims = (None,) * view.dim()
        read.append(Operand(value, slot.index, tuple(view.shape), view.stride(), view.element_size(), dims))

    def body(tiles: Sequence[Any], at: At, cut: frozenset[str]) -> tuple[Tensor, ...]:
        del cut
        made = _empty(layout, at)
        for offset, piece in kernel.run(tiles[1:], int(tiles[0]), _begin(layout, at), made.numel()):
            flat(made)[offset : offset + piece.numel()] = piece
        return (made,)

    return _nest(layout, output, (_STEP, *read), body, kernel.scratch_bytes_of, kernel.program)


def _whole(name: str, layout: Layout, along: tuple[Along, ...] | None = None) -> Operand:
    """The stored value `name`; all of it for each tile unless its dims follow axes."""
    dims = along or (None,) * len(layout.size)
    return Operand(name, None, layout.size, layout.stride, layout.dtype.itemsize, dims)


def direction(kernel: DirectionKernel, output: str) -> Nest:
    """z, stored slice by slice."""
    layout = kernel.like

    def body(tiles: Sequence[Any], at: At, cut: frozenset[str]) -> tuple[Tensor, ...]:
        del cut
        made = _empty(layout, at)
        kernel.fill(made, int(tiles[0]), _begin(layout, at))
        return (made,)

    return _nest(layout, output, (_STEP,), body, kernel.scratch_bytes, Program((), ()))


_STEP = Operand(STEP, None, (), (), 8, ())


def _nest(  # what the two have in common
    layout: Layout,
    output: str,
    operands: tuple[Operand, ...],
    body: Body,
    scratch: Callable[[int], int],
    program: Program,
) -> Nest:
    """Cut as one run of elements, in the order of the storage."""
    axes = dim_axes(layout.size)
    order = sorted(range(len(axes)), key=lambda dim: (-layout.stride[dim], dim))
    itemsize = layout.dtype.itemsize
    return Nest(
        axes,
        program,
        operands,
        (Result(output, layout.size, layout.stride, itemsize, along_dims(layout.size)),),
        body,
        (tuple(axes[dim].name for dim in order),),
        linear=True,
        exact=True,
        scratch=lambda tile_bytes: scratch(tile_bytes // itemsize),
    )


def _begin(layout: Layout, at: At) -> int:
    """The first element, in the order of the storage, of the slice at `at`."""
    return sum(at[f"dim{i}"][0] * stride for i, stride in enumerate(layout.stride))


def _empty(layout: Layout, at: At) -> Tensor:
    """A tensor for the slice at `at` without gaps, its dims in the order in which they are stored."""
    size = [at[f"dim{i}"][1] - at[f"dim{i}"][0] for i in range(len(layout.size))]
    order = sorted(range(len(size)), key=lambda dim: (-layout.stride[dim], dim))
    made = torch.empty([size[dim] for dim in order], dtype=layout.dtype)
    return made.permute([order.index(dim) for dim in range(len(size))])
