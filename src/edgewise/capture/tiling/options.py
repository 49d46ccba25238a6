"""Which of the many ways to cut a nest are offered to a planner.

All cuttings into halves, quarters and so on are priced. A planner keeps some operands in RAM and streams
others, so the best cutting depends on which: for each such case (all streamed, all but one, one alone) the
cheapest cutting within each of some amounts of RAM is offered, from the least possible upward.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product, zip_longest

import torch

from edgewise.capture.tiling.nest import Blocks, Loop, Nest, Operand, Result
from edgewise.graph import Option, Stream

LEAST_BYTES = 16 * 1024
"""Ops with less than this in their whole working set are not tiled."""

LEAST_TILE_BYTES = 4 * 1024
"""Cuttings are sought within this much more than the least RAM: the least itself is a loop over elements."""

MOST_OPTIONS = 24
MOST_TILES = 1 << 12
_TRANSFER_BYTES, _TURN_BYTES = 512, 128
"""What a transfer, and a turn of the loop, is taken to cost, in bytes moved: about as on an SD card."""


def cuttings(nest: Nest) -> Iterator[Loop]:
    """All ways to cut `nest` worth a look, each once."""
    seen = set()
    for order in nest.orders:
        for blocks in _linear(nest, order) if nest.linear else _every(nest, order):
            loop = Loop(nest, blocks)
            if blocks and blocks not in seen and loop.tiles <= MOST_TILES and loop.sums_are_whole():
                seen.add(blocks)
                yield loop


def _every(nest: Nest, order: Sequence[str]) -> Iterator[Blocks]:
    passes = {axis.name for axis in nest.axes if axis.passes}
    choices = [[1] if axis in passes else [*_halves(nest.extent(axis)), None] for axis in order]
    for sizes in product(*choices):
        yield tuple((axis, size) for axis, size in zip(order, sizes, strict=True) if size is not None)


def _linear(nest: Nest, order: Sequence[str]) -> Iterator[Blocks]:
    ones: Blocks = ()
    for axis in order:
        for size in _halves(nest.extent(axis)):
            yield (*ones, (axis, size))
        if nest.extent(axis) > 1:
            ones = (*ones, (axis, 1))


def _halves(extent: int) -> list[int]:
    """Sizes of blocks when `extent` is cut into 2, 4, 8, ... as evenly as can be, the smallest first."""
    return sorted({-(-extent // (1 << k)) for k in range(1, extent.bit_length() + 1)} - {extent, 0})


def option_of(loop: Loop) -> Option:
    """What a planner is told of `loop`."""
    streams: dict[str, Stream] = {}

    def add(value: str, tile_bytes: int, moved_bytes: int, transfers: int) -> None:
        old = streams.get(value, Stream(value, 0, 0, 0))
        streams[value] = Stream(
            value, old.tile_bytes + tile_bytes, old.moved_bytes + moved_bytes, old.transfers + transfers
        )

    for operand in _operands(loop.nest):
        found = loop.footprint(operand)
        add(operand.value, 0 if found.packed else found.tile_bytes, found.moved_bytes, found.transfers)
    for result in loop.nest.results:
        if result.value is not None:
            add(result.value, *loop.stored(result)[:3])
    summed = any(loop.is_summed(result) for result in loop.nest.results)
    return Option(
        loop.name,
        workspace_bytes=loop.workspace_bytes,
        streams=tuple(streams.values()),
        tiles=loop.tiles,
        exact=loop.nest.exact and not summed,
    )


def _operands(nest: Nest) -> Iterator[Operand]:
    yield from nest.operands
    yield from nest.inouts
    for sink in dict(nest.sinks).values():
        yield from sink.olds


Chosen = dict[object, tuple[Blocks, ...]]
"""Cuttings chosen before, for nests that differ in names only: a network repeats its layers."""


def offered(
    nest: Nest, bytes_of: Callable[[str], int], limit_bytes: int, chosen: Chosen
) -> dict[str, tuple[Loop, Option]]:
    """The cuttings of `nest` to offer, by name: those that some case wants, within `limit_bytes`."""
    key = (_anonymous(nest, bytes_of), limit_bytes)
    if key not in chosen:
        chosen[key] = _choose(nest, bytes_of, limit_bytes)
    loops = [Loop(nest, blocks) for blocks in chosen[key]]
    return {loop.name: (loop, option_of(loop)) for loop in loops}


def _anonymous(nest: Nest, bytes_of: Callable[[str], int]) -> object:
    """All of `nest` that its cuttings depend on, with numbers in the place of names."""
    numbers: dict[str | None, int] = {}

    def number(operand: Operand | Result) -> object:
        name = operand.value
        index = numbers.setdefault(name, len(numbers))
        return index, bytes_of(name) if name is not None else 0, replace(operand, value="")

    sinks = [(i, s.scratch, *map(number, s.olds)) for i, s in dict(nest.sinks).items()]
    every: tuple[Operand | Result, ...] = (*nest.operands, *nest.inouts, *nest.results)
    tensors = (*map(number, every), *sinks)
    return (
        nest.axes,
        nest.orders,
        nest.linear,
        nest.scratch is not None,
        nest.held,
        len(nest.operands),
        tensors,
    )


def _choose(nest: Nest, bytes_of: Callable[[str], int], limit_bytes: int) -> tuple[Blocks, ...]:
    priced = [(loop, option_of(loop)) for loop in cuttings(nest)]
    if not priced:
        return ()
    names = [stream.value for stream in priced[0][1].streams]
    sizes = torch.tensor([bytes_of(name) for name in names], dtype=torch.float64)
    tiles = torch.tensor([[o.stream[n].tile_bytes for n in names] for _, o in priced], dtype=torch.float64)
    costs = torch.tensor([[_cost(o.stream[n]) for n in names] for _, o in priced], dtype=torch.float64)
    fixed = torch.tensor([o.workspace_bytes for _, o in priced], dtype=torch.float64)
    turns = torch.tensor([o.tiles for _, o in priced], dtype=torch.float64)
    rounds = [
        _frontier(
            fixed + torch.where(case, tiles, sizes).sum(1),
            torch.where(case, costs, 0).sum(1) + turns * _TURN_BYTES,
            limit_bytes,
        )
        for case in _cases(sizes)
    ]
    wanted: dict[int, None] = {}
    for choices in zip_longest(*rounds):
        for index in choices:
            if index is not None and len(wanted) < MOST_OPTIONS:
                wanted[index] = None
    return tuple(sorted(priced[index][0].blocks for index in wanted))


def _cost(stream: Stream) -> float:
    return stream.moved_bytes + _TRANSFER_BYTES * stream.transfers


def _cases(sizes: torch.Tensor) -> Iterator[torch.Tensor]:
    """Which operands are streamed: all, all but one, one alone; small ones always, for they hardly matter."""
    count = len(sizes)
    large = [i for i in range(count) if sizes[i] * 16 >= sizes.max()]
    yield torch.ones(count, dtype=torch.bool)
    for i in large:
        case = torch.ones(count, dtype=torch.bool)
        case[i] = False
        yield case
    for i in large if len(large) > 2 else ():
        case = torch.ones(count, dtype=torch.bool)
        case[[j for j in large if j != i]] = False
        yield case


def _frontier(ram: torch.Tensor, cost: torch.Tensor, limit_bytes: int) -> list[int]:
    """The cheapest within little more than the least RAM, twice as much more, and so on up to the limit."""
    chosen: list[int] = []
    least, more = float(ram.min()), LEAST_TILE_BYTES
    while more < 2 * limit_bytes:
        fitting = (ram <= min(least + more, limit_bytes)).nonzero().view(-1)
        if len(fitting):
            cheapest = fitting[cost[fitting] == cost[fitting].min()]
            best = int(cheapest[ram[cheapest].argmin()])
            if best not in chosen:
                chosen.append(best)
        more *= 2
    return chosen
