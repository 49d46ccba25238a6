"""Task: a model with its loss and an example batch; all that capture needs to see of a training step."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgewise.errors import EdgewiseError, UsageError
from edgewise.zoo.inputs import derive_targets, parse_input_spec, random_inputs
from edgewise.zoo.losses import Loss, logits_of, resolve_loss
from edgewise.zoo.models import build_model

Inputs = Tensor | tuple[Tensor, ...] | dict[str, Tensor]
Batch = tuple[Inputs, Tensor]
DEFAULT_LOSS = "cross_entropy"


@dataclass(frozen=True)
class Task:
    """What is trained: the model in train mode, its loss, and one batch (inputs, targets).

    `loss` is a name from `LOSSES` or a callable `(output, targets) -> scalar`.
    """

    name: str
    model: nn.Module
    loss: str | Loss
    example_batch: Batch


def resolve_task(
    name: str,
    *,
    batch: int = 8,
    input_spec: str | None = None,
    args: Mapping[str, Any] | None = None,
    loss: str | None = None,
    example_batch: Batch | None = None,
    seed: int = 0,
) -> Task:
    """The task of training model `name` at batch size `batch`.

    The batch is, in this order: `example_batch` if given; random inputs of shape `input_spec`, with targets
    that fit what the model makes of them; what the model's own `example_batch(batch)` returns. The loss is
    `loss` if given, else the model's own, else `cross_entropy`.

    Args:
        name: a zoo name or `package.module:factory`.
        batch: samples in a batch.
        input_spec: `3x32x32` or `128:int64<30522`, see `parse_input_spec`.
        args: keyword arguments of the factory.
        loss: a name from `LOSSES`.
        example_batch: (inputs, targets) of real data.
        seed: decides the initial weights.

    Raises:
        UsageError: no such model, a broken factory, a bad spec, no input known, or shapes that do not fit.
    """
    if batch < 1:
        raise UsageError(f"Batch size {batch} is less than 1.")
    model = build_model(name, args, seed=seed)
    chosen = _loss_of(model, name, loss)
    found = example_batch or _example_batch(model, name, chosen, batch, input_spec)
    return Task(name, model.train(), chosen, found)


def _loss_of(model: nn.Module, name: str, given: str | None) -> str | Loss:
    own: Any = given if given is not None else getattr(model, "loss", DEFAULT_LOSS)
    if isinstance(own, str):
        resolve_loss(own)
        return own
    if callable(own):
        return own  # type: ignore[no-any-return]
    raise UsageError(
        f"Model `{name}`: its `loss` is a {type(own).__name__}. "
        "Make it a method `loss(output, targets)` or the name of a loss."
    )


def _example_batch(
    model: nn.Module, name: str, loss: str | Loss, batch: int, input_spec: str | None
) -> Batch:
    if input_spec is not None:
        return _batch_from_spec(model, name, loss, batch, input_spec)
    own = getattr(model, "example_batch", None)
    if own is None:
        raise UsageError(
            f"The input of `{name}` is not known. Write batch size and shape of one sample behind it, as in "
            f"`{name}@{batch}x3x32x32` or `{name}@{batch}x128:int64`, or give the model a method "
            "`example_batch(batch)`."
        )
    made = own(batch)
    if isinstance(made, tuple) and len(made) == 2 and isinstance(made[1], Tensor):
        return made
    raise UsageError(
        f"Model `{name}`: `example_batch` must return (inputs, targets), targets being a tensor."
    )


def _batch_from_spec(model: nn.Module, name: str, loss: str | Loss, batch: int, input_spec: str) -> Batch:
    inputs = random_inputs(parse_input_spec(input_spec), batch)
    own = getattr(model, "example_batch", None)
    try:
        with torch.no_grad():
            output = model.eval()(inputs)
    except EdgewiseError:
        raise
    except Exception as error:  # the model is the user's code and may raise anything
        raise UsageError(
            f"Model `{name}` does not take an input of `{input_spec}` at batch {batch}: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(loss, str) and own is not None:
        return inputs, own(batch)[1]
    return inputs, derive_targets(logits_of(output), loss if isinstance(loss, str) else DEFAULT_LOSS)
