"""Scores on the test samples, in chunks small enough for the budget."""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from edgewise.errors import UsageError
from edgewise.train.data import Samples
from edgewise.zoo.losses import class_axis, logits_of


@dataclass(frozen=True)
class Scores:
    """Means over the test samples. What does not fit the targets, or is no number, is `None`."""

    accuracy: float | None = None
    mse: float | None = None
    mae: float | None = None


class Evaluator:
    """Runs the model's forward pass in eval mode over `samples`.

    The first chunk is one sample, whose live bytes are counted; later chunks have as many samples as then fit
    `budget_bytes` beside `resident_bytes` of parameters and states, at least one and at most `most`.
    """

    def __init__(
        self, model: nn.Module, samples: Samples, *, budget_bytes: int, resident_bytes: int, most: int
    ) -> None:
        self._model, self._samples, self._most = model, samples, most
        self._free_bytes, self._resident_bytes = budget_bytes - resident_bytes, resident_bytes
        self._chunk: int | None = None
        self.peak_bytes: int | None = None

    def scores(self, pause: Callable[[], None] = lambda: None) -> Scores:
        """The scores of the model as it is; `pause` is called between chunks and may raise to stop."""
        was_training = self._model.training
        self._model.eval()
        try:
            with torch.no_grad():
                return self._scores(pause)
        finally:
            self._model.train(was_training)

    def _scores(self, pause: Callable[[], None]) -> Scores:
        sums: dict[str, float] = {}
        done = 0
        while done < len(self._samples):
            pause()
            chunk = np.arange(done, min(done + (self._chunk or 1), len(self._samples)))
            inputs, targets = self._samples.batch(chunk)
            try:
                output = self._forward(inputs)
            except (IndexError, RuntimeError) as error:  # a token that there is no row for, say
                raise UsageError(
                    f"The model fails on test samples {chunk[0]} to {chunk[-1]}: {type(error).__name__}: "
                    f"{error}. Mend `data` or `model.args`."
                ) from error
            for key, total in _sums(output, targets).items():
                sums[key] = sums.get(key, 0.0) + total
            done += len(chunk)
        means = {
            key: total / sums["count"] for key, total in sums.items() if key != "count" and sums["count"]
        }
        return Scores(**{key: mean for key, mean in means.items() if np.isfinite(mean)})

    def _forward(self, inputs: Tensor) -> Any:
        if self._chunk is None:
            with LiveBytes(self._model) as live:
                live.add(inputs)
                output = self._model(inputs)
            self._chunk = max(1, min(self._most, self._free_bytes // max(live.peak, 1)))
            # Activations grow with the chunk; what does not grow is counted once a sample.
            self.peak_bytes = self._resident_bytes + self._chunk * live.peak
            return output
        return self._model(inputs)


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the storages that PyTorch ops make while it is entered, but those of `model`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        own = (*model.parameters(), *model.buffers())
        self._own = {tensor.untyped_storage().data_ptr() for tensor in own}
        self._users: dict[int, int] = {}
        self.live = self.peak = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run `func` and count what it returns."""
        result = func(*args, **(kwargs or {}))
        for leaf in pytree.tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.add(leaf)
        return result

    def add(self, tensor: Tensor) -> None:
        """Count the storage of `tensor` until the last tensor on it is gone."""
        storage = tensor.untyped_storage()
        key, size = storage.data_ptr(), storage.nbytes()
        if key in self._own or not size:
            return
        if key not in self._users:
            self._users[key] = 0
            self.live += size
            self.peak = max(self.peak, self.live)
        self._users[key] += 1
        weakref.finalize(tensor, self._drop, key, size).atexit = False

    def _drop(self, key: int, size: int) -> None:
        self._users[key] -= 1
        if not self._users[key]:
            del self._users[key]
            self.live -= size


def _sums(output: Any, targets: Tensor) -> dict[str, float]:
    """Sums over a chunk; empty where the output is nothing that can be scored against the targets."""
    try:
        found = logits_of(output)
    except UsageError:  # a model with a loss of its own may return anything
        return {}
    if targets.is_floating_point():
        if found.ndim == targets.ndim + 1 and found.shape[-1] == 1:
            found = found.squeeze(-1)
        if found.shape != targets.shape:
            return {}
        error = (found - targets).double()
        return {
            "count": targets.numel(),
            "mse": float(error.square().sum()),
            "mae": float(error.abs().sum()),
        }
    if found.ndim < 2:
        return {}
    axis = class_axis(found)
    guesses = found.argmax(dim=axis)
    if guesses.shape != targets.shape:
        return {}
    # A loss with `ignore_index` leaves out what is no class.
    counted = (targets >= 0) & (targets < found.shape[axis])
    return {"count": int(counted.sum()), "accuracy": float((guesses == targets).sum())}
