"""Whether model, loss and data fit together: tried on one sample, before anything is captured or planned."""

import numpy as np
import torch

from edgewise.errors import EdgewiseError, UsageError
from edgewise.train.data import Dataset
from edgewise.zoo import Task, resolve_loss
from edgewise.zoo.losses import class_axis, cross_entropy, logits_of


def check_fit(task: Task, dataset: Dataset) -> None:
    """Run the model and its loss on one training sample.

    Raises:
        UsageError: the model does not take the samples, the loss not its output, or the data has more classes
            than the model tells apart.
    """
    inputs, targets = dataset.train.batch(np.arange(1))
    loss = resolve_loss(task.loss)
    with torch.no_grad():
        try:
            output = task.model.eval()(inputs)
        except Exception as error:  # the model is the user's code and may raise anything
            raise UsageError(
                f"Model `{task.name}` does not take the samples of {dataset.name}, {_shown(inputs)}: "
                f"{type(error).__name__}: {error}. Mend `model.args` or `data`."
            ) from error
        finally:
            task.model.train()
        if loss is cross_entropy and dataset.class_count is not None:
            _check_classes(task, dataset, output)
        try:
            loss(output, targets)
        except EdgewiseError:
            raise
        except Exception as error:  # a loss may be the user's code too
            raise UsageError(
                f"The loss of `{task.name}` does not take its output with the targets of {dataset.name}, "
                f"{_shown(targets)}: {type(error).__name__}: {error}. Choose another `train.loss`."
            ) from error


def _check_classes(task: Task, dataset: Dataset, output: object) -> None:
    scores = logits_of(output)
    count = dataset.class_count or 0
    if scores.ndim >= 2 and scores.shape[class_axis(scores)] < count:
        raise UsageError(
            f"{dataset.name} has {count} classes, but `{task.name}` tells apart only "
            f"{scores.shape[class_axis(scores)]}. Set `model.args.classes = {count}`."
        )


def _shown(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape[1:])}"
