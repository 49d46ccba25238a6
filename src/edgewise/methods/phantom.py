"""Phantom gradients for weight-tied networks that run to a fixed point (arXiv 2111.05177, unrolled form).

    z* = f(z*, u)            found by iterating, nothing kept
    z_0 = z*,   z_{t+1} = (1 - tau) z_t + tau f(z_t, u)        k steps, kept for the backward pass

The backward pass goes through the k damped steps only: with J = df/dz at z* it sees
tau sum_{t<k} (1 - tau + tau J)^t in the place of the inverse (1 - J)^-1 of the implicit gradient, which is
the sum's limit as k grows. So memory is that of k steps however many it took to arrive, and no linear system
is solved. Less damping (tau near 1) needs fewer steps where f contracts well; more keeps the sum from
diverging where some eigenvalue of J is near -1.

Use: in the place of a stack of equal layers, where activations do not fit; the weights are those of one.
"""

import torch
from torch import Tensor, nn

from edgewise.errors import UsageError


class FixedPoint(nn.Module):
    """`u -> z*` for a `cell(z, u)` whose result is of the shape of z, here that of u.

    Args:
        cell: f; it should contract in z, as with weights of norm below 1.
        iterations: steps towards z*, of which nothing is kept.
        steps: k, the damped steps that the gradient goes through.
        damping: tau, in (0, 1].
    """

    def __init__(self, cell: nn.Module, iterations: int = 20, steps: int = 5, damping: float = 0.5) -> None:
        super().__init__()
        if iterations < 0 or steps < 1 or not 0 < damping <= 1:
            raise UsageError(
                f"FixedPoint: {iterations} iterations, {steps} steps and a damping of {damping} give no "
                "gradient. Take at least one step, and a damping above 0 and up to 1."
            )
        self.cell, self.iterations, self.steps, self.damping = cell, iterations, steps, damping

    def forward(self, u: Tensor) -> Tensor:
        """The fixed point, as the last of the damped steps leaves it."""
        z = torch.zeros_like(u)
        with torch.no_grad():
            for _ in range(self.iterations):
                z = self.cell(z, u)
        z = z.detach()
        for _ in range(self.steps):
            z = (1 - self.damping) * z + self.damping * self.cell(z, u)
        return z
