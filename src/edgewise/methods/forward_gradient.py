"""Forward gradients: the directional derivative along random directions, by forward-mode differentiation.

    g = 1/m sum_i (grad L . v_i) v_i

(arXiv 2202.08587, definition 1.) One forward pass with tangents gives the loss and grad L . v exactly, so the
estimate is unbiased with no finite difference; nothing is kept for a backward pass. Its second moment is
(d + m + 1) / m times that of the gradient for normal v and d parameters, so the step must be smaller by that
factor (the analysis of arXiv 2506.21833).
"""

from functools import partial

import torch
from torch import Tensor
from torch.autograd import forward_ad

from edgewise.capture import Trace
from edgewise.capture.directions import along, direction
from edgewise.capture.estimates import Estimate, Forward, Parameters, trace_estimate
from edgewise.methods.settings import ForwardGradient
from edgewise.methods.spsa import streams_of


def trace(settings: ForwardGradient) -> Trace:
    """The step of forward gradients as a trace for `capture`."""
    return partial(trace_estimate, estimator=partial(estimate, settings=settings))


def estimate(
    forward: Forward, parameters: Parameters, _: dict[str, Tensor], *, settings: ForwardGradient
) -> Estimate:
    """Loss: that of the last pass, all are the same."""
    streams = streams_of(parameters, settings.directions)
    slopes = []
    with torch.no_grad():
        for i in range(settings.directions):
            with forward_ad.dual_level():
                duals = {
                    n: forward_ad.make_dual(w, direction(w, streams[n][i], settings.law))  # type: ignore[no-untyped-call]
                    for n, w in parameters.items()
                }
                loss, slope = forward_ad.unpack_dual(forward(duals, keep=i == 0).reshape(()))  # type: ignore[no-untyped-call]
            slopes.append(torch.zeros_like(loss) if slope is None else slope)
        c = torch.stack(slopes) / settings.directions
        gradients = {n: along(c, w, streams[n], settings.law) for n, w in parameters.items()}
    return Estimate(loss, gradients, {"coefficients": c})
