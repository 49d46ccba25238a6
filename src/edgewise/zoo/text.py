"""Text classifier: the mean of word embeddings, then a perceptron (as in fastText, arXiv 1607.01759)."""

import torch
from torch import Tensor, nn

from edgewise.zoo.blocks import example_tokens
from edgewise.zoo.inputs import random_classes


class TextClassifier(nn.Module):
    """[B, T] int64 tokens -> [B, classes]; token 0 is padding and does not count.

    `tied=True` shares one square weight between the perceptron's two layers.
    """

    def __init__(
        self,
        vocabulary: int = 1000,
        length: int = 64,
        width: int = 32,
        classes: int = 4,
        dropout: float = 0.0,
        tied: bool = False,
    ) -> None:
        super().__init__()
        self.vocabulary, self.length, self.classes = vocabulary, length, classes
        self.embed = nn.Embedding(vocabulary, width)
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        if tied:
            self.second.weight = self.first.weight
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, classes)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Class scores [B, classes]."""
        present_BT1 = (tokens_BT != 0).unsqueeze(-1).to(self.embed.weight.dtype)
        total_BD = (self.embed(tokens_BT) * present_BT1).sum(dim=1)
        mean_BD = total_BD / present_BT1.sum(dim=1).clamp(min=1.0)
        hidden_BD = torch.relu(self.second(torch.relu(self.first(mean_BD))))
        scores: Tensor = self.head(self.dropout(hidden_BD))
        return scores

    def example_batch(self, batch: int) -> tuple[Tensor, Tensor]:
        """Random tokens and classes."""
        return example_tokens(batch, self.length, self.vocabulary), random_classes((batch,), self.classes)
