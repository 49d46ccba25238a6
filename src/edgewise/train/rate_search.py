"""A learning rate for each method, by the same few trials for all.

A step that is right for an exact gradient is far too large for an estimate from one random direction, whose
second moment is about d times larger for d parameters; so one rate for all would compare rates, not methods.
Each method tries the recipe's rate times 1, 10^-1.5, 10^-3 and 10^-4.5, then the best of these times and
divided by 10^0.75: six trials of `TRIAL_STEPS` steps, all from the same weights, on the same batches, by the
plan that is compared. The rate with the least mean loss over the second half of its steps is taken. This is a
search of few steps: it favours what learns early.
"""

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
from torch import Tensor

from edgewise.capture import SGD, AdamW, Captured
from edgewise.devices import Device
from edgewise.plan import Plan
from edgewise.run import Executor
from edgewise.train.comparison import Search, Trial
from edgewise.train.data import Dataset, epoch_order
from edgewise.train.recipe import Recipe

COARSE = (1.0, 10**-1.5, 10**-3.0, 10**-4.5)
FINE = (10**0.75, 10**-0.75)
TRIALS = len(COARSE) + len(FINE)
TRIAL_STEPS = 16
HOPELESS = 4.0
"""A trial ends early once its loss is so many times that of its first step."""

Told = Callable[[int, float], None]
"""Hears of each trial before it starts: how many are done, and its rate."""


class Adjustable:
    """An optimizer whose learning rate can be changed after capture: `capture` asks for no more than this."""

    def __init__(self, inner: SGD | AdamW) -> None:
        self.inner = inner

    @property
    def state_names(self) -> tuple[str, ...]:
        """Those of the optimizer."""
        return self.inner.state_names

    @property
    def scratch(self) -> int:
        """That of the optimizer."""
        return self.inner.scratch

    @property
    def skips_zeros(self) -> bool:
        """As the optimizer."""
        return self.inner.skips_zeros

    def update(self, parameter: Tensor, gradient: Tensor, states: dict[str, Tensor], step: int) -> None:
        """As the optimizer with the rate of now."""
        self.inner.update(parameter, gradient, states, step)

    def set_rate(self, lr: float) -> None:
        """Go on with `lr`."""
        self.inner = msgspec.structs.replace(self.inner, lr=lr)


def search_rate(
    recipe: Recipe,
    captured: Captured,
    optimizer: Adjustable,
    plan: Plan,
    device: Device,
    dataset: Dataset,
    paging_dir: Path,
    told: Told,
) -> Search:
    """The best learning rate of a few trials; the model has its first weights again afterwards.

    `captured` is the step with `optimizer`.

    Raises:
        DeviceError: paging failed.
    """
    base = recipe.train.optimizer.lr
    trials: list[Trial] = []
    with Executor(captured, plan, device, paging_dir=paging_dir) as executor:
        first = executor.state()
        try:
            for factors in (COARSE, FINE):
                middle = base if factors is COARSE else best_of(trials)
                for factor in factors:
                    told(len(trials), middle * factor)
                    executor.load_state(first)
                    optimizer.set_rate(middle * factor)
                    trials.append(_try(executor, optimizer.inner.lr, _batches(recipe, dataset)))
        finally:
            executor.load_state(first)
    return Search(best_of(trials), tuple(trials))


def best_of(trials: list[Trial]) -> float:
    """The rate of the least loss; of equal ones, and if all diverged, the least rate."""
    return min(trials, key=lambda trial: (math.inf if trial.loss is None else trial.loss, trial.lr)).lr


def _try(executor: Executor, lr: float, batches: Iterator[tuple[Tensor, Tensor]]) -> Trial:
    losses: list[float] = []
    for step, batch in enumerate(batches):
        losses.append(executor.step(batch, step).loss)
        if not losses[-1] <= HOPELESS * abs(losses[0]):
            return Trial(lr, len(losses), None)
    second_half = losses[len(losses) // 2 :]
    return Trial(lr, len(losses), sum(second_half) / len(second_half))


def _batches(recipe: Recipe, dataset: Dataset) -> Iterator[tuple[Tensor, Tensor]]:
    """`TRIAL_STEPS` batches, the same at each call; over again where the data have fewer."""
    batch = recipe.train.batch
    order = epoch_order(len(dataset.train), seed=recipe.train.seed, epoch=1)
    whole = len(dataset.train) // batch
    for step in range(TRIAL_STEPS):
        at = step % whole * batch
        yield dataset.train.batch(order[at : at + batch])
