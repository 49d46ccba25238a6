"""What methods beside plain backprop execute, as calls of C kernels."""

from collections.abc import Mapping, Sequence

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
from edgewise.emit.fixed_point import Integer, fixed_point_call, fixed_point_workspace
from edgewise.emit.integers import integer_call, integer_workspace
from edgewise.emit.views import whole


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
            return (integers.weight_gradient(run, made[0], layouts),)
    if isinstance(run, Integer):
        return fixed_point_call(run, made, layouts, room)
    raise Unsupported(f"no kernel in C for {type(run).__name__}")


def method_workspace(run: Run, layouts: Mapping[str, Layout]) -> int:
    """Bytes that `run` needs at its `room`."""
    if isinstance(run, IntegerKernel):
        return integer_workspace(run, layouts)
    return fixed_point_workspace(run, layouts) if isinstance(run, Integer) else 0


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
