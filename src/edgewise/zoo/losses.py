"""Named losses over (output, targets), and the way from a name or a callable to a loss.

A loss returns a scalar: the mean over the batch. Outputs with an attribute `logits`, as models of the
transformers library return them, are looked into.
"""

import difflib
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from edgewise.errors import UsageError

Loss = Callable[[Any, Tensor], Tensor]


def logits_of(output: Any) -> Tensor:
    """The tensor in a model's output: the output itself, or its `logits`.

    Raises:
        UsageError: it is neither a tensor nor something with logits.
    """
    found = getattr(output, "logits", output)
    if isinstance(found, Tensor):
        return found
    raise UsageError(
        f"The model returns a {type(output).__name__}, neither a tensor nor something with `logits`. "
        "Give the model a method `loss(output, targets)`."
    )


def class_axis(logits: Tensor) -> int:
    """Axis of `logits` that runs over classes: 1, but the last of three, [B, T, C]: tokens, then classes."""
    return 2 if logits.ndim == 3 else 1


def cross_entropy(output: Any, targets: Tensor) -> Tensor:
    """Mean cross entropy of class scores against class indices.

    Scores [B, C] go with int64 targets [B]; [B, T, C] with [B, T]; [B, C, H, W] with [B, H, W]. Three-axis
    scores [B, C, T] are taken too, as long as C differs from T.

    Raises:
        UsageError: the shapes or the targets' dtype do not fit.
    """
    logits = logits_of(output)
    _check_classes(logits, targets)
    if logits.ndim == 3 and targets.shape == logits.shape[:2]:
        logits, targets = logits.flatten(0, 1), targets.flatten()
    return nn.functional.cross_entropy(logits, targets)


def _check_classes(logits: Tensor, targets: Tensor) -> None:
    shape = tuple(logits.shape)
    fitting = (shape[:1] + shape[2:], shape[:2]) if len(shape) == 3 else (shape[:1] + shape[2:],)
    if logits.ndim < 2 or tuple(targets.shape) not in fitting:
        raise UsageError(
            f"Loss `cross_entropy`: scores {list(shape)} and targets {list(targets.shape)} do not fit. "
            "It wants scores [B, C, ...] and class indices [B, ...]; for numbers use the loss `mse`."
        )
    if targets.is_floating_point():
        raise UsageError(
            f"Loss `cross_entropy`: targets are {str(targets.dtype).removeprefix('torch.')}, "
            "not class indices (int64). For numbers use the loss `mse`."
        )


def mse(output: Any, targets: Tensor) -> Tensor:
    """Mean squared error. An output [B, 1] goes with targets [B] as well.

    Raises:
        UsageError: the shapes differ. (Broadcasting [B, 1] against [B] would quietly compare all with all.)
    """
    found = logits_of(output)
    if found.ndim == targets.ndim + 1 and found.shape[-1] == 1:
        found = found.squeeze(-1)
    if found.shape != targets.shape:
        raise UsageError(
            f"Loss `mse`: output {list(found.shape)} and targets {list(targets.shape)} differ in shape."
        )
    return nn.functional.mse_loss(found, targets)


LOSSES: dict[str, Loss] = {"cross_entropy": cross_entropy, "mse": mse}


def resolve_loss(loss: str | Loss) -> Loss:
    """The loss of that name; a callable is returned as it is.

    Raises:
        UsageError: no loss has that name.
    """
    if not isinstance(loss, str):
        return loss
    if loss in LOSSES:
        return LOSSES[loss]
    near = difflib.get_close_matches(loss, LOSSES, n=1)
    hint = f"Did you mean `{near[0]}`?" if near else f"There are: {', '.join(LOSSES)}."
    raise UsageError(f"No loss `{loss}`. {hint}")
