"""The trade-off curve: energy and time of a step above plain training's, against the budget of RAM."""

import math
from itertools import pairwise

from edgewise.plan import Curve, Point
from edgewise.report.chart import Caption, Frame, chart, grid, legend
from edgewise.report.nouns import ReportData
from edgewise.report.svg import WIDTH, Markup, join, line, path, tag, words
from edgewise.report.units import bytes_text, joules_text, nice_step, percent, plural, seconds_text

MARGIN = 14.0
"""Room left and right of the curve, for its dots."""


def trade_off_curve(data: ReportData) -> Markup:
    """The curve, its knee marked; empty if none was planned, or if plain training costs nothing."""
    curve = data.curve
    if curve is None or data.plain.joules <= 0 or data.plain.seconds <= 0:
        return Markup("")
    energy = [point.joules / data.plain.joules - 1 for point in curve.points]
    time = [point.seconds / data.plain.seconds - 1 for point in curve.points]
    most = max(*energy, *time, 0.0)
    frame = Frame(240, most * 1.08 or 1.0, min(*energy, *time, 0.0), top=12)
    step = nice_step(frame.y_max - frame.y_min, 5)
    ticks = [step * i for i in range(math.ceil(frame.y_min / step), math.floor(frame.y_max / step) + 1)]
    places = _places(curve)
    shapes = [
        grid(frame, ticks),
        path(line((x, frame.y(share)) for x, share in zip(places, time, strict=True)), "measured"),
        path(line((x, frame.y(share)) for x, share in zip(places, energy, strict=True)), "smooth"),
    ]
    body = chart(
        frame,
        Caption("trade-off", "Energy and time against RAM", _about(curve)),
        shapes,
        _overlay(curve, frame, places, energy if curve.minimize == "joules" else time),
        ticks=[(frame.y(t), percent(t, signed=True)) for t in ticks],
        tips=_tips(curve, places, energy, time),
    )
    keys = legend([("stroke smooth", "energy above plain"), ("stroke measured", "time above plain")])
    return join((keys, body))


def trade_off_words(data: ReportData) -> str:
    """What the curve is, in a sentence or two."""
    curve = data.curve
    if curve is None:
        return ""
    what = "energy" if curve.minimize == "joules" else "time"
    limit = f", each within {seconds_text(curve.seconds_limit)}" if curve.seconds_limit is not None else ""
    sliced = sum(point.streamed > 0 for point in curve.points)
    slices = f" In {sliced:,} of them, ops run in slices." if sliced else ""
    knee = bytes_text(_knee(curve).ram_bytes)
    return (
        f"Plans of least {what} for {plural(len(curve.points), 'budget')} of RAM{limit}, from the least that "
        f"any plan was found for to plain training's.{slices} The marked one, {knee}, is the knee: with less "
        "RAM the price rises faster, with more it falls more slowly."
    )


def _knee(curve: Curve) -> Point:
    return curve.points[curve.knee]


def _about(curve: Curve) -> str:
    first, last = curve.points[0], curve.points[-1]
    ends = f"{bytes_text(first.ram_bytes)} at {joules_text(first.joules)} to {bytes_text(last.ram_bytes)}"
    return f"From {ends} at {joules_text(last.joules)}."


def _places(curve: Curve) -> list[float]:
    low, high = curve.points[0].ram_bytes, curve.points[-1].ram_bytes
    span = (high - low) or 1
    return [MARGIN + (point.ram_bytes - low) / span * (WIDTH - 2 * MARGIN) for point in curve.points]


def _overlay(curve: Curve, frame: Frame, places: list[float], shares: list[float]) -> list[Markup]:
    """A dot for each budget, the knee's filled and named, and the ends of the axis."""
    overlay = []
    for index, (x, share) in enumerate(zip(places, shares, strict=True)):
        large = index == curve.knee
        place = f"{x / WIDTH * 100:.2f}%"
        dot = tag(
            "circle", cx=place, cy=frame.y(share), r=5.5 if large else 3.0, class_="knee" if large else "dot"
        )
        overlay.append(dot)
    x, y = places[curve.knee], frame.y(shares[curve.knee])
    anchor = "start" if x < WIDTH / 2 else "end"
    overlay.append(words("knee", x, y - 10, anchor=anchor, dx=8 if anchor == "start" else -8, class_="name"))
    bottom = frame.total - 6
    overlay.append(words(bytes_text(curve.points[0].ram_bytes), 0, bottom, class_="tick"))
    overlay.append(words(bytes_text(curve.points[-1].ram_bytes), WIDTH, bottom, anchor="end", class_="tick"))
    return overlay


def _tips(curve: Curve, places: list[float], energy: list[float], time: list[float]) -> dict[str, object]:
    middle = [(x + next_x) / 2 for x, next_x in pairwise(places)]
    texts = [
        f"{bytes_text(point.ram_bytes)} of RAM\n"
        f"{joules_text(point.joules)}, {percent(e, signed=True)}\n"
        f"{seconds_text(point.seconds)}, {percent(t, signed=True)}\n"
        f"{plural(point.recomputed, 'op')} recomputed, {plural(point.paged_in, 'page-in')}"
        + (f", {plural(point.streamed, 'op')} streamed" if point.streamed else "")
        for point, e, t in zip(curve.points, energy, time, strict=True)
    ]
    return {"edges": [0.0, *(round(x, 1) for x in middle)], "text": texts}
