"""Which training samples helped or harmed a prediction: TracIn on the last layer (arXiv 2002.08484).

    TracInCP(z, z') = sum_c eta_c grad l(w_c, z) . grad l(w_c, z')

over checkpoints c, each of learning rate eta_c. For a linear last layer, whose gradient of a sample is the
outer product of its error e (the gradient of its loss by the scores) and its activations a, the inner product
of two samples' gradients is (a . a' + 1)(e . e'), the 1 being the bias. So scores of many pairs need one
forward pass a sample and no backward pass at all, and a and e may be kept instead of data.

Use: samples of a high score with others of their class's tests taught it; a training sample with a strongly
negative score with tests of its label is often mislabelled; of samples to keep in a small memory, those with
the highest scores by themselves (|a|^2 |e|^2) still teach the most.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgewise.errors import UsageError


@dataclass(frozen=True)
class Ends:
    """What the last layer saw of N samples: `activations` [N, A], and `errors` by its C scores [N, C]."""

    activations: Tensor
    errors: Tensor
    has_bias: bool


def ends(model: nn.Module, head: str, loss: Callable[[Any, Any], Tensor], batch: tuple[Any, Tensor]) -> Ends:
    """Activations and errors of the samples of `batch` at the last layer `head`, a linear one.

    Args:
        model: in evaluation mode, or samples would depend on one another.
        head: module path of the last layer.
        loss: `(scores, targets) -> mean over the samples`.
        batch: inputs (called as one argument) and targets.

    Raises:
        UsageError: `head` is no linear layer, or not where the scores come from.
    """
    layer = dict(model.named_modules()).get(head)
    if not isinstance(layer, nn.Linear):
        raise UsageError(f"TracIn: `{head}` is {type(layer).__name__}, no linear layer. Name the last one.")
    seen: list[tuple[Tensor, Tensor]] = []
    handle = layer.register_forward_hook(lambda _, args, result: seen.append((args[0], result)))
    try:
        with torch.no_grad():
            scores = model(batch[0])
    finally:
        handle.remove()
    if len(seen) != 1 or seen[0][1] is not scores or scores.dim() != 2:
        raise UsageError(f"TracIn: what `{head}` makes is not the model's result. Name the last layer.")
    leaf = scores.detach().requires_grad_()
    (errors,) = torch.autograd.grad(loss(leaf, batch[1]) * len(leaf), leaf)
    return Ends(seen[0][0].detach(), errors, layer.bias is not None)


def scores(train: Ends, test: Ends, rate: float) -> Tensor:
    """One checkpoint's share of TracIn for each pair, `[N_train, N_test]`; sum it over checkpoints.

    Args:
        train: of the training samples, at the checkpoint.
        test: of the samples whose loss is to be explained, at the same checkpoint.
        rate: the learning rate in use there.
    """
    products = train.activations @ test.activations.T
    return rate * (products + float(train.has_bias)) * (train.errors @ test.errors.T)
