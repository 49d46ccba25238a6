"""Runs a loop nest: slices come, are computed with, and go, and every byte of them is counted."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from edgewise.capture.kernels import Memory, Tensors
from edgewise.capture.lowering import STEP
from edgewise.capture.tiling.nest import Along, At, Loop, Operand, Piece, Result, Sink, piece


class Tier(Protocol):
    """Who counts what passes between RAM and the slower tier."""

    def moved_in(self, name: str, size: int) -> None:
        """`size` bytes of the value `name` were read."""

    def moved_out(self, name: str, size: int) -> None:
        """`size` bytes of the value `name` were written."""


@dataclass
class Turn:
    """One execution of a loop.

    `tensors` holds all operands and outputs; those in `streamed` are maps of the tier, all others are in RAM.
    The `first` execution changes what the op updates.
    """

    loop: Loop
    tensors: Tensors
    streamed: frozenset[str]
    first: bool
    memory: Memory
    tier: Tier | None
    _held: dict[int, list[Tensor]] = field(default_factory=dict)
    _own: set[int] = field(default_factory=set)
    _packed: dict[int, bool] = field(default_factory=dict)
    _followed: dict[int, list[tuple[int, Along, int]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._cut = self.loop.cut

    def run(self) -> None:
        """Execute all tiles."""
        nest = self.loop.nest
        views = nest.program.slots(self.tensors)
        operands = [*nest.operands, *(nest.inouts if self.first else ())]
        sources = [self.tensors[o.value] if o.slot is None else views[o.slot] for o in operands]
        axes = [sorted(operand.axes & self._cut) for operand in operands]
        tiles: list[Tensor | None] = [None] * (len(nest.operands) + len(nest.inouts))
        keys: list[object] = [None] * len(operands)
        sums: list[Tensor | None] = [None] * len(nest.results)
        scratch = self.loop.scratch_bytes
        held = [torch.zeros(size, dtype=dtype) for size, dtype in nest.held]
        for at in self.loop.walk():
            for index, (operand, source) in enumerate(zip(operands, sources, strict=True)):
                key = [at[axis] for axis in axes[index]]
                if key != keys[index]:
                    tiles[index] = None
                    self._drop(index)
                    tiles[index], keys[index] = self._load(index, operand, source, at), key
            self._add(nest.body([*tiles, *held], at, self._cut), sums)
            self.memory.note(scratch)
            for index in range(len(nest.operands), len(operands)):
                self._save(operands[index], sources[index], tiles[index], at)
            self._finish(sums, at)
        tiles.clear()
        for index in list(self._held):
            self._drop(index)

    # -- results -------------------------------------------------------------------------------------------

    def _add(self, parts: Sequence[Tensor | None], sums: list[Tensor | None]) -> None:
        """Add what a tile made to the sums; all parts are held until the last is added."""
        for part in parts:
            if part is not None:
                self._take(part)
        for index, part in enumerate(parts):
            found = sums[index]
            if found is None:
                sums[index] = part
            elif part is not None:
                found.add_(part)
                self._give(part)

    def _finish(self, sums: list[Tensor | None], at: At) -> None:
        """Store, or apply, the sums that are done."""
        nest, sinks = self.loop.nest, dict(self.loop.nest.sinks)
        for index, result in enumerate(nest.results):
            tile = sums[index]
            others = self._cut - result.axes
            if tile is None or any(at[axis][1] != nest.extent(axis) for axis in others):
                continue
            if index in sinks:
                self._apply(sinks[index], tile, at)
            elif result.value is not None:
                self._store(result.value, result, tile, at)
            sums[index] = None
            self._give(tile)

    def _store(self, value: str, result: Result, tile: Tensor, at: At) -> None:
        target = self._part(self.tensors[value], result, at)
        target.copy_(tile)
        self._moved_out(value, target)

    def _apply(self, sink: Sink, tile: Tensor, at: At) -> None:
        olds = []
        for index, old in enumerate(sink.olds):
            olds.append(self._load(~index, old, self.tensors[old.value], at))
        self.memory.note(sink.scratch * olds[0].numel() * olds[0].element_size())
        step = int(self.tensors[STEP]) if STEP in self.tensors else 0  # what is carried over asks for none
        sink.apply(tile, olds, step)
        for index, old in enumerate(sink.olds):
            self._save(old, self.tensors[old.value], olds[index], at)
        olds.clear()
        for index in range(len(sink.olds)):
            self._drop(~index)

    # -- slices --------------------------------------------------------------------------------------------

    def _part(self, source: Tensor, operand: Operand | Result, at: At) -> Tensor:
        """The slice of `source` that a tile needs, without the zeros around it."""
        for dim, found in self._pieces(operand, at):
            source = source.narrow(dim, found.start, found.stop - found.start)
        return source

    def _pieces(self, operand: Operand | Result, at: At) -> Iterator[tuple[int, Piece]]:
        """What a tile needs of each dim that is cut."""
        followed = self._followed.get(id(operand))
        if followed is None:
            dims = enumerate(zip(operand.along, operand.size, strict=True))
            followed = [
                (dim, along, size) for dim, (along, size) in dims if along and along.axis in self._cut
            ]
            self._followed[id(operand)] = followed
        return ((dim, piece(along, size, at, self._cut)) for dim, along, size in followed)

    def _load(self, index: int, operand: Operand, source: Tensor, at: At) -> Tensor:
        """What the kernel gets: the slice itself if it is in RAM as the kernel wants it, or a copy."""
        streamed = operand.value in self.streamed
        if operand.gathered:
            self._moved_in(operand.value, self._rows(operand, source, at))
            return self._part(source, operand, at)
        part = self._part(source, operand, at)
        if operand.broadcasts:
            part = _unexpanded(part)
        packed = self._is_packed(operand)
        if not streamed and not packed:
            return part
        seen = part if packed else _unexpanded(part)
        tile = self._padded(operand, part, at) if packed else _dense(seen)
        self._hold(index, tile)
        inner = tile
        if packed:
            for dim, found in self._pieces(operand, at):
                inner = inner.narrow(dim, found.before, found.stop - found.start)
        inner.copy_(seen)
        self._moved_in(operand.value, _unexpanded(part))
        return tile if packed else tile.expand(part.shape)

    def _rows(self, operand: Operand, source: Tensor, at: At) -> Tensor:
        """As many rows as the kernel picks from an operand that is gathered, whichever they are."""
        count = math.prod(at[axis][1] - at[axis][0] for axis in operand.gathered)
        return self._part(source, operand, at)[:1].expand(count, *(-1,) * (source.dim() - 1))

    def _is_packed(self, operand: Operand) -> bool:
        if id(operand) not in self._packed:
            self._packed[id(operand)] = self.loop.footprint(operand).packed
        return self._packed[id(operand)]

    def _padded(self, operand: Operand, part: Tensor, at: At) -> Tensor:
        size, padded = list(operand.size), False
        for dim, found in self._pieces(operand, at):
            size[dim] = found.before + found.stop - found.start + found.behind
            padded = padded or found.before + found.behind > 0
        return part.new_zeros(size) if padded else part.new_empty(size)

    def _save(self, operand: Operand, source: Tensor, tile: Tensor | None, at: At) -> None:
        """Write a changed slice back, unless it was changed where it stands."""
        if operand.gathered:
            self._moved_out(operand.value, self._rows(operand, source, at))
            return
        part = self._part(source, operand, at)
        if tile is None or tile.data_ptr() == part.data_ptr():
            return
        part.copy_(tile)
        self._moved_out(operand.value, part)

    def _moved_in(self, name: str, part: Tensor) -> None:
        if name in self.streamed and self.tier is not None:
            self.tier.moved_in(name, part.numel() * part.element_size())

    def _moved_out(self, name: str, part: Tensor) -> None:
        if name in self.streamed and self.tier is not None:
            self.tier.moved_out(name, part.numel() * part.element_size())

    # -- counting ------------------------------------------------------------------------------------------

    def _hold(self, index: int, tile: Tensor) -> None:
        self._held.setdefault(index, []).append(tile)
        self.memory.add(tile)

    def _drop(self, index: int) -> None:
        for tile in self._held.pop(index, ()):
            self.memory.drop(tile)

    def _take(self, tile: Tensor) -> None:
        if not self.memory.holds(tile):
            self.memory.add(tile)
            self._own.add(tile.untyped_storage().data_ptr())

    def _give(self, tile: Tensor) -> None:
        pointer = tile.untyped_storage().data_ptr()
        if pointer in self._own:
            self._own.discard(pointer)
            self.memory.drop(tile)


def _unexpanded(part: Tensor) -> Tensor:
    """`part` with one element along each dim that repeats the same elements."""
    for dim, stride in enumerate(part.stride()):
        if stride == 0 and part.shape[dim] > 1:
            part = part.narrow(dim, 0, 1)
    return part


def _dense(part: Tensor) -> Tensor:
    """An uninitialised tensor like `part` without gaps, its dims in the same order in memory."""
    strides = part.stride()
    order = sorted(range(part.dim()), key=lambda dim: (-strides[dim], dim))
    made = torch.empty([part.shape[dim] for dim in order], dtype=part.dtype)
    return made.permute([order.index(dim) for dim in range(part.dim())])
