"""How many steps fine-tuning will take, without taking them (arXiv 2008.12478, linearized dynamics).

Near its pretrained weights a network is about linear in them: f(w) = f(w_0) + J (w - w_0). Then under
gradient descent of rate eta on the mean squared error of N numbers, the residuals r = f - y follow

    r_{t+1} = (1 - 2 eta / N  J J^T) r_t

and the whole course of the loss follows from the eigenvalues of J J^T, the Gram matrix of the gradients of
the single outputs, and from r_0: exact for a linear model, for a network as good as the linearization. The
paper finds the true number of steps within 20% for most fine-tuning runs; its stochastic part, the noise of
mini-batches, is left out here, and a sample of the data may stand for all of it (the curve is that of the
sample).

Use: before a long run on a slow device, to see whether a rate reaches the wanted loss at all, after how many
steps, and so for how many joules, at the price of one gradient for each output of the sample.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgewise.capture.calling import call_with
from edgewise.errors import UsageError

LIMIT = 1 << 40
"""No prediction goes beyond so many steps."""


@dataclass(frozen=True)
class Course:
    """The predicted loss: `shares` of it fall by `factors` squared with each step (both float64)."""

    factors: Tensor
    shares: Tensor

    def loss(self, step: int) -> float:
        """Mean squared error after `step` steps."""
        return float((self.shares * self.factors.abs().pow(2 * step)).sum())

    def steps_to(self, loss: float) -> int | None:
        """The first step after which the loss is at most `loss`; `None` if it never is."""
        if self.loss(0) <= loss:
            return 0
        late = 1
        while self.loss(late) > loss:
            late *= 2
            if late > LIMIT:
                return None
        early = late // 2
        while late - early > 1:
            middle = (early + late) // 2
            early, late = (early, middle) if self.loss(middle) <= loss else (middle, late)
        return late


def predicted_course(model: nn.Module, batch: tuple[Tensor, Tensor], rate: float) -> Course:
    """The course of the mean squared error on `batch` under gradient descent of `rate`.

    Args:
        model: in evaluation mode, at the weights that training begins with.
        batch: inputs, and targets of the shape of the model's results.
        rate: that of plain gradient descent on all of `batch`.

    Raises:
        UsageError: the targets have another shape; or the rate is so large that the loss would grow.
    """
    inputs, targets = batch
    parameters = {name: w.detach() for name, w in model.named_parameters() if w.requires_grad}

    def results(own: dict[str, Tensor]) -> Tensor:
        made: Tensor = call_with(model, own, inputs)
        return made

    found = results(parameters).detach()
    if found.shape != targets.shape:
        raise UsageError(
            f"Targets of shape {tuple(targets.shape)} are not what the model makes, {tuple(found.shape)}. "
            "Give one number for each (classes as one-hot vectors)."
        )
    residuals = (found - targets).double().reshape(-1)
    jacobian = torch.func.jacrev(results)(parameters)
    rows = torch.cat([part.reshape(len(residuals), -1) for part in jacobian.values()], dim=1).double()
    values, vectors = torch.linalg.eigh(rows @ rows.T)
    factors = 1 - 2 * rate / len(residuals) * values
    if float(factors.min()) < -1:
        bound = len(residuals) / float(values.max())
        raise UsageError(f"At a rate of {rate:g} the loss would grow. Take one below {bound:.3g}.")
    return Course(factors, (vectors.T @ residuals).square() / len(residuals))
