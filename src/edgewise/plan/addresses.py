"""Offsets in one arena for every stay of a value in RAM.

A stay lasts from the step that brings a value to the step that drops it. A value that overwrites its
operand (an in-place option, an update) stands in its place, so their stays form one block; `packing.py`
places the blocks. The peak of live bytes is a lower bound of the arena.
"""

from typing import NamedTuple

from edgewise.graph import Graph
from edgewise.plan.nouns import Compute, Free, PageIn, Step
from edgewise.plan.packing import Block, lower_bound, pack

Addresses = dict[str, tuple[int, ...]]
"""Offset of each stay of each value in RAM, in the order in which they begin."""


class Placement(NamedTuple):
    """Addresses, the end of the highest, and the peak of live bytes, below which no arena can be."""

    addresses: Addresses
    arena_bytes: int
    least_bytes: int


def assign(steps: tuple[Step, ...], graph: Graph, homes: tuple[str, ...] = ()) -> Addresses:
    """`Plan.addresses` for `steps`."""
    return place(steps, graph, homes).addresses


def place(steps: tuple[Step, ...], graph: Graph, homes: tuple[str, ...] = ()) -> Placement:
    """Addresses for `steps`, in the smallest arena found."""
    blocks, stays = _trace(steps, graph, homes)
    offsets = pack(blocks)
    addresses: dict[str, list[int]] = {}
    for name, block in stays:
        addresses.setdefault(name, []).append(offsets[block])
    top = max((offset + block.size for offset, block in zip(offsets, blocks, strict=True)), default=0)
    return Placement({name: tuple(found) for name, found in addresses.items()}, top, lower_bound(blocks))


def _trace(
    steps: tuple[Step, ...], graph: Graph, homes: tuple[str, ...]
) -> tuple[list[Block], list[tuple[str, int]]]:
    """All blocks, and for each stay in the order of its begin, the block it is part of."""
    trace = _Trace(graph)
    for value in graph.sources():
        if value.name not in homes:
            trace.begin(value.name, 0)
    done: set[str] = set()
    for number, step in enumerate(steps):
        match step:
            case PageIn(name):
                trace.begin(name, number)
            case Free(name):
                trace.end(name, number)
            case Compute():
                trace.compute(step, number, first=step.op not in done)
                done.add(step.op)
            case _:
                pass
    for name in list(trace.live):
        trace.end(name, len(steps))
    blocks = [Block(*block) for block in zip(trace.sizes, trace.begins, trace.ends, strict=True)]
    return blocks, trace.stays


class _Trace:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.sizes: list[int] = []
        self.begins: list[int] = []
        self.ends: list[int] = []
        self.stays: list[tuple[str, int]] = []
        self.live: dict[str, int] = {}

    def begin(self, name: str, number: int, block: int | None = None) -> None:
        if block is None:
            block = len(self.sizes)
            self.sizes.append(self.graph.value[name].bytes)
            self.begins.append(number)
            self.ends.append(number)
        self.stays.append((name, block))
        self.live[name] = block

    def end(self, name: str, number: int) -> None:
        self.ends[self.live.pop(name)] = max(number, 1)

    def compute(self, step: Compute, number: int, *, first: bool) -> None:
        op = self.graph.op[step.op]
        option = op.option(step.option)
        pairs = [*(option.overwrites if option else ()), *(op.updates if first else ())]
        places = {new: self.live.pop(old) for old, new in pairs if old not in step.streamed}
        for name in op.outputs:
            if name in places and name in self.live:
                self.end(name, number)
        for name, block in places.items():
            self.begin(name, number, block)
        for name in op.outputs:
            if name not in self.live and name not in step.streamed:
                self.begin(name, number)
