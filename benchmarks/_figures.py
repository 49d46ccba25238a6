"""What a benchmark found against what was aimed at: on its page, and beside it for `methods.py` to read."""

from pathlib import Path

import msgspec


class Figure(msgspec.Struct, frozen=True):
    """One figure and its aim; `claim` is the number of what it speaks for, in `methods.py`."""

    claim: int
    what: str
    measured: float
    aim: float
    at_least: bool = False
    """Whether the aim is a lower bound; else it is an upper one."""
    digits: int = 2
    is_mean: bool = False
    """Whether it is taken over the seeds of its page."""

    @property
    def is_met(self) -> bool:
        """Whether the aim is reached."""
        return self.measured >= self.aim if self.at_least else self.measured <= self.aim

    @property
    def cells(self) -> str:
        """`what | aim | measured | verdict`, of a table."""
        off = f"{abs(self.measured - self.aim):,.{self.digits}f}"
        verdict = "met" if self.is_met else f"missed by {off}"
        bound = "at least" if self.at_least else "at most"
        return f"{self.what} | {bound} {self.aim:g} | {self.measured:,.{self.digits}f} | {verdict}"


class Found(msgspec.Struct, frozen=True):
    """All figures of a page, and how many seeds those are taken over that chance is in."""

    title: str
    command: str
    seeds: int
    figures: tuple[Figure, ...]


COLUMNS = "| figure | aim | measured | |\n|---|---|---:|---|"


def table(figures: tuple[Figure, ...]) -> str:
    """A table of them."""
    return "\n".join((COLUMNS, *(f"| {figure.cells} |" for figure in figures)))


def save(page: Path, found: Found) -> None:
    """Beside the page, under its name."""
    page.with_suffix(".json").write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")


def load(page: Path) -> Found:
    """What `save` wrote."""
    return msgspec.json.decode(page.with_suffix(".json").read_bytes(), type=Found)
