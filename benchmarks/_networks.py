"""The seven networks of `large_models.py`, at the sizes in which they are trained, each with loss and batch.

ResNet-18 and ResNet-50 (arXiv 1512.03385, table 1) and DenseNet-121 (arXiv 1608.06993, table 1) are written
down here, U-Net (arXiv 1505.04597, figure 1; batch norm, padded) and MobileNetV2 (arXiv 1801.04381) are the
zoo's at full size, BERT-base and GPT-2 small the transformers library's. Weights are random.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from edgewise.zoo.losses import cross_entropy
from edgewise.zoo.mobilenetv2 import MobileNetV2
from edgewise.zoo.unet import UNet


class Training(NamedTuple):
    """What is trained on which batch."""

    model: nn.Module
    loss: Callable[[Any, Tensor], Tensor]
    batch: tuple[Any, Tensor]
    words: str


def conv_norm(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class Residual(nn.Module):
    """`layers` beside a shortcut; [B, inputs, H, W] -> [B, outputs, H/stride, W/stride]."""

    def __init__(self, inputs: int, outputs: int, stride: int, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else conv_norm(inputs, outputs, 1, stride)
        self.relu = nn.ReLU()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.relu(self.layers(x_BCHW) + self.shortcut(x_BCHW))


def basic(inputs: int, width: int, stride: int) -> tuple[nn.Module, int]:
    layers = [conv_norm(inputs, width, 3, stride), nn.ReLU(), conv_norm(width, width)]
    return Residual(inputs, width, stride, layers), width


def bottleneck(inputs: int, width: int, stride: int) -> tuple[nn.Module, int]:
    layers = [conv_norm(inputs, width, 1), nn.ReLU(), conv_norm(width, width, 3, stride), nn.ReLU()]
    return Residual(inputs, 4 * width, stride, [*layers, conv_norm(width, 4 * width, 1)]), 4 * width


def resnet(block: Callable[[int, int, int], tuple[nn.Module, int]], blocks: tuple[int, ...]) -> nn.Module:
    layers: list[nn.Module] = [conv_norm(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    width = 64
    for stage, count in enumerate(blocks):
        for number in range(count):
            made, width = block(width, 64 * 2**stage, 2 if stage and not number else 1)
            layers.append(made)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 1000))


class DenseLayer(nn.Module):
    """Features so far -> [B, growth, H, W]: all of them side by side through a bottleneck."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        squeeze = [nn.BatchNorm2d(inputs), nn.ReLU(), nn.Conv2d(inputs, 4 * growth, 1, bias=False)]
        spread = [
            nn.BatchNorm2d(4 * growth),
            nn.ReLU(),
            nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
        ]
        self.layers = nn.Sequential(*squeeze, *spread)

    def forward(self, features: list[Tensor]) -> Tensor:
        return self.layers(torch.cat(features, dim=1))


class DenseNet(nn.Module):
    """[B, 3, H, W] -> [B, 1000]; layers hand on what they add, so that a checkpoint of one is small."""

    def __init__(self, blocks: tuple[int, ...] = (6, 12, 24, 16), growth: int = 32) -> None:
        super().__init__()
        width = 2 * growth
        self.stem = nn.Sequential(conv_norm(3, width, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        self.stages = len(blocks)
        for stage, count in enumerate(blocks):
            if stage:
                thin = [nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width // 2, 1, bias=False)]
                self.add_module(f"thin{stage}", nn.Sequential(*thin, nn.AvgPool2d(2)))
                width //= 2
            layers = [DenseLayer(width + number * growth, growth) for number in range(count)]
            self.add_module(f"dense{stage}", nn.ModuleList(layers))
            width += count * growth
        self.norm, self.head = nn.BatchNorm2d(width), nn.Linear(width, 1000)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = self.stem(x_BCHW)
        for stage in range(self.stages):
            if stage:
                x_BCHW = self.get_submodule(f"thin{stage}")(x_BCHW)
            features = [x_BCHW]
            for layer in self.get_submodule(f"dense{stage}"):
                features.append(layer(features))
            x_BCHW = torch.cat(features, dim=1)
        return self.head(self.norm(x_BCHW).relu().mean(dim=(2, 3)))


def images(model: nn.Module, batch: int, size: int) -> Training:
    pixels, labels = torch.zeros(batch, 3, size, size), torch.zeros(batch, dtype=torch.int64)
    return Training(model, cross_entropy, (pixels, labels), f"{size}x{size}, batch {batch}")


def unet(batch: int, size: int) -> Training:
    model = UNet(width=64, depth=4, size=size)
    pixels, labels = torch.zeros(batch, 3, size, size), torch.zeros(batch, size, size, dtype=torch.int64)
    return Training(model, cross_entropy, (pixels, labels), f"{size}x{size}, batch {batch}")


def bert(batch: int, length: int) -> Training:
    from transformers import BertConfig, BertForSequenceClassification  # noqa: PLC0415  # slow to import

    model = BertForSequenceClassification(BertConfig(attn_implementation="sdpa"))
    inputs = {
        "input_ids": torch.zeros(batch, length, dtype=torch.int64),
        "attention_mask": torch.ones(batch, length, dtype=torch.int64),
    }
    targets = torch.zeros(batch, dtype=torch.int64)
    return Training(model.train(), cross_entropy, (inputs, targets), f"{length} tokens, batch {batch}")


def gpt2(batch: int, length: int) -> Training:
    from transformers import GPT2Config, GPT2LMHeadModel  # noqa: PLC0415

    model = GPT2LMHeadModel(GPT2Config(use_cache=False, attn_implementation="sdpa"))
    tokens = torch.zeros(batch, length, dtype=torch.int64)
    return Training(
        model.train(),
        cross_entropy,
        ({"input_ids": tokens}, tokens.clone()),
        f"{length} tokens, batch {batch}",
    )


NETWORKS: dict[str, Callable[[], Training]] = {
    "ResNet-18": lambda: images(resnet(basic, (2, 2, 2, 2)), 32, 224),
    "ResNet-50": lambda: images(resnet(bottleneck, (3, 4, 6, 3)), 32, 224),
    "MobileNetV2": lambda: images(MobileNetV2(1.0, 224, classes=1000), 32, 224),
    "DenseNet-121": lambda: images(DenseNet(), 32, 224),
    "U-Net": lambda: unet(8, 256),
    "BERT-base": lambda: bert(8, 128),
    "GPT-2 small": lambda: gpt2(8, 1024),
}
