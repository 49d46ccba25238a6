"""A small convolutional net with batch norm for 8x8 digits: few weights, many activations.

Eight thin layers keep every activation of a batch for the backward pass, while no single layer needs much:
this is the shape of network for which a memory budget helps most.
"""

from torch import Tensor, nn

from edgewise.zoo.blocks import conv_norm, example_images


class DigitsCNN(nn.Module):
    """[B, channels, H, W] -> [B, classes], H and W at least 2; `width` channels, twice that at half size."""

    def __init__(self, width: int = 8, depth: int = 4, channels: int = 1, classes: int = 10) -> None:
        super().__init__()
        self.channels, self.classes = channels, classes
        self.fine = _stage(channels, width, depth)
        self.pool = nn.MaxPool2d(2)
        self.coarse = _stage(width, 2 * width, depth)
        self.head = nn.Linear(2 * width, classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Class scores [B, classes]."""
        x_BCHW = self.coarse(self.pool(self.fine(x_BCHW)))
        scores: Tensor = self.head(x_BCHW.mean(dim=(2, 3)))
        return scores

    def example_batch(self, batch: int) -> tuple[Tensor, Tensor]:
        """Random 8x8 images and classes."""
        return example_images(batch, (self.channels, 8, 8), self.classes)


def _stage(inputs: int, width: int, depth: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for index in range(depth):
        layers += [conv_norm(inputs if index == 0 else width, width), nn.ReLU()]
    return nn.Sequential(*layers)
