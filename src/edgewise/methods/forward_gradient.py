"""Forward gradients: the directional derivative along random directions, by forward-mode differentiation.

    g = 1/m sum_i (grad L . v_i) v_i

(arXiv 2202.08587, definition 1.) One forward pass with tangents gives the loss and grad L . v exactly, so the
estimate is unbiased with no finite difference; nothing is kept for a backward pass. Its second moment is
(d + m + 1) / m times that of the gradient for normal v and d parameters, so the step must be smaller by that
factor (the analysis of arXiv 2506.21833).
"""

from functools import partial

import torch
from torch.autograd import forward_ad

from edgewise.capture import Trace
from edgewise.capture.directions import direction
from edgewise.capture.estimates import Forward, Parameters
from edgewise.methods import slopes
from edgewise.methods.settings import ForwardGradient
from edgewise.methods.slopes import Measured, Streams


def trace(settings: ForwardGradient) -> Trace:
    """The step of forward gradients as a trace for `capture`."""
    return partial(slopes.trace, measure=_measure, settings=settings)


def _measure(
    forward: Forward,
    streams: Streams,
    settings: ForwardGradient,
    parameters: Parameters,
    thresholds: Parameters,
    *,
    keep: bool,
) -> Measured:
    """One pass with tangents for each direction; the loss is that of the last, all are the same."""
    each = []
    for i in range(settings.directions):
        v = {n: direction(w, streams[n][i], settings.law, thresholds.get(n)) for n, w in parameters.items()}
        with forward_ad.dual_level():
            duals = {n: forward_ad.make_dual(w, v[n]) for n, w in parameters.items()}  # type: ignore[no-untyped-call]
            loss, slope = forward_ad.unpack_dual(forward(duals, keep=keep and i == 0).reshape(()))  # type: ignore[no-untyped-call]
        each.append(torch.zeros_like(loss) if slope is None else slope)
    return Measured(loss, torch.stack(each) / settings.directions, parameters)
