"""ElasticZO: the head by backpropagation, the body by zeroth order (arXiv 2501.04287).

Both share the two passes at w + eps z and w - eps z of each direction, where z moves the body only. The
head's gradient is the mean of those of all passes, which is its exact gradient up to eps^2; the body's is
SPSA's. Only the head's activations are kept for a backward pass.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from edgewise.capture import JointGraph, Loss, Trace
from edgewise.capture.directions import along, perturbed
from edgewise.capture.estimates import Estimate, Forward, Parameters, trace_estimate
from edgewise.errors import UsageError
from edgewise.methods.settings import Elastic
from edgewise.methods.slopes import streams_of


def trace(settings: Elastic) -> Trace:
    """The step of ElasticZO as a trace for `capture`."""
    return partial(_trace, settings=settings)


def head_of(model: nn.Module, settings: Elastic) -> tuple[str, ...]:
    """Names of the parameters that get their gradient by backprop: `head`, or else the last module with any.

    Raises:
        UsageError: a path in `head` has no trainable parameters, or nothing is left for the body.
    """
    trainable = [name for name, p in model.named_parameters() if p.requires_grad]
    paths = settings.head or (trainable[-1].rpartition(".")[0],)
    for path in paths:
        if not any(_below(name, path) for name in trainable):
            modules = ", ".join(f"`{name.rpartition('.')[0]}`" for name in trainable[::-1][:8])
            raise UsageError(
                f"Method elastic: `{path}` in `head` has no trainable parameters. "
                f"Name a module such as {modules}."
            )
    return tuple(name for name in trainable if any(_below(name, path) for path in paths))


def _below(name: str, path: str) -> bool:
    return not path or name == path or name.startswith(f"{path}.")


def _trace(model: nn.Module, loss: Loss, batch: tuple[Any, Any], settings: Elastic) -> JointGraph:
    estimator = partial(estimate, settings=settings, head=head_of(model, settings))
    return trace_estimate(model, loss, batch, estimator)


def estimate(
    forward: Forward,
    parameters: Parameters,
    _: dict[str, Tensor],
    *,
    settings: Elastic,
    head: tuple[str, ...],
) -> Estimate:
    """Loss: the mean of all that were evaluated."""
    body = {n: w for n, w in parameters.items() if n not in head}
    ends = [parameters[n] for n in head]
    streams = streams_of(body, settings.directions)
    losses: list[Tensor] = []
    coefficients: list[Tensor] = []
    sums = [torch.zeros_like(w) for w in ends]
    for i in range(settings.directions):
        pair: list[Tensor] = []
        for scale in (settings.epsilon, -settings.epsilon):
            with torch.no_grad():
                moved = {n: perturbed(w, streams[n][i], settings.law, scale) for n, w in body.items()}
            loss = forward(moved, keep=not losses and not pair).reshape(())
            sums = [s + g for s, g in zip(sums, torch.autograd.grad(loss, ends), strict=True)]
            pair.append(loss.detach())
        losses += pair
        coefficients.append((pair[0] - pair[1]) / (2 * settings.epsilon))
    with torch.no_grad():
        c = torch.stack(coefficients) / settings.directions
        gradients = {n: along(c, w, streams[n], settings.law) for n, w in body.items()}
        gradients |= {n: s / len(losses) for n, s in zip(head, sums, strict=True)}
    return Estimate(torch.stack(losses).mean(), gradients, {"coefficients": c})
