"""A comparison at work, on stderr: which method is next, its search for a learning rate, its steps."""

from edgewise.cli.training import Watcher
from edgewise.report.units import bytes_text, percent
from edgewise.train import CompareWatch
from edgewise.train.comparison import Row


class CompareProgress(Watcher, CompareWatch):
    """One line that is kept up to date at a terminal, and one that stays for each method that is done."""

    def __init__(self) -> None:
        super().__init__()
        self._about = ""

    def contender(self, name: str, place: int, count: int) -> None:
        """Start the line anew for this contender."""
        self._about = f"{name}, {place} of {count}: "
        if self._task is not None:
            self._bar.reset(self._task, total=None)
        self._update(description="capturing the model", rate="")

    def trial(self, done: int, count: int, lr: float) -> None:
        """A search is at work."""
        self._update(description=f"trying learning rate {lr:.3g}", total=count, completed=done)

    def row(self, row: Row) -> None:
        """Leave one line behind."""
        if self._bar.disable:
            return
        self._bar.console.print(f"{row.name}: {_outcome(row)}", markup=False, highlight=False)

    def started(self, steps: int, epochs: int, first_step: int) -> None:
        """A run starts, at a rate of its own."""
        if self._task is not None:
            self._bar.reset(self._task, total=steps)
        super().started(steps, epochs, first_step)

    def _update(self, **fields: object) -> None:
        if "description" in fields:
            fields["description"] = f"{self._about}{fields['description']}"
        super()._update(**fields)


def _outcome(row: Row) -> str:
    if row.outcome == "does not fit" and row.min_ram_bytes:
        return f"does not fit, needs {bytes_text(row.min_ram_bytes)}"
    last = row.marks[-1].accuracy if row.marks else None
    return f"{row.outcome}, {percent(last)} right" if last is not None else row.outcome
