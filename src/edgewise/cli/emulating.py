"""What `edgewise emulate` feeds an emulated board with, and what PyTorch makes of the same."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from edgewise.capture.joint import fill, split_batch
from edgewise.cli.subject import capture_subject, parse_model
from edgewise.devices import load_device
from edgewise.emit import Emitted, contents
from edgewise.errors import CorruptArtifact, EdgewiseError, UsageError
from edgewise.plan import plain_plan
from edgewise.run import Executor
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
    """The losses of PyTorch, without a limit, on the same batches and from the weights in `folder`.

    `None` if the model cannot be built again, or is not what was emitted any more.
    """
    emitted = load_emitted(folder)
    try:
        captured = capture_subject(emitted.model).captured
    except EdgewiseError:
        return None
    host = load_device("host")
    with Executor(captured, plain_plan(captured.graph, host), host) as executor:
        state = _first_state(folder, emitted)
        if {name: tensor.shape for name, tensor in executor.state().items()} != {
            name: state[name].shape for name in executor.state() if name in state
        }:
            return None
        executor.load_state({name: state[name] for name in executor.state()})
        wholes = (_whole_batch(captured, emitted, batch) for batch in batches)
        return [executor.step(batch, number).loss for number, batch in enumerate(wholes)]


def _first_state(folder: Path, emitted: Emitted) -> dict[str, Tensor]:
    raw = contents((folder / "weights.bin").read_bytes(), emitted.store)
    return {
        value.name: torch.frombuffer(bytearray(held), dtype=getattr(torch, value.dtype)).as_strided(
            value.shape, value.stride
        )
        for value, held in zip(emitted.values, raw, strict=True)
        if value.kind != "scratch"
    }


def _whole_batch(captured: Any, emitted: Emitted, batch: Batch) -> Any:
    """The batch as the model's code takes it: `batch` has only the tensors that the step reads."""
    given = dict(zip((tensor.name for tensor in emitted.inputs), batch, strict=True))
    tensors = tuple(given.get(name, captured.empty(name)[0].zero_()) for name in captured.batch)
    return pytree.tree_unflatten(fill(list(captured.batch_leaves), tensors), captured.batch_spec)


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
