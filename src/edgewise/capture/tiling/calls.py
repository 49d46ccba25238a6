"""An op's ATen call as a nest is made of it: views of its operands, and layouts of its results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from edgewise.capture.kernels import AtenKernel, Program, Slot, resolve
from edgewise.capture.lowering import Layout
from edgewise.capture.tiling.nest import Along, Operand, Result


def meta_of(layout: Layout) -> Tensor:
    """A tensor of that layout without memory."""
    count = layout.offset + 1 + sum((n - 1) * s for n, s in zip(layout.size, layout.stride, strict=True))
    flat = torch.empty(max(count, 0), dtype=layout.dtype, device="meta")
    return flat.as_strided(layout.size, layout.stride, layout.offset)


def views_of(program: Program, layouts: Mapping[str, Layout]) -> tuple[Tensor, ...]:
    """All slots of `program`, on tensors without memory."""
    return tuple(program.slots({name: meta_of(layouts[name]) for name in program.operands}))


def value_behind(program: Program, slot: Slot) -> str:
    """The stored value that `slot` of `program` is a view of."""
    index = slot.index
    while index >= len(program.operands):
        view = program.views[index - len(program.operands)]
        index = next(arg.index for arg in view.args if isinstance(arg, Slot))
    return program.operands[index]


def _slots_in(args: Any, found: dict[Slot, None]) -> None:
    if type(args) is Slot:
        found[args] = None
    elif isinstance(args, (list, tuple)):
        for arg in args:
            _slots_in(arg, found)


@dataclass(frozen=True)
class Call:
    """`target(*args, **kwargs)` with slots of `program` in the place of tensors, which makes `outputs`."""

    target: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    program: Program
    outputs: tuple[str, ...]
    kept: tuple[int, ...] | None
    layouts: Mapping[str, Layout]
    views: tuple[Tensor, ...]

    @classmethod
    def of(cls, kernel: AtenKernel, outputs: tuple[str, ...], layouts: Mapping[str, Layout]) -> "Call":
        """The call of `kernel`, which makes `outputs`."""
        whole = kernel.whole
        views = views_of(kernel.program, layouts)
        return cls(
            whole.target, whole.args, whole.kwargs, kernel.program, outputs, kernel.kept, layouts, views
        )

    @property
    def slots(self) -> list[Slot]:
        """All slots among the arguments, each once, in order."""
        found: dict[Slot, None] = {}
        _slots_in((*self.args, *self.kwargs.values()), found)
        return list(found)

    def repeat(self, tiles: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
        """The same call on other tensors, which stand for `slots`: all results that are outputs."""
        named = {slot.index: tile for slot, tile in zip(self.slots, tiles, strict=True)}
        args = resolve(self.args, named)
        kwargs = {key: resolve(arg, named) for key, arg in self.kwargs.items()}
        made = self.target(*args, **kwargs)
        return (made,) if self.kept is None else tuple(made[i] for i in self.kept)

    def meta(self, slot: Slot) -> Tensor:
        """The view behind `slot`, without memory."""
        return self.views[slot.index]

    def result(self, index: int) -> Tensor:
        """Output `index`, without memory."""
        return meta_of(self.layouts[self.outputs[index]])

    def operand(
        self,
        slot: Slot,
        along: tuple[Along, ...],
        *,
        dense: bool = False,
        gathered: tuple[str, ...] = (),
        broadcasts: bool = False,
    ) -> Operand:
        """The operand behind `slot`; its dims follow `along`."""
        view = self.views[slot.index]
        value = self.value_of(slot)
        size, stride = tuple(view.shape), view.stride()
        if broadcasts:
            along = tuple(a if s else None for a, s in zip(along, stride, strict=True))
        itemsize = view.element_size()
        return Operand(value, slot.index, size, stride, itemsize, along, dense, gathered, broadcasts)

    def value_of(self, slot: Slot) -> str:
        """The stored value that `slot` is a view of."""
        return value_behind(self.program, slot)

    def output(
        self, index: int, along: tuple[Along, ...], *, grow: tuple[int, ...] = (), once: bool = False
    ) -> Result:
        """Output `index`; its dims follow `along`."""
        name, layout = self.outputs[index], self.layouts[self.outputs[index]]
        itemsize = layout.dtype.itemsize
        return Result(name, layout.size, layout.stride, itemsize, along, grow, once=once)
