"""Watch: what a run tells whoever looks on. Override what you want to hear of."""

from edgewise.plan import Certificate, Plan, Progress
from edgewise.train.comparison import Row
from edgewise.train.records import EpochLine, RunSummary, StepLine


class Watch:
    """Hears of a run as it goes; every method does nothing here."""

    def started(self, steps: int, epochs: int, first_step: int) -> None:
        """The data is loaded: there will be `steps` steps in `epochs` epochs, from number `first_step` on."""

    def progress(self, progress: Progress) -> None:
        """The planner is at work."""

    def planned(self, plan: Plan, plain: Certificate) -> None:
        """There is a plan, and it has passed the check; `plain` is what plain training needs."""

    def step(self, line: StepLine) -> None:
        """A training step is done."""

    def epoch(self, line: EpochLine) -> None:
        """An epoch is done and evaluated; epoch 0 is the model before training."""

    def finished(self, summary: RunSummary) -> None:
        """The run has ended, or was interrupted, and its summary is written."""


class CompareWatch(Watch):
    """Hears of a comparison as it goes; what a `Watch` hears is then about the contender of that time."""

    def contender(self, name: str, place: int, count: int) -> None:
        """Contender number `place` of `count` is next."""

    def trial(self, done: int, count: int, lr: float) -> None:
        """After `done` of `count` trials of learning rates, `lr` is next."""

    def row(self, row: Row) -> None:
        """A contender is done, or cannot be, and its row is written."""
