"""What methods beside plain backprop execute, as calls of C kernels."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

from edgewise.capture.directions import AlongKernel, DirectionKernel, NudgeKernel, PerturbedKernel
from edgewise.capture.effects import DrawKernel
from edgewise.capture.integer_layers import WeightGradientKernel
from edgewise.capture.integers import IntegerKernel
from edgewise.capture.kernels import Run
from edgewise.capture.lowering import Layout
from edgewise.capture.schedules import RefreshKernel
from edgewise.capture.updates import Nudge, Piecewise
from edgewise.emit import directions, integers
from edgewise.emit.calls import Call, Unsupported
from edgewise.emit.integers import integer_call, integer_workspace
from edgewise.emit.views import slots_of, whole


class KernelRule(NamedTuple):
    """How kernels of a type are called in C."""

    calls: Callable[..., tuple[Call, ...]]
    """`calls(run, made, layouts, room)`."""
    workspace: Callable[..., int]
    """`workspace(run, layouts)`: bytes that the calls need at `room`, for all or for a tile."""
    tile: Callable[..., tuple[Call, ...]] | None = None
    """`tile(run, tile)`: the calls for a tile, if there are any."""


RULES: dict[type, KernelRule] = {}
"""Rules for kernels of later rooms, by their types: a module `in_c` beside these enters them."""


def _rule_of(kernel: type) -> KernelRule | None:
    package = kernel.__module__.rpartition(".")[0]
    if kernel not in RULES and package and find_spec(f"{package}.in_c"):
        import_module(f"{package}.in_c")
    return RULES.get(kernel)


def method_calls(
    run: Run | Nudge, outputs: Sequence[str], layouts: Mapping[str, Layout], room: str
) -> tuple[Call, ...]:
    """The calls of one whole execution of `run`, which makes `outputs` and works in what is at `room`.

    Raises:
        Unsupported: there is no C for it.
    """
    made = [whole(name, layouts) for name in outputs]
    match run:
        case DrawKernel():
            return (directions.numbers(run, made[0]),)
        case DirectionKernel() | PerturbedKernel() | AlongKernel() | NudgeKernel():
            return directions.draw(run, outputs, layouts)
        case RefreshKernel():
            return (directions.refresh(run, layouts),)
        case IntegerKernel():
            return integer_call(run, made, layouts, room)
        case WeightGradientKernel():
            return (integers.weight_gradient(run, made[0], slots_of(run.program, layouts)),)
    rule = _rule_of(type(run))
    if rule is not None:
        return rule.calls(run, made, layouts, room)
    raise Unsupported(f"no kernel in C for {type(run).__name__}")


def method_tile(run: Run, tile: Any) -> tuple[Call, ...]:
    """The calls for one `Tile` of what `run` executes.

    Raises:
        Unsupported: there is no C for it in slices.
    """
    rule = _rule_of(type(run))
    if rule is None or rule.tile is None:
        raise Unsupported(f"no kernel in C for {type(run).__name__} in slices")
    return rule.tile(run, tile)


def method_workspace(run: Run, layouts: Mapping[str, Layout]) -> int:
    """Bytes that `run` needs at its `room`."""
    if isinstance(run, IntegerKernel):
        return integer_workspace(run, layouts)
    rule = _rule_of(type(run))
    return rule.workspace(run, layouts) if rule is not None else 0


def by_pieces(producer: Piecewise, update: Call, layouts: Mapping[str, Layout]) -> Call:
    """The call `update`, of a parameter by a gradient, with the gradient that `producer` makes in pieces.

    Raises:
        Unsupported: there is no C for it.
    """
    if isinstance(producer, AlongKernel):
        return directions.update(producer, update, layouts)
    if isinstance(producer, WeightGradientKernel):
        return integers.update(producer, update, layouts)
    raise Unsupported(f"no kernel in C for {type(producer).__name__}")
