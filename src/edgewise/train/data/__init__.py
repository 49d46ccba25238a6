"""From a recipe's `[data]` to training and test samples; one file for each kind of source."""

from edgewise.errors import UsageError
from edgewise.train.data.digits import load_digits
from edgewise.train.data.images import load_images
from edgewise.train.data.npz import load_npz
from edgewise.train.data.samples import Dataset, Samples, epoch_order, hold_out
from edgewise.train.data.table import load_table
from edgewise.train.recipe import Data, Digits, Images, Npz

__all__ = ["Dataset", "Samples", "check_enough", "epoch_order", "hold_out", "load_data"]


def load_data(config: Data) -> Dataset:
    """The samples that `config` names.

    Raises:
        UsageError: the source is missing or does not hold what `config` says; the message says where.
    """
    match config:
        case Digits():
            return load_digits(config)
        case Npz():
            return load_npz(config)
        case Images():
            return load_images(config)
        case _:
            return load_table(config)


def check_enough(dataset: Dataset, batch: int) -> None:
    """Refuse a dataset that has not even one batch to train on, or nothing to test with.

    Raises:
        UsageError: how many samples there are, and how many are wanted.
    """
    if len(dataset.train) < batch:
        raise UsageError(
            f"{dataset.name}: {len(dataset.train):,} training samples are less than one batch of {batch:,}. "
            "Use a smaller `train.batch` or more data."
        )
    if not len(dataset.test):
        raise UsageError(f"{dataset.name}: no test samples. Use a larger `data.test_fraction`, or more data.")
