"""What methods beside plain backprop execute, as calls of C kernels."""

from collections.abc import Mapping, Sequence

from edgewise.capture.directions import AlongKernel, DirectionKernel, NudgeKernel, PerturbedKernel
from edgewise.capture.effects import DrawKernel
from edgewise.capture.integers import IntegerKernel
from edgewise.capture.kernels import Run
from edgewise.capture.lowering import Layout
from edgewise.capture.schedules import RefreshKernel
from edgewise.capture.updates import Nudge, Piecewise
from edgewise.emit import directions
from edgewise.emit.calls import Call, Unsupported
from edgewise.emit.integers import integer_call
from edgewise.emit.views import whole


def method_calls(run: Run | Nudge, outputs: Sequence[str], layouts: Mapping[str, Layout]) -> tuple[Call, ...]:
    """The calls of one whole execution of `run`, which makes `outputs`.

    Raises:
        Unsupported: there is no C for it.
    """
    match run:
        case DrawKernel():
            return (directions.numbers(run, whole(outputs[0], layouts)),)
        case DirectionKernel() | PerturbedKernel() | AlongKernel() | NudgeKernel():
            return directions.draw(run, outputs, layouts)
        case RefreshKernel():
            return (directions.refresh(run, layouts),)
        case IntegerKernel():
            return integer_call(run, [whole(name, layouts) for name in outputs], layouts)
    raise Unsupported(f"no kernel in C for {type(run).__name__}")


def by_pieces(producer: Piecewise, update: Call, layouts: Mapping[str, Layout]) -> Call:
    """The call `update`, of a parameter by a gradient, with the gradient that `producer` makes in pieces.

    Raises:
        Unsupported: there is no C for it.
    """
    if isinstance(producer, AlongKernel):
        return directions.update(producer, update, layouts)
    raise Unsupported(f"no kernel in C for {type(producer).__name__}")
