"""Pieces that several models of the zoo share."""

import torch
from torch import Tensor, nn

from edgewise.zoo.inputs import InputSpec, random_classes, random_inputs


def conv_norm(
    inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution without bias, padded to keep height and width at stride 1, then batch norm."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


def example_images(batch: int, shape: tuple[int, int, int], classes: int) -> tuple[Tensor, Tensor]:
    """Random images [batch, *shape] and classes [batch]."""
    return random_inputs(InputSpec(shape, torch.float32), batch), random_classes((batch,), classes)


def example_tokens(batch: int, length: int, vocabulary: int) -> Tensor:
    """Random int64 tokens [batch, length] below `vocabulary`."""
    return random_inputs(InputSpec((length,), torch.int64, vocabulary), batch)
