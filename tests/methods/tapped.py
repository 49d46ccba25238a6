"""Models with blocks, their steps from states of choice, and the paper's replicated losses."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgewise.capture import Captured
from edgewise.methods import Method
from edgewise.methods.local_losses import head_name
from edgewise.plan import plain_plan
from edgewise.run import Executor
from edgewise.zoo import build_model
from tests.methods.steps import captured_by
from tests.support import DEVICE

BLOCKS = ("blocks.0", "blocks.1")


def mixer() -> nn.Module:
    """Two blocks, four positions, two groups of three channels."""
    sizes = {"size": 4, "patches": 2, "width": 6, "groups": 2, "blocks": 2, "classes": 3}
    return build_model("local-mixer", sizes).train()


def images(samples: int = 3, size: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(samples, 1, size, size, generator=generator), torch.arange(samples) % 3


@cache
def mixer_by(method: Method) -> tuple[Captured, dict[str, Tensor]]:
    """The step of a mixer's own, whose weights no test may change, and heads for it."""
    captured = captured_by(method, mixer(), images())
    return captured, with_heads(captured)


def with_heads(captured: Captured, scale: float = 1.0) -> dict[str, Tensor]:
    """Heads that are not zero, so that local losses have gradients."""
    generator = torch.Generator().manual_seed(2)
    heads = sorted(name for name in captured.states if name.startswith("local_heads."))
    shapes = {name: captured.graph.value[name].shape for name in heads}
    return {name: scale * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def gradients_at(
    captured: Captured, batch: Any, heads: dict[str, Tensor], steps: int = 1
) -> Iterator[dict[str, Tensor]]:
    """Gradients of several steps, each from the model's weights and these heads."""
    with Executor(captured, plain_plan(captured.graph, DEVICE), DEVICE) as executor:
        before = {**executor.state(), **heads}
        for step in range(steps):
            executor.load_state(before)
            executor.step(batch, step)
            after = executor.state()
            yield {name: before[name] - after[name] for name in before}
        executor.load_state(before)


def replicated(
    y_BPD: Tensor, heads: dict[str, Tensor], block: str, targets: Tensor, groups: int
) -> list[list[Tensor]]:
    """L_pg of each position and group: the loss of the whole, all but (p, g) constant."""
    y_BPGC = y_BPD.unflatten(2, (groups, -1))
    losses = []
    for p in range(y_BPGC.shape[1]):
        row = []
        for g in range(groups):
            mask = torch.zeros(*y_BPGC.shape[1:3], 1)
            mask[p, g] = 1
            mixed_BPD = (mask * y_BPGC + (1 - mask) * y_BPGC.detach()).flatten(2)
            x_BD = F.layer_norm(mixed_BPD.mean(1), mixed_BPD.shape[2:])
            scores = F.linear(x_BD, heads[head_name(block, "weight")], heads[head_name(block, "bias")])
            row.append(F.cross_entropy(scores, targets))
        losses.append(row)
    return losses
