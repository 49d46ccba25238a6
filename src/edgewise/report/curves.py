"""The loss of each training step, raw and smoothed, and the test accuracy of each epoch."""

from edgewise.report.chart import Frame, chart, column_tips, columns, grid, legend, x_of
from edgewise.report.nouns import ReportData, StepLine
from edgewise.report.svg import WIDTH, Markup, join, line, path, tag, words
from edgewise.report.units import figure, nice_step, percent

MAX_POINTS = 600
SMOOTHING = 40
"""The smoothed loss is the mean over one part in so many of the run."""


def loss_curve(data: ReportData) -> Markup:
    """Loss per step; empty if no step has a loss."""
    lines = [line_ for line_ in data.steps if line_.loss is not None]
    if not lines:
        return Markup("")
    losses = [line_.loss or 0.0 for line_ in lines]
    frame = _frame(losses)
    step = nice_step(frame.y_max - frame.y_min, 5)
    ticks = [step * i for i in range(int(frame.y_min // step), int(frame.y_max / step) + 1) if step * i >= frame.y_min]
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
        shapes,
        [*_ends(lines, frame)],
        title=f"Loss over {count:,} steps, from {figure(smooth[0])} to {figure(smooth[-1])}",
        ticks=[(frame.y(t), figure(t)) for t in ticks],
        tips=column_tips(count, runs, lambda i: _loss_tip(lines, losses, smooth, runs[i])),
    )
    return join((legend([("stroke raw", "each step"), ("stroke smooth", "running mean")]), body))


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
    low, high = min(0.0, *losses), max(losses)
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
    return f"step {lines[at].step:,}, epoch {lines[at].epoch}\nloss {figure(losses[at])}\nmean {figure(smooth[at])}"


def accuracy_curve(data: ReportData) -> Markup:
    """Test accuracy per epoch; empty if there is none."""
    points = data.accuracies
    if not points:
        return Markup("")
    frame = Frame(220, 1.0, top=12)
    ticks = (0.0, 0.25, 0.5, 0.75, 1.0)
    first, last = points[0][0], points[-1][0]
    places = [((epoch - first) / max(last - first, 1) * (WIDTH - 24) + 12, frame.y(share)) for epoch, share in points]
    dots = [
        tag("circle", cx=f"{x / WIDTH * 100:.2f}%", cy=y, r=3.5, class_="dot") for x, y in places
    ] if len(places) <= 60 else []
    y = frame.total - 6
    overlay = [*dots, words(f"epoch {first}", 0, y, class_="tick"), words(last, WIDTH, y, anchor="end", class_="tick")]
    middle = [(x + next_x) / 2 for (x, _), (next_x, _) in zip(places, places[1:], strict=False)]
    tips = {
        "edges": [0.0, *(round(x, 1) for x in middle)],
        "text": [f"epoch {epoch}\ntest accuracy {percent(share)}" for epoch, share in points],
    }
    title = f"Test accuracy from {percent(points[0][1])} to {percent(points[-1][1])}"
    shapes = [grid(frame, ticks), path(line(places), "smooth")]
    body = chart(frame, shapes, overlay, title=title, ticks=[(frame.y(t), percent(t)) for t in ticks], tips=tips)
    return join((legend([("stroke smooth", "on the test data")]), body))
