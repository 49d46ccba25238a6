"""Offsets in one arena for every stay of a value in RAM, and for the room that each op works in.

A stay lasts from the step that brings a value to the step that drops it. A value that overwrites its
operand (an in-place option, an update) stands in its place, so their stays form one block; the workspace of
an op, with the tiles of what it streams, is a block for one step. `packing.py` places the blocks. The peak
of live bytes is a lower bound of the arena.
"""

from typing import NamedTuple

from edgewise.graph import Graph
from edgewise.plan.nouns import Compute, Free, PageIn, Step
from edgewise.plan.packing import Block, lower_bound, pack

Addresses = dict[str, tuple[int, ...]]
"""Offset of each stay of each value in RAM, in the order in which they begin."""


class Placement(NamedTuple):
    """Addresses, the end of the highest, and the peak of live bytes, below which no arena can be.

    `workspaces` are those of the room that ops work in, by op.
    """

    addresses: Addresses
    workspaces: Addresses
    arena_bytes: int
    least_bytes: int


def place(steps: tuple[Step, ...], graph: Graph, homes: tuple[str, ...] = ()) -> Placement:
    """Addresses for `steps`, in the smallest arena found."""
    trace = _trace(steps, graph, homes)
    blocks = [Block(*block) for block in zip(trace.sizes, trace.begins, trace.ends, strict=True)]
    offsets = pack(blocks)
    top = max((offset + block.size for offset, block in zip(offsets, blocks, strict=True)), default=0)
    return Placement(_offsets(trace.stays, offsets), _offsets(trace.rooms, offsets), top, lower_bound(blocks))


def _offsets(placed: list[tuple[str, int]], offsets: list[int]) -> Addresses:
    found: dict[str, list[int]] = {}
    for name, block in placed:
        found.setdefault(name, []).append(offsets[block])
    return {name: tuple(each) for name, each in found.items()}


def _trace(steps: tuple[Step, ...], graph: Graph, homes: tuple[str, ...]) -> "_Trace":
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
    return trace


class _Trace:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.sizes: list[int] = []
        self.begins: list[int] = []
        self.ends: list[int] = []
        self.stays: list[tuple[str, int]] = []
        self.rooms: list[tuple[str, int]] = []
        self.live: dict[str, int] = {}

    def begin(self, name: str, number: int, block: int | None = None) -> None:
        if block is None:
            block = self._block(self.graph.value[name].bytes, number, number)
        self.stays.append((name, block))
        self.live[name] = block

    def _block(self, size: int, begin: int, end: int) -> int:
        self.sizes.append(size)
        self.begins.append(begin)
        self.ends.append(end)
        return len(self.sizes) - 1

    def end(self, name: str, number: int) -> None:
        self.ends[self.live.pop(name)] = max(number, 1)

    def compute(self, step: Compute, number: int, *, first: bool) -> None:
        op = self.graph.op[step.op]
        option = op.option(step.option) or op.options[0]
        room = option.room_bytes(step.streamed)
        if room:
            self.rooms.append((op.name, self._block(room, number, number + 1)))
        pairs = [*option.overwrites, *(op.updates if first else ())]
        places = {new: self.live.pop(old) for old, new in pairs if old not in step.streamed}
        for name in op.outputs:
            if name in places and name in self.live:
                self.end(name, number)
        for name, block in places.items():
            self.begin(name, number, block)
        for name in op.outputs:
            if name not in self.live and name not in step.streamed:
                self.begin(name, number)
