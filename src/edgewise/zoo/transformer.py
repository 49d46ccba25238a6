"""Transformer encoder that classifies sequences (arXiv 1706.03762; layer norm first, as in arXiv 2002.04745).

Legend: B batch, T tokens, D width, H heads.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from edgewise.zoo.blocks import example_tokens
from edgewise.zoo.inputs import random_classes


class SelfAttention(nn.Module):
    """[B, T, D] -> [B, T, D]: multi-head attention; if `causal`, a token sees none after it."""

    def __init__(self, width: int, heads: int, *, dropout: float = 0.0, causal: bool = False) -> None:
        super().__init__()
        self.heads, self.dropout, self.causal = heads, dropout, causal
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """The mixed tokens."""
        q_BHTD, k_BHTD, v_BHTD = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(x_BTD).chunk(3, dim=-1)
        )
        dropout = self.dropout if self.training else 0.0
        mixed_BHTD = scaled_dot_product_attention(
            q_BHTD, k_BHTD, v_BHTD, dropout_p=dropout, is_causal=self.causal
        )
        out_BTD: Tensor = self.out(mixed_BHTD.transpose(1, 2).flatten(2))
        return out_BTD


class Block(nn.Module):
    """[B, T, D] -> [B, T, D]: attention, then a two-layer perceptron, each with layer norm and a shortcut."""

    def __init__(self, width: int, heads: int, *, dropout: float = 0.0, causal: bool = False) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads, dropout=dropout, causal=causal)
        self.perceptron = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """The block's output."""
        x_BTD = x_BTD + self.dropout(self.attention(self.norm1(x_BTD)))
        out_BTD: Tensor = x_BTD + self.dropout(self.perceptron(self.norm2(x_BTD)))
        return out_BTD


class Transformer(nn.Module):
    """[B, T] int64 tokens -> [B, classes].

    With `features`, an input is [B, T, features] numbers, or an image [B, 1, T, features] read row by row.
    `length` is the largest T. The scores are read from the mean over tokens.
    """

    def __init__(
        self,
        vocabulary: int = 256,
        length: int = 32,
        width: int = 32,
        heads: int = 4,
        depth: int = 2,
        dropout: float = 0.1,
        classes: int = 10,
        features: int | None = None,
    ) -> None:
        super().__init__()
        self.vocabulary, self.length, self.features, self.classes = vocabulary, length, features, classes
        self.embed = nn.Embedding(vocabulary, width) if features is None else nn.Linear(features, width)
        self.position_TD = nn.Parameter(0.02 * torch.randn(length, width))
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential(*(Block(width, heads, dropout=dropout) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores [B, classes]."""
        if self.features is not None and x.ndim == 4:
            x = x.flatten(1, 2)
        x_BTD = self.embed(x)
        x_BTD = self.dropout(x_BTD + self.position_TD[: x_BTD.shape[1]])
        scores: Tensor = self.head(self.norm(self.blocks(x_BTD)).mean(dim=1))
        return scores

    def example_batch(self, batch: int) -> tuple[Tensor, Tensor]:
        """Random tokens (or feature vectors) and classes."""
        targets = random_classes((batch,), self.classes)
        if self.features is None:
            return example_tokens(batch, self.length, self.vocabulary), targets
        generator = torch.Generator().manual_seed(0)
        return torch.randn((batch, self.length, self.features), generator=generator), targets
