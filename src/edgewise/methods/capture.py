"""`capture_with`: the training step of a model by any method, as a Graph."""

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from edgewise.capture import Captured, Loss, Optimizer, Trace, capture
from edgewise.methods import (
    activity_perturbation,
    elastic,
    extrapolation,
    forward_forward,
    forward_gradient,
    frozen_int8,
    local_losses,
    settings,
    sparse_update,
    spsa,
)
from edgewise.methods.fixed_point.step import capture_fixed
from edgewise.methods.settings import Backprop, Method

_TRACES: dict[type, Callable[[Any], Trace]] = {
    settings.ForwardGradient: forward_gradient.trace,
    settings.Spsa: spsa.trace,
    settings.Elastic: elastic.trace,
    settings.LocalLosses: local_losses.trace,
    settings.ActivityPerturbation: activity_perturbation.trace,
    settings.SparseUpdate: sparse_update.trace,
    settings.Extrapolated: extrapolation.trace,
    settings.ForwardForward: forward_forward.trace,
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
    watched: Iterable[Any] | None = None,
) -> Captured:
    """Capture one training step of `method`; all else is as in `capture`.

    Fixed point trains an integer copy, `Captured.model`; `model` stays as it is, and may also be such a copy
    (`fixed_point.quantize`). The example batch must then be real data, because the scales of activations are
    its. A sparse update with frozen int8 layers trains a copy, too, whose scales are those of the inputs
    `watched`, or of the example batch. Forward-forward trains `model` within a classifier by goodness, which
    is `Captured.model`.

    Raises:
        ModelUnsupported: the model cannot be captured, or not by this method; parts named with their paths.
        UsageError: the method's settings do not fit the model, or as in `capture`.
    """
    name = name or type(model).__name__
    if isinstance(method, settings.FixedPoint):
        return capture_fixed(method, model, loss, optimizer, example_batch, name, seed)
    if isinstance(method, Backprop):
        return capture(model, loss, optimizer, example_batch, name=name, seed=seed)
    trace = _TRACES[type(method)](method)
    if isinstance(method, settings.ForwardForward):
        model = forward_forward.classifier(model, method, example_batch)
    if isinstance(method, settings.SparseUpdate) and method.frozen == "int8":
        trained = set(sparse_update.chosen(model, method))
        watched = [example_batch[0]] if watched is None else watched
        model, _ = frozen_int8.with_int8_layers(model, watched, trained)
    return capture(model, loss, optimizer, example_batch, name=name, seed=seed, trace=trace)
