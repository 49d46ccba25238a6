"""Ordinary eager PyTorch training, with the keyed draws of Edgewise in the place of PyTorch's generator."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from edgewise.capture import SGD, Optimizer, philox
from edgewise.capture.calling import call_arguments
from edgewise.zoo import resolve_loss

aten = torch.ops.aten
MATH = SDPBackend.MATH


class KeyedDraws(TorchDispatchMode):
    """Every draw of an eager forward pass gets the numbers that a captured step draws there."""

    def __init__(self, step: int, seed: int = 0) -> None:
        super().__init__()
        self.step, self.seed, self.stream = step, seed, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.nondeterministic_seeded not in func.tags or _draws_nothing(func, args):
            return func(*args, **(kwargs or {}))
        assert func in (aten.bernoulli_.float, aten.rand.default), func
        stream, self.stream = self.stream, self.stream + 1
        if func is aten.rand.default:
            return philox.uniform(tuple(args[0]), torch.float32, self.step, stream, self.seed)
        tensor, keep = (*args, 0.5)[:2]
        drawn = philox.bernoulli(tuple(tensor.shape), keep, tensor.dtype, self.step, stream, self.seed)
        return tensor.copy_(drawn)


def _draws_nothing(func: Any, args: Any) -> bool:
    """Flash attention is tagged as random, but draws only for dropout."""
    flash = func is aten._scaled_dot_product_flash_attention_for_cpu.default
    return flash and (len(args) < 4 or args[3] == 0.0)


def torch_optimizer(optimizer: Optimizer, model: nn.Module) -> torch.optim.Optimizer:
    """PyTorch's own optimizer with the same settings, one tensor at a time."""
    if isinstance(optimizer, SGD):
        settings = {"momentum": optimizer.momentum, "weight_decay": optimizer.weight_decay}
        return torch.optim.SGD(model.parameters(), optimizer.lr, **settings, foreach=False)
    settings = {"betas": optimizer.betas, "eps": optimizer.eps, "weight_decay": optimizer.weight_decay}
    return torch.optim.AdamW(model.parameters(), optimizer.lr, **settings, foreach=False)


def train_eagerly(
    model: nn.Module, loss: Any, optimizer: Optimizer, batches: Sequence[Any], *, backends: Any = MATH
) -> tuple[list[float], dict[str, Tensor]]:
    """Losses, and parameters, buffers and optimizer states by the names that Edgewise gives them.

    Attention runs by its parts, as in a captured step: the gradient of a key's bias is nothing but rounding,
    so no two ways to compute it agree.
    """
    model, loss = copy.deepcopy((model, resolve_loss(loss)))
    theirs = torch_optimizer(optimizer, model)
    losses = []
    for step, (inputs, targets) in enumerate(batches):
        args, kwargs = call_arguments(inputs)
        with sdpa_kernel(backends), KeyedDraws(step):
            value = loss(model(*args, **kwargs), targets)
        theirs.zero_grad()
        value.backward()
        theirs.step()
        losses.append(value.item())
    state = {name: tensor.detach() for name, tensor in model.named_parameters()}
    renamed = {"momentum_buffer": "momentum"}
    for name, parameter in model.named_parameters():
        for key, tensor in theirs.state[parameter].items():
            if key != "step" and tensor is not None:
                state[f"{name}.{renamed.get(key, key)}"] = tensor
    return losses, {**state, **dict(model.named_buffers())}


def relative_difference(ours: Tensor, theirs: Tensor) -> float:
    """`||ours - theirs|| / ||theirs||`, in float64; differences below 1e-12 of nothing count as none."""
    a, b = ours.double(), theirs.double()
    return float((a - b).norm() / (b.norm() + 1e-12))
