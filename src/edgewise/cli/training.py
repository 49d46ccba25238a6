"""A run at work, on stderr: first the planner, then steps with their rate and the time left."""

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from edgewise.cli.planning import progress_text
from edgewise.plan import Certificate, Objective, Plan
from edgewise.plan import Progress as PlannerProgress
from edgewise.report.units import figure, percent
from edgewise.train import EpochLine, StepLine, Watch


class Watcher(Watch):
    """Keeps one line on stderr up to date, if that is a terminal; remembers the plan for the end."""

    def __init__(self, minimize: Objective = "joules") -> None:
        console = Console(stderr=True, markup=False, highlight=False)
        self.minimize: Objective = minimize
        self.plan: Plan | None = None
        self.done = 0
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}", markup=False),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._task: TaskID | None = None
        self._epochs = 0
        self._words = ""

    def __enter__(self) -> Self:
        self._bar.start()
        self._task = self._bar.add_task("capturing the model", total=None, rate="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def started(self, steps: int, epochs: int, first_step: int) -> None:
        """The data is loaded."""
        self._epochs, self.done = epochs, first_step
        self._update(total=steps, completed=first_step)

    def progress(self, progress: PlannerProgress) -> None:
        """The planner is at work."""
        self._update(description=progress_text(progress, self.minimize))

    def planned(self, plan: Plan, plain: Certificate) -> None:  # noqa: ARG002
        """There is a plan."""
        self.plan = plan
        self._update(description="training")

    def step(self, line: StepLine) -> None:
        """A step is done."""
        self.done += 1
        loss = "" if line.loss is None else f", loss {line.loss:.4f}"
        self._update(
            description=f"epoch {line.epoch} of {self._epochs}{loss}{self._words}",
            completed=self.done,
            rate=self._rate(),
        )

    def epoch(self, line: EpochLine) -> None:
        """An epoch is done and evaluated."""
        if line.test_accuracy is not None:
            self._words = f", accuracy {percent(line.test_accuracy)}"
        elif line.test_mse is not None:
            self._words = f", squared error {figure(line.test_mse)}"

    def _rate(self) -> str:
        if self._task is None:
            return ""
        speed = self._bar.tasks[0].speed
        return "" if speed is None else f"{figure(speed)} steps/s"

    def _update(self, **fields: object) -> None:
        if self._task is not None:
            self._bar.update(self._task, **fields)  # type: ignore[arg-type]
