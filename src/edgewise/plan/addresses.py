"""Offsets in one arena for every stay of a value in RAM: dynamic storage allocation by greedy heuristics.

A stay lasts from the step that brings a value to the step that drops it. A value that overwrites its operand
(an in-place option, an update) stands in its place, so their stays form one *block*. Blocks are placed one
after another, in several orders, each in the smallest hole (or the lowest) that is free throughout; the
smallest arena wins. The peak of live bytes is a lower bound. Greedy by size is that of arXiv 2001.03288
section 5; the problem is NP-hard.
"""

import random
from dataclasses import dataclass, field

from edgewise.graph import Graph
from edgewise.plan.nouns import Compute, Free, PageIn, Step

TRIES = 24
"""Random perturbations of the best order, tried while the arena is above the lower bound."""


@dataclass
class Block:
    """Stays that follow one another in one place; `begin` inclusive, `end` exclusive, in steps."""

    size: int
    begin: int
    end: int = -1
    names: list[str] = field(default_factory=list)


def assign(steps: tuple[Step, ...], graph: Graph, homes: tuple[str, ...] = ()) -> dict[str, tuple[int, ...]]:
    """Offset of each stay of each value in RAM, in the order in which they begin: `Plan.addresses`."""
    blocks, stays = _trace(steps, graph, homes)
    offsets = _best(blocks)
    addresses: dict[str, list[int]] = {}
    for name, block in stays:
        addresses.setdefault(name, []).append(offsets[block])
    return {name: tuple(found) for name, found in addresses.items()}


def arena_bytes(steps: tuple[Step, ...], graph: Graph, homes: tuple[str, ...] = ()) -> tuple[int, int]:
    """Size of the arena that `assign` needs, and the peak of live bytes below which none can be."""
    blocks, _ = _trace(steps, graph, homes)
    offsets = _best(blocks)
    return max((o + b.size for o, b in zip(offsets, blocks, strict=True)), default=0), _lower_bound(blocks)


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
    return trace.blocks, trace.stays


class _Trace:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.blocks: list[Block] = []
        self.stays: list[tuple[str, int]] = []
        self.live: dict[str, int] = {}

    def begin(self, name: str, number: int, block: int | None = None) -> None:
        if block is None:
            self.blocks.append(Block(self.graph.value[name].bytes, number))
            block = len(self.blocks) - 1
        self.stays.append((name, block))
        self.live[name] = block

    def end(self, name: str, number: int) -> None:
        self.blocks[self.live.pop(name)].end = max(number, 1)

    def compute(self, step: Compute, number: int, *, first: bool) -> None:
        op = self.graph.op[step.op]
        option = op.option(step.option)
        pairs = [*(option.overwrites if option else ()), *(op.updates if first else ())]
        places = {new: self.live.pop(old) for old, new in pairs}
        for name in op.outputs:
            if name in places and name in self.live:
                self.end(name, number)
        for name, block in places.items():
            self.begin(name, number, block)
        for name in op.outputs:
            if name not in self.live:
                self.begin(name, number)


def _lower_bound(blocks: list[Block]) -> int:
    change: dict[int, int] = {}
    for block in blocks:
        change[block.begin] = change.get(block.begin, 0) + block.size
        change[block.end] = change.get(block.end, 0) - block.size
    live = peak = 0
    for at in sorted(change):
        live += change[at]
        peak = max(peak, live)
    return peak


def _best(blocks: list[Block]) -> list[int]:
    """Offsets of the smallest arena found."""
    bound = _lower_bound(blocks)
    neighbours = _neighbours(blocks)
    keys = (
        lambda b: (-blocks[b].size, blocks[b].begin),
        lambda b: (blocks[b].begin - blocks[b].end, -blocks[b].size),
        lambda b: (blocks[b].size * (blocks[b].begin - blocks[b].end), blocks[b].begin),
        lambda b: (blocks[b].begin, -blocks[b].size),
    )
    best, best_end, best_order = [0] * len(blocks), None, list(range(len(blocks)))
    for key in keys:
        order = sorted(range(len(blocks)), key=key)
        for tightest in (True, False):
            offsets, end = _place(blocks, neighbours, order, tightest=tightest)
            if best_end is None or end < best_end:
                best, best_end, best_order = offsets, end, order
            if end <= bound:
                return offsets
    return _perturb(blocks, neighbours, best_order, (best, best_end or 0), bound)


def _perturb(
    blocks: list[Block],
    neighbours: list[list[int]],
    order: list[int],
    best: tuple[list[int], int],
    bound: int,
) -> list[int]:
    """Move the blocks at the top of the arena to the front of the order, shuffle, keep what helps."""
    dice = random.Random(0)  # noqa: S311  # a plan must be the same every time
    offsets, end = best
    for _ in range(TRIES):
        if end <= bound:
            break
        tops = {b for b in order if offsets[b] + blocks[b].size == end}
        rank = {b: (r if b not in tops else -1) * dice.uniform(0.8, 1.25) for r, b in enumerate(order)}
        trial = sorted(order, key=rank.__getitem__)
        found, found_end = _place(blocks, neighbours, trial, tightest=False)
        if found_end < end:
            offsets, end, order = found, found_end, trial
    return offsets


def _neighbours(blocks: list[Block]) -> list[list[int]]:
    """For each block, those that are in RAM at some time together with it."""
    neighbours: list[list[int]] = [[] for _ in blocks]
    active: list[int] = []
    for b in sorted(range(len(blocks)), key=lambda b: blocks[b].begin):
        active = [a for a in active if blocks[a].end > blocks[b].begin]
        if blocks[b].size:
            for a in active:
                neighbours[a].append(b)
                neighbours[b].append(a)
            active.append(b)
    return neighbours


def _place(
    blocks: list[Block], neighbours: list[list[int]], order: list[int], *, tightest: bool
) -> tuple[list[int], int]:
    """Place blocks in `order`, each in its tightest (or lowest) hole; return offsets and the arena's end."""
    offsets = [-1] * len(blocks)
    top = 0
    for b in order:
        size = blocks[b].size
        taken = sorted((offsets[a], offsets[a] + blocks[a].size) for a in neighbours[b] if offsets[a] >= 0)
        at, best_hole, free = -1, None, 0
        for start, end in taken:
            hole = start - free
            if hole >= size and (best_hole is None or hole < best_hole):
                at, best_hole = free, hole
                if not tightest:
                    break
            free = max(free, end)
        offsets[b] = at if best_hole is not None else free
        top = max(top, offsets[b] + size)
    return offsets, top
