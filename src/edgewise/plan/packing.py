"""Offsets for blocks of bytes that are needed at known times, in an arena as small as found.

This is dynamic storage allocation. The lower bound is the peak of bytes needed at one time. Up to `EXACT`
blocks are placed in every order that matters; the bound is not always reached even then. Larger instances
are placed greedily, each block in the lowest hole that is free throughout, in several orders; then by
*squeaky wheel* optimization (Joslin and Clements, JAIR 10, 1999, section 2): the blocks that end above the
target move forward in the order, and all is placed again. Small blocks, which fit into holes, wait until
the large ones stand. The problem is NP-hard; greedy by size is arXiv 2001.03288, section 5. The amount of
work is limited by counting, not by the clock, so that a plan is the same every time.
"""

import random
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

EXACT = 7
"""Most blocks that are placed in every order."""

SMALL = 200
"""Blocks below this part of the bound are placed after the search over the others."""

WORK = 4_000_000
"""Pairs of blocks that a search may look at: a few seconds."""

ROUNDS = 1000
"""Most packings that a search tries, however few its blocks."""

RUN = 40
"""Rounds of a search before it starts from another order."""


CROWD = 64
"""Neighbours of a block on average from which arrays are faster than lists."""


class Block(NamedTuple):
    """`size` bytes in one place from step `begin` to before step `end`."""

    size: int
    begin: int
    end: int


class Packing(NamedTuple):
    """Offsets of blocks, the end of the highest, and the order of placing that gave them."""

    top: int
    offsets: list[int]
    order: list[int]


def lower_bound(blocks: Iterable[Block]) -> int:
    """Peak of bytes needed at one time: no arena is smaller."""
    change: dict[int, int] = {}
    for block in blocks:
        change[block.begin] = change.get(block.begin, 0) + block.size
        change[block.end] = change.get(block.end, 0) - block.size
    needed = peak = 0
    for at in sorted(change):
        needed += change[at]
        peak = max(peak, needed)
    return peak


def pack(blocks: Sequence[Block], *, work: int = WORK) -> list[int]:
    """Offset of each block, such that no two that are needed at one time overlap."""
    bound = lower_bound(blocks)
    sized = [b for b, block in enumerate(blocks) if block.size]
    large = [b for b in sized if blocks[b].size * SMALL > bound]
    found = _pack_some(blocks, large, bound, work)
    if len(large) < len(sized):
        small = sorted(set(sized) - set(large), key=lambda b: (-blocks[b].size, blocks[b].begin))
        found = _pack_some(blocks, sized, bound, work // 4, start=[*(large[i] for i in found.order), *small])
    offsets = [0] * len(blocks)
    for b, offset in zip(sized if len(large) < len(sized) else large, found.offsets, strict=True):
        offsets[b] = offset
    return offsets


def _pack_some(
    blocks: Sequence[Block], chosen: list[int], bound: int, work: int, *, start: Sequence[int] = ()
) -> Packing:
    """Pack `chosen` blocks only; the result counts within `chosen`. `start` is an order to try first."""
    some = [blocks[b] for b in chosen]
    if len(some) <= EXACT:
        return _Exact(some, bound).run()
    place = {b: i for i, b in enumerate(chosen)}
    return _Squeaky(some, bound, work).run([place[b] for b in start])


def _neighbours(blocks: Sequence[Block]) -> list[list[int]]:
    """For each block, those that are needed at some time together with it."""
    neighbours: list[list[int]] = [[] for _ in blocks]
    active: list[int] = []
    for b in sorted(range(len(blocks)), key=lambda b: blocks[b].begin):
        active = [a for a in active if blocks[a].end > blocks[b].begin]
        if blocks[b].end > blocks[b].begin:
            for a in active:
                neighbours[a].append(b)
                neighbours[b].append(a)
            active.append(b)
    return neighbours


def _lowest(size: int, taken: list[tuple[int, int]]) -> int:
    """Lowest offset of a hole of `size` bytes between the intervals `taken`, which are sorted."""
    free = 0
    for start, end in taken:
        if start - free >= size:
            break
        free = max(free, end)
    return free


class _Exact:
    """All orders: no packing is lower than one that places its blocks lowest first, as low as they go."""

    def __init__(self, blocks: list[Block], bound: int) -> None:
        self.blocks, self.bound, self.neighbours = blocks, bound, _neighbours(blocks)
        self.offsets = [-1] * len(blocks)
        self.order: list[int] = []
        self.best: Packing | None = None

    def run(self) -> Packing:
        self._extend(0)
        assert self.best is not None  # noqa: S101  # the first order is always completed
        return self.best

    def _extend(self, top: int) -> None:
        if self.best is not None and (top >= self.best.top or self.best.top <= self.bound):
            return
        if len(self.order) == len(self.blocks):
            self.best = Packing(top, list(self.offsets), list(self.order))
            return
        for b, block in enumerate(self.blocks):
            if self.offsets[b] < 0:
                ends = (
                    self.offsets[a] + self.blocks[a].size for a in self.neighbours[b] if self.offsets[a] >= 0
                )
                self.offsets[b] = max(ends, default=0)
                self.order.append(b)
                self._extend(max(top, self.offsets[b] + block.size))
                self.order.pop()
                self.offsets[b] = -1


class _Squeaky:
    def __init__(self, blocks: list[Block], bound: int, work: int) -> None:
        self.blocks, self.bound, self.neighbours = blocks, bound, _neighbours(blocks)
        self.rounds = min(ROUNDS, work // (1 + sum(map(len, self.neighbours))))
        self.dice = random.Random(0)  # noqa: S311  # a plan must be the same every time
        self.is_crowd = sum(map(len, self.neighbours)) > CROWD * len(blocks)
        if self.is_crowd:
            self.sizes = np.array([block.size for block in blocks], dtype=np.int64)
            self.crowds = [np.array(found, dtype=np.int64) for found in self.neighbours]

    def run(self, start: list[int]) -> Packing:
        starts: list[Packing] = []
        for order in (*([start] if start else []), *self._orders()):
            starts.append(self._place(order))
            if starts[-1].top <= self.bound:
                return starts[-1]
        starts.sort(key=lambda packing: packing.top)
        best, left = starts[0], self.rounds
        while best.top > self.bound and left > 0:
            packing = starts[left % len(starts)] if self.dice.random() < 0.3 else best
            for _ in range(min(RUN, left)):
                packing = self._place(self._squeak(packing, best.top))
                left -= 1
                if packing.top < best.top:
                    best = packing
                if best.top <= self.bound:
                    break
        return best

    def _orders(self) -> list[list[int]]:
        """Large first; long first; large and long first; crowded first; as an allocator meets them."""
        blocks, everything = self.blocks, range(len(self.blocks))
        crowd = [sum(blocks[a].size for a in found) for found in self.neighbours]
        lasts = [block.end - block.begin for block in blocks]
        return [
            sorted(everything, key=lambda b: (-blocks[b].size, blocks[b].begin)),
            sorted(everything, key=lambda b: (-lasts[b], -blocks[b].size)),
            sorted(everything, key=lambda b: (-blocks[b].size * lasts[b], blocks[b].begin)),
            sorted(everything, key=lambda b: (-len(self.neighbours[b]), -blocks[b].size)),
            sorted(everything, key=lambda b: (-crowd[b], -blocks[b].size)),
            sorted(everything, key=lambda b: (blocks[b].begin, -blocks[b].size)),
        ]

    def _squeak(self, packing: Packing, top: int) -> list[int]:
        """The order of `packing`, most blocks that end too high moved forward, by chance how far."""
        target = top - 1 if self.dice.random() < 0.5 else self.bound
        rank = [0.0] * len(self.blocks)
        for r, b in enumerate(packing.order):
            squeaks = packing.offsets[b] + self.blocks[b].size > target
            rank[b] = r * self.dice.random() - 0.5 if squeaks and self.dice.random() < 0.8 else r
        return sorted(packing.order, key=rank.__getitem__)

    def _place(self, order: list[int]) -> Packing:
        """Place blocks in `order`, each as low as it can."""
        return self._place_crowd(order) if self.is_crowd else self._place_few(order)

    def _place_crowd(self, order: list[int]) -> Packing:
        """As `_place_few`, by arrays: faster where blocks have many neighbours."""
        top, offsets = 0, np.full(len(self.blocks), -1)
        for b in order:
            near = self.crowds[b]
            begins = offsets[near]
            placed = np.flatnonzero(begins >= 0)
            near, begins = near[placed], begins[placed]
            by_begin = np.argsort(begins)
            begins = begins[by_begin]
            ends = np.zeros(len(near) + 1, dtype=np.int64)  # of all below
            np.maximum.accumulate(begins + self.sizes[near[by_begin]], out=ends[1:])
            holes = begins - ends[:-1] >= self.sizes[b]
            first = int(holes.argmax()) if len(holes) else 0
            offsets[b] = ends[first] if len(holes) and holes[first] else ends[-1]
            top = max(top, int(offsets[b] + self.sizes[b]))
        return Packing(top, offsets.tolist(), order)

    def _place_few(self, order: list[int]) -> Packing:
        blocks, neighbours = self.blocks, self.neighbours
        offsets = [-1] * len(blocks)
        top = 0
        for b in order:
            size = blocks[b].size
            taken = sorted(
                [(offsets[a], offsets[a] + blocks[a].size) for a in neighbours[b] if offsets[a] >= 0]
            )
            offsets[b] = _lowest(size, taken)
            top = max(top, offsets[b] + size)
        return Packing(top, offsets, order)
