"""The frame of the charts: a gutter with the y axis, a plot that stretches with the page, tooltips as data.

Coordinates: x in units of the drawing (0 to `WIDTH`, stretched), y in pixels from the top of the frame.
"""

import json
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from edgewise.report.svg import WIDTH, Markup, drawing, join, line, path, tag, visible, words

GUTTER = 84
"""Pixels left of the plot, for the labels of the y axis."""

MAX_COLUMNS = 1200
"""Most columns of a stair: more than a wide screen has pixels for."""


class Frame(msgspec.Struct, frozen=True):
    """`y_max` is at `top` pixels, zero (or `y_min`) at `top + height`; `below` pixels are under the plot."""

    height: float
    y_max: float
    y_min: float = 0.0
    top: float = 20.0
    below: float = 24.0

    @property
    def base(self) -> float:
        """Pixel of the lower end of the y axis."""
        return self.top + self.height

    @property
    def total(self) -> float:
        """Pixels of the whole frame."""
        return self.base + self.below

    def y(self, amount: float) -> float:
        """Pixel of `amount`."""
        return self.base - (amount - self.y_min) / ((self.y_max - self.y_min) or 1) * self.height


def x_of(index: float, count: int) -> float:
    """Place of `index` on an axis of `count` columns."""
    return WIDTH * index / max(count, 1)


def columns(count: int, limit: int = MAX_COLUMNS) -> list[range]:
    """`count` steps in at most `limit` runs of neighbours."""
    pieces = min(count, limit)
    return [range(count * i // pieces, count * (i + 1) // pieces) for i in range(pieces)]


def peaks(runs: Sequence[range], amounts: Sequence[float]) -> list[int]:
    """For each run of steps the one with the largest amount, so that thinning out never hides a peak."""
    return [max(run, key=lambda index: amounts[index]) for run in runs]


def grid(frame: Frame, ticks: Sequence[float]) -> Markup:
    """Horizontal hairlines."""
    return path("".join(line(((0, frame.y(t)), (WIDTH, frame.y(t)))) for t in ticks), "grid")


def step_ticks(count: int, y: float, word: str) -> Markup:
    """Numbers under the plot: where it begins, each quarter, where it ends."""
    shares = (0.0, 0.25, 0.5, 0.75, 1.0) if count >= 8 else (0.0, 1.0)
    labels = []
    for share in shares:
        number = round(share * count)
        anchor = "start" if share == 0 else "end" if share == 1 else "middle"
        text = f"{word} {number:,}" if share == 0 else f"{number:,}"
        labels.append(words(text, share * WIDTH, y, anchor=anchor, class_="tick"))
    return join(labels)


class Caption(NamedTuple):
    """`name` is the chart's own on the page, `title` and `about` say it to those who cannot see it."""

    name: str
    title: str
    about: str


def chart(
    frame: Frame,
    caption: Caption,
    shapes: Sequence[object],
    overlay: Sequence[object],
    *,
    ticks: Sequence[tuple[float, str]],
    rows: Sequence[tuple[float, str, str]] = (),
    tips: dict[str, object] | None = None,
) -> Markup:
    """The whole chart. `ticks` are `(pixel, label)`, `rows` `(pixel, label, class)` of strips below."""
    name, title, about = caption
    edge = float(GUTTER - 10)
    labels = [
        tag("text", label, x=edge, y=pixel + 4, text_anchor="end", class_=class_)
        for pixel, label, class_ in (*((p, text, "tick") for p, text in ticks), *_strips(rows))
    ]
    gutter = tag("svg", *labels, class_="gutter", width=float(GUTTER), height=frame.total, aria_hidden="true")
    plot = tag(
        "svg",
        tag("title", title, id=f"{name}-title"),
        tag("desc", about, id=f"{name}-about"),
        drawing(frame.total, *shapes),
        *overlay,
        class_="plot",
        width="100%",
        height=frame.total,
        role="img",
        aria_labelledby=f"{name}-title {name}-about",
    )
    height = frame.total - frame.top - 20
    cursor = tag("div", class_="cursor", style=f"top:{frame.top:.0f}px;height:{height:.0f}px")
    stage = tag("div", plot, cursor, class_="stage")
    return tag("div", gutter, stage, _data(tips), class_="chart", id=name)


def _strips(rows: Sequence[tuple[float, str, str]]) -> list[tuple[float, str, str]]:
    return [(pixel, label, f"tick row {class_}") for pixel, label, class_ in rows]


def _data(tips: dict[str, object] | None) -> Markup:
    """Tooltips as JSON that cannot end its element: a `<` in a name is written as an escape."""
    if tips is None:
        return Markup("")
    text = json.dumps(tips, separators=(",", ":"))
    safe = text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    return tag("script", Markup(safe), type="application/json", class_="tips")


def column_tips(count: int, runs: Sequence[range], text: Callable[[int], str]) -> dict[str, object]:
    """Tooltips by column: `text(i)` for the i-th run."""
    edges = [round(x_of(run.start, count), 2) for run in runs]
    return {"edges": edges, "text": [visible(text(i)) for i in range(len(runs))]}


def legend(entries: Sequence[tuple[str, str]]) -> Markup:
    """Keys of a chart: `(class of the swatch, words)`."""
    items = [tag("li", tag("i", class_=f"swatch {class_}"), text) for class_, text in entries]
    return tag("ul", *items, class_="legend")
