"""One tile of a loop in C: views of its slices, where they begin, and calls under conditions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgewise.emit.calls import Call
from edgewise.emit.views import Extent, View


@dataclass(frozen=True)
class Piece:
    """What a tile takes of one dim that follows `axis`: from `start` on, where the window began at `low`."""

    axis: str
    start: Extent
    low: Extent


@dataclass(frozen=True)
class Tile:
    """The operands of one tile.

    `slots` are views by the slot of the op's program, `values` those of stored values by name (inouts and
    operands without a slot), `made` where result i goes. `pieces` says of the operand behind a slot where its
    slice begins, by dim; `at` is the C variable of an axis that is cut, `count` how many positions it has.
    `extent` is how many there are of each axis in all. At `room`, a C expression, is what the calls work in.
    """

    slots: Mapping[int, View]
    values: Mapping[str, View]
    made: Sequence[View]
    pieces: Mapping[int, Mapping[int, Piece]]
    at: Mapping[str, str]
    count: Mapping[str, Extent]
    extent: Mapping[str, int]
    room: str

    def is_first(self, axis: str) -> str:
        """The C condition that this is the first tile of `axis`; none if the axis is not cut."""
        return f"{self.at[axis]} == 0" if axis in self.at else ""

    def is_last(self, axis: str) -> str:
        """The C condition that it is the last."""
        at = self.at.get(axis)
        return f"{at} + {self.count[axis]} == {self.extent[axis]}" if at is not None else ""


@dataclass(frozen=True)
class Guarded:
    """Calls that are made if `condition`, a C expression, holds; always if it is empty.

    They make the results whose positions are `makes`.
    """

    condition: str
    calls: tuple[Call, ...]
    makes: tuple[int, ...] = (0,)
