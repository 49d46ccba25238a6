"""What each method had learnt by when: one line a method, against energy, time or steps on the device."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from edgewise.report.chart import Caption, Frame, chart, grid, legend
from edgewise.report.standings import is_higher_better, score_text, scored
from edgewise.report.svg import WIDTH, Markup, join, line, path, visible, words
from edgewise.report.units import clipped, nice_step
from edgewise.train.comparison import Comparison, Row

COLOURS = 8
"""Colours in the style sheet; from the ninth line on they are dashed."""

TIPS = 60
"""Places along the x axis at which the pointer is told all scores."""


class Axis(NamedTuple):
    """What a mark's place is: `of(row, step)`, in words `text`."""

    name: str
    title: str
    of: Callable[[Row, int], float]
    text: Callable[[float], str]


def progress_curve(comparison: Comparison, axis: Axis) -> Markup:
    """The lines of all trained rows; empty if none has two marks with a score."""
    rows = [row for row in comparison.trained if len(scored(comparison, row.marks)) > 1]
    if not rows:
        return Markup("")
    lines = {row.name: _points(comparison, row, axis) for row in rows}
    most = max(x for points in lines.values() for x, _ in points) or 1.0
    frame = _frame(comparison, [y for points in lines.values() for _, y in points])
    step = nice_step(frame.y_max - frame.y_min, 5)
    ticks = [
        step * i for i in range(math.ceil(frame.y_min / step), math.floor(frame.y_max / step + 1e-9) + 1)
    ]
    shapes: list[object] = [grid(frame, ticks)]
    for place, row in reversed(list(enumerate(rows))):  # the first on top
        points = [(x / most * WIDTH, frame.y(y)) for x, y in lines[row.name]]
        shapes.append(path(line(points), f"series {_colour(place)}"))
    return join(
        (
            legend([(f"stroke {_colour(place)}", clipped(row.name)) for place, row in enumerate(rows)]),
            chart(
                frame,
                Caption(
                    f"by-{axis.name}", f"{comparison.metric} against {axis.title}", _about(comparison, rows)
                ),
                shapes,
                _labels(frame, axis, most),
                ticks=[(frame.y(t), score_text(comparison, t)) for t in ticks],
                tips=_tips(comparison, axis, lines, most),
            ),
        )
    )


def _points(comparison: Comparison, row: Row, axis: Axis) -> list[tuple[float, float]]:
    return [(axis.of(row, step), score) for step, score in scored(comparison, row.marks)]


def _colour(place: int) -> str:
    dashed = " dashed" if place >= COLOURS else ""
    return f"s{place % COLOURS}{dashed}"


def _frame(comparison: Comparison, scores: Sequence[float]) -> Frame:
    if is_higher_better(comparison):
        return Frame(240, 1.0, top=12)
    ordered = sorted(scores)
    top = min(ordered[-1], 3 * ordered[len(ordered) // 2] or 1.0)  # one that diverged must not flatten all
    return Frame(240, top * 1.05 or 1.0, min(0.0, ordered[0]), top=12)


def _labels(frame: Frame, axis: Axis, most: float) -> list[Markup]:
    shares = (0.0, 0.25, 0.5, 0.75, 1.0)
    anchors = ("start", "middle", "middle", "middle", "end")
    y = frame.total - 6
    return [
        words(axis.text(share * most), share * WIDTH, y, anchor=anchor, class_="tick")
        for share, anchor in zip(shares, anchors, strict=True)
    ]


def _about(comparison: Comparison, rows: Sequence[Row]) -> str:
    ends = [
        f"{clipped(row.name)} {score_text(comparison, scored(comparison, row.marks)[-1][1])}" for row in rows
    ]
    return f"At the end: {', '.join(ends)}."


def _tips(
    comparison: Comparison, axis: Axis, lines: dict[str, list[tuple[float, float]]], most: float
) -> dict[str, object]:
    """At each of some places, the last score of every line that has come so far."""
    texts = []
    for place in range(TIPS):
        at = (place + 1) / TIPS * most
        said = [axis.text(at)]
        for name, points in lines.items():
            before = [y for x, y in points if x <= at * (1 + 1e-9)]
            ended = " (ended)" if points[-1][0] < at * (1 - 1.0 / TIPS) else ""
            said.append(f"{clipped(name)} {score_text(comparison, before[-1]) if before else '-'}{ended}")
        texts.append(visible("\n".join(said)))
    return {"edges": [round(place / TIPS * WIDTH, 1) for place in range(TIPS)], "text": texts}
