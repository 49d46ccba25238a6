"""LocalMixer: an MLP-mixer that keeps positions and groups of channels apart (arXiv 2210.03310, section 5).

A block is token mixing (norm, linear over positions, norm, ReLU), channel mixing (the same over channels),
and a linear layer within each group of channels with norms of its own, plus a shortcut, then ReLU. The first
block has no token mixing and no shortcut. So behind its channel mixing, a block can have a loss for each
position and group. Norms have no parameters and belong to the linear layer that they stand around: one layer,
one module.

Legend: B batch, P positions (patches), D channels, G groups.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from edgewise.errors import UsageError
from edgewise.zoo.blocks import example_images


def _normalized(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:])


def _uniform(fan_in: int, *shape: int) -> nn.Parameter:
    bound = 1 / math.sqrt(fan_in)
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))


class MixTokens(nn.Module):
    """[B, P, D] -> [B, P, D]: norm, linear over positions, norm."""

    def __init__(self, patches: int) -> None:
        super().__init__()
        self.weight, self.bias = _uniform(patches, patches, patches), _uniform(patches, patches)

    def forward(self, x_BPD: Tensor) -> Tensor:
        """The mixed positions."""
        mixed_BDP = F.linear(_normalized(x_BPD).transpose(1, 2), self.weight, self.bias)
        return _normalized(mixed_BDP.transpose(1, 2))


class MixChannels(nn.Module):
    """[B, P, inputs] -> [B, P, outputs]: norm, linear over the channels of each group, norm."""

    def __init__(self, inputs: int, outputs: int, groups: int = 1) -> None:
        super().__init__()
        fan_in, own = inputs // groups, outputs // groups
        self.groups = groups
        self.weight, self.bias = _uniform(fan_in, groups, fan_in, own), _uniform(fan_in, groups, 1, own)

    def forward(self, x_BPD: Tensor) -> Tensor:
        """The mixed channels."""
        batch, positions, _ = x_BPD.shape
        x_GND = _normalized(torch.unflatten(x_BPD, 2, (self.groups, -1))).flatten(0, 1).transpose(0, 1)
        mixed_NGD = _normalized(torch.baddbmm(self.bias, x_GND, self.weight)).transpose(0, 1)
        return mixed_NGD.reshape(batch, positions, -1)


class MixerBlock(nn.Module):
    """[B, P, inputs] -> [B, P, width]; only where `mix_tokens`, positions see one another."""

    def __init__(self, inputs: int, width: int, patches: int, groups: int, *, mix_tokens: bool) -> None:
        super().__init__()
        self.tokens = MixTokens(patches) if mix_tokens else None
        self.channels = MixChannels(inputs, width)
        self.within = MixChannels(width, width, groups)

    def forward(self, x_BPD: Tensor) -> Tensor:
        """The block's output."""
        h_BPD = x_BPD if self.tokens is None else F.relu(self.tokens(x_BPD))
        h_BPD = self.within(F.relu(self.channels(h_BPD)))
        return F.relu(h_BPD if self.tokens is None else h_BPD + x_BPD)


class LocalMixer(nn.Module):
    """[B, channels, size, size] -> [B, classes]; an image is cut into `patches` x `patches` squares.

    The paper's M/8/16 for CIFAR-10 is `size=32, channels=3, patches=8, width=512, groups=16, blocks=4`.
    """

    def __init__(
        self,
        size: int = 28,
        channels: int = 1,
        patches: int = 4,
        width: int = 64,
        groups: int = 4,
        blocks: int = 3,
        classes: int = 10,
    ) -> None:
        super().__init__()
        _check(size, patches, width, groups, blocks)
        self.size, self.channels, self.patches, self.classes = size, channels, patches, classes
        inputs = channels * (size // patches) ** 2
        self.blocks = nn.Sequential(
            *(
                MixerBlock(width if i else inputs, width, patches**2, groups, mix_tokens=i > 0)
                for i in range(blocks)
            )
        )
        self.head = nn.Linear(width, classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Class scores [B, classes], from the mean over positions."""
        side = self.size // self.patches
        x_BCHQW = torch.unflatten(x_BCHW, 3, (self.patches, side))
        x_BCPHQW = torch.unflatten(x_BCHQW, 2, (self.patches, side))
        x_BPD = x_BCPHQW.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        scores: Tensor = self.head(_normalized(self.blocks(x_BPD).mean(dim=1)))
        return scores

    def example_batch(self, batch: int) -> tuple[Tensor, Tensor]:
        """Random images and classes."""
        return example_images(batch, (self.channels, self.size, self.size), self.classes)


def _check(size: int, patches: int, width: int, groups: int, blocks: int) -> None:
    if patches < 1 or size % patches:
        raise UsageError(f"LocalMixer: {size} pixels cannot be cut into {patches} `patches`.")
    if groups < 1 or width % groups:
        raise UsageError(f"LocalMixer: `width` {width} cannot be divided into {groups} `groups`.")
    if blocks < 1:
        raise UsageError(f"LocalMixer: `blocks` is {blocks}; it must be at least 1.")
