"""MCUNet-5fps (arXiv 2007.10319): inverted residuals whose kernels and expansions were searched for."""

from torch import Tensor, nn

from edgewise.zoo.blocks import conv_norm, example_images
from edgewise.zoo.mobilenetv2 import InvertedResidual

STEM = 16
# expansion, channels, stride, kernel of each block: `mcunet-5fps_imagenet.json` of the paper's model zoo
BLOCKS = (
    (1, 8, 1, 3),
    (4, 16, 2, 3),
    (3, 16, 1, 3),
    (3, 24, 2, 7),
    (5, 24, 1, 3),
    (5, 40, 2, 3),
    (4, 40, 1, 7),
    (4, 48, 1, 5),
    (3, 48, 1, 3),
    (4, 48, 1, 3),
    (5, 96, 2, 7),
    (4, 96, 1, 5),
    (4, 96, 1, 5),
    (6, 160, 1, 3),
)


class MCUNet(nn.Module):
    """[B, channels, size, size] -> [B, classes]; 128 is the size at which MCUNetV3 trains it."""

    def __init__(self, size: int = 128, channels: int = 3, classes: int = 10) -> None:
        super().__init__()
        self.channels, self.size, self.classes = channels, size, classes
        inputs = STEM
        layers: list[nn.Module] = [conv_norm(channels, inputs, stride=2), nn.ReLU6()]
        for expansion, outputs, stride, kernel in BLOCKS:
            layers.append(
                InvertedResidual(inputs, outputs, stride=stride, expansion=expansion, kernel=kernel)
            )
            inputs = outputs
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(inputs, classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Class scores [B, classes]."""
        scores: Tensor = self.head(self.features(x_BCHW).mean(dim=(2, 3)))
        return scores

    def example_batch(self, batch: int) -> tuple[Tensor, Tensor]:
        """Random images and classes."""
        return example_images(batch, (self.channels, self.size, self.size), self.classes)
