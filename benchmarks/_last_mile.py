"""Networks pretrained on one domain, and shifted domains to adapt them to: Fashion-MNIST and spoken digits.

All is made from the two data sets, in float32 by plain PyTorch, from fixed seeds.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from _data import data_file
from torch import Tensor, nn

BATCH = 32
SHIFTS = {"rotation": (10, 20, 30), "noise": (0.15, 0.3, 0.45), "contrast": (0.5, 0.3, 0.15)}
"""Degrees, standard deviations, factors: three severities each."""


@dataclass(frozen=True)
class Split:
    """Inputs `[N, 1, H, W]` and classes `[N]`."""

    inputs: Tensor
    targets: Tensor

    def batches(self, steps: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """`steps` random batches, epoch after epoch."""
        generator = torch.Generator().manual_seed(seed)
        order: list[int] = []
        for _ in range(steps):
            if len(order) < BATCH:
                order = torch.randperm(len(self.inputs), generator=generator).tolist()
            picked, order = order[:BATCH], order[BATCH:]
            yield self.inputs[picked], self.targets[picked]


@dataclass(frozen=True)
class Domain:
    """What a network pretrained on `source` is to be adapted to."""

    name: str
    source: str
    train: Split
    test: Split


def network(seed: int) -> nn.Sequential:
    """Three convolutions with norms, and a head of 650: 4,218 weights and biases once norms are folded."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for before, after in ((1, 8), (8, 16), (16, 16)):
        layers += [
            nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 10))


def pretrained(source: Split, seed: int, steps: int) -> nn.Sequential:
    """The network after `steps` of SGD with momentum on `source`; in evaluation."""
    model = network(seed).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=steps)
    for inputs, targets in source.batches(steps, seed):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def accuracy(model: nn.Module, split: Split) -> float:
    """Share of right answers."""
    with torch.no_grad():
        right = [(model(x).argmax(1) == y).sum() for x, y in zip(
            split.inputs.split(250), split.targets.split(250), strict=True)]  # fmt: skip
    return float(sum(right)) / len(split.targets)


def fashion(adapt: int, test: int) -> tuple[Split, list[Domain]]:
    """Fashion-MNIST as it is, and nine shifted domains with `adapt` training samples of their own."""
    with np.load(data_file("fashion_mnist.npz")) as held:
        train, test_ = (_shuffled(held[f"x_{part}"], held[f"y_{part}"]) for part in ("train", "test"))
    source = Split(train.inputs[:30000], train.targets[:30000])
    fresh = Split(train.inputs[30000 : 30000 + adapt], train.targets[30000 : 30000 + adapt])
    unseen = Split(test_.inputs[:test], test_.targets[:test])
    domains = [
        Domain(
            f"{shift} {severity}",
            "fashion",
            _shifted(fresh, shift, severity),
            _shifted(unseen, shift, severity),
        )
        for shift, severities in SHIFTS.items()
        for severity in severities
    ]
    return source, domains


def _shuffled(images: np.ndarray, classes: np.ndarray) -> Split:
    """In an order of chance, for the file is sorted by class; scaled to mean 0 and variance 1."""
    order = torch.randperm(len(classes), generator=torch.Generator().manual_seed(0))
    inputs = torch.from_numpy(images)[order].unsqueeze(1).float().div_(255).sub_(0.2860).div_(0.3530)
    return Split(inputs, torch.from_numpy(classes.astype(np.int64))[order])


def _shifted(split: Split, shift: str, severity: float) -> Split:
    x = split.inputs
    if shift == "rotation":
        a = math.radians(severity)
        turn = torch.tensor([[math.cos(a), -math.sin(a), 0.0], [math.sin(a), math.cos(a), 0.0]])
        grid = nn.functional.affine_grid(turn.expand(len(x), 2, 3), list(x.shape), align_corners=False)
        dark = float(x.min())
        return Split(nn.functional.grid_sample(x - dark, grid, align_corners=False) + dark, split.targets)
    if shift == "noise":
        generator = torch.Generator().manual_seed(7)
        return Split(x + severity / 0.3530 * torch.randn(x.shape, generator=generator), split.targets)
    return Split(x * severity, split.targets)


def spoken() -> tuple[Split, Domain]:
    """Spoken digits of four speakers, and the domain of two others: half of what they said each."""
    with np.load(data_file("spoken_digits.npz")) as held:
        samples, offsets = torch.from_numpy(held["samples"].astype(np.float32)), held["offsets"]
        digits = torch.from_numpy(held["digit"].astype(np.int64))
        speakers, index = held["speaker"], torch.from_numpy(held["index"].astype(np.int64))
    features = torch.stack([_spectrogram(samples[a:b]) for a, b in pairwise(offsets)])
    unseen = torch.from_numpy(np.isin(speakers, np.unique(speakers)[-2:]))
    mean, deviation = features[~unseen].mean(), features[~unseen].std()
    features = (features - mean) / deviation
    source, train, test = (
        Split(features[chosen], digits[chosen])
        for chosen in (~unseen, unseen & (index >= 25), unseen & (index < 25))
    )
    return source, Domain("two unseen speakers", "spoken", train, test)


def _spectrogram(wave: Tensor) -> Tensor:
    """`[1, 32, 32]`: 32 frames over the recording by the logarithms of 32 bands of the mel scale."""
    hop = max(1, (len(wave) - 256) // 31)
    wave = nn.functional.pad(wave, (0, max(0, 256 + 31 * hop - len(wave))))
    frames = wave.unfold(0, 256, hop)[:32] * torch.hann_window(256)
    power = torch.fft.rfft(frames).abs().square()
    mel = torch.linspace(0, 2595 * math.log10(1 + 4000 / 700), 34)
    edges = 700 * (10 ** (mel / 2595) - 1) / 4000 * 128
    bins = torch.arange(129).unsqueeze(1)
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    bands = torch.minimum(rising, falling).clamp_(min=0)
    return (power @ bands + 1).log().unsqueeze(0)
