"""The C of one tile of a loop: the kernel calls on slices, with what a slice changes in their settings."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from edgewise.capture import gradients, int8_weights, requantized
from edgewise.capture.directions import AlongKernel, DirectionKernel, NudgeKernel, PerturbedKernel
from edgewise.capture.effects import BatchNormKernel, ProductKernel
from edgewise.capture.integer_layers import WeightGradientKernel
from edgewise.capture.integers import IntegerKernel
from edgewise.capture.kernels import AtenKernel, Run, Slot, resolve
from edgewise.capture.tiling.convolution import GROUPS, INPUTS, ROWS
from edgewise.capture.tiling.gathers import TABLE
from edgewise.capture.tiling.products import INNER
from edgewise.capture.updates import CarryKernel, UpdateKernel
from edgewise.emit.calls import Call, Given
from edgewise.emit.convolutions import (
    convolution,
    convolution_by_int8,
    convolution_input_gradient,
    convolution_parameter_gradients,
)
from edgewise.emit.directions import draw_tile, first_of, update_tile
from edgewise.emit.integer_tiles import integer_tile
from edgewise.emit.integers import convolution_layer, weight_gradient
from edgewise.emit.methods import method_tile
from edgewise.emit.rules import packet_of
from edgewise.emit.statements import aten_call, batch_norm, optimizer_call
from edgewise.emit.tile import Guarded, Tile
from edgewise.emit.views import Extent, View


def tile_statements(run: Run, tile: Tile, *, first: bool) -> list[Guarded]:
    """The calls of one tile of what `run` executes.

    Raises:
        Unsupported: there is no C for it in slices.
    """
    match run:
        case CarryKernel():
            return []
        case UpdateKernel():
            return _update(run, tile, first=first)
        case AtenKernel():
            return _aten(run, tile)
        case IntegerKernel():
            return integer_tile(run, tile)
    return [Guarded("", _calls(run, tile, first=first), _all(tile))]


def _calls(run: Run, tile: Tile, *, first: bool) -> tuple[Call, ...]:
    """What all tiles call alike."""
    match run:
        case ProductKernel():
            x, mask = tile.slots[run.slot], tile.values[run.mask]
            return (Call("ew_masked_scale", (tile.made[0], x, mask, run.scale)),)
        case BatchNormKernel():
            running = [tile.values[name] for name in run.running] if first else [None, None]
            return batch_norm(run, tile.slots, tile.made, running)
        case DirectionKernel() | PerturbedKernel() | AlongKernel() | NudgeKernel():
            out = tile.values[run.old] if isinstance(run, NudgeKernel) else tile.made[0]
            return draw_tile(run, out, tile.slots, tile.values, first_of(run.like.stride, tile.at))
        case WeightGradientKernel():
            return (weight_gradient(run, tile.made[0], tile.slots),)
    return method_tile(run, tile)


def _update(run: UpdateKernel, tile: Tile, *, first: bool) -> list[Guarded]:
    """What makes the gradient that goes to a sink; or all of an update that moves the parameter first."""
    if run.producer is None:
        return []
    along = run.producer.run
    if run.nudge is None or not isinstance(along, AlongKernel):
        return tile_statements(along, tile, first=first)
    (change,) = run.changes
    parameter, states = tile.values[change.parameter], [tile.values[n] for n in change.states.values()]
    call = optimizer_call(run.optimizer, parameter, parameter, states)
    update = update_tile(along, call, tile.slots, first_of(along.like.stride, tile.at))
    return [*tile_statements(run.nudge.run, tile, first=first), Guarded("", (update,), ())]


def _aten(kernel: AtenKernel, tile: Tile) -> list[Guarded]:
    if kernel.whole.target in _FUNCTIONS:
        return _FUNCTIONS[kernel.whole.target](kernel, tile)
    match packet_of(kernel):
        case "convolution":
            return _convolution(kernel, tile)
        case "addmm" | "baddbmm":
            return _product_and_sum(kernel, tile)
        case "embedding_dense_backward" if TABLE in tile.at:
            return _embedding_backward(kernel, tile)
    return [Guarded("", aten_call(kernel, tile.slots, tile.made), _all(tile))]


def _all(tile: Tile) -> tuple[int, ...]:
    return tuple(range(len(tile.made)))


def _product_and_sum(kernel: AtenKernel, tile: Tile) -> list[Guarded]:
    """What is added to the product is added once, to the first part of it."""
    calls = aten_call(kernel, tile.slots, tile.made)
    if INNER not in tile.at:
        return [Guarded("", calls)]
    _, a, b = resolve(kernel.whole.args, tile.slots)
    inner = tile.at[INNER]
    return [
        Guarded(f"{inner} == 0", calls),
        Guarded(f"{inner} > 0", (Call("ew_matmul", (tile.made[0], a, b)),)),
    ]


def _embedding_backward(kernel: AtenKernel, tile: Tile) -> list[Guarded]:
    dy, index, _, padding, _ = resolve(kernel.whole.args, tile.slots)
    call = Call("ew_embedding_backward_rows", (tile.made[0], dy, index, padding, tile.at[TABLE]))
    return [Guarded("", (call,))]


# -- convolutions ---------------------------------------------------------------------------------------


def _given(kernel: AtenKernel, tile: Tile, values: Sequence[Any]) -> Given:
    """The call with `values` as its settings, behind three other arguments, for the groups of the tile."""
    settings = [*values]
    if GROUPS in tile.at:
        settings[-1] = tile.count[GROUPS]
    args = (*resolve(kernel.whole.args[:3], tile.slots), settings)
    return Given(args, {}, dict(zip(kernel.kept or (0,), tile.made, strict=True)))


def _convolution(kernel: AtenKernel, tile: Tile) -> list[Guarded]:
    x, _, bias, *values = kernel.whole.args
    given = _given(kernel, tile, values)
    padding = _window_padding(tile, x)

    def calls(bias: View | None) -> tuple[Call, ...]:
        return convolution(replace(given, args=(*given.args[:2], bias, *given.args[3])), padding)

    if bias is None or INPUTS not in tile.at:
        return [Guarded("", calls(given.args[2]))]
    inputs = tile.at[INPUTS]
    return [Guarded(f"{inputs} == 0", calls(given.args[2])), Guarded(f"{inputs} > 0", calls(None))]


def _of_int8(
    kernel: AtenKernel, tile: Tile, rule: Callable[..., tuple[Call, ...]], groups: int
) -> list[Guarded]:
    """A convolution whose argument `groups` says how many there are."""
    args = [*resolve(kernel.whole.args, tile.slots)]
    if GROUPS in tile.at:
        args[groups] = tile.count[GROUPS]
    padding = _window_padding(tile, kernel.whole.args[0])
    return [Guarded("", rule(Given(tuple(args), {}, {0: tile.made[0]}), padding))]


def _window_padding(tile: Tile, x: Slot) -> Extent | None:
    """Padding of the rows of `x` that a band of output rows reads: what of its window lies before them."""
    piece = tile.pieces[x.index].get(2)
    return None if ROWS not in tile.at or piece is None else f"{piece.start} - ({piece.low})"


def _input_gradient(kernel: AtenKernel, tile: Tile) -> list[Guarded]:
    dy, _, _, values = kernel.whole.args
    padding = None
    if ROWS in tile.at:
        # Row i of the band reads rows o of the slice of dy with i + rows = stride (o + start) - padding + k.
        start = tile.pieces[dy.index][2].start
        padding = f"{values[1][0]} + {tile.at[ROWS]} - {values[0][0]} * ({start})"
    return [Guarded("", convolution_input_gradient(_given(kernel, tile, values), padding))]


def _parameter_gradients(kernel: AtenKernel, tile: Tile) -> list[Guarded]:
    _, x, _, values = kernel.whole.args
    calls = convolution_parameter_gradients(_given(kernel, tile, values), _window_padding(tile, x))
    made = []
    for position, call in enumerate(calls):
        of_bias = call.function == "ew_convolution_bias_gradient"
        once = f"{tile.at[INPUTS]} == 0" if of_bias and INPUTS in tile.at else ""
        made.append(Guarded(once, (call,), (position,)))
    return made


_FUNCTIONS: Mapping[Any, Callable[[AtenKernel, Tile], list[Guarded]]] = {
    gradients.input_gradient: _input_gradient,
    gradients.parameter_gradients: _parameter_gradients,
    requantized.convolution_layer: partial(_of_int8, rule=convolution_layer, groups=5),
    int8_weights.convolution_by_int8: partial(_of_int8, rule=convolution_by_int8, groups=4),
}
