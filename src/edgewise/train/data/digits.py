"""scikit-learn's bundled handwritten digits: real data that needs no network."""

import numpy as np

from edgewise.train.data.samples import Array, Arrays, Dataset, hold_out
from edgewise.train.recipe import Digits

_LEVELS = 16.0
"""Pixels count the black points of a 4x4 block: 0 to 16."""


def load_digits(config: Digits) -> Dataset:
    """1,797 images float32 [1, 8, 8] with pixels from 0 to 1, and ten classes."""
    from sklearn.datasets import load_digits as load  # noqa: PLC0415 (takes a second to import)

    bunch = load()
    train, test = hold_out(len(bunch.target), config.test_fraction)
    targets = bunch.target.astype(np.int64)
    parts = [Arrays(bunch.images, targets, part, _prepare) for part in (train, test)]
    return Dataset("digits", parts[0], parts[1], 10)


def _prepare(images: Array) -> Array:
    return (images / _LEVELS).astype(np.float32)[:, None]
