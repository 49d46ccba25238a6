"""A loop nest over slices of an op's operands: what each tile holds, what is moved, and nothing of why.

An op that can be tiled has *axes*, some of which are cut into blocks; a tile is one block of each. What it
needs of an operand follows from the axes that index the operand's dims: the same range, a window (a
convolution reads rows `stride * o - padding` and so many more), or all of a dim that no axis indexes. A
result that an axis does not index is a sum over it: what its tiles make is added up, and done when that loop
ends.

The loops run in a given order, and a slice that is the same as for the tile before is not loaded again. So
an operand is moved once per turn of the loops around the innermost one that indexes it. All that a
planner wants to know follows in closed form, dim by dim, because each dim follows one axis.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from edgewise.capture.kernels import Memory, Program, Tensors
from edgewise.capture.lowering import Layout

Range = tuple[int, int]
At = Mapping[str, Range]
"""The block of each axis that a tile stands for; the whole extent of an axis that is not cut."""

Blocks = tuple[tuple[str, int], ...]
"""Axes that are cut, the outermost loop first, and the size of their blocks."""


@dataclass(frozen=True)
class Window:
    """What block `[a, b)` of `axis` reads: `[stride * a - padding, stride * (b - 1) + span - padding)`."""

    axis: str
    stride: int = 1
    span: int = 1
    padding: int = 0

    def reach(self, start: int, stop: int) -> Range:
        """The range read; it may begin before 0 or end beyond the dim."""
        return self.stride * start - self.padding, self.stride * (stop - 1) + self.span - self.padding


@dataclass(frozen=True)
class Sources:
    """The other way round: positions whose window (`stride`, `span`, `padding`) meets block `[a, b)`."""

    axis: str
    stride: int
    span: int
    padding: int

    def reach(self, start: int, stop: int) -> Range:
        """The range of positions; it may begin before 0 or end beyond the dim."""
        return (start + self.padding - self.span + 1) // self.stride, (
            stop - 1 + self.padding
        ) // self.stride + 1


Along = Window | Sources | None
"""How a dim follows an axis; `None` if a tile needs all of it."""


class Piece(NamedTuple):
    """What a tile needs of one dim: a range of it, and zeros before and behind."""

    start: int
    stop: int
    before: int = 0
    behind: int = 0


@dataclass(frozen=True)
class Axis:
    """A loop: so many positions; or so many `passes` over all tiles, one after another, in any cutting."""

    name: str
    extent: int
    passes: bool = False


def piece(along: Along, size: int, at: At, cut: frozenset[str]) -> Piece:
    """What the tile at `at` needs of a dim of `size`; the whole dim if its axis is not cut."""
    if along is None or along.axis not in cut:
        return Piece(0, size)
    low, high = along.reach(*at[along.axis])
    start, stop = min(max(low, 0), size), max(min(high, size), 0)
    stop = max(start, stop)
    before = max(min(0, high) - low, 0) if low < 0 else 0
    return Piece(start, stop, before, high - low - before - (stop - start))


class Extents(NamedTuple):
    """Figures of one dim over all blocks of its axis."""

    blocks: int
    longest: int
    longest_padded: int
    total: int
    full: bool  # every block needs the whole dim
    padded: bool  # some block reaches beyond it


@lru_cache(maxsize=1 << 16)
def extents(along: Along, size: int, extent: int, block: int) -> Extents:
    """Figures of a dim of `size` that follows an axis of `extent`, cut into blocks of `block`."""
    if along is None or block >= extent:
        return Extents(1, size, size, size, full=True, padded=False)
    cut = frozenset((along.axis,))
    pieces = [
        piece(along, size, {along.axis: (a, min(a + block, extent))}, cut) for a in range(0, extent, block)
    ]
    lengths = [p.stop - p.start for p in pieces]
    return Extents(
        len(pieces),
        max(lengths),
        max(p.before + p.behind + n for p, n in zip(pieces, lengths, strict=True)),
        sum(lengths),
        all(n == size for n in lengths),
        any(p.before or p.behind for p in pieces),
    )


@dataclass(frozen=True)
class Operand:
    """A tensor that tiles are cut from: the view `slot` of the op's program, or the stored value itself.

    `dense` says that the kernel wants it contiguous, and zeros where it reaches beyond: where a slice is not
    so, a copy is made also of an operand in RAM. If it is `gathered`, the kernel picks rows itself, one for
    each position of the axes `gathered`. If it `broadcasts`, slices have one element along each dim that
    repeats the same elements.
    """

    value: str
    slot: int | None
    size: tuple[int, ...]
    stride: tuple[int, ...]
    itemsize: int
    along: tuple[Along, ...]
    dense: bool = False
    gathered: tuple[str, ...] = ()
    broadcasts: bool = False

    @property
    def axes(self) -> frozenset[str]:
        """The axes that index it."""
        return frozenset(a.axis for a in self.along if a is not None) | frozenset(self.gathered)


@dataclass(frozen=True)
class Result:
    """A tensor that tiles make, or parts of a sum; `value` is the output it is stored in, if it is one.

    `grow` elements more of each dim are made than kept. It takes no memory if it is not `fresh`. What is made
    `once` is no sum: each slice is what one tile makes, and all others that could add nothing.
    """

    value: str | None
    size: tuple[int, ...]
    stride: tuple[int, ...]
    itemsize: int
    along: tuple[Along, ...]
    grow: tuple[int, ...] = ()
    fresh: bool = True
    once: bool = False

    @property
    def axes(self) -> frozenset[str]:
        """The axes that index it."""
        return frozenset(a.axis for a in self.along if a is not None)


class Held(NamedTuple):
    """A tensor of zeros when a loop begins, which tiles change as they go."""

    size: tuple[int, ...]
    dtype: torch.dtype

    @property
    def bytes(self) -> int:
        """What it takes."""
        return math.prod(self.size) * self.dtype.itemsize


@dataclass(frozen=True)
class Sink:
    """What becomes of a result that is not stored: `apply(tile, olds, step)` changes slices of `olds` by it.

    It needs `scratch` tensors of the size of the first of them.
    """

    olds: tuple[Operand, ...]
    apply: Callable[[Tensor, Sequence[Tensor], int], None]
    scratch: int


Body = Callable[[Sequence[Tensor | None], At, frozenset[str]], tuple[Tensor | None, ...]]
"""`body(tiles, at, cut) -> results`, in the order of the nest's; `None` where a tile adds nothing."""


@dataclass(frozen=True)
class Nest:
    """How an op can be tiled.

    `orders` are the orders of loops worth trying, the outermost first. If `linear`, the axes are cut as
    one: blocks of 1 of all outer ones. `inouts` are values that the first execution changes as it goes: they
    follow the operands in the body's arguments, as `None` when it is not the first. `sinks[i]` gets result i.
    `scratch(block)` is what the body works in besides, for a tile of so many positions of each axis. What is
    `held` from the first tile to the last follows all others in its arguments.
    """

    axes: tuple[Axis, ...]
    program: Program
    operands: tuple[Operand, ...]
    results: tuple[Result, ...]
    body: Body
    orders: tuple[tuple[str, ...], ...]
    linear: bool = False
    exact: bool = False
    inouts: tuple[Operand, ...] = ()
    sinks: Mapping[int, Sink] = ()  # type: ignore[assignment]
    scratch: Callable[[Mapping[str, int]], int] | None = None
    held: tuple[Held, ...] = ()

    def extent(self, name: str) -> int:
        """Positions of an axis."""
        return next(axis.extent for axis in self.axes if axis.name == name)


class Sliced(ABC):
    """A kernel, of a room that this one does not know, that says itself how it can be tiled."""

    @abstractmethod
    def __call__(self, tensors: Tensors, option: str, first: bool, memory: Memory) -> tuple[Tensor, ...]:
        """As any kernel: what it makes, whole."""

    @abstractmethod
    def nest(self, outputs: tuple[str, ...], layouts: Mapping[str, Layout]) -> Nest | None:
        """The nest of what it executes to make `outputs`; `None` if it can only be executed whole."""


class Footprint(NamedTuple):
    """What one operand costs under a cutting: RAM of its largest slice, bytes and contiguous pieces moved."""

    tile_bytes: int
    moved_bytes: int
    transfers: int
    packed: bool


@dataclass(frozen=True)
class Loop:
    """A nest with its loops cut into concrete blocks."""

    nest: Nest
    blocks: Blocks

    @property
    def name(self) -> str:
        """As in `channels 16, rows 4`, the outermost loop first."""
        return ", ".join(f"{axis} {size}" for axis, size in self.blocks)

    @property
    def cut(self) -> frozenset[str]:
        """Axes that are cut."""
        return frozenset(axis for axis, _ in self.blocks)

    @property
    def tiles(self) -> int:
        """Iterations in all."""
        return math.prod(-(-self.nest.extent(axis) // size) for axis, size in self.blocks)

    def walk(self) -> Iterator[dict[str, Range]]:
        """The blocks of every tile, in the order in which they run."""
        full = {axis.name: (0, axis.extent) for axis in self.nest.axes}
        loops = []
        for axis, size in self.blocks:
            extent = self.nest.extent(axis)
            loops.append([(axis, (a, min(a + size, extent))) for a in range(0, extent, size)])
        for turn in product(*loops):
            yield {**full, **dict(turn)}

    def is_summed(self, result: Result) -> bool:
        """Whether several tiles add to one slice of `result`."""
        return not result.once and bool(self.cut - result.axes)

    def sums_are_whole(self) -> bool:
        """Whether each sum is done before the next begins: none of its loops is inside one over its parts."""
        for result in self.nest.results:
            follows = [axis in result.axes for axis, _ in self.blocks]
            if not result.once and follows != sorted(follows, reverse=True):
                return False
        return True

    def footprint(self, operand: Operand) -> Footprint:
        """What moving `operand` slice by slice costs, and whether slices are copied even if it is in RAM."""
        if operand.gathered:
            rows = math.prod(self.nest.extent(axis) for axis in operand.gathered)
            row_bytes = math.prod(operand.size[1:]) * operand.itemsize
            parts = math.prod(-(-self.nest.extent(axis) // size) for axis, size in self.blocks
                              if axis not in operand.gathered and axis in operand.axes)  # fmt: skip
            return Footprint(0, rows * row_bytes, rows * parts, packed=False)
        sizes = dict(self.blocks)
        dims = [
            extents(along, size, *self._axis(along, sizes))
            for along, size in zip(operand.along, operand.size, strict=True)
        ]
        repeats = self._repeats(operand.axes)
        packed = operand.dense and self._needs_copy(operand, dims)
        kept = [
            (d, s) for d, n, s in zip(dims, operand.size, operand.stride, strict=True) if n > 1 and s != 0
        ]
        longest = (d.longest_padded for d in dims) if packed else (d.longest for d, _ in kept)
        tile = math.prod(longest)
        again = [d.blocks for d, s in zip(dims, operand.stride, strict=True) if s == 0]
        repeats *= math.prod(again)
        moved = repeats * math.prod(d.total for d, _ in kept)
        return Footprint(tile * operand.itemsize, moved * operand.itemsize, repeats * _pieces(kept), packed)

    def stored(self, result: Result) -> Footprint:
        """What writing `result` slice by slice costs; its tiles are part of the workspace."""
        view = Operand("", None, result.size, result.stride, result.itemsize, result.along)
        own = tuple(block for block in self.blocks if not result.once or block[0] in result.axes)
        return Loop(self.nest, own).footprint(view)._replace(tile_bytes=0)

    def result_bytes(self, result: Result) -> int:
        """Bytes of the largest tile of `result`."""
        if not result.fresh:
            return 0
        sizes = dict(self.blocks)
        grow = result.grow or (0,) * len(result.size)
        longest = []
        for along, size, more in zip(result.along, result.size, grow, strict=True):
            found = extents(along, size, *self._axis(along, sizes))
            longest.append(found.longest + (0 if found.full else more))
        return math.prod(longest) * result.itemsize

    @property
    def workspace_bytes(self) -> int:
        """Most that is held besides operands and outputs: copies, results, and parts of sums or scratch."""
        nest = self.nest
        copies = [self.footprint(operand) for operand in (*nest.operands, *nest.inouts)]
        sums = sum(self.result_bytes(r) for r in nest.results if self.is_summed(r))
        scratch = [s.scratch * self.footprint(s.olds[0]).tile_bytes for s in self._sinks()]
        held = sum(f.tile_bytes for f in copies if f.packed) + sum(map(self.result_bytes, nest.results))
        held += self.scratch_bytes
        return held + max(sums, *scratch, 0) if scratch else held + sums

    @property
    def scratch_bytes(self) -> int:
        """What the body works in besides its operands and results."""
        held = sum(held.bytes for held in self.nest.held)
        if self.nest.scratch is None:
            return held
        whole = {axis.name: axis.extent for axis in self.nest.axes}
        return held + self.nest.scratch({**whole, **dict(self.blocks)})

    def _sinks(self) -> list[Sink]:
        return list(dict(self.nest.sinks).values())

    def _axis(self, along: Along, sizes: Mapping[str, int]) -> tuple[int, int]:
        if along is None:
            return 1, 1
        extent = self.nest.extent(along.axis)
        return extent, sizes.get(along.axis, extent)

    def _repeats(self, axes: frozenset[str]) -> int:
        """How often all slices are loaded: turns of the loops around the innermost of its own."""
        turns = [(axis in axes, -(-self.nest.extent(axis) // size)) for axis, size in self.blocks]
        innermost = max((i for i, (own, count) in enumerate(turns) if own and count > 1), default=-1)
        return math.prod(count for own, count in turns[: innermost + 1] if not own)

    def _needs_copy(self, operand: Operand, dims: Sequence[Extents]) -> bool:
        if all(d.full and not d.padded for d in dims):
            return False
        run = 1
        for d, stride in zip(reversed(dims), reversed(operand.stride), strict=True):
            if d.longest != 1 and stride != run:
                return True
            run *= d.longest
        return any(d.padded for d in dims)


def _pieces(dims: Sequence[tuple[Extents, int]]) -> int:
    """Contiguous runs of all slices: dims merge with the run inside them as long as that is not cut short."""
    run: int | None = 1
    count = 1
    for d, stride in sorted(dims, key=lambda pair: pair[1]):
        if run is not None and stride == run:
            count *= d.blocks
            run = run * d.longest if d.full else None
        else:
            count *= d.total
            run = None
    return count
