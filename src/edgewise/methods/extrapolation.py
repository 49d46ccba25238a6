"""Extrapolated gradients: the gradient at where a step would lead, applied where one stands.

    w' = w - rho g(w; B)        g = g(w'; B)

(Extrap-SGD, arXiv 2006.05720, algorithm 1, with the batch at hand for the extrapolation, as each worker has
it there.) Of a quadratic loss with Hessian H this is (1 - rho H) g(w): steep directions are damped before the
optimizer sees them, so that larger steps are stable, which large batches need. Price: a second forward and
backward pass, whose activations take the place of the first one's, and the weights w', layer by layer.
"""

from functools import partial

import torch
from torch import Tensor

from edgewise.capture import Trace
from edgewise.capture.estimates import Estimate, Forward, Parameters, trace_estimate
from edgewise.methods.settings import Extrapolated


def trace(settings: Extrapolated) -> Trace:
    """The step of extrapolated gradients as a trace for `capture`."""
    return partial(trace_estimate, estimator=partial(estimate, settings=settings))


def estimate(
    forward: Forward, parameters: Parameters, _: dict[str, Tensor], *, settings: Extrapolated
) -> Estimate:
    """Loss: that of the first pass."""
    loss = forward(parameters, keep=True)
    first = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    ahead = {
        name: (w if g is None else w - settings.rate * g).detach().requires_grad_()
        for (name, w), g in zip(parameters.items(), first, strict=True)
    }
    second = torch.autograd.grad(forward(ahead), list(ahead.values()), allow_unused=True)
    gradients = {name: g for name, g in zip(ahead, second, strict=True) if g is not None}
    return Estimate(loss, gradients)
