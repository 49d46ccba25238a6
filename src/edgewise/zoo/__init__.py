"""Models to train: a small zoo of our own, and the way to a user's model.

A zoo model is an ordinary `nn.Module` with two optional extras that a user's model may have as well: a method
`example_batch(batch) -> (inputs, targets)`, and a method or attribute `loss`.
"""

from edgewise.zoo.losses import LOSSES, Loss, resolve_loss
from edgewise.zoo.models import build_model, zoo_names
from edgewise.zoo.task import Batch, Inputs, Task, resolve_task

__all__ = [
    "LOSSES",
    "Batch",
    "Inputs",
    "Loss",
    "Task",
    "build_model",
    "resolve_loss",
    "resolve_task",
    "zoo_names",
]
