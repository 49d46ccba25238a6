"""A tiny causal language model whose output weights are its embedding (arXiv 1608.05859)."""

import torch
from torch import Tensor, nn

from edgewise.zoo.blocks import example_tokens
from edgewise.zoo.transformer import Block


class TiedLM(nn.Module):
    """[B, T] int64 tokens -> [B, T, vocabulary] scores of the token after each; `length` is the largest T."""

    def __init__(
        self,
        vocabulary: int = 128,
        length: int = 32,
        width: int = 32,
        heads: int = 4,
        depth: int = 2,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.vocabulary, self.length = vocabulary, length
        self.embed = nn.Embedding(vocabulary, width)
        # N(0, 1), the default of an embedding, would be far too large for an output weight.
        nn.init.normal_(self.embed.weight, std=width**-0.5)
        self.position_TD = nn.Parameter(0.02 * torch.randn(length, width))
        blocks = (Block(width, heads, dropout=dropout, causal=True) for _ in range(depth))
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Scores [B, T, vocabulary]."""
        x_BTD = self.embed(tokens_BT) + self.position_TD[: tokens_BT.shape[1]]
        scores: Tensor = self.head(self.norm(self.blocks(x_BTD)))
        return scores

    def example_batch(self, batch: int) -> tuple[Tensor, Tensor]:
        """Random tokens, and as targets the same tokens one place earlier."""
        tokens = example_tokens(batch, self.length + 1, self.vocabulary)
        return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
