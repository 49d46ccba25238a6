"""U-Net (arXiv 1505.04597, figure 1), small, with group norm: segmentation with long skip connections."""

import torch
from torch import Tensor, nn

from edgewise.zoo.inputs import InputSpec, random_classes, random_inputs


def double_conv(inputs: int, outputs: int) -> nn.Sequential:
    """Twice: 3x3 convolution, group norm, ReLU."""
    layers: list[nn.Module] = []
    for before in (inputs, outputs):
        conv = nn.Conv2d(before, outputs, 3, padding=1, bias=False)
        layers += [conv, nn.GroupNorm(4, outputs), nn.ReLU()]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """[B, channels, H, W] -> [B, classes, H, W]; H and W multiples of 2**depth, `width` a multiple of 4."""

    def __init__(
        self, width: int = 8, depth: int = 2, size: int = 32, channels: int = 3, classes: int = 3
    ) -> None:
        super().__init__()
        self.channels, self.size, self.classes = channels, size, classes
        widths = [width * 2**level for level in range(depth + 1)]
        self.down = nn.ModuleList(
            double_conv(before, after) for before, after in zip([channels, *widths], widths, strict=False)
        )
        self.pool = nn.MaxPool2d(2)
        self.rise = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in reversed(widths[:-1]))
        self.up = nn.ModuleList(double_conv(2 * w, w) for w in reversed(widths[:-1]))
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Class scores [B, classes, H, W] of every pixel."""
        skips: list[Tensor] = []
        for level, block in enumerate(self.down):
            x_BCHW = block(self.pool(x_BCHW) if level else x_BCHW)
            skips.append(x_BCHW)
        skips.pop()
        for rise, block in zip(self.rise, self.up, strict=True):
            x_BCHW = block(torch.cat([skips.pop(), rise(x_BCHW)], dim=1))
        scores: Tensor = self.head(x_BCHW)
        return scores

    def example_batch(self, batch: int) -> tuple[Tensor, Tensor]:
        """Random images and a class for every pixel."""
        spec = InputSpec((self.channels, self.size, self.size), torch.float32)
        return random_inputs(spec, batch), random_classes((batch, self.size, self.size), self.classes)
