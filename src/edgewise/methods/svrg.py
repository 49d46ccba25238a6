"""Variance reduction by snapshots, for slopes along random directions (Johnson and Zhang, NIPS 2013).

    g = z (c(w) - c(w~)) + mu        mu = 1/B sum_b c_b z_b

(arXiv 2506.21833, its SVRG variants.) Every `every` steps the weights are kept as w~. Each step measures its
slopes at w and at w~, of the same batch along the same directions; as long as w is near w~ the difference is
small, and most of the estimate is mu, which is the same in every step until the next snapshot.

mu is never a vector: of each of the B batches after a snapshot only the coefficients c_b at w~ are kept, and
z_b is drawn again from the number of its step. While they are collected the steps are plain ones, g = c(w) z,
so no pass over the data is spent on the snapshot alone; the schedule depends on the step's number only, so a
resumed run keeps it. Price: w~, twice the passes, and B + 1 draws of a direction for each update.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from edgewise.capture.directions import along_at, step_number
from edgewise.capture.estimates import Estimate, Parameters
from edgewise.capture.schedules import snapshot
from edgewise.methods.settings import Law, Svrg

PAIRS = "snapshot.coefficients"
"""State that holds c_b, `[batches, directions]`."""

Measure = Callable[[Parameters, bool], tuple[Tensor, Tensor]]
"""`(parameters, keep) -> loss and slopes`."""


def states_of(trainable: dict[str, Any], settings: Svrg, directions: int) -> dict[str, Tensor]:
    """The states of a step, all zero: w~ and the coefficients of mu."""
    kept = {f"{name}.snapshot": torch.zeros_like(w, requires_grad=False) for name, w in trainable.items()}
    return {**kept, PAIRS: torch.zeros(settings.batches, directions)}


def estimate(
    measure: Measure,
    parameters: Parameters,
    states: dict[str, Tensor],
    streams: dict[str, list[int]],
    settings: Svrg,
    law: Law,
) -> Estimate:
    """The notes hold the coefficients at w and at w~: with the seed and the weights, they are the step."""
    anchors = {n: snapshot(states[f"{n}.snapshot"], w, settings.every) for n, w in parameters.items()}
    loss, at_w = measure(parameters, True)
    _, at_snapshot = measure(anchors, False)
    measured = torch.stack((at_w, at_snapshot))
    c, steps = _terms(measured, states[PAIRS], step_number(loss), settings.every)
    gradients = {n: along_at(c, steps, w, ids * (settings.batches + 1), law) for n, w in parameters.items()
                 for ids in (streams[n],)}  # fmt: skip
    for name, anchor in anchors.items():
        states[f"{name}.snapshot"].copy_(anchor)
    return Estimate(loss, gradients, {"coefficients": measured})


def _terms(measured: Tensor, pairs: Tensor, step: Tensor, every: int) -> tuple[Tensor, Tensor]:
    """Coefficients of all directions of the estimate, and the steps that these are of.

    `pairs` is changed: it takes the coefficients of this step, if that is one of the first after a snapshot.
    """
    at_w, at_snapshot = measured.unbind()
    batches, directions = pairs.shape
    since = step % every
    order = torch.arange(batches)
    kept = torch.where((order == since).unsqueeze(1), at_snapshot, pairs)
    whole = (since >= batches).to(pairs.dtype)
    c = torch.cat((at_w - whole * at_snapshot, (whole / batches * kept).reshape(-1)))
    begun = (step - since + order).unsqueeze(1).expand(batches, directions).reshape(-1)
    pairs.copy_(kept)
    return c, torch.cat((step.expand(directions), begun))
