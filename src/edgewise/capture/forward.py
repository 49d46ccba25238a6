"""The forward pass alone, as it is used once the model is trained: a Graph like any other."""

from typing import Any

import torch
from torch import Tensor, nn

from edgewise.capture.calling import call_with
from edgewise.capture.joint import JointGraph, Loss, LossModule, export
from edgewise.capture.modes import in_evaluation
from edgewise.capture.optimizers import SGD
from edgewise.capture.step import Captured, capture
from edgewise.errors import UsageError


class SeveralOutputs(UsageError):
    """The model returns something of which no one tensor is the output."""


class _Inference(LossModule):
    """`forward(*batch leaves) -> (output,)`, without a gradient."""

    def forward(self, *leaves: Tensor) -> tuple[Tensor, ...]:
        """The model's output, or its logits, in a storage of its own."""
        with torch.no_grad():
            output = call_with(self._hidden[0], self.held(), self.batch_of(leaves)[0])
        found = getattr(output, "logits", output)
        if not isinstance(found, Tensor):
            raise SeveralOutputs(
                f"Inference has one output, but the model returns a {type(output).__name__}. "
                "Wrap the model in one whose forward returns the tensor that is wanted."
            )
        return (found.clone(memory_format=torch.contiguous_format),)


def capture_forward(model: nn.Module, example_batch: tuple[Any, Any], *, name: str | None = None) -> Captured:
    """Capture the forward pass of `model` in evaluation mode; `Captured.loss` reads its output.

    The model is left in the mode it is in. Values have the names that `capture` gives them in training, so
    that both can share their weights.

    Raises:
        SeveralOutputs: the model returns neither a tensor nor something with `logits`.
        ModelUnsupported: the model has parts that cannot be captured, all named with their module paths.
    """
    with in_evaluation(model):
        return capture(model, "mse", SGD(lr=0.0), example_batch, name=name, trace=_trace)


def _trace(model: nn.Module, loss: Loss, batch: tuple[Any, Any]) -> JointGraph:
    return export(model, _Inference(model, loss, batch))[0]
