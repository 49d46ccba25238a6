"""What `edgewise emulate` feeds an emulated board with, and what PyTorch makes of the same."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from edgewise.capture.joint import fill, split_batch
from edgewise.cli.subject import capture_subject, parse_model
from edgewise.devices import load_device
from edgewise.emit import Emitted, contents
from edgewise.emit.flash import is_constant
from edgewise.emit.folder import Tensors
from edgewise.errors import CorruptArtifact, EdgewiseError, UsageError
from edgewise.plan import plain_plan
from edgewise.run import Executor
from edgewise.train import list_recipes, load_recipe
from edgewise.train.data import check_enough, epoch_order, load_data
from edgewise.zoo import resolve_task
from edgewise.zoo.losses import logits_of

MOST_TESTS = 12
"""Batches of test samples that an emulated board is asked for: enough to see what it learned."""

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
    if data is not None and not _is_recipe(data):
        raise UsageError(
            f"There is no recipe `{data}`. Name a .toml file, or one of: {', '.join(list_recipes())}."
        )
    found = _of_recipe(emitted, source) if _is_recipe(source) else _of_example(source)
    return [_chosen(emitted.inputs, next(found), source) for _ in range(steps)]


class Tests(NamedTuple):
    """Samples that were not trained on: for each inference its inputs, and the classes that are right."""

    inputs: tuple[Batch, ...]
    classes: tuple[Tensor, ...]

    @property
    def samples(self) -> int:
        """How many there are."""
        return sum(len(right) for right in self.classes)

    def accuracy(self, outputs: Iterable[Tensor]) -> float:
        """Share of the samples whose class has the highest of the scores `[B, C]` in `outputs`."""
        pairs = zip(outputs, self.classes, strict=True)
        return sum(int((scores.argmax(1) == right).sum()) for scores, right in pairs) / self.samples


class Reference(NamedTuple):
    """What PyTorch makes of the same: the losses, and the accuracy afterwards if there are tests."""

    losses: list[float]
    accuracy: float | None


def find_tests(emitted: Emitted, data: str | None) -> Tests | None:
    """Up to `MOST_TESTS` batches of test samples, if the model infers classes and its data are a recipe's."""
    source = data or emitted.model
    inference = emitted.inference
    if inference is None or not _is_recipe(source) or len(inference.output.shape) != 2:
        return None
    recipe = load_recipe(source)
    samples = load_data(recipe.data).test
    size = emitted.inputs[0].shape[0]
    starts = range(0, len(samples) - size + 1, size)[:MOST_TESTS]
    found = [samples.batch(np.arange(at, at + size)) for at in starts]
    if not found or found[0][1].dtype != torch.int64:
        return None
    inputs = tuple(_chosen(inference.inputs, batch, source) for batch in found)
    return Tests(inputs, tuple(targets for _, targets in found))


def outputs_of(emitted: Emitted, outputs: Iterable[bytes]) -> list[Tensor]:
    """The outputs of inferences as tensors."""
    assert emitted.inference is not None  # noqa: S101  # or there were no outputs
    output = emitted.inference.output
    dtype = getattr(torch, output.dtype)
    return [torch.frombuffer(bytearray(raw), dtype=dtype).view(output.shape) for raw in outputs]


def reference(folder: Path, batches: Sequence[Batch], tests: Tests | None) -> Reference | None:
    """What PyTorch makes of `batches` and `tests` without a limit, from the weights in `folder`.

    `None` if the model cannot be built again, or is not what was emitted any more.
    """
    emitted = load_emitted(folder)
    try:
        captured = capture_subject(emitted.model).captured
    except EdgewiseError:
        return None
    host = load_device("host")
    with Executor(captured, plain_plan(captured.graph, host), host) as executor:
        held, own = _first_state(folder, emitted), executor.state()
        flash = {n: d for n, d in emitted.constants.items() if n in own and is_constant(captured, n, d)}
        held |= {name: own[name] for name in flash}
        if any(name not in held or held[name].shape != tensor.shape for name, tensor in own.items()):
            return None
        executor.load_state({name: held[name] for name in own})
        wholes = (_whole_batch(captured, emitted, batch) for batch in batches)
        losses = [executor.step(batch, number).loss for number, batch in enumerate(wholes)]
    if tests is None:
        return Reference(losses, None)
    model = captured.model.eval()
    with torch.no_grad():
        scores = [logits_of(model(*inputs)) for inputs in tests.inputs]
    return Reference(losses, tests.accuracy(scores))


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
    tensors = tuple(given.get(name, captured.blank(name)) for name in captured.batch)
    return pytree.tree_unflatten(fill(list(captured.batch_leaves), tensors), captured.batch_spec)


def _is_recipe(source: str) -> bool:
    return source.endswith(".toml") or source in list_recipes()


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


def _chosen(inputs: Sequence[Tensors], batch: Any, source: str) -> Batch:
    """The tensors of `batch` that a model takes as `inputs`, which are named `batch.NUMBER`."""
    tensors = split_batch(batch)[0]
    chosen = []
    for wanted in inputs:
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
