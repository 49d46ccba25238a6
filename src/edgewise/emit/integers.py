"""Ops on int8 operands as calls of C kernels: `capture.integers`, `integer_layers` and `contrast`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from edgewise.capture import contrast, integer_layers, integers, labelled_layer, requantized
from edgewise.capture.integer_layers import WeightGradientKernel
from edgewise.capture.integers import IntegerKernel
from edgewise.capture.kernels import resolve
from edgewise.capture.lowering import Layout
from edgewise.emit.calls import Call, Given, Settings, Unsupported, only_floats, single
from edgewise.emit.copies import fill
from edgewise.emit.views import Extent, View, run_of, slots_of

Layouts = Mapping[str, Layout]
_WHOLE = (torch.int8, torch.int32, torch.int64)


def integer_call(run: IntegerKernel, made: list[View], layouts: Layouts, room: str) -> tuple[Call, ...]:
    """The call that `run` stands for, with its workspace at `room`.

    Raises:
        Unsupported: there is none.
    """
    function = run.function.func if isinstance(run.function, partial) else run.function
    if function not in {*_CALLS, *_WITH_ROOM}:
        raise Unsupported("no kernel in C")
    key = _key(run.function) if isinstance(run.function, partial) else None
    args = resolve(run.args, slots_of(run.program, layouts))
    views = [view for view in (*made, *args) if isinstance(view, View)]
    only_floats(*(view for view in views if view.dtype not in _WHOLE))
    if function in _WITH_ROOM:
        return _WITH_ROOM[function](made, args, room)
    return _CALLS[function](made, args, key)


def integer_workspace(run: IntegerKernel, layouts: Layouts) -> int:
    """Bytes that the calls work in, for all or for a tile."""
    args = resolve(run.args, slots_of(run.program, layouts))
    if run.function is integer_layers.apply_linear_relu:
        return relu_room(args, "").bytes
    if run.function is labelled_layer.apply_first_layer:
        return labels_room(args, "").bytes
    return 0


@dataclass(frozen=True)
class Room:
    """What the calls of a layer work in: sums of squares, goodness of wrong labels, a row of weights."""

    sums: View
    goodness: View
    row: str
    bytes: int

    @classmethod
    def of(cls, place: str, rows: int, goodness: tuple[int, int], inputs: int) -> "Room":
        """At `place`."""
        wrong, samples = goodness
        behind = 4 * (rows + wrong * samples)
        sums = View("", torch.int32, (rows,), (1,), 0, place)
        judged = View("", torch.int32, goodness, (samples, 1), 0, f"{place} + {4 * rows}")
        return cls(sums, judged, f"{place} + {behind}", behind + inputs)


def relu_room(args: Sequence[Any], place: str) -> Room:
    """Of `apply_linear_relu` of these arguments."""
    q, _, w, *_ = args
    return Room.of(place, q.size[0], (0, 0), w.size[1])


def labels_room(args: Sequence[Any], place: str) -> Room:
    """Of `apply_first_layer`."""
    _, labels, w, *_ = args
    tried, samples = labels.size
    return Room.of(place, 2 * samples, (tried - 1, samples), w.size[1])


def _key(function: partial[Any]) -> Settings:
    return Settings("ew_key", (f"{function.keywords['seed']}u", "step", f"{function.keywords['stream']}u"))


Rule = Callable[[list[View], tuple[Any, ...], Settings | None], tuple[Call, ...]]


def _wrong_labels(made: list[View], args: tuple[Any, ...], key: Settings | None) -> tuple[Call, ...]:
    targets, _, classes, _ = args
    return (Call("ew_wrong_labels", (made[0], targets, classes, key)),)


def round_nearest(given: Given) -> tuple[Call, ...]:
    """`round_nearest(x, scale)`."""
    x, scale = given.args
    only_floats(x)
    return (Call("ew_round_nearest", (given.out, x, scale)),)


def floats_of(given: Given) -> tuple[Call, ...]:
    """`floats_of(q, scale)`."""
    q, scale = given.args
    return (Call("ew_floats_of_i8", (given.out, q, float(scale))),)


def sum_of(given: Given) -> tuple[Call, ...]:
    """`sum_of(terms, scales, lows, highs, scale)`."""
    terms, scales, lows, highs, scale = given.args
    fields = (tuple(map(single, numbers)) for numbers in (scales, lows, highs))
    missing = requantized.MOST_TERMS - len(terms)
    settings = Settings("ew_terms_i8", (len(terms), *fields))
    return (Call("ew_sum_of_i8", (given.out, *terms, *[None] * missing, scale, settings)),)


def map_of(given: Given) -> tuple[Call, ...]:
    """`map_of(x, table)`."""
    return (Call("ew_map_i8", (given.out, *given.args)),)


def convolution_layer(given: Given, rows_padding: Extent | None = None) -> tuple[Call, ...]:
    """`convolution_layer(x, weight, bias, factor, pairs, groups, limits)`; a band has its own padding."""
    *views, pairs, groups, limits = given.args
    stride, padding, dilation = tuple(pairs[:2]), tuple(pairs[2:4]), tuple(pairs[4:])
    padding = padding if rows_padding is None else (rows_padding, padding[1])
    settings = Settings("ew_convolution_settings", (stride, padding, dilation, groups))
    return (Call("ew_convolution_layer_i8", (given.out, *views, settings, *limits)),)


def linear_layer(given: Given) -> tuple[Call, ...]:
    """`linear_layer(x, weight, bias, factor, limits)`."""
    *views, limits = given.args
    return (Call("ew_linear_layer_i8", (given.out, *views, *limits)),)


def _stochastic(made: list[View], args: tuple[Any, ...], key: Settings | None) -> tuple[Call, ...]:
    x, scale, _ = args
    return (Call("ew_round_stochastic", (made[0], x, scale, key)),)


def _product(made: list[View], args: tuple[Any, ...], _: Settings | None) -> tuple[Call, ...]:
    return (Call("ew_matmul_i8", (made[0], *args)),)


def _convolution(function: str) -> Rule:
    """Two operands; the four settings are the last of the arguments."""

    def rule(made: list[View], args: tuple[Any, ...], _: Settings | None) -> tuple[Call, ...]:
        *pairs, groups = args[-4:]
        settings = Settings("ew_convolution_settings", (*map(tuple, pairs), groups))
        return (Call(function, (made[0], *args[:2], settings)),)

    return rule


def _rows(view: View) -> View:
    """Rows of numbers, whatever shape a row had."""
    return view if view.dims == 2 else view.flat(1)


def _round_rows(made: list[View], args: tuple[Any, ...], _: Settings | None) -> tuple[Call, ...]:
    return (Call("ew_round_rows", (made[0], *args)),)


def _mean_squares(made: list[View], args: tuple[Any, ...], _: Settings | None) -> tuple[Call, ...]:
    return (Call("ew_mean_squares", (made[0], _rows(args[0]))),)


def _labelled_rows(made: list[View], args: tuple[Any, ...], _: Settings | None) -> tuple[Call, ...]:
    x, labels, classes, height = args
    return (Call("ew_labelled_rows", (*made, x, labels, classes, float(height))),)


def _relu_gradient(made: list[View], args: tuple[Any, ...], key: Settings | None) -> tuple[Call, ...]:
    y, slope, p, squares, _, unit, stochastic = args
    views = (*made, y, slope, p, squares)
    return (Call("ew_relu_gradient_i8", (*views, float(unit), key if stochastic else None)),)


def _contrast(made: list[View], args: tuple[Any, ...], _: Settings | None) -> tuple[Call, ...]:
    goodness, sharpness, threshold = args
    settings = (float(sharpness), float(threshold or 0), int(threshold is None))
    return (Call("ew_contrast", (*made, goodness, *settings)),)


def linear_relu(y: View, args: Sequence[Any], room: Room) -> Call:
    """`y` of `apply_linear_relu`."""
    *views, step = args
    return Call("ew_linear_relu_i8", (y, *views, float(step), room.row))


def _linear_relu(made: list[View], args: tuple[Any, ...], place: str) -> tuple[Call, ...]:
    y, squares = made
    return linear_relu(y, args, relu_room(args, place)), Call("ew_mean_squares", (squares, y))


class FirstLayer:
    """The calls of `apply_first_layer(x, labels, w, b, classes, height, step)`, for all or for a tile."""

    def __init__(self, made: Sequence[View], args: Sequence[Any], room: Room) -> None:
        q, squares, self.y, self.y_squares = made
        self.q, self.squares, self.room = q, squares, room
        self.x, self.labels, self.w, self.b, self.classes, self.height, self.step = args
        samples = self.labels.size[1]
        self.right = q.narrow(0, 0, samples), squares.narrow(0, 0, samples)
        self.best = q.narrow(0, samples, samples), squares.narrow(0, samples, samples)

    def begin(self) -> tuple[Call, ...]:
        """Samples with their right labels, and no goodness yet."""
        label = (self.labels.narrow(0, 0, 1), self.classes, float(self.height))
        return fill(self.room.goodness, 0), Call("ew_labelled_rows", (*self.right, self.x, *label))

    def judge(self) -> Call:
        """The goodness that outputs find for each wrong label."""
        layer = (self.w, self.b, float(self.step), self.room.row)
        return Call("ew_judge_labels", (self.room.goodness, *self.right, self.labels, *layer))

    def choose(self) -> Call:
        """Samples with the best of the wrong labels."""
        given = (self.x, self.labels, self.room.goodness, self.classes, float(self.height))
        return Call("ew_best_rows", (*self.best, *given))

    def make(self) -> Call:
        """What outputs make of both."""
        return linear_relu(self.y, (self.q, self.squares, self.w, self.b, self.step), self.room)


def _first_layer(made: list[View], args: tuple[Any, ...], place: str) -> tuple[Call, ...]:
    layer = FirstLayer(made, args, labels_room(args, place))
    squares = Call("ew_mean_squares", (layer.y_squares, layer.y))
    return (*layer.begin(), layer.judge(), layer.choose(), layer.make(), squares)


def weight_gradient(run: WeightGradientKernel, out: View, slots: Sequence[View] | Mapping[int, View]) -> Call:
    """The gradient of a weight, or of some of its rows."""
    return Call("ew_weight_gradient_i8", (run_of(out), *_factors(run, slots)))


def update(run: WeightGradientKernel, optimizer: Call, layouts: Layouts) -> Call:
    """The call `optimizer`, which updates a parameter by a gradient, by the gradient that `run` makes."""
    parameter, _, *states = optimizer.arguments
    assert isinstance(parameter, View)  # noqa: S101  # so are all calls of optimizers
    rest = (run_of(state) if isinstance(state, View) else state for state in states)
    factors = _factors(run, slots_of(run.program, layouts))
    return Call(f"{optimizer.function}_i8", (run_of(parameter), *factors, *rest))


def _factors(
    run: WeightGradientKernel, slots: Sequence[View] | Mapping[int, View]
) -> tuple[View, View, View]:
    g, q, scale = (slots[slot.index] for slot in run.args)
    return _rows(g), _rows(q), scale


_WITH_ROOM: Mapping[Callable[..., Any], Callable[[list[View], tuple[Any, ...], str], tuple[Call, ...]]] = {
    integer_layers.apply_linear_relu: _linear_relu,
    labelled_layer.apply_first_layer: _first_layer,
}

_CALLS: Mapping[Callable[..., Any], Rule] = {
    contrast.wrong_labels_of: _wrong_labels,
    integers.round_drawn: _stochastic,
    integers.multiply: _product,
    contrast.contrast_of: _contrast,
    integer_layers.round_rows: _round_rows,
    integer_layers.mean_squares: _mean_squares,
    integer_layers.drawn_gradient: _relu_gradient,
    labelled_layer.label_rows: _labelled_rows,
    torch.ops.edgewise.int8_convolution.default: _convolution("ew_convolution_i8"),
    torch.ops.edgewise.int8_convolution_input.default: _convolution("ew_convolution_input_gradient_i8"),
    torch.ops.edgewise.int8_convolution_weight.default: _convolution("ew_convolution_weight_gradient_i8"),
}
