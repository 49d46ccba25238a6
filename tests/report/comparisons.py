"""Comparisons by hand: rows of a cost and a curve, for the rules and the page."""

from collections.abc import Sequence
from typing import Any

import msgspec

from edgewise.train.comparison import (
    FORMAT,
    Comparison,
    Cost,
    Mark,
    Row,
    Search,
    Setting,
    Trial,
)

PLAIN = Cost(0.2, 1.0, 1_000_000, 0)


def row(name: str, joules: float, accuracies: Sequence[float], **more: Any) -> Row:
    """A row that was trained: a mark each ten steps, and 0.2 s and `joules` a step."""
    marks = tuple(
        Mark(10 * i, accuracy, train_loss=1.0 if i else None) for i, accuracy in enumerate(accuracies)
    )
    usual = {
        "method": name,
        "solver": "auto",
        "outcome": "trained",
        "cost": Cost(0.2 * joules, joules, 1_000_000, 4096),
        "status": "optimal",
        "peak_bytes": 60_000,
        "run": name,
        "search": Search(0.1),
        "marks": marks,
    }
    return Row(name, **{**usual, **more})


def unfit(name: str, least: int | None, **more: Any) -> Row:
    """A row of which no plan fits."""
    usual = {"method": name, "solver": "auto", "reason": "No plan fits.", "op": "fc1:mm", "layer": "fc1"}
    return Row(name, outcome="does not fit", min_ram_bytes=least, **{**usual, **more})


def unserved(name: str, *parts: str) -> Row:
    """A row of a method that cannot serve the model."""
    return Row(name, name, "auto", "cannot serve", reason="It cannot be captured.", parts=parts)


def comparison(*rows: Row, **more: Any) -> Comparison:
    """Rows within 64 KiB on a board, tested on 10,000 samples."""
    setting = Setting("digest", {"name": "board"}, 65536, "joules", 40, None)
    usual = Comparison(FORMAT, "net", "digits", "sgd", 8, 10_000, setting, PLAIN, 100_000, rows)
    return msgspec.structs.replace(usual, **more)


def by_loss(name: str, joules: float, losses: Sequence[float], **more: Any) -> Row:
    """A row whose model returns no scores: it is judged by the training loss of each epoch."""
    marks = (Mark(0), *(Mark(10 * i, train_loss=loss) for i, loss in enumerate(losses, start=1)))
    return row(name, joules, (), marks=marks, **more)


def searched(lr: float, *losses: float | None) -> Search:
    """Trials at 1, 0.1, 0.01, ... of these losses."""
    return Search(lr, tuple(Trial(10.0**-i, 16, loss) for i, loss in enumerate(losses)))
