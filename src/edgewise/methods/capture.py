"""`capture_with`: the training step of a model by any method, as a Graph."""

from collections.abc import Callable
from typing import Any

from torch import nn

from edgewise.capture import Captured, Loss, Optimizer, Trace, capture
from edgewise.methods import elastic, forward_gradient, spsa
from edgewise.methods.fixed_point.step import capture_fixed
from edgewise.methods.settings import Backprop, Elastic, FixedPoint, ForwardGradient, Method, Spsa

_TRACES: dict[type, Callable[[Any], Trace]] = {
    ForwardGradient: forward_gradient.trace,
    Spsa: spsa.trace,
    Elastic: elastic.trace,
}


def capture_with(
    method: Method,
    model: nn.Module,
    loss: Loss | str,
    optimizer: Optimizer,
    example_batch: tuple[Any, Any],
    *,
    name: str | None = None,
    seed: int = 0,
) -> Captured:
    """Capture one training step of `method`; all else is as in `capture`.

    Fixed point trains an integer copy, `Captured.model`; `model` stays as it is, and may also be such a copy
    (`quantize`). The example batch must then be real data, because the scales of activations are its.

    Raises:
        ModelUnsupported: the model cannot be captured, or not by this method; parts named with their paths.
        UsageError: the method's settings do not fit the model, or as in `capture`.
    """
    if isinstance(method, FixedPoint):
        return capture_fixed(method, model, loss, optimizer, example_batch, name=name, seed=seed)
    if isinstance(method, Backprop):
        return capture(model, loss, optimizer, example_batch, name=name, seed=seed)
    trace = _TRACES[type(method)](method)
    return capture(model, loss, optimizer, example_batch, name=name, seed=seed, trace=trace)
