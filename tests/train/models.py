"""A small model with everything that makes resuming hard: running statistics and random numbers."""

import torch
from torch import Tensor, nn


class Small(nn.Module):
    """[B, 6] -> [B, 3]."""

    def __init__(self, classes: int = 3, dropout: float = 0.25) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(6, 8), nn.BatchNorm1d(8)
        self.dropout, self.head = nn.Dropout(dropout), nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.dropout(torch.relu(self.norm(self.first(x)))))
        return found


class OwnLoss(Small):
    """Returns no scores, and knows its own loss."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        return {"scores": super().forward(x)}

    def loss(self, output: dict[str, Tensor], targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(output["scores"], targets)


class LateLoss(Small):
    """Has a loss that takes one sample with any label, as the first look at the data does."""

    def loss(self, output: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(output, targets if len(targets) > 1 else targets * 0)


class Autoencoder(nn.Linear):
    """Works along the last dim of anything; what it is for, its own batch says."""

    loss = "mse"

    def __init__(self) -> None:
        super().__init__(8, 8)

    def example_batch(self, batch: int) -> tuple[Tensor, Tensor]:
        return torch.randn(batch, 8), torch.randn(batch, 8)
