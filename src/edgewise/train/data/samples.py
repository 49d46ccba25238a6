"""Samples, the split into training and test ones, and the order of an epoch: all of it decided by keys.

Orders come from the raw stream of a keyed Philox generator, which numpy promises never to change; so the same
recipe visits the same samples on every machine, and a resumed run goes on exactly where it stopped.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]
Indices = NDArray[np.int64]

_SPLIT_KEY = 0x5EED
"""Key of the split; no part of the recipe, so that runs with other seeds are tested on the same samples."""


class Samples(Protocol):
    """Samples that can be fetched by number."""

    def __len__(self) -> int: ...

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """`(inputs [B, ...], targets [B, ...])` of the samples with these numbers."""


@dataclass(frozen=True)
class Dataset:
    """What a model is trained and tested on.

    `name` is for messages. `class_count` is how many classes the labels tell apart, the largest index plus
    one; `None` where targets are numbers.
    """

    name: str
    train: Samples
    test: Samples
    class_count: int | None


@dataclass(frozen=True)
class Arrays:
    """Samples in two arrays, of which `indices` are meant; `prepare` makes inputs of raw ones.

    Raw inputs stay as they came (`uint8` images are a quarter of `float32` ones) until they are used.
    """

    inputs: Array
    targets: Array
    indices: Indices
    prepare: Callable[[Array], Array]

    def __len__(self) -> int:
        return len(self.indices)

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """`(inputs, targets)` of the samples with these numbers."""
        chosen = self.indices[indices]
        inputs = np.ascontiguousarray(self.prepare(self.inputs[chosen]))
        return torch.from_numpy(inputs), torch.from_numpy(np.ascontiguousarray(self.targets[chosen]))


def hold_out(count: int, fraction: float) -> tuple[Indices, Indices]:
    """Numbers below `count`, split into `(training, test)` ones, both rising; `fraction` are test ones."""
    order = _permutation(count, _SPLIT_KEY, count)
    tests = round(count * fraction)
    return np.sort(order[tests:]), np.sort(order[:tests])


def epoch_order(count: int, *, seed: int, epoch: int) -> Indices:
    """The order in which epoch `epoch` (from 1) visits `count` samples."""
    return _permutation(count, seed, epoch)


def _permutation(count: int, *key: int) -> Indices:
    stream = np.random.Philox(key=np.array(key, dtype=np.uint64)).random_raw(count)
    return np.argsort(stream, kind="stable").astype(np.int64)
