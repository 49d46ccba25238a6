"""A recipe for a model without one: it learns digits if it is for such, else random samples by heart."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from torch import Tensor

from edgewise.errors import UsageError
from edgewise.train.data import load_data
from edgewise.train.fit import check_fit
from edgewise.train.recipe import Digits, Model, Npz, Recipe, Sgd, Train
from edgewise.zoo import resolve_task

SAMPLES = 64
"""Random samples; trained on and tested on are the same, for nothing can be learnt but these."""

STEPS = 200
DATA = "data.npz"


def bare_recipe(name: str, batch: int, sample: str | None, folder: Path) -> Recipe:
    """A recipe of `STEPS` steps for the model `name`; random samples of `sample` are kept in `folder`.

    Raises:
        UsageError: no such model, its input is not known, or it is more than one tensor.
    """
    recipe = Recipe(Model(name), Digits(), Train(1, batch, Sgd(0.1)))
    if sample is None and _takes_digits(name, batch):
        dataset = load_data(recipe.data)
        return _long_enough(recipe, len(dataset.train) // batch)
    path = folder / DATA
    if not path.exists():
        _save_random(name, sample, path)
    return _long_enough(msgspec.structs.replace(recipe, data=Npz(str(path))), max(1, SAMPLES // batch))


def _long_enough(recipe: Recipe, steps_per_epoch: int) -> Recipe:
    epochs = -(-STEPS // max(1, steps_per_epoch))
    return msgspec.structs.replace(recipe, train=msgspec.structs.replace(recipe.train, epochs=epochs))


def _takes_digits(name: str, batch: int) -> bool:
    dataset = load_data(Digits())
    found = dataset.train.batch(np.arange(batch))
    try:
        task = resolve_task(name, batch=batch, example_batch=found)
        check_fit(task, dataset)
    except UsageError:
        return False
    own = getattr(task.model, "example_batch", None)
    return own is None or _alike(own(batch), found)


def _alike(batch: Any, digits: tuple[Tensor, Tensor]) -> bool:
    """Whether a model's own batch has as many numbers as that of digits, and classes for targets."""
    inputs, targets = batch
    if not isinstance(inputs, Tensor):
        return False
    return all(
        a.dtype == b.dtype and a.numel() == b.numel() for a, b in zip((inputs, targets), digits, strict=True)
    )


def _save_random(name: str, sample: str | None, path: Path) -> None:
    inputs, targets = resolve_task(name, batch=SAMPLES, input_spec=sample).example_batch
    if not isinstance(inputs, Tensor):
        raise UsageError(
            f"`{name}` takes more than one tensor, and a comparison needs data. Write a recipe with data."
        )
    x, y = inputs.numpy(), targets.numpy()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            np.savez(file, x_train=x, y_train=y, x_test=x, y_test=y)
    except OSError as error:
        raise UsageError(f"Cannot write {path}: {error.strerror}. Choose another place.") from error
