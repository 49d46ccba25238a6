"""Executable bodies of ops: small straight-line programs over ATen, with views replayed from stored values.

A graph's values are storages; the views that lie between a stored tensor and the op that reads it are part of
that op's program. So a program is: some views of the operands, then one computation.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

Tensors = Mapping[str, Tensor]
"""Stored tensors by the name of their value."""


class Memory(Protocol):
    """Who counts what is held: told of every storage that lives longer than one ATen call."""

    def add(self, tensor: Tensor) -> None:
        """The storage of `tensor` is held from now on."""

    def drop(self, tensor: Tensor) -> None:
        """It is given up."""


Run = Callable[[Tensors, str, bool, Memory], tuple[Tensor, ...]]
"""`run(tensors, option, first, memory) -> outputs` in the order of `Op.outputs`; on the `first` execution the
op also changes the `old` tensors of its updates in place."""


@dataclass(frozen=True)
class Slot:
    """Stands in an argument for the result of an earlier instruction."""

    index: int


@dataclass(frozen=True)
class Instruction:
    """`target(*args, **kwargs)` with slots filled; `item` picks one of several results."""

    target: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    item: int | None = None


@dataclass(frozen=True)
class Program:
    """Loads `operands` into the first slots, then runs `views` and leaves each result in the next slot."""

    operands: tuple[str, ...]
    views: tuple[Instruction, ...]

    def slots(self, tensors: Tensors) -> list[Any]:
        """All slots, filled."""
        slots: list[Any] = [tensors[name] for name in self.operands]
        for view in self.views:
            slots.append(call(view, slots))
        return slots


def call(instruction: Instruction, slots: Sequence[Any]) -> Any:
    """The result of `instruction` with its slots filled."""
    args = [resolve(arg, slots) for arg in instruction.args]
    kwargs = {key: resolve(arg, slots) for key, arg in instruction.kwargs.items()}
    result = instruction.target(*args, **kwargs)
    return result if instruction.item is None else result[instruction.item]


def resolve(arg: Any, slots: Sequence[Any]) -> Any:
    """`arg` with every slot in it replaced by its content."""
    if type(arg) is Slot:
        return slots[arg.index]
    if isinstance(arg, (list, tuple)):
        return type(arg)(resolve(item, slots) for item in arg)
    return arg


@dataclass(frozen=True)
class AtenKernel:
    """One ATen call.

    `kept[i]` is the position of `Op.outputs[i]` among the call's results; `None` for a lone result.
    `in_place` maps an option to the call that executes it.
    """

    program: Program
    whole: Instruction
    kept: tuple[int, ...] | None
    in_place: Mapping[str, Instruction]

    def __call__(self, tensors: Tensors, option: str, first: bool, memory: Memory) -> tuple[Tensor, ...]:
        """The results of the call that stand in `kept`."""
        del first, memory
        slots = self.program.slots(tensors)
        if option != "whole":
            return (call(self.in_place[option], slots),)
        result = call(self.whole, slots)
        return (result,) if self.kept is None else tuple(result[i] for i in self.kept)
