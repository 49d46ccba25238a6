"""Sparse update: backpropagation for chosen layers, biases and channels only (MCUNetV3, arXiv 2206.15472).

What is not trained has no gradient node, so it is neither computed nor stored, and the backward pass ends at
the earliest layer that is trained. Of a weight with a share r of its output channels, these channels have a
gradient, optimizer states and an update; the other rows keep their bits, whatever the optimizer.
Layers that the gradient only passes through keep nothing but masks (`capture/frozen.py`). Biases are cheap:
their gradient is a sum of the layer's output gradient and reads no activation.

`methods/selector.py` chooses what to train under a budget.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn

from edgewise.capture import JointGraph, Loss, Trace
from edgewise.capture.channels import keep_rows, runs_of
from edgewise.capture.frozen import keep_less
from edgewise.capture.joint import trace_joint
from edgewise.errors import ModelUnsupported, UsageError
from edgewise.methods.settings import Channels, SparseUpdate


def trace(settings: SparseUpdate) -> Trace:
    """The step of sparse update as a trace for `capture`."""
    return partial(_trace, settings=settings)


def chosen(model: nn.Module, settings: SparseUpdate) -> dict[str, Channels]:
    """Names of the parameters to be trained, each with a share of its rows or the rows themselves.

    Raises:
        UsageError: a path has nothing of the kind to be trained, a row is not there, or nothing is left.
    """
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    weights = [name for name, p in trainable.items() if p.dim() > 1]
    biases = [name for name, p in trainable.items() if p.dim() <= 1]
    found: dict[str, Channels] = {}
    for path, channels in settings.weights.items():
        for name in _below(path, weights, "weights"):
            if isinstance(channels, tuple) and channels[-1] >= len(trainable[name]):
                raise UsageError(
                    f"Method sparse-update: `{path}` in `weights` names channel {channels[-1]}, but "
                    f"`{name}` has {len(trainable[name])}, counted from 0."
                )
            found[name] = channels
    for path in settings.biases:
        found.update(dict.fromkeys(_below(path, biases, "biases"), 1.0))
    if not found:
        raise UsageError(
            "Method sparse-update: neither `weights` nor `biases` names anything to be trained. "
            'Name modules, or "" for the whole model, or let `edgewise.methods.select` choose.'
        )
    return found


def rows_of(channels: Channels, count: int) -> list[int]:
    """Indices of the rows to be trained among `count`: those named, or the first `share`, at least one."""
    return list(channels) if isinstance(channels, tuple) else list(range(max(1, round(channels * count))))


def _below(path: str, names: list[str], what: str) -> list[str]:
    found = [n for n in names if not path or n == path or n.startswith(f"{path}.")]
    if found:
        return found
    known = dict.fromkeys(name.rpartition(".")[0] for name in names)
    listed = ", ".join(f"`{name}`" for name in list(known)[::-1][:8])
    hint = f"Name a module such as {listed}." if known else "The model has none at all."
    raise UsageError(f"Method sparse-update: `{path}` in `{what}` has no {what} to be trained. {hint}")


def _trace(model: nn.Module, loss: Loss, batch: tuple[Any, Any], settings: SparseUpdate) -> JointGraph:
    wanted = chosen(model, settings)
    with trained_alone(model, wanted):
        joint = trace_joint(model, loss, batch)
    counts = {name: len(p) for name, p in model.named_parameters() if name in wanted and p.dim()}
    parts = []
    for name in sorted(set(wanted) & set(joint.gradients)):
        rows = rows_of(wanted[name], counts.get(name, 1))
        if len(rows) < counts.get(name, 1):
            problem = keep_rows(joint, name, runs_of(rows))
            if problem:
                parts.append(f"{name}: {problem}")
    if parts:
        listed = "\n".join(f"  {part}" for part in parts)
        raise ModelUnsupported(
            f"{type(model).__name__} cannot be trained on these channels because of {len(parts)} part(s):\n"
            f"{listed}\nGive these a share of 1.",
            parts=tuple(parts),
        )
    keep_less(joint)
    return joint


@contextmanager
def trained_alone(model: nn.Module, wanted: Collection[str]) -> Iterator[None]:
    """All parameters but those `wanted` frozen."""
    others = [p for name, p in model.named_parameters() if p.requires_grad and name not in wanted]
    for parameter in others:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in others:
            parameter.requires_grad_(True)
