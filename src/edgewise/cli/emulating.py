"""What `edgewise emulate` feeds an emulated board with, and what PyTorch makes of the same."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from torch import Tensor

from edgewise.capture.joint import split_batch
from edgewise.cli.subject import parse_model
from edgewise.emit import Emitted
from edgewise.errors import CorruptArtifact, UsageError
from edgewise.train import list_recipes, load_recipe
from edgewise.train.data import check_enough, epoch_order, load_data
from edgewise.zoo import resolve_task

Batch = tuple[Tensor, ...]
"""The tensors of one step, as the inputs in model.json name them."""


def load_emitted(folder: Path) -> Emitted:
    """What model.json in `folder` says.

    Raises:
        UsageError: there is none.
        CorruptArtifact: it cannot be understood.
    """
    path = folder / "model.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=Emitted)
    except OSError as error:
        raise UsageError(
            f"{folder} is no emitted model: cannot read {path} ({error.strerror}). "
            "Make one with `edgewise emit MODEL -o FOLDER`."
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptArtifact(f"{path}: {error}. Emit the model anew.") from error


def find_batches(emitted: Emitted, data: str | None, steps: int) -> list[Batch]:
    """Batches for `steps` steps, with the tensors that the emitted step takes.

    Args:
        emitted: what was emitted.
        data: a recipe, of which the data are meant, in the order of its epochs; if not given, that of the
            model, if it is a recipe, or else the model's example batch, again and again.
        steps: how many.

    Raises:
        UsageError: no such recipe, too few samples, or tensors that do not fit the model.
    """
    source = data or emitted.model
    is_recipe = source.endswith(".toml") or source in list_recipes()
    if data is not None and not is_recipe:
        raise UsageError(
            f"There is no recipe `{data}`. Name a .toml file, or one of: {', '.join(list_recipes())}."
        )
    found = _of_recipe(emitted, source) if is_recipe else _of_example(source)
    return [_chosen(emitted, next(found), source) for _ in range(steps)]


def reference_losses(folder: Path, batches: Sequence[Batch]) -> list[float] | None:
    """The losses of plain PyTorch on the same batches; `None` if the model cannot be built again."""
    del folder, batches
    return None


def _of_recipe(emitted: Emitted, name: str) -> Iterator[Any]:
    recipe = load_recipe(name)
    dataset = load_data(recipe.data)
    size = emitted.inputs[0].shape[0]
    check_enough(dataset, size)
    epoch = 0
    while True:
        epoch += 1
        order = epoch_order(len(dataset.train), seed=recipe.train.seed, epoch=epoch)
        for at in range(0, len(order) - size + 1, size):
            yield dataset.train.batch(order[at : at + size])


def _of_example(model: str) -> Iterator[Any]:
    name, size, sample = parse_model(model)
    batch = resolve_task(name, batch=size, input_spec=sample).example_batch
    while True:
        yield batch


def _chosen(emitted: Emitted, batch: Any, source: str) -> Batch:
    """The tensors of `batch` that the model takes, which are named `batch.NUMBER`."""
    tensors = split_batch(batch)[0]
    chosen = []
    for wanted in emitted.inputs:
        number = int(wanted.name.removeprefix("batch."))
        tensor = tensors[number] if number < len(tensors) else None
        if tensor is None or tuple(tensor.shape) != wanted.shape or _dtype(tensor) != wanted.dtype:
            has = "nothing" if tensor is None else f"{_dtype(tensor)} {tuple(tensor.shape)}"
            raise UsageError(
                f"The model takes {wanted.dtype} {wanted.shape} as `{wanted.name}`; {source} has {has}. "
                "Name other data with `--data`, or emit the model for these."
            )
        chosen.append(tensor)
    return tuple(chosen)


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
