"""Optimizer updates as ops of the graph: one per parameter, so that a gradient need not outlive its update.

Each update does exactly the operations of PyTorch's single-tensor implementation in the same order (2.13.0,
torch/optim/sgd.py and adamw.py), so that the bits agree. States start at zero.
"""

from typing import Literal, Protocol

import msgspec
import torch
from torch import Tensor

from edgewise.errors import UsageError


class Optimizer(Protocol):
    """What capture needs to know of an optimizer."""

    @property
    def state_names(self) -> tuple[str, ...]:
        """Names of the states kept for each parameter, each of the parameter's shape."""

    @property
    def scratch(self) -> int:
        """Temporaries of the parameter's size that an update needs."""

    @property
    def skips_zeros(self) -> bool:
        """Whether an element whose gradient is zero stays as it is."""

    def update(self, parameter: Tensor, gradient: Tensor, states: dict[str, Tensor], step: int) -> None:
        """Change `parameter` and `states` in place; `gradient` is only read; `step` counts from 0."""


class SGD(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="sgd"):
    """Stochastic gradient descent, with momentum and weight decay as in `torch.optim.SGD`.

    `buffer = momentum * buffer + (gradient + weight_decay * parameter)`, `parameter -= lr * buffer`.
    """

    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _check_ranges(lr=self.lr, weight_decay=self.weight_decay)
        _check_fractions(momentum=self.momentum)

    @property
    def state_names(self) -> tuple[str, ...]:
        """`momentum`, if there is any."""
        return ("momentum",) if self.momentum else ()

    @property
    def scratch(self) -> int:
        """The decayed gradient."""
        return 1 if self.weight_decay else 0

    @property
    def skips_zeros(self) -> bool:
        """Unless momentum or decay go on without it."""
        return not (self.momentum or self.weight_decay)

    def update(self, parameter: Tensor, gradient: Tensor, states: dict[str, Tensor], step: int) -> None:
        """As `torch.optim.SGD`; the first step finds a zero momentum."""
        del step
        direction = gradient.add(parameter, alpha=self.weight_decay) if self.weight_decay else gradient
        if self.momentum:
            direction = states["momentum"].mul_(self.momentum).add_(direction)
        parameter.add_(direction, alpha=-self.lr)


class AdamW(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="adamw"):
    """Adam with decoupled weight decay (arXiv 1711.05101, algorithm 2), as in `torch.optim.AdamW`."""

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 1e-2

    def __post_init__(self) -> None:
        _check_ranges(lr=self.lr, weight_decay=self.weight_decay, eps=self.eps)
        _check_fractions(beta1=self.betas[0], beta2=self.betas[1])

    @property
    def state_names(self) -> tuple[str, ...]:
        """First and second moment."""
        return ("exp_avg", "exp_avg_sq")

    @property
    def scratch(self) -> int:
        """The denominator."""
        return 1

    @property
    def skips_zeros(self) -> bool:
        """Never: the moments go on."""
        return False

    def update(self, parameter: Tensor, gradient: Tensor, states: dict[str, Tensor], step: int) -> None:
        """As `torch.optim.AdamW`."""
        beta1, beta2 = self.betas
        correction1 = 1 - beta1 ** (step + 1)
        correction2 = 1 - beta2 ** (step + 1)
        if self.weight_decay:
            parameter.mul_(1 - self.lr * self.weight_decay)
        states["exp_avg"].lerp_(gradient, 1 - beta1)
        states["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        denominator = states["exp_avg_sq"].sqrt().div_(correction2**0.5).add_(self.eps)
        parameter.addcdiv_(states["exp_avg"], denominator, value=-(self.lr / correction1))


AnyOptimizer = SGD | AdamW
OptimizerKind = Literal["sgd", "adamw"]


def zero_states(optimizer: Optimizer, parameter: Tensor) -> dict[str, Tensor]:
    """The states of one parameter before the first step."""
    return {name: torch.zeros_like(parameter, requires_grad=False) for name in optimizer.state_names}


def _check_ranges(**figures: float) -> None:
    for name, figure in figures.items():
        if not 0 <= figure < float("inf"):
            raise UsageError(f"Optimizer: `{name}` is {figure}; it must be zero or positive.")


def _check_fractions(**figures: float) -> None:
    for name, figure in figures.items():
        if not 0 <= figure < 1:
            raise UsageError(f"Optimizer: `{name}` is {figure}; it must be in [0, 1).")
