"""Standings: what each trained row of a comparison reached, and what that cost on the device.

The *level* is what counts as the best that any row reached: the best last score less what chance makes of it.
By accuracy that is two standard errors on the test samples, or one point if that is more; by an error or a
loss it is 2% of what the best row gained. Rows are then ranked by what they spent until the level.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from edgewise.report.units import figure, percent
from edgewise.train.comparison import Comparison, Mark, Row

ONE_POINT = 0.01
STANDARD_ERRORS = 2.0
SHARE_OF_GAIN = 0.02


class Reached(NamedTuple):
    """Where a row came to the level: steps, and their seconds and joules on the device."""

    steps: int
    seconds: float
    joules: float


class Standing(NamedTuple):
    """A trained row, its last score, and where it came to the level; `None` if it never did."""

    row: Row
    score: float | None
    reached: Reached | None


class Standings(NamedTuple):
    """`first` is the best score before training, `best` the best last one, `level` what counts as that.

    There is no level where nobody gained more than the `tie` between scores that chance may make.
    """

    standings: tuple[Standing, ...]
    first: float | None
    best: float | None
    level: float | None
    tie: float


def standings(comparison: Comparison) -> Standings:
    """Who stands where."""
    rows = comparison.trained
    lasts = {row.name: score_of_last(comparison, row) for row in rows}
    firsts = [score for row in rows if (score := _first(comparison, row)) is not None]
    better = max if is_higher_better(comparison) else min
    found = [score for score in lasts.values() if score is not None]
    if not found:
        return Standings(tuple(Standing(row, None, None) for row in rows), None, None, None, 0.0)
    best, first = better(found), better(firsts) if firsts else None
    tie = _tie(comparison, best, first)
    level = None
    if first is not None and abs(best - first) > tie and better(best, first) == best:
        level = best - tie if is_higher_better(comparison) else best + tie
    placed = tuple(Standing(row, lasts[row.name], _reach(comparison, row, level)) for row in rows)
    return Standings(placed, first, best, level, tie)


def is_higher_better(comparison: Comparison) -> bool:
    """Accuracy is; errors and losses are not."""
    return comparison.metric == "accuracy"


def is_at(comparison: Comparison, score: float | None, level: float | None) -> bool:
    """Whether `score` is as good as `level`."""
    if score is None or level is None:
        return False
    return score >= level if is_higher_better(comparison) else score <= level


def score_of_last(comparison: Comparison, row: Row) -> float | None:
    """The score after the last step; `None` if it is no number."""
    return comparison.score(row.marks[-1]) if row.marks else None


def score_within(comparison: Comparison, row: Row, joules: float) -> float | None:
    """The score of the last mark that costs at most `joules`."""
    if row.cost is None:
        return None
    marks = [mark for mark in row.marks if mark.step * row.cost.joules <= joules * (1 + 1e-9)]
    return comparison.score(marks[-1]) if marks else None


def score_text(comparison: Comparison, score: float | None) -> str:
    """`score` in the unit of the metric."""
    if score is None:
        return "no number"
    return percent(score) if comparison.metric == "accuracy" else figure(score)


def has_diverged(row: Row) -> bool:
    """Whether the training loss was no number in the end."""
    return bool(row.marks) and row.marks[-1].step > 0 and row.marks[-1].train_loss is None


def scored(comparison: Comparison, marks: Sequence[Mark]) -> list[tuple[int, float]]:
    """`(step, score)` of each mark that has a score."""
    return [(mark.step, score) for mark in marks if (score := comparison.score(mark)) is not None]


def _first(comparison: Comparison, row: Row) -> float | None:
    """The score before training or, by the training loss, that of the first epoch."""
    found = scored(comparison, row.marks)
    return found[0][1] if found else None


def _tie(comparison: Comparison, best: float, first: float | None) -> float:
    if comparison.metric == "accuracy":
        error = math.sqrt(best * (1 - best) / max(comparison.test_samples, 1))
        return max(ONE_POINT, STANDARD_ERRORS * error)
    return SHARE_OF_GAIN * abs(best - first) if first is not None else 0.0


def _reach(comparison: Comparison, row: Row, level: float | None) -> Reached | None:
    """Where `row` first came to `level`, if it also ended there."""
    if row.cost is None or not is_at(comparison, score_of_last(comparison, row), level):
        return None
    step = next(step for step, score in scored(comparison, row.marks) if is_at(comparison, score, level))
    return Reached(step, step * row.cost.seconds, step * row.cost.joules)
