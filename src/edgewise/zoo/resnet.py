"""Residual networks for 32x32 images: ResNet-18 and ResNet-8.

ResNet-18 is that of arXiv 1512.03385 (table 1) with the stem for CIFAR of its section 4.2; ResNet-8 is that
of MLPerf Tiny's image classification benchmark (arXiv 2106.07597).
"""

from collections.abc import Sequence

from torch import Tensor, nn

from edgewise.zoo.blocks import conv_norm, example_images


class BasicBlock(nn.Module):
    """[B, inputs, H, W] -> [B, outputs, H/stride, W/stride]: two 3x3 convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = conv_norm(inputs, outputs, stride=stride)
        self.second = conv_norm(outputs, outputs)
        self.relu = nn.ReLU()
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else conv_norm(inputs, outputs, kernel=1, stride=stride)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """The block's output."""
        branch = self.second(self.relu(self.first(x_BCHW)))
        out: Tensor = self.relu(branch + self.shortcut(x_BCHW))
        return out


class ResNet(nn.Module):
    """[B, channels, H, W] -> [B, classes].

    A stage for each of `widths`, of `blocks` blocks; every stage but the first halves height and width.
    """

    def __init__(self, widths: Sequence[int], blocks: int, channels: int = 3, classes: int = 10) -> None:
        super().__init__()
        self.channels, self.classes = channels, classes
        self.stem = nn.Sequential(conv_norm(channels, widths[0]), nn.ReLU())
        layers: list[nn.Module] = []
        inputs = widths[0]
        for stage, width in enumerate(widths):
            for block in range(blocks):
                layers.append(BasicBlock(inputs, width, stride=2 if stage and not block else 1))
                inputs = width
        self.stages = nn.Sequential(*layers)
        self.head = nn.Linear(inputs, classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Class scores [B, classes]."""
        x_BCHW = self.stages(self.stem(x_BCHW))
        scores: Tensor = self.head(x_BCHW.mean(dim=(2, 3)))
        return scores

    def example_batch(self, batch: int) -> tuple[Tensor, Tensor]:
        """Random 32x32 images and classes."""
        return example_images(batch, (self.channels, 32, 32), self.classes)


def resnet18(channels: int = 3, classes: int = 10) -> ResNet:
    """ResNet-18, 3x3 stem without pooling: 11.2 million weights."""
    return ResNet((64, 128, 256, 512), blocks=2, channels=channels, classes=classes)


def resnet8(channels: int = 3, classes: int = 10) -> ResNet:
    """ResNet-8 of MLPerf Tiny: 78 thousand weights."""
    return ResNet((16, 32, 64), blocks=1, channels=channels, classes=classes)
