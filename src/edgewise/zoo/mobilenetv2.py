"""MobileNetV2 (arXiv 1801.04381, table 2): inverted residuals with depthwise convolutions."""

from torch import Tensor, nn

from edgewise.zoo.blocks import conv_norm, example_images

# expansion, channels at width 1, blocks, stride of the first block: table 2 of the paper
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def scaled(channels: int, width: float) -> int:
    """`channels * width` rounded to a multiple of 8, at least 8, and never down by more than a tenth."""
    rounded = max(8, int(channels * width + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels * width else rounded + 8


class InvertedResidual(nn.Module):
    """Expand 1x1, depthwise, project 1x1; a shortcut where input and output have one shape."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, expansion: int, kernel: int = 3) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers += [conv_norm(inputs, hidden, kernel=1), nn.ReLU6()]
        layers += [conv_norm(hidden, hidden, kernel=kernel, stride=stride, groups=hidden), nn.ReLU6()]
        self.layers = nn.Sequential(*layers, conv_norm(hidden, outputs, kernel=1))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """The block's output."""
        out: Tensor = self.layers(x_BCHW)
        return x_BCHW + out if self.residual else out


class MobileNetV2(nn.Module):
    """[B, channels, size, size] -> [B, classes]; `width` scales the channels, the last layer's only up."""

    def __init__(self, width: float = 0.35, size: int = 64, channels: int = 3, classes: int = 10) -> None:
        super().__init__()
        self.channels, self.size, self.classes = channels, size, classes
        inputs = scaled(32, width)
        layers: list[nn.Module] = [conv_norm(channels, inputs, stride=2), nn.ReLU6()]
        for expansion, base, blocks, stride in STAGES:
            outputs = scaled(base, width)
            for block in range(blocks):
                step = stride if block == 0 else 1
                layers.append(InvertedResidual(inputs, outputs, stride=step, expansion=expansion))
                inputs = outputs
        last = scaled(1280, max(1.0, width))
        self.features = nn.Sequential(*layers, conv_norm(inputs, last, kernel=1), nn.ReLU6())
        self.head = nn.Linear(last, classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Class scores [B, classes]."""
        x_BCHW = self.features(x_BCHW)
        scores: Tensor = self.head(x_BCHW.mean(dim=(2, 3)))
        return scores

    def example_batch(self, batch: int) -> tuple[Tensor, Tensor]:
        """Random images and classes."""
        return example_images(batch, (self.channels, self.size, self.size), self.classes)
