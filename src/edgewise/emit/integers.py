"""Ops on int8 operands as calls of C kernels: `capture.integers`, `integer_layers` and `contrast`."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from edgewise.capture import contrast, integers
from edgewise.capture.integers import IntegerKernel
from edgewise.capture.kernels import resolve
from edgewise.capture.lowering import Layout
from edgewise.emit.calls import Call, Settings, Unsupported
from edgewise.emit.views import View, slots_of

Layouts = Mapping[str, Layout]


def integer_call(run: IntegerKernel, made: list[View], layouts: Layouts) -> tuple[Call, ...]:
    """The call that `run` stands for.

    Raises:
        Unsupported: there is none.
    """
    function = run.function.func if isinstance(run.function, partial) else run.function
    if function not in _CALLS:
        raise Unsupported("no kernel in C")
    key = _key(run.function) if isinstance(run.function, partial) else None
    return _CALLS[function](made, resolve(run.args, slots_of(run.program, layouts)), key)


def _key(function: partial[Any]) -> Settings:
    return Settings("ew_key", (f"{function.keywords['seed']}u", "step", f"{function.keywords['stream']}u"))


Rule = Callable[[list[View], tuple[Any, ...], Settings | None], tuple[Call, ...]]


def _wrong_labels(made: list[View], args: tuple[Any, ...], key: Settings | None) -> tuple[Call, ...]:
    targets, _, classes, _ = args
    return (Call("ew_wrong_labels", (made[0], targets, classes, key)),)


def _nearest(made: list[View], args: tuple[Any, ...], _: Settings | None) -> tuple[Call, ...]:
    return (Call("ew_round_nearest", (made[0], *args)),)


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


_CALLS: Mapping[Callable[..., Any], Rule] = {
    contrast.wrong_labels_of: _wrong_labels,
    integers.round_nearest: _nearest,
    integers.round_drawn: _stochastic,
    integers.multiply: _product,
    torch.ops.edgewise.int8_convolution.default: _convolution("ew_convolution_i8"),
    torch.ops.edgewise.int8_convolution_input.default: _convolution("ew_convolution_input_gradient_i8"),
    torch.ops.edgewise.int8_convolution_weight.default: _convolution("ew_convolution_weight_gradient_i8"),
}
