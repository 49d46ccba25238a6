"""What a loop holds beside whole operands: tiles of what it streams, of its results, and of parts of sums.

A kernel in C takes any strides and clips windows itself. So a slice of what is in RAM is never copied, a tile
holds no zeros around it, and a result that stays in RAM is made where it belongs.
"""

import math
from collections.abc import Iterator

from edgewise.capture.tiling.gathers import TOUCHED, WIDTH
from edgewise.capture.tiling.nest import Along, Loop, Operand, Result, extents
from edgewise.emit.statements import aligned


def longest(loop: Loop, along: Along, size: int) -> int:
    """Elements of the longest slice of a dim of `size`."""
    if along is None:
        return size
    extent = loop.nest.extent(along.axis)
    return extents(along, size, extent, dict(loop.blocks).get(along.axis, extent)).longest


def operand_bytes(loop: Loop, operand: Operand) -> int:
    """Bytes of the largest tile of `operand`; none where rows are gathered, each where it is wanted."""
    if operand.gathered:
        return 0
    dims = zip(operand.along, operand.size, operand.stride, strict=True)
    return aligned(math.prod(longest(loop, a, n) for a, n, s in dims if s) * operand.itemsize)


def result_bytes(loop: Loop, result: Result) -> int:
    """Bytes of the largest tile of `result`."""
    if not result.fresh:
        return 0
    sizes = (longest(loop, a, n) for a, n in zip(result.along, result.size, strict=True))
    return aligned(math.prod(sizes) * result.itemsize)


def operands(loop: Loop) -> Iterator[Operand]:
    """All that is read or changed slice by slice, in the order in which tiles lie in the room."""
    yield from loop.nest.operands
    yield from loop.nest.inouts
    for sink in dict(loop.nest.sinks).values():
        yield from sink.olds


def workspace_bytes(loop: Loop) -> int:
    """Bytes beside tiles of what is streamed: of every result, and of the parts of those that are sums."""
    results = loop.nest.results
    sums = sum(result_bytes(loop, result) for result in results if loop.is_summed(result))
    return sum(result_bytes(loop, result) for result in results) + sums


def changes_rows(loop: Loop) -> bool:
    """Whether `loop` changes rows of a table that are looked up, and no others."""
    return any(operand.gathered for operand in loop.nest.inouts)


def row_writes(loop: Loop) -> tuple[int, int]:
    """Of such a loop: how often it writes part of a row at most, and bytes of the largest part."""
    (table,) = loop.nest.inouts
    width = dict(loop.blocks).get(WIDTH, table.size[1])
    return loop.nest.extent(TOUCHED) * -(-table.size[1] // width), width * table.itemsize
