"""The epochs of a run: steps, evaluations, lines and checkpoints, from any position on."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from edgewise.errors import UsageError
from edgewise.run import Executor, StepResult
from edgewise.train.checkpoint import Position, save_checkpoint
from edgewise.train.data import Samples, epoch_order
from edgewise.train.evaluate import Evaluator
from edgewise.train.files import write_whole
from edgewise.train.interrupts import Interrupts
from edgewise.train.metrics import MetricsLog, finite
from edgewise.train.recipe import Recipe
from edgewise.train.records import MEMORY_FORMAT, EpochLine, MemoryFile, MetricLine, StepLine
from edgewise.train.run_dir import MEMORY
from edgewise.train.watch import Watch


class _Interrupted(Exception):
    """Ctrl-C was pressed, and the step under way is over."""


class Epochs:
    """Runs the epochs of `recipe`; its attributes say how far it got and what it measured.

    Attributes:
        epoch: epochs done and evaluated. `step`: steps done.
        lines: the line of each epoch that has one.
        peak_bytes: the most that any step of this call held; `None` before the first.
        process_bytes: the most that the process grew in a step of this call, but for the first.
        diverged_at: the first step whose loss was no number; `None` if there was none.
    """

    def __init__(
        self,
        recipe: Recipe,
        samples: Samples,
        executor: Executor,
        evaluator: Evaluator,
        log: MetricsLog,
        watch: Watch,
        interrupts: Interrupts,
        folder: Path,
    ) -> None:
        self.recipe, self.samples = recipe, samples
        self.executor, self.evaluator = executor, evaluator
        self.log, self.watch, self.interrupts, self.folder = log, watch, interrupts, folder
        self.epoch = self.step = 0
        self.lines: dict[int, EpochLine] = {}
        self.peak_bytes: int | None = None
        self.process_bytes: int | None = None
        self.diverged_at: int | None = None
        self._steps_here, self._seconds_here = 0, 0.0
        self._losses: list[float | None] = []  # of the epoch under way
        self._stepping = False

    @property
    def mean_seconds(self) -> float | None:
        """Mean wall time of this call's steps."""
        return self._seconds_here / self._steps_here if self._steps_here else None

    def run(self, start: Position, past: Sequence[MetricLine]) -> bool:
        """Train from `start` on to the last epoch; `past` holds the lines up to there. True: interrupted."""
        self.epoch, self.step = start.epoch, start.step
        self.lines = {line.epoch: line for line in past if isinstance(line, EpochLine)}
        broken = (line.step for line in past if isinstance(line, StepLine) and line.loss is None)
        self.diverged_at = next(broken, None)
        self._losses = [
            line.loss for line in past if isinstance(line, StepLine) and line.epoch == self.epoch + 1
        ]
        try:
            if 0 not in self.lines and self.step == 0:
                self._evaluate(0)
            for epoch in range(self.epoch + 1, self.recipe.train.epochs + 1):
                self._run_epoch(epoch)
        except (_Interrupted, KeyboardInterrupt):
            if self._stepping:  # a second Ctrl-C: the parameters are part old, part new
                raise
            self._save()
            return True
        return False

    def _run_epoch(self, epoch: int) -> None:
        batch = self.recipe.train.batch
        order = epoch_order(len(self.samples), seed=self.recipe.train.seed, epoch=epoch)
        per_epoch = self.recipe.steps_of_epoch(len(self.samples))
        for index in range(self.step - (epoch - 1) * per_epoch, per_epoch):
            self._pause()
            self._run_step(epoch, self.samples.batch(order[index * batch : (index + 1) * batch]))
        self._pause()
        self._evaluate(epoch)
        self.epoch, self._losses = epoch, []
        self._save()

    def _run_step(self, epoch: int, batch: tuple[object, object]) -> None:
        self._stepping = True
        try:
            result = self.executor.step(batch, self.step)
        except (IndexError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "out of bounds" not in str(error):
                raise
            raise UsageError(
                f"Step {self.step} fails on its batch: {error} A label or a token is more than the model has "
                "classes or rows for. Mend `data` or `model.args`."
            ) from error
        self.step += 1
        self._stepping = False
        line = StepLine(self.step - 1, epoch, finite(result.loss), result.seconds, result.peak_bytes)
        self._losses.append(line.loss)
        if line.loss is None and self.diverged_at is None:
            self.diverged_at = line.step
        self._note(result)
        self.log.write(line)
        self.watch.step(line)

    def _note(self, result: StepResult) -> None:
        self._steps_here += 1
        self._seconds_here += result.seconds
        self.peak_bytes = max(self.peak_bytes or 0, result.peak_bytes)
        if self._steps_here <= 2:  # the first step also loads libraries: the second replaces its figures
            self.process_bytes = result.process_bytes
            memory = MemoryFile(MEMORY_FORMAT, result.live_bytes, self.step - 1, result.process_bytes)
            write_whole(self.folder / MEMORY, msgspec.json.encode(memory) + b"\n")
        self.process_bytes = max(self.process_bytes or 0, result.process_bytes)

    def _evaluate(self, epoch: int) -> None:
        self.executor.sync()
        scores = self.evaluator.scores(self._pause)
        losses = [loss for loss in self._losses if loss is not None]
        whole = losses and len(losses) == len(self._losses)
        train_loss = sum(losses) / len(losses) if whole else None
        line = EpochLine(epoch, train_loss, scores.accuracy, scores.mse, scores.mae)
        self.lines[epoch] = line
        self.log.write(line)
        self.watch.epoch(line)

    def _pause(self) -> None:
        """Where the run may be interrupted: every parameter is up to date."""
        if self.interrupts.requested:
            raise _Interrupted

    def _save(self) -> None:
        self.log.sync()
        save_checkpoint(
            self.folder, self.executor.state(), recipe=self.recipe.digest, epoch=self.epoch, step=self.step
        )
