"""Multi-layer perceptron over flat features."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from edgewise.zoo.inputs import InputSpec, random_classes, random_inputs


class MLP(nn.Module):
    """[B, ...] -> [B, classes]: linear layers, ReLU between; samples are flattened to `features` numbers."""

    def __init__(self, features: int = 64, hidden: Sequence[int] = (128, 128), classes: int = 10) -> None:
        super().__init__()
        widths = (features, *hidden)
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], classes))
        self.features, self.classes = features, classes

    def forward(self, x_BF: Tensor) -> Tensor:
        """Class scores [B, classes]; one number a sample where `classes` is 1."""
        scores: Tensor = self.layers(x_BF)
        return scores

    def example_batch(self, batch: int) -> tuple[Tensor, Tensor]:
        """Random features [batch, features] and classes [batch]."""
        x_BF = random_inputs(InputSpec((self.features,), torch.float32), batch)
        return x_BF, random_classes((batch,), self.classes)
