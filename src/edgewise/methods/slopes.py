"""What methods share that measure slopes c_i of the loss along random directions z_i, and go along them.

Plainly, g = sum_i c_i z_i, where c holds the slopes over the number of directions. All directions count: the
reference code of arXiv 2506.21833 draws four and keeps one by the size of its slope (the smallest), which
no longer estimates the gradient. With `TopShare`, z is zero but for the elements of w of the largest
magnitude: those of at least a threshold, a state that is found anew on a schedule (`capture/schedules.py`).
All passes of a step and its update compare the same w with the same threshold, before w is moved: in the
reference code, weights that had been moved were compared, so that the pass along -z moved other elements
than the pass along z. With weight decay or moments, the optimizer goes on with the elements left out, too.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from edgewise.capture import JointGraph, Loss
from edgewise.capture.directions import FIRST_STREAM, along
from edgewise.capture.estimates import Estimate, Forward, Parameters, trace_estimate
from edgewise.capture.schedules import threshold
from edgewise.methods import svrg
from edgewise.methods.settings import ForwardGradient, Spsa, TopShare


@dataclass(frozen=True)
class Measured:
    """Loss, slopes over the number of directions, and the parameters that the update finds."""

    loss: Tensor
    c: Tensor
    parameters: Parameters


class Measure(Protocol):
    """Measures the slopes of a step's directions at `parameters`, above these thresholds."""

    def __call__(self, parameters: Parameters, thresholds: dict[str, Tensor], *, keep: bool) -> Measured:
        """With `keep`, one pass carries running statistics to the next step."""


Streams = dict[str, list[int]]
"""For each parameter the stream of each direction."""


def streams_of(names: Iterable[str], directions: int) -> Streams:
    """The same for the same parameters in order."""
    listed = list(names)
    return {
        name: [FIRST_STREAM + len(listed) * i + index for i in range(directions)]
        for index, name in enumerate(listed)
    }


def trace(
    model: nn.Module,
    loss: Loss,
    batch: tuple[Any, Any],
    *,
    measure: Callable[..., Measured],
    settings: Spsa | ForwardGradient,
) -> JointGraph:
    """The step that goes along the slopes of `measure(forward, streams, settings, ...)`, else a `Measure`."""
    trainable = {name: w for name, w in model.named_parameters() if w.requires_grad}
    states: dict[str, Tensor] = {}
    if settings.top is not None:
        states = {f"{name}.threshold": torch.zeros(()) for name in trainable}
    if settings.svrg is not None:
        states = svrg.states_of(trainable, settings.svrg, settings.directions)

    @torch.no_grad()
    def estimator(forward: Forward, parameters: Parameters, states: dict[str, Tensor]) -> Estimate:
        streams = streams_of(parameters, settings.directions)
        found = partial(measure, forward, streams, settings)
        return _estimate(found, parameters, states, streams, settings)

    return trace_estimate(model, loss, batch, estimator, states)


def _estimate(
    measure: Measure,
    parameters: Parameters,
    states: dict[str, Tensor],
    streams: Streams,
    settings: Spsa | ForwardGradient,
) -> Estimate:
    """The estimate of a step from the slopes that `measure` finds."""
    if settings.svrg is not None:
        return svrg.estimate(
            partial(_measured, measure), parameters, states, streams, settings.svrg, settings.law
        )
    thresholds = _thresholds(parameters, states, settings.top) if settings.top is not None else {}
    found = measure(parameters, thresholds, keep=True)
    gradients = {
        n: along(found.c, w, streams[n], settings.law, thresholds.get(n)) for n, w in found.parameters.items()
    }
    return Estimate(found.loss, gradients, {"coefficients": found.c})


def _measured(measure: Measure, parameters: Parameters, keep: bool) -> tuple[Tensor, Tensor]:
    found = measure(parameters, {}, keep=keep)
    return found.loss, found.c


def _thresholds(parameters: Parameters, states: dict[str, Tensor], top: TopShare) -> dict[str, Tensor]:
    found = {}
    for name, w in parameters.items():
        state = states[f"{name}.threshold"]
        found[name] = threshold(state, w, max(1, round(top.share * w.numel())), top.every)
        state.copy_(found[name])
    return found
