"""A convolution trained as many and run as one: online re-parameterization (OREPA, arXiv 2204.00826).

The weight of one k x k convolution is a sum of what would be parallel branches, each linear, each scaled for
every output channel by a learned v:

    W = v0 W_kxk + v1 avg(W_1x1) + v2 prior(W_1x1) + v3 (1 + W_1x1) W_kxk + v4 pad(W_1x1) + v5 depthwise

(`avg`: followed by a mean over k x k; `prior`: by fixed cosine filters, the first half of the channels down,
the others across; `pad`: the 1x1 itself; `depthwise`: a k x k filter for each input channel and its copies,
then a 1x1.) The sum is taken on the weights, not on the results: the activations of a training step are those
of one convolution, and so is the deployed network. `fold` gives that convolution.

Use: more capacity while training a small network, at no cost in memory for activations or on the device; put
it in the place of `nn.Conv2d` with a batch norm behind it, train, fold, and the batch norm folds as usual.
"""

import math

import torch
from torch import Tensor, nn

from edgewise.errors import UsageError

START = (0.25, 0.25, 0.0, 0.5, 1.0, 0.5)
"""What each v begins with, as in the authors' code."""


class Orepa(nn.Module):
    """`nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)` whose weight is made of six branches.

    Args:
        inputs: channels.
        outputs: channels.
        kernel: an odd size; the 1x1 branches stand in its middle.
        stride: of the convolution.
        padding: of the convolution; the same for all branches, since it is one.
        expansion: filters for each input channel in the depthwise branch.
    """

    prior: Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 3,
        stride: int = 1,
        padding: int = 1,
        expansion: int = 8,
    ) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise UsageError(
                f"Orepa: a kernel of {kernel} has no middle for the 1x1 branches. Take an odd one."
            )
        self.inputs, self.outputs, self.kernel = inputs, outputs, kernel
        self.stride, self.padding = stride, padding
        self.square = _drawn(outputs, inputs, kernel, kernel)
        self.averaged, self.filtered, self.point = (_drawn(outputs, inputs) for _ in range(3))
        self.before = nn.Parameter(torch.zeros(inputs, inputs))
        self.depthwise = _drawn(inputs, expansion, kernel, kernel)
        self.mixing = _drawn(outputs, inputs, expansion)
        self.scales = nn.Parameter(torch.tensor(START).unsqueeze(1).repeat(1, outputs))
        self.register_buffer("prior", _cosines(outputs, kernel), persistent=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """One convolution."""
        return nn.functional.conv2d(x_BCHW, self.weight(), None, self.stride, self.padding)

    def weight(self) -> Tensor:
        """The weight of the one convolution, `[outputs, inputs, kernel, kernel]`."""
        return (self.scales[:, :, None, None, None] * torch.stack(self.branches())).sum(0)

    def branches(self) -> list[Tensor]:
        """The weight that each branch stands for, without its scale."""
        k, middle = self.kernel, self.kernel // 2
        spread = self.averaged[:, :, None, None].expand(-1, -1, k, k) / k**2
        filtered = self.filtered[:, :, None, None] * self.prior.unsqueeze(1)
        product = self.square + torch.einsum("ojhw,ji->oihw", self.square, self.before)
        point = nn.functional.pad(self.point[:, :, None, None], [middle] * 4)
        separable = torch.einsum("oie,iehw->oihw", self.mixing, self.depthwise)
        return [self.square, spread, filtered, product, point, separable]

    def fold(self) -> nn.Conv2d:
        """The convolution that remains, with a weight of its own."""
        conv = nn.Conv2d(self.inputs, self.outputs, self.kernel, self.stride, self.padding, bias=False)
        conv.weight.data.copy_(self.weight().detach())
        return conv.train(self.training)


def fold(model: nn.Module) -> nn.Module:
    """`model` with each `Orepa` in it exchanged for the convolution it stands for, in place."""
    for name, child in model.named_children():
        if isinstance(child, Orepa):
            setattr(model, name, child.fold())
        else:
            fold(child)
    return model


def _drawn(*shape: int) -> nn.Parameter:
    weight = torch.empty(shape)
    bound = 1 / math.sqrt(math.prod(shape[1:]))
    return nn.Parameter(nn.init.uniform_(weight, -bound, bound))


def _cosines(outputs: int, kernel: int) -> Tensor:
    """Fixed filters of rising frequency, `[outputs, kernel, kernel]`."""
    half = -(-outputs // 2)
    places = torch.arange(kernel) + 0.5
    waves = torch.cos(math.pi / kernel * places * (torch.arange(half) + 1).unsqueeze(1))
    down = waves.unsqueeze(2).expand(half, kernel, kernel)
    across = waves.unsqueeze(1).expand(half, kernel, kernel)
    return torch.cat((down, across))[:outputs].clone()
