"""Updates slice by slice: where the op makes the gradient itself, neither it nor the weight is ever whole."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from edgewise.capture.kernels import Program, Slot
from edgewise.capture.lowering import Layout
from edgewise.capture.optimizers import Optimizer
from edgewise.capture.tiling.broadcast import along_dims, dim_axes, memory_orders
from edgewise.capture.tiling.calls import value_behind, views_of
from edgewise.capture.tiling.nest import Along, Nest, Operand, Result, Sink
from edgewise.capture.updates import CarryKernel, Change

Layouts = Mapping[str, Layout]


def absorbing(nest: Nest, changes: Sequence[Change], optimizer: Optimizer, layouts: Layouts) -> Nest | None:
    """`nest`, each of whose results is the gradient of one of `changes` and goes into its update.

    `None` if the gradient is made of the parameter itself: later tiles would read what earlier ones changed.
    """
    if {operand.value for operand in nest.operands} & {change.parameter for change in changes}:
        return None
    of = {change.program.operands[0]: change for change in changes}
    sinks, results = {}, []
    for index, result in enumerate(nest.results):
        assert result.value is not None  # noqa: S101  # results of a producer are its outputs
        sink = _sink(result, of[result.value], optimizer, layouts)
        if sink is None:
            return None
        sinks[index] = sink
        results.append(replace(result, value=None))
    return replace(nest, results=tuple(results), sinks=sinks)


def _sink(result: Result, change: Change, optimizer: Optimizer, layouts: Layouts) -> Sink | None:
    """The update of a slice; `None` unless the gradient's view only puts dims in another order."""
    assert result.value is not None  # noqa: S101  # as above
    view = views_of(change.program, {result.value: layouts[result.value]})[change.gradient.index]
    order = order_of(result, tuple(view.shape), view.stride())
    if order is None:
        return None
    along = tuple(None if dim is None else result.along[dim] for dim in order)
    rest = [dim for dim in range(len(result.size)) if dim not in order]
    permutation = [*(dim for dim in order if dim is not None), *rest]

    def apply(tile: Tensor, olds: Sequence[Tensor], step: int) -> None:
        gradient = tile.permute(permutation).reshape(olds[0].shape)
        optimizer.update(olds[0], gradient, dict(zip(change.states, olds[1:], strict=True)), step)

    return Sink(_olds(change, along, layouts), apply, optimizer.scratch)


def order_of(result: Result, size: Sequence[int], stride: Sequence[int]) -> list[int | None] | None:
    """For each dim of a view, the dim of `result` that it is; `None` in all if the view is no permutation."""
    dims = {(n, s): i for i, (n, s) in enumerate(zip(result.size, result.stride, strict=True)) if n > 1}
    order = [dims.pop((n, s), -1) if n > 1 else None for n, s in zip(size, stride, strict=True)]
    return None if dims or -1 in order else order


def _olds(change: Change, along: tuple[Along, ...], layouts: Layouts) -> tuple[Operand, ...]:
    return tuple(stored(name, layouts[name], along) for name in (change.parameter, *change.states.values()))


def stored(name: str, layout: Layout, along: tuple[Along, ...] | None = None) -> Operand:
    """The stored value `name` as an operand; all of it for each tile unless its dims follow axes."""
    dims = along or (None,) * len(layout.size)
    return Operand(name, None, layout.size, layout.stride, layout.dtype.itemsize, dims)


def plain(change: Change, optimizer: Optimizer, layouts: Layouts) -> Nest:
    """The update of a parameter by a gradient that is a value."""

    def apply(tile: Tensor, olds: Sequence[Tensor], step: int) -> None:
        optimizer.update(olds[0], tile, dict(zip(change.states, olds[1:], strict=True)), step)

    olds = _olds(change, along_dims(layouts[change.parameter].size), layouts)
    return _passing(change.program, change.gradient.index, Sink(olds, apply, optimizer.scratch), layouts)


def carry(kernel: CarryKernel, layouts: Layouts) -> Nest:
    """The copy of a buffer's new value over the old one."""

    def apply(tile: Tensor, olds: Sequence[Tensor], step: int) -> None:
        del step
        olds[0].copy_(tile)

    layout = layouts[kernel.old]
    sink = Sink((stored(kernel.old, layout, along_dims(layout.size)),), apply, 0)
    return _passing(kernel.program, kernel.new.index, sink, layouts)


def _passing(program: Program, slot: int, sink: Sink, layouts: Layouts) -> Nest:
    """A nest that hands slices of a view to `sink` and makes nothing itself."""
    view = views_of(program, layouts)[slot]
    size, stride = tuple(view.shape), view.stride()
    along = along_dims(size)
    value = value_behind(program, Slot(slot))
    operand = Operand(value, slot, size, stride, view.element_size(), along)
    result = Result(None, size, stride, view.element_size(), along, fresh=False)
    axes = dim_axes(size)
    return Nest(
        axes,
        program,
        (operand,),
        (result,),
        lambda tiles, _, __: (tiles[0],),
        memory_orders((operand, *sink.olds), axes),
        linear=True,
        exact=True,
        sinks={0: sink},
    )
