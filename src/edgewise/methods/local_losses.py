"""Local losses: each block of a model learns from a loss at its own end, and nothing goes back any further.

    x_i = block_i(SG(x_{i-1}))        L_i = loss(W_i norm(mean over positions of x_i) + b_i, targets)

(Block-wise losses of arXiv 2210.03310, section 4; SG stops gradients.) The parameters of a block get the
gradient of L_i, the layers behind the last block that of the model's own loss. The heads W_i, b_i are states
of the method, not of the model: they start at zero and are updated by the optimizer like parameters. A
block's gradients are made as soon as the pass has left it, so that only one block's activations are alive.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from edgewise.capture import JointGraph, Loss, Trace
from edgewise.capture.estimates import Estimate, Forward, Parameters, trace_estimate
from edgewise.methods.settings import LocalLosses
from edgewise.methods.taps import Listener, Survey, Taps, by_patches, check_blocks, survey


def trace(settings: LocalLosses) -> Trace:
    """The step of local losses as a trace for `capture`."""
    return partial(_trace, settings=settings)


def _trace(model: nn.Module, loss: Loss, batch: tuple[Any, Any], settings: LocalLosses) -> JointGraph:
    check_blocks(model, settings.blocks, "local-losses")
    owned = owners(model)
    taps = Taps(model, settings.blocks, tuple(owned))
    with taps.open():
        found = survey(taps, batch[0], "local-losses")
        estimator = partial(estimate, settings=settings, taps=taps, owned=owned)
        return trace_estimate(model, loss, batch, estimator, head_states(found))


def owners(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """The trainable parameters that each module holds itself, where it holds any."""
    names = {id(parameter): name for name, parameter in model.named_parameters() if parameter.requires_grad}
    held = {
        path: tuple(names[id(p)] for p in module.parameters(recurse=False) if id(p) in names)
        for path, module in model.named_modules()
    }
    return {path: own for path, own in held.items() if own}


def head_name(block: str, part: str) -> str:
    """Name of a state: `part` is `weight` or `bias` of the head of `block`."""
    return f"local_heads.{block}.{part}"


def head_states(found: Survey) -> dict[str, Tensor]:
    """A linear head for each block, [scores, channels] and [scores], all zero."""
    states = {}
    for block, features in found.features.items():
        channels, scores = by_patches(features).shape[2], found.output.shape[1]
        states[head_name(block, "weight")] = torch.zeros(scores, channels, dtype=features.dtype)
        states[head_name(block, "bias")] = torch.zeros(scores, dtype=features.dtype)
    return states


@dataclass(frozen=True)
class Head:
    """The head of a block, in a trace: its states, as leaves of a graph of their own."""

    forward: Forward
    names: tuple[str, str]
    tensors: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, block: str, forward: Forward, states: dict[str, Tensor]) -> "Head":
        """The head of `block`."""
        names = (head_name(block, "weight"), head_name(block, "bias"))
        weight, bias = (states[name].detach().requires_grad_() for name in names)
        return cls(forward, names, (weight, bias))

    def loss(self, features: Tensor) -> Tensor:
        """The local loss, one number."""
        x_BD = by_patches(features).mean(dim=1)
        return self.forward.loss(F.linear(F.layer_norm(x_BD, x_BD.shape[1:]), *self.tensors)).reshape(())


class _Local(Listener):
    """Takes the gradients of each segment at its end."""

    def __init__(
        self,
        forward: Forward,
        parameters: Parameters,
        states: dict[str, Tensor],
        owned: dict[str, tuple[str, ...]],
        *,
        stop: bool,
    ) -> None:
        self.forward, self.parameters, self.states, self.owned, self.stop = (
            forward,
            parameters,
            states,
            owned,
            stop,
        )
        self.losses: dict[str, Tensor] = {}
        self.gradients: dict[str, Tensor] = {}
        self._called: set[str] = set()
        self._heads: dict[str, Tensor] = {}

    def layer(self, path: str, output: Any) -> Any:
        """A parameter that is used again in a later segment learns from that one too."""
        self._called.update(self.owned[path])
        return output

    def block(self, path: str, output: Tensor) -> Tensor:
        """The head's loss, and at once what it gives, unless it is to reach further."""
        head = Head.of(path, self.forward, self.states)
        self.losses[path] = head.loss(output)
        self._heads.update(zip(head.names, head.tensors, strict=True))
        if not self.stop:
            return output
        self._take(self.losses[path])
        return output.detach()

    def close(self, loss: Tensor) -> None:
        """What the model's own loss gives, and all others that have not been asked."""
        self._take(loss if self.stop else loss + sum(self.losses.values()))

    def _take(self, loss: Tensor) -> None:
        """Parameters of the segment, and those of earlier ones that none of their losses reached."""
        free = {n: p for n, p in self.parameters.items() if n not in self.gradients or n in self._called}
        wanted = {**self._heads, **free}
        found = torch.autograd.grad(loss, list(wanted.values()), retain_graph=True, allow_unused=True)
        for name, gradient in zip(wanted, found, strict=True):
            if gradient is not None:
                known = self.gradients.get(name)
                self.gradients[name] = gradient if known is None else known + gradient
        self._called, self._heads = set(), {}


def estimate(
    forward: Forward,
    parameters: Parameters,
    states: dict[str, Tensor],
    *,
    settings: LocalLosses,
    taps: Taps,
    owned: dict[str, tuple[str, ...]],
) -> Estimate:
    """Loss: the model's own; the local ones are notes."""
    local = _Local(forward, parameters, states, owned, stop=settings.stop_gradients)
    taps.listener = local
    loss = forward(parameters, keep=True).reshape(())
    local.close(loss)
    notes = {f"local_loss.{block}": found.detach() for block, found in local.losses.items()}
    return Estimate(loss.detach(), local.gradients, notes)
