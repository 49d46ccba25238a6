"""Simultaneous perturbation: the gradient along random directions, from two losses each.

    g = 1/m sum_i c_i z_i        c_i = [L(w + eps z_i) - L(w - eps z_i)] / (2 eps)

(Spall 1992; with directions drawn again from a seed, MeZO, arXiv 2305.17333.) With `sign`, c_i is the sign of
the difference (sign-m-SPSA, arXiv 2411.04036, equation 3). No direction is stored: w + eps z is made layer by
layer as the pass comes to it, from w, which never changes before its update, so nothing has to be restored
and nothing drifts; and the update takes c_i z_i piece by piece. What is left is the memory of inference and
one layer's weights. The notes hold the `coefficients` c_i: with the seed, they are the whole step.
"""

from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor

from edgewise.capture import Trace
from edgewise.capture.directions import FIRST_STREAM, along, perturbed
from edgewise.capture.estimates import Estimate, Forward, Parameters, trace_estimate
from edgewise.methods.settings import Spsa


def trace(settings: Spsa) -> Trace:
    """The step of SPSA as a trace for `capture`."""
    return partial(trace_estimate, estimator=partial(estimate, settings=settings))


def streams_of(names: Iterable[str], directions: int) -> dict[str, list[int]]:
    """For each parameter the stream of each direction; the same for the same parameters in order."""
    listed = list(names)
    return {
        name: [FIRST_STREAM + len(listed) * i + index for i in range(directions)]
        for index, name in enumerate(listed)
    }


def estimate(forward: Forward, parameters: Parameters, _: dict[str, Tensor], *, settings: Spsa) -> Estimate:
    """Loss: the mean of all that were evaluated."""
    streams = streams_of(parameters, settings.directions)
    losses: list[Tensor] = []
    coefficients: list[Tensor] = []
    with torch.no_grad():
        for i in range(settings.directions):
            pair: list[Tensor] = []
            for scale in (settings.epsilon, -settings.epsilon):
                moved = {n: perturbed(w, streams[n][i], settings.law, scale) for n, w in parameters.items()}
                pair.append(forward(moved, keep=not losses and not pair).reshape(()))
            losses += pair
            difference = pair[0] - pair[1]
            coefficients.append(difference.sign() if settings.sign else difference / (2 * settings.epsilon))
        c = torch.stack(coefficients) / settings.directions
        gradients = {n: along(c, w, streams[n], settings.law) for n, w in parameters.items()}
    return Estimate(torch.stack(losses).mean(), gradients, {"coefficients": c})
