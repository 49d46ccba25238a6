"""Random directions slice by slice: any run of a direction can be drawn without what stands before it.

A parameter is cut into runs of its storage, so that neither it nor what is added to it is ever whole.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from edgewise.capture.directions import AlongKernel, DirectionKernel, NudgeKernel, PerturbedKernel
from edgewise.capture.kernels import Program
from edgewise.capture.lowering import STEP, Layout
from edgewise.capture.tiling.broadcast import along_dims, dim_axes
from edgewise.capture.tiling.calls import value_behind, views_of
from edgewise.capture.tiling.nest import At, Body, Nest, Operand, Result
from edgewise.capture.tiling.updating import stored
from edgewise.capture.updates import UpdateKernel, flat

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
    w = stored(kernel.operands[0], layout, along_dims(layout.size))
    threshold = [stored(name, layouts[name]) for name in kernel.operands[1:]]

    def body(tiles: Sequence[Any], at: At, cut: frozenset[str]) -> tuple[Tensor, ...]:
        del cut
        part, step, *rest = tiles
        return (kernel.moved(part, int(step), begin_of(layout, at), *rest),)

    return run_of_elements(layout, output, (w, STEP_NUMBER, *threshold), body, kernel.scratch_bytes)


def along(kernel: AlongKernel, output: str, layouts: Layouts) -> Nest:
    """sum_i c_i z_i; as the gradient within an update, it is never stored."""
    layout = kernel.like

    def body(tiles: Sequence[Any], at: At, cut: frozenset[str]) -> tuple[Tensor, ...]:
        del cut
        made = _empty(layout, at)
        for offset, piece in kernel.run(tiles[1:], int(tiles[0]), begin_of(layout, at), made.numel()):
            flat(made)[offset : offset + piece.numel()] = piece
        return (made,)

    operands = (STEP_NUMBER, *_read(kernel, layouts))
    return run_of_elements(layout, output, operands, body, kernel.scratch_bytes_of, program=kernel.program)


def _read(kernel: AlongKernel, layouts: Layouts) -> list[Operand]:
    """What a sum of directions is made of; each tile wants all of it."""
    views = views_of(kernel.program, layouts)
    read = []
    for slot in kernel.slots:
        view, value = views[slot.index], value_behind(kernel.program, slot)
        dims = (None,) * view.dim()
        read.append(Operand(value, slot.index, tuple(view.shape), view.stride(), view.element_size(), dims))
    return read


def nudge(kernel: NudgeKernel, layouts: Layouts) -> Nest:
    """W + sum_i scales[i] z_i in the place of w."""
    layout = layouts[kernel.old]

    def body(tiles: Sequence[Any], at: At, cut: frozenset[str]) -> tuple[Tensor, ...]:
        del cut
        step, w = tiles
        kernel.move(w, int(step), begin_of(layout, at))
        return ()

    w = stored(kernel.old, layout, along_dims(layout.size))
    return run_of_elements(layout, None, (STEP_NUMBER,), body, kernel.drawn.scratch_bytes, inouts=(w,))


def nudged_update(kernel: UpdateKernel, along: AlongKernel, nudge: NudgeKernel, layouts: Layouts) -> Nest:
    """An update by a sum of directions, `along`, after the nudge that stands before it."""
    (change,) = kernel.changes
    layout, optimizer = layouts[change.parameter], kernel.optimizer

    def body(tiles: Sequence[Any], at: At, cut: frozenset[str]) -> tuple[Tensor, ...]:
        del cut
        begin, step, read = begin_of(layout, at), int(tiles[0]), tiles[1 : 1 + len(along.slots)]
        w, *states = tiles[1 + len(along.slots) :]
        nudge.move(w, step, begin)
        for offset, piece in along.run(read, step, begin, w.numel()):
            part = slice(offset, offset + piece.numel())
            own = {name: flat(state)[part] for name, state in zip(change.states, states, strict=True)}
            optimizer.update(flat(w)[part], piece, own, step)
        return ()

    def scratch(count: int) -> int:
        return (1 + optimizer.scratch) * along.scratch_bytes_of(count) + nudge.drawn.scratch_bytes(count)

    dims = along_dims(layout.size)
    inouts = tuple(stored(name, layout, dims) for name in (change.parameter, *change.states.values()))
    operands = (STEP_NUMBER, *_read(along, layouts))
    return run_of_elements(layout, None, operands, body, scratch, program=along.program, inouts=inouts)


def direction(kernel: DirectionKernel, output: str) -> Nest:
    """z, stored slice by slice."""
    layout = kernel.like

    def body(tiles: Sequence[Any], at: At, cut: frozenset[str]) -> tuple[Tensor, ...]:
        del cut
        made = _empty(layout, at)
        kernel.fill(made, int(tiles[0]), begin_of(layout, at))
        return (made,)

    return run_of_elements(layout, output, (STEP_NUMBER,), body, kernel.scratch_bytes)


STEP_NUMBER = Operand(STEP, None, (), (), 8, ())
"""The number of the training step, as an operand."""

NO_PROGRAM = Program((), ())
"""Of a nest whose operands are all stored values."""


def run_of_elements(
    layout: Layout,
    output: str | None,
    operands: tuple[Operand, ...],
    body: Body,
    scratch: Callable[[int], int],
    *,
    program: Program = NO_PROGRAM,
    inouts: tuple[Operand, ...] = (),
) -> Nest:
    """Cut as one run of elements, in the order of the storage, which `body` makes or changes.

    `scratch(count)` are the bytes that it works in for so many elements.
    """
    axes = dim_axes(layout.size)
    order = sorted(range(len(axes)), key=lambda dim: (-layout.stride[dim], dim))
    made = Result(output, layout.size, layout.stride, layout.dtype.itemsize, along_dims(layout.size))
    return Nest(
        axes,
        program,
        operands,
        (made,) if output is not None else (),
        body,
        (tuple(axes[dim].name for dim in order),),
        linear=True,
        exact=True,
        inouts=inouts,
        scratch=lambda block: scratch(math.prod(block.values())),
    )


def begin_of(layout: Layout, at: At) -> int:
    """The first element, in the order of the storage, of the slice at `at`."""
    return sum(at[f"dim{i}"][0] * stride for i, stride in enumerate(layout.stride))


def _empty(layout: Layout, at: At) -> Tensor:
    """A tensor for the slice at `at` without gaps, its dims in the order in which they are stored."""
    size = [at[f"dim{i}"][1] - at[f"dim{i}"][0] for i in range(len(layout.size))]
    order = sorted(range(len(size)), key=lambda dim: (-layout.stride[dim], dim))
    made = torch.empty([size[dim] for dim in order], dtype=layout.dtype)
    return made.permute([order.index(dim) for dim in range(len(size))])
