"""Simultaneous perturbation: the gradient along random directions, from two losses each.

    g = 1/m sum_i c_i z_i        c_i = [L(w + eps z_i) - L(w - eps z_i)] / (2 eps)

(Spall 1992; with directions drawn again from a seed, MeZO, arXiv 2305.17333.) With `sign`, c_i is the sign of
the difference (sign-m-SPSA, arXiv 2411.04036, equation 3). No direction is stored: w + eps z is made layer by
layer as the pass comes to it, from w, which never changes before its update, so nothing has to be restored
and nothing drifts; and the update takes c_i z_i piece by piece. What is left is the memory of inference and
one layer's weights. The notes hold the `coefficients` c_i: with the seed, they are the whole step.

`in_place` is MeZO as published: w itself moves, w -> w + eps z -> w - eps z -> w - lr g, the way back being
part of the update. No copy of a layer is there, but three sums round: a step of an element w errs by at most
3 (|w| + eps) 2^-24 in single precision, each time anew, and a step that is interrupted leaves weights to be
loaded again. The reference code of arXiv 2506.21833 adds a direction on the way back that is not the one it
came by, so that its weights walk by eps sqrt(2) a step, and perturbs by loading a whole copy of them.
"""

from collections.abc import Iterator
from functools import partial

import torch

from edgewise.capture import Trace
from edgewise.capture.directions import nudged, perturbed
from edgewise.capture.estimates import Forward, Parameters
from edgewise.methods import slopes
from edgewise.methods.settings import Spsa
from edgewise.methods.slopes import Measured, Streams


def trace(settings: Spsa) -> Trace:
    """The step of SPSA as a trace for `capture`."""
    return partial(slopes.trace, measure=_measure, settings=settings)


def _measure(
    forward: Forward,
    streams: Streams,
    settings: Spsa,
    parameters: Parameters,
    thresholds: Parameters,
    *,
    keep: bool,
) -> Measured:
    """Two losses for each direction; the loss is the mean of all."""
    moves = _moved_in_place if settings.in_place else _moved
    places = moves(parameters, streams, settings, thresholds)  # one by one: each may be gone with the next
    losses = [forward(next(places), keep=keep and i == 0).reshape(()) for i in range(2 * settings.directions)]
    differences = [plus - minus for plus, minus in zip(losses[::2], losses[1::2], strict=True)]
    each = [d.sign() if settings.sign else d / (2 * settings.epsilon) for d in differences]
    return Measured(torch.stack(losses).mean(), torch.stack(each) / settings.directions, next(places))


def _moved(
    parameters: Parameters, streams: Streams, settings: Spsa, thresholds: Parameters
) -> Iterator[Parameters]:
    """The weights w + eps z_i and w - eps z_i for each direction, then w."""
    for i in range(settings.directions):
        for scale in (settings.epsilon, -settings.epsilon):
            yield {
                n: perturbed(w, streams[n][i], settings.law, scale, thresholds.get(n))
                for n, w in parameters.items()
            }
    yield parameters


def _moved_in_place(
    parameters: Parameters, streams: Streams, settings: Spsa, _: Parameters
) -> Iterator[Parameters]:
    """The same, each in the place of the one before."""
    now, eps, law = parameters, settings.epsilon, settings.law
    for i in range(settings.directions):
        back = [i - 1] if i else []
        now = {
            n: nudged(w, [streams[n][j] for j in (*back, i)], law, [eps] * (len(back) + 1))
            for n, w in now.items()
        }
        yield now
        now = {n: nudged(w, [streams[n][i]], law, [-2 * eps]) for n, w in now.items()}
        yield now
    yield {n: nudged(w, [streams[n][-1]], law, [eps]) for n, w in now.items()}
