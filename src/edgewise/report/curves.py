"""The loss of each training step, raw and smoothed, and the test accuracy of each epoch."""

import math
from collections.abc import Callable
from itertools import pairwise

from edgewise.report.chart import Caption, Frame, chart, column_tips, columns, grid, legend, x_of
from edgewise.report.nouns import ReportData
from edgewise.report.svg import WIDTH, Markup, join, line, path, tag, words
from edgewise.report.units import figure, nice_step, percent, plural
from edgewise.train import StepLine

MAX_POINTS = 600
MAX_DOTS = 60
SMOOTHING = 40
"""The smoothed loss is the mean over one part in so many of the run."""


def loss_curve(data: ReportData) -> Markup:
    """Loss per step; empty if nothing was trained."""
    if data.steps and all(line_.loss is None for line_ in data.steps):
        text = f"None of {plural(len(data.steps), 'step')} had a loss that is a number: training diverged."
        return tag("p", text, class_="note warn")
    lines = [line_ for line_ in data.steps if line_.loss is not None]
    if not lines:
        return Markup("")
    losses = [line_.loss or 0.0 for line_ in lines]
    frame = _frame(losses)
    step = nice_step(frame.y_max - frame.y_min, 5)
    first = math.ceil(frame.y_min / step)
    ticks = [step * i for i in range(first, math.floor(frame.y_max / step) + 1)]
    count = len(lines)
    smooth = smoothed(losses, max(1, count // SMOOTHING))
    runs = columns(count, MAX_POINTS)
    shapes = [
        grid(frame, ticks),
        path(_raw(frame, losses, runs), "raw"),
        path(line((x_of(run.start + 0.5, count), frame.y(smooth[run.start])) for run in runs), "smooth"),
    ]
    body = chart(
        frame,
        Caption("loss", "Loss of each training step", _about(smooth)),
        shapes,
        [*_ends(lines, frame)],
        ticks=[(frame.y(t), figure(t)) for t in ticks],
        tips=column_tips(count, runs, lambda i: _loss_tip(lines, losses, smooth, runs[i])),
    )
    broken = len(data.steps) - count
    verb = "is" if broken == 1 else "are"
    note = f"{plural(broken, 'step')} had a loss that is no number, and {verb} left out."
    keys = legend([("stroke raw", "each step"), ("stroke smooth", "running mean")])
    return join((keys, body, tag("p", note, class_="note warn") if broken else ""))


def _about(smooth: list[float]) -> str:
    ends = f"{figure(smooth[0])} to {figure(smooth[-1])}"
    return f"The running mean goes from {ends} in {plural(len(smooth), 'step')}."


def smoothed(amounts: list[float], radius: int) -> list[float]:
    """Mean over `radius` neighbours on each side, fewer at the ends."""
    sums = [0.0]
    for amount in amounts:
        sums.append(sums[-1] + amount)
    means = []
    for index in range(len(amounts)):
        low, high = max(0, index - radius), min(len(amounts), index + radius + 1)
        means.append((sums[high] - sums[low]) / (high - low))
    return means


def _frame(losses: list[float]) -> Frame:
    low, high = min(0.0, *losses), max(0.0, *losses)
    return Frame(220, high * 1.05 if high > low else low + 1.0, low, top=12)


def _raw(frame: Frame, losses: list[float], runs: list[range]) -> str:
    """The raw line; where steps share a column, from its least to its largest loss."""
    points = []
    for run in runs:
        part = [losses[index] for index in run]
        x = x_of(run.start + 0.5, len(losses))
        points.append((x, frame.y(part[0])))
        if len(part) > 1:
            points += [(x, frame.y(max(part))), (x, frame.y(min(part)))]
    return line(points)


def _ends(lines: list[StepLine], frame: Frame) -> list[Markup]:
    y = frame.total - 6
    return [
        words(f"step {lines[0].step:,}", 0, y, class_="tick"),
        words(f"{lines[-1].step:,}", WIDTH, y, anchor="end", class_="tick"),
    ]


def _loss_tip(lines: list[StepLine], losses: list[float], smooth: list[float], run: range) -> str:
    at = run.start
    where = f"step {lines[at].step:,}, epoch {lines[at].epoch}"
    return f"{where}\nloss {figure(losses[at])}\nmean {figure(smooth[at])}"


def epoch_curve(data: ReportData) -> Markup:
    """Test accuracy (or, where targets are numbers, the error) of each epoch; empty if there is none."""
    if data.accuracies:
        return _by_epoch("accuracy", data.accuracies, Frame(220, 1.0, top=12), percent)
    finite = [share for _, share in data.errors if math.isfinite(share)]
    if not finite:
        return Markup("")
    return _by_epoch("mean squared error", data.errors, Frame(220, max(finite) * 1.08 or 1.0, top=12), figure)


def _by_epoch(
    what: str, points: tuple[tuple[int, float], ...], frame: Frame, text: Callable[[float], str]
) -> Markup:
    tick = nice_step(frame.y_max, 5)
    ticks = [tick * i for i in range(math.floor(frame.y_max / tick + 1e-9) + 1)]
    first, last = points[0][0], points[-1][0]
    span = max(last - first, 1)
    places = [((epoch - first) / span * (WIDTH - 24) + 12, frame.y(amount)) for epoch, amount in points]
    dots = [tag("circle", cx=f"{x / WIDTH * 100:.2f}%", cy=y, r=3.5, class_="dot") for x, y in places]
    y = frame.total - 6
    overlay = [*(dots if len(dots) <= MAX_DOTS else []), words(f"epoch {first}", 0, y, class_="tick")]
    if last > first:
        overlay.append(words(f"{last:,}", WIDTH, y, anchor="end", class_="tick"))
    middle = [(x + next_x) / 2 for (x, _), (next_x, _) in pairwise(places)]
    tips = {
        "edges": [0.0, *(round(x, 1) for x in middle)],
        "text": [f"epoch {epoch}\ntest {what} {text(amount)}" for epoch, amount in points],
    }
    body = chart(
        frame,
        Caption(
            "epochs", f"Test {what} of each epoch", f"From {text(points[0][1])} to {text(points[-1][1])}."
        ),
        [grid(frame, ticks), path(line(places), "smooth")],
        overlay,
        ticks=[(frame.y(t), text(t)) for t in ticks],
        tips=tips,
    )
    return join((legend([("stroke smooth", "on the test data")]), body))
