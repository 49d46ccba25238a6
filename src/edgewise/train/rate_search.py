"""A learning rate for each method, by the same few trials for all.

A step that is right for an exact gradient is far too large for an estimate from one random direction, whose
second moment is about d times larger for d parameters; so one rate for all would compare rates, not methods.
Each method tries the recipe's rate times 10, 10^-0.5, 10^-2, 10^-3.5 and 10^-5 for a tenth of the steps that
are compared, then the best of these times 10^0.5, 1, 10^-0.5 and 0.1 for a third of them (no fewer than
`LEAST_STEPS` either), all from the same weights, on the same batches, by the plan that is compared. The
second round is longer because a rate at which the noise of an estimate wins in the end looks best at first.
What counts is the mean loss over the second half of a trial's steps, and then the one-standard-error rule
(Breiman et al. 1984, section 3.4.3): of those within one standard error of the least mean, the largest rate.
The least alone would give to a method that gains little in few steps the rate at which it gains nothing. This
is a search of few steps: it favours what learns early.
"""

import math
import statistics
from collections.abc import Callable, Iterator

import msgspec
from torch import Tensor

from edgewise.capture import SGD, AdamW
from edgewise.run import Executor
from edgewise.train.comparison import Search, Trial
from edgewise.train.data import Dataset, epoch_order
from edgewise.train.recipe import Recipe

COARSE = (10.0, 10**-0.5, 10**-2.0, 10**-3.5, 10**-5.0)
FINE = (10**0.5, 1.0, 10**-0.5, 0.1)
TRIALS = len(COARSE) + len(FINE)
ROUNDS = ((COARSE, 0.1), (FINE, 1 / 3))
"""Factors of each round of trials, and how long these are, as a share of the steps that are compared."""

LEAST_STEPS = 16
HOPELESS = 4.0
"""A trial ends early once its loss is so many times that of its first step."""

Told = Callable[[int, int, float], None]
"""Hears of each trial before it starts: how many are done, of how many, and its rate."""


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
    recipe: Recipe, dataset: Dataset, steps: int, executor: Executor, optimizer: Adjustable, told: Told
) -> Search:
    """The best learning rate of a few trials; the model has its first weights again afterwards.

    `executor` runs the step with `optimizer`; `steps` is how long the run will be.

    Raises:
        DeviceError: paging failed.
    """
    base = recipe.train.optimizer.lr
    trials: list[Trial] = []
    first = executor.state()
    try:
        for factors, share in ROUNDS:
            length, middle = max(LEAST_STEPS, round(share * steps)), base
            for factor in factors:
                told(len(trials), TRIALS, middle * factor)
                executor.load_state(first)
                optimizer.set_rate(middle * factor)
                trials.append(_try(executor, optimizer.inner.lr, _batches(recipe, dataset, length)))
            base = best_of(trials[-len(factors) :])
    finally:
        executor.load_state(first)
    return Search(base, tuple(trials))


def best_of(trials: list[Trial]) -> float:
    """The largest rate within one standard error of the least loss; if all diverged, the least rate."""
    sound = [(trial.loss, trial) for trial in trials if trial.loss is not None]
    if not sound:
        return min(trial.lr for trial in trials)
    least, best = min(sound, key=lambda pair: pair[0])
    within = [t.lr for loss, t in sound if loss <= least + math.hypot(t.error, best.error)]
    return max(within)


def _try(executor: Executor, lr: float, batches: Iterator[tuple[Tensor, Tensor]]) -> Trial:
    losses: list[float] = []
    for step, batch in enumerate(batches):
        losses.append(executor.step(batch, step).loss)
        if not losses[-1] <= HOPELESS * abs(losses[0]):
            return Trial(lr, len(losses), None)
    second_half = losses[len(losses) // 2 :]
    error = statistics.stdev(second_half) / math.sqrt(len(second_half)) if len(second_half) > 1 else 0.0
    return Trial(lr, len(losses), statistics.fmean(second_half), error)


def _batches(recipe: Recipe, dataset: Dataset, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    """So many batches, the same at each call; over again where the data have fewer."""
    batch = recipe.train.batch
    order = epoch_order(len(dataset.train), seed=recipe.train.seed, epoch=1)
    whole = len(dataset.train) // batch
    for step in range(steps):
        at = step % whole * batch
        yield dataset.train.batch(order[at : at + batch])
