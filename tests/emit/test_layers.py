"""The layers, functions and losses that people build small networks of: each trains in C as in PyTorch.

Those of one kind of input stand side by side in one network, each between linear layers of its own, so that
one program tells of all of them.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from edgewise.capture import SGD, capture
from tests.emit.trained import distance, in_pytorch, made_in_c, run_in_c

CLASSES = 3
VECTORS, SEQUENCES, IMAGES = (2, 6), (2, 4, 8), (2, 4, 6, 6)
PLACES = torch.tensor([2, 0, 2, 1])


class Applied(nn.Module):
    """A function as a layer."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Attention(nn.Module):
    """Of a sequence to itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.MultiheadAttention(8, 2, batch_first=True, dropout=0.1)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.layer(x, x, x)[0]
        return found


def of_vectors() -> dict[str, nn.Module]:
    plain = (
        "ReLU ReLU6 LeakyReLU ELU CELU SELU GELU SiLU Mish Hardswish Hardsigmoid Hardtanh Sigmoid Tanh "
        "Softplus Softsign Tanhshrink LogSigmoid PReLU Softshrink Hardshrink GLU"
    )
    return {
        **{name: getattr(nn, name)() for name in plain.split()},
        **{name: getattr(nn, name)(1) for name in ("Softmin", "Softmax", "LogSoftmax")},
        "GELU by tanh": nn.GELU("tanh"),
        "CELU of 0.5": nn.CELU(0.5),
        "BatchNorm1d": nn.BatchNorm1d(6),
        "LayerNorm": nn.LayerNorm(6),
        "Dropout": nn.Dropout(0.3),
        "AlphaDropout": nn.AlphaDropout(0.3),
    }


def of_sequences() -> dict[str, nn.Module]:
    return {
        "Conv1d": nn.Conv1d(4, 3, 3, padding=1),
        "Conv1d, weight norm": weight_norm(nn.Conv1d(4, 3, 3)),
        "ConvTranspose1d": nn.ConvTranspose1d(4, 3, 2, stride=2),
        "BatchNorm1d": nn.BatchNorm1d(4),
        "RMSNorm": nn.RMSNorm(8),
        "InstanceNorm1d": nn.InstanceNorm1d(4),
        "MaxPool1d": nn.MaxPool1d(2),
        "AvgPool1d": nn.AvgPool1d(2),
        "AdaptiveAvgPool1d": nn.AdaptiveAvgPool1d(3),
        "AdaptiveMaxPool1d": nn.AdaptiveMaxPool1d(3),
        "Upsample, nearest": nn.Upsample(scale_factor=2),
        "Upsample, linear": nn.Upsample(scale_factor=2, mode="linear"),
        "ConstantPad1d": nn.ConstantPad1d(1, 0.5),
        "ReflectionPad1d": nn.ReflectionPad1d((2, 1)),
        "Dropout1d": nn.Dropout1d(0.3),
        "RNN": nn.RNN(8, 5, batch_first=True),
        "GRU": nn.GRU(8, 5, batch_first=True),
        "LSTM, both ways": nn.LSTM(8, 5, batch_first=True, bidirectional=True),
        "MultiheadAttention": Attention(),
        "TransformerEncoderLayer": nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
    }


def of_images() -> dict[str, nn.Module]:
    return {
        "Conv2d": nn.Conv2d(4, 3, 3),
        "Conv2d, reflected": nn.Conv2d(4, 3, 3, padding=1, padding_mode="reflect"),
        "Conv2d, circular": nn.Conv2d(4, 3, 3, padding=1, padding_mode="circular"),
        "Conv2d, depthwise": nn.Conv2d(4, 4, 3, groups=4),
        "ConvTranspose2d": nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1, output_padding=1),
        "PReLU by channel": nn.PReLU(4),
        "BatchNorm2d": nn.BatchNorm2d(4),
        "BatchNorm2d, frozen": nn.BatchNorm2d(4).eval(),
        "GroupNorm": nn.GroupNorm(2, 4),
        "InstanceNorm2d": nn.InstanceNorm2d(4, affine=True),
        "MaxPool2d": nn.MaxPool2d(2),
        "MaxPool2d, ceil": nn.MaxPool2d(4, ceil_mode=True),
        "AvgPool2d": nn.AvgPool2d(3, 2, padding=1),
        "AvgPool2d, ceil": nn.AvgPool2d(4, ceil_mode=True),
        "LPPool2d": nn.LPPool2d(2, 2),
        "AdaptiveAvgPool2d": nn.AdaptiveAvgPool2d(4),
        "AdaptiveMaxPool2d": nn.AdaptiveMaxPool2d(4),
        "Upsample, nearest": nn.Upsample(scale_factor=2),
        "Upsample, to a size": nn.Upsample(size=(9, 7)),
        "Upsample, bilinear": nn.Upsample(scale_factor=2, mode="bilinear"),
        "Upsample, bilinear, aligned": nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
        "PixelShuffle": nn.PixelShuffle(2),
        "PixelUnshuffle": nn.PixelUnshuffle(2),
        "ChannelShuffle": nn.ChannelShuffle(2),
        "ZeroPad2d": nn.ZeroPad2d(1),
        "ReflectionPad2d": nn.ReflectionPad2d((2, 1, 1, 2)),
        "ReplicationPad2d": nn.ReplicationPad2d((2, 0, 1, 3)),
        "Dropout2d": nn.Dropout2d(0.3),
    }


def of_functions() -> dict[str, nn.Module]:
    functions: dict[str, Callable[[Tensor], Tensor]] = {
        "clamp": lambda x: x.clamp(-0.5, 0.5),
        "clamp by tensors": lambda x: x.clamp(x.mean(), x.mean() + 1),
        "where": lambda x: torch.where(x > 0, x, x.abs() * 0.1),
        "powers": lambda x: x**2 + x**3 * 0.1 + x**4 * 0.01 + (x.abs() + 1) ** -2 + (x.abs() + 1) ** 0.5,
        "powers of numbers": lambda x: 2**x + (x.abs() + 1) ** x + x.exp2(),
        "roots": lambda x: (x.abs() + 1).sqrt() + (x.abs() + 2).rsqrt(),
        "waves": lambda x: x.sin() + (2 * x).cos(),
        "exponentials": lambda x: x.exp() + x.expm1() + (x.abs() + 1).log2() + (x.abs() + 1).log10(),
        "steps": lambda x: x.floor() * x + x.ceil() + x.round() + x.sign(),
        "extremes": lambda x: x.max(1, keepdim=True).values + x.amax(2, keepdim=True) + x - x.max(),
        "least": lambda x: x.min(1, keepdim=True).values + x.amin(2, keepdim=True) + x - x.min(),
        "logsumexp": lambda x: x - x.logsumexp(1, keepdim=True),
        "moments": lambda x: x.var(1, keepdim=True) + x.std((1, 2), keepdim=True, unbiased=False) + x,
        "moments at once": lambda x: sum(torch.var_mean(x, 1, correction=0, keepdim=True), x),
        "one in place": lambda x: (x * 2).select_scatter(x[:, 1], 1, -1),
        "norms": lambda x: F.normalize(x, dim=1) + x.norm(dim=2, keepdim=True),
        "cosines": lambda x: F.cosine_similarity(x[:, :2], x[:, 2:], dim=2),
        "index_select": lambda x: x.index_select(1, PLACES),
        "index": lambda x: x[:, PLACES] + x[..., PLACES].repeat(1, 1, 2),
        "index of two": lambda x: x[:, PLACES[:, None], PLACES] + x[:, PLACES, PLACES][:, None],
        "gather": lambda x: x.gather(1, (x > 0).long()),
        "scatter_add": lambda x: torch.zeros_like(x).scatter_add(1, (x > 0).long(), x),
        "index_add": lambda x: x.index_add(1, PLACES, x * 2),
        "index_put": lambda x: x.index_put((torch.tensor([0, 1]), PLACES[:2]), x[:, 0], accumulate=True),
        "turned": lambda x: x.flip(1) + x.roll((1, -3), (1, 2)),
        "every second": lambda x: torch.cat([x[..., ::2], x[..., 1::2]], 2),
        "diagonals": lambda x: x + x.diagonal(dim1=1, dim2=2).sum(-1)[:, None, None],
        "addcmul, lerp": lambda x: torch.addcmul(x, x, x, value=0.5) + torch.lerp(x, x * 2, 0.3),
        "with integers": lambda x: (x + torch.arange(8)) * (x > 0) - torch.arange(4)[:, None] * x,
        "glu": lambda x: F.glu(x, 1),
    }
    return {name: Applied(function) for name, function in functions.items()}


class SideBySide(nn.Module):
    """Sum of what all `layers` make of the same input."""

    def __init__(self, layers: Mapping[str, nn.Module], shape: tuple[int, ...]) -> None:
        super().__init__()
        self.before = nn.ModuleList(nn.Linear(shape[-1], shape[-1]) for _ in layers)
        self.layers = nn.ModuleList(layers.values())
        self.after = nn.ModuleList(nn.Linear(self._width(layer, shape), CLASSES) for layer in self.layers)

    def _width(self, layer: nn.Module, shape: tuple[int, ...]) -> int:
        with torch.no_grad():
            return self._flat(layer, torch.randn(shape)).shape[1]

    @staticmethod
    def _flat(layer: nn.Module, x: Tensor) -> Tensor:
        found = layer(x)
        return (found[0] if isinstance(found, tuple) else found).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        scores = [
            after(self._flat(layer, before(x)))
            for before, layer, after in zip(self.before, self.layers, self.after, strict=True)
        ]
        return torch.stack(scores).sum(0)


def changes(state: Mapping[str, Tensor], first: Mapping[str, Tensor], number: int) -> dict[str, Tensor]:
    """What a step changed in branch `number`."""
    kinds = ("before", "layers", "after")
    return {
        n: t - first[n] for n, t in state.items() if n.split(".")[:2] in [[k, str(number)] for k in kinds]
    }


@pytest.mark.parametrize(
    ("make", "shape"),
    [(of_vectors, VECTORS), (of_sequences, SEQUENCES), (of_images, IMAGES), (of_functions, SEQUENCES)],
)
def test_layers(make: Callable[[], dict[str, nn.Module]], shape: tuple[int, ...], tmp_path: Path) -> None:
    torch.manual_seed(0)
    layers = make()
    model, batch = SideBySide(layers, shape), (torch.randn(shape), torch.tensor([0, 2]))
    first = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    captured = capture(model, "cross_entropy", SGD(lr=1.0), batch)

    expected = in_pytorch(captured, [batch])
    found, _ = run_in_c(made_in_c(captured, tmp_path, 1 << 22), tmp_path, [batch])

    assert found.losses == pytest.approx(expected.losses, rel=1e-5)
    apart = {
        name: distance(changes(found.state, first, i), changes(expected.state, first, i))
        for i, name in enumerate(layers)
    }
    assert {name: d for name, d in apart.items() if d > 1e-5} == {}


class Chain(nn.Module):
    """Ops that are more than one call of a kernel, one after another."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(128, 128), nn.Linear(128, CLASSES)

    def forward(self, x_NCW: Tensor) -> Tensor:
        x = F.mish(self.first(x_NCW))
        x = torch.lerp(torch.addcmul(x, x, x_NCW, value=0.1), x_NCW, 0.3)
        x = torch.arange(128) * 0.01 + x + (x > 0)
        x = (x + x.ceil() + 9).log2()
        x = x.clamp(x.mean() - 1, x.mean() + 1)
        x = 2**x * ((x > 3).sum() / x.numel())
        return self.last(x).mean(1)


def test_ops_of_several_calls_in_slices(tmp_path: Path) -> None:
    torch.manual_seed(0)
    batch = torch.randn(8, 16, 128), torch.arange(8) % CLASSES
    captured = capture(Chain(), "cross_entropy", SGD(lr=1.0), batch)

    small = made_in_c(captured, tmp_path, 80 * 1024)
    found, _ = run_in_c(small, tmp_path, [batch])

    assert {"addcmul", "lerp", "add", "ceil", "log2", "pow_1", "sum_1"} <= set(small.certificate.streamed)
    assert distance(found.state, in_pytorch(captured, [batch]).state) < 1e-6


def _weights(x: Tensor) -> Tensor:
    return torch.linspace(0.5, 2, x.shape[-1])


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {  # of outputs [N, 3] and targets from 0 to 1
    "mse": F.mse_loss,
    "l1": F.l1_loss,
    "smooth l1": lambda x, y: F.smooth_l1_loss(x, y, beta=0.5),
    "huber": lambda x, y: F.huber_loss(x, y, delta=0.5),
    "huber, of each": lambda x, y: F.huber_loss(x, y, reduction="none").sum(1).mean(),
    "binary, logits": F.binary_cross_entropy_with_logits,
    "binary, logits, weights": lambda x, y: F.binary_cross_entropy_with_logits(
        x, y, _weights(x), pos_weight=_weights(x).flip(0)
    ),
    "binary": lambda x, y: F.binary_cross_entropy(x.sigmoid(), y, _weights(x)),
    "binary, of each": lambda x, y: F.binary_cross_entropy(x.sigmoid(), y, reduction="none").mean(),
    "cross entropy": lambda x, y: F.cross_entropy(x, y.argmax(1)),
    "cross entropy, smoothed": lambda x, y: F.cross_entropy(x, y.argmax(1), label_smoothing=0.1),
    "cross entropy, weights": lambda x, y: F.cross_entropy(x, y.argmax(1), _weights(x)),
    "cross entropy, some ignored": lambda x, y: F.cross_entropy(
        x, y.argmax(1).masked_fill(y[:, 0] > 0.7, 1), ignore_index=1, label_smoothing=0.1
    ),
    "one hot": lambda x, y: (
        (1 - F.one_hot(torch.where(y[:, 1] > 0.5, 2 - y.argmax(1), 0), 3)) * x.sigmoid()
    ).sum(),
    "cross entropy, probabilities": lambda x, y: F.cross_entropy(x, y.softmax(1)),
    "kl divergence": lambda x, y: F.kl_div(x.log_softmax(1), y.softmax(1), reduction="batchmean"),
    "poisson": F.poisson_nll_loss,
    "multi margin": lambda x, y: F.multi_margin_loss(x, y.argmax(1)),
    "hinge": lambda x, y: F.hinge_embedding_loss(x, torch.where(y > 0.5, 1.0, -1.0)),
    "cosine": lambda x, y: F.cosine_embedding_loss(x, y, torch.ones(len(x))),
    "triplet": lambda x, y: F.triplet_margin_loss(x, 1 - y, y * 0.5),
}


def test_losses(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, batch = nn.Linear(5, CLASSES * len(LOSSES)), (torch.randn(4, 5), torch.rand(4, CLASSES))
    first = model.weight.detach().clone()

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        parts = outputs.split(CLASSES, 1)
        return torch.stack([f(x, targets) for f, x in zip(LOSSES.values(), parts, strict=True)]).sum()

    captured = capture(model, loss, SGD(lr=1.0), batch)
    expected = in_pytorch(captured, [batch])
    found, _ = run_in_c(made_in_c(captured, tmp_path, 1 << 22), tmp_path, [batch])

    assert found.losses == pytest.approx(expected.losses, rel=1e-5)
    rows = [(state["weight"] - first).split(CLASSES) for state in (found.state, expected.state)]
    apart = [distance({"": ours}, {"": theirs}) for ours, theirs in zip(*rows, strict=True)]
    assert {name: d for name, d in zip(LOSSES, apart, strict=True) if d > 1e-5} == {}
