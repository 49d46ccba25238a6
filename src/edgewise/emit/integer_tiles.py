"""Layers on int8 in slices: the calls for one tile, as `capture.tiling.int8_layers` cuts them."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from edgewise.capture import integer_layers, labelled_layer
from edgewise.capture.integers import IntegerKernel
from edgewise.capture.kernels import resolve
from edgewise.capture.tiling.int8_layers import OUTPUTS, PASS, ROWS
from edgewise.emit.calls import Call, Unsupported
from edgewise.emit.copies import fill
from edgewise.emit.integers import FirstLayer, Room, labels_room, linear_relu
from edgewise.emit.tile import Guarded, Tile
from edgewise.emit.views import View


def integer_tile(run: IntegerKernel, tile: Tile) -> list[Guarded]:
    """The calls of one tile of what `run` executes.

    Raises:
        Unsupported: there is no C for it in slices.
    """
    if run.function not in _TILES:
        raise Unsupported("no kernel in C in slices")
    return _TILES[run.function](resolve(run.args, tile.slots), tile)


def _both(*conditions: str) -> str:
    return " && ".join(condition for condition in conditions if condition)


def _squares(sums: View, y: View, mean: View, when: str, tile: Tile) -> list[Guarded]:
    """Squares of `y` added to the sums when a tile makes it, and their mean when the last has."""
    count = tile.extent[OUTPUTS]
    return [
        Guarded(_both(when, tile.is_first(OUTPUTS)), (fill(sums, 0),), ()),
        Guarded(when, (Call("ew_add_squares", (sums, y)),), ()),
        Guarded(_both(when, tile.is_last(OUTPUTS)), (Call("ew_mean_of_squares", (mean, sums, count)),), ()),
    ]


def _linear_relu(args: tuple[Any, ...], tile: Tile) -> list[Guarded]:
    y, y_squares = tile.made
    room = Room.of(tile.room, tile.extent[ROWS], (0, 0), args[2].size[1])
    sums = replace(room.sums, size=y.size[:1], offset=tile.at.get(ROWS, 0))
    return [
        Guarded("", (linear_relu(y, args, room),), (0,)),
        *_squares(sums, y, y_squares, "", tile),
    ]


def _first_layer(args: tuple[Any, ...], tile: Tile) -> list[Guarded]:
    """The first pass judges all labels, the second makes what is learned from."""
    room = labels_room(args, tile.room)
    layer = FirstLayer(tile.made, args, room)
    first, second = f"{tile.at[PASS]} == 0", f"{tile.at[PASS]} == 1"
    return [
        Guarded(_both(first, tile.is_first(OUTPUTS)), layer.begin(), ()),
        Guarded(first, (layer.judge(),), ()),
        Guarded(_both(second, tile.is_first(OUTPUTS)), (layer.choose(),), (0, 1)),
        Guarded(second, (layer.make(),), (2,)),
        *_squares(room.sums, layer.y, layer.y_squares, second, tile),
    ]


_TILES: Mapping[Any, Callable[[tuple[Any, ...], Tile], list[Guarded]]] = {
    integer_layers.apply_linear_relu: _linear_relu,
    labelled_layer.apply_first_layer: _first_layer,
}
