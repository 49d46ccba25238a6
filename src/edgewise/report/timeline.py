"""The memory timeline: what is in RAM during each step of the plan, against the budget and plain training."""

from edgewise.plan import Compute
from edgewise.report.chart import (
    Caption,
    Frame,
    chart,
    column_tips,
    columns,
    grid,
    legend,
    peaks,
    step_ticks,
    x_of,
)
from edgewise.report.loops import Loop
from edgewise.report.nouns import ReportData
from edgewise.report.svg import WIDTH, Markup, band, box, join, line, path, stair, words
from edgewise.report.trace import GROUP_WORDS, GROUPS, Moment, Trace, group_of, plain_steps
from edgewise.report.units import bytes_text, clipped, nice_step, plural, seconds_text

RUG = (
    ("recompute", "recompute"),
    ("page_out", "page out"),
    ("page_in", "page in"),
    ("loop", "in slices"),
    ("update", "update"),
)
"""The strips under the plot: what a moment does, and its words. What no moment does has no strip."""

_VERB = {
    "compute": "compute",
    "recompute": "compute again",
    "page_out": "page out",
    "page_in": "page in",
    "free": "free",
}
MOST_ABOVE = 6
"""Plain training is above the chart where it needs more than so many times what the plan does: else one would
not see the plan."""

_PITCH = 17.0
"""Pixels from one strip to the next."""


def plain_line(data: ReportData, trace: Trace) -> list[int]:
    """What plain training holds while it executes the op that the plan has last executed for the first time.

    Plain training has fewer steps, so the two are aligned op by op: at equal x, both have come equally far.
    """
    pairs = zip(plain_steps(data.graph), data.plain.ram_bytes, strict=True)
    at = {step.op: size for step, size in pairs if isinstance(step, Compute)}
    held, sizes = sum(value.bytes for value in data.graph.sources()), []
    for moment in trace.moments:
        if moment.what == "compute":
            held = at.get(moment.name, held)
        sizes.append(held)
    return sizes


def plain_is_far(data: ReportData) -> bool:
    """Whether plain training needs so much more than the plan that the chart does not go up to it."""
    return data.plain.peak_bytes > MOST_ABOVE * max(data.certificate.peak_bytes, *data.memory, 1)


def timeline(data: ReportData, trace: Trace) -> Markup:
    """The chart with its legend."""
    count = len(trace.moments)
    ghost = plain_line(data, trace)
    budget = data.plan.budget.ram_bytes
    rug = [(what, text) for what, text in RUG if any(_does(moment, what) for moment in trace.moments)]
    measured = max(data.memory or (0,))
    top = max(data.certificate.peak_bytes, measured, 1)
    top = top if plain_is_far(data) else max(top, data.plain.peak_bytes)
    top = budget if top < budget <= 2 * top else top
    frame = Frame(320, top * 1.08, below=56 + _PITCH * len(rug))
    tick = nice_step(frame.y_max, 6, binary=True)
    ticks = [tick * i for i in range(int(frame.y_max / tick) + 1)]
    runs = columns(count)
    edges = [x_of(run.start, count) for run in runs] + [WIDTH]
    shown = peaks(runs, data.certificate.ram_bytes)
    rows = [(frame.base + 38 + _PITCH * nth, text, what) for nth, (what, text) in enumerate(rug)]
    shapes = [
        _backward(frame, trace),
        grid(frame, ticks),
        *_areas(frame, trace, edges, shown),
        *_lines(frame, data, ghost, edges, runs),
        *(_strip(trace, what, pixel) for pixel, _, what in rows),
    ]
    body = chart(
        frame,
        Caption("timeline", "RAM in each step of the plan", _about(data, trace)),
        shapes,
        [*_labels(data, frame, ghost), _phases(frame, trace), step_ticks(count, frame.total - 6, "step")],
        ticks=[(frame.y(t), bytes_text(t)) for t in ticks],
        rows=rows,
        tips=column_tips(count, runs, lambda i: _tip(data, trace, ghost, shown[i])),
    )
    return join((_legend(data, trace, ghost=not ghost or min(ghost) <= frame.y_max), body))


def _areas(frame: Frame, trace: Trace, edges: list[float], shown: list[int]) -> list[Markup]:
    lower = [0] * len(shown)
    areas = []
    for group in GROUPS:
        sizes = trace.bytes_by_group[group]
        upper = [low + sizes[index] for low, index in zip(lower, shown, strict=True)]
        if upper != lower:
            data = band(edges, [frame.y(size) for size in lower], [frame.y(size) for size in upper])
            areas.append(path(data, f"area {group}"))
        lower = upper
    return areas


def _lines(
    frame: Frame, data: ReportData, ghost: list[int], edges: list[float], runs: list[range]
) -> list[Markup]:
    """Plain training, what was measured, and the budget unless it is far above everything."""
    shapes = [path(stair(edges, [frame.y(ghost[i]) for i in peaks(runs, ghost)]), "ghost")] if ghost else []
    if data.memory:
        heights = [frame.y(data.memory[i]) for i in peaks(runs, data.memory)]
        shapes.append(path(stair(edges, heights), "measured"))
    if data.plan.budget.ram_bytes <= frame.y_max:
        height = frame.y(data.plan.budget.ram_bytes)
        shapes.append(path(line(((0, height), (WIDTH, height))), "budget"))
    return shapes


def _does(moment: Moment, what: str) -> bool:
    if what == "loop":
        return moment.loop is not None
    return moment.updates if what == "update" else moment.what == what


def _strip(trace: Trace, what: str, pixel: float) -> Markup:
    """A tick at each step that does `what`; ticks that would coincide are drawn once."""
    count = len(trace.moments)
    places = {round(x_of(i + 0.5, count), 1) for i, moment in enumerate(trace.moments) if _does(moment, what)}
    rail = path(line(((0, pixel), (WIDTH, pixel))), "rail")
    return join((rail, path("".join(f"M{x:g} {pixel - 5:g}v10" for x in sorted(places)), f"mark {what}")))


def _backward(frame: Frame, trace: Trace) -> Markup:
    """The ground under the backward pass, tinted, and the line where it begins."""
    if trace.backward_begin is None:
        return Markup("")
    x = x_of(trace.backward_begin, len(trace.moments))
    ground = path(box(x, frame.top, WIDTH - x, frame.height + 22), "ground")
    return join((ground, path(line(((x, frame.top), (x, frame.base + 22))), "boundary")))


def _phases(frame: Frame, trace: Trace) -> Markup:
    if trace.backward_begin is None:
        return Markup("")
    x = x_of(trace.backward_begin, len(trace.moments))
    y = frame.base + 16
    forward = words("forward", x, y, anchor="end", dx=-8, class_="phase")
    learns = any(moment.updates for moment in trace.moments)
    backward = words("backward and update" if learns else "backward", x, y, dx=8, class_="phase")
    return join((forward if x > WIDTH / 12 else "", backward if x < WIDTH * 0.8 else ""))


def _labels(data: ReportData, frame: Frame, ghost: list[int]) -> list[Markup]:
    """Names of the two lines, beside them, on the side where the other does not stand."""
    budget = data.plan.budget.ram_bytes
    at = x_of(max(range(len(ghost)), key=lambda i: ghost[i]) + 0.5, len(ghost)) if ghost else 0.0
    right = at > WIDTH / 2
    beyond = data.plain.peak_bytes > frame.y_max
    plain = words(
        f"plain training {bytes_text(data.plain.peak_bytes)}{', above this chart' if beyond else ''}",
        WIDTH * right if beyond else at,
        frame.top - 6 if beyond else frame.y(data.plain.peak_bytes) - 6,
        anchor="end" if right else "start",
        class_="name ghost-name",
    )
    above = budget > frame.y_max
    name = words(
        f"budget {bytes_text(budget)}{', above this chart' if above else ''}",
        0 if right else WIDTH,
        frame.top - 6 if above else frame.y(budget) - 6,
        anchor="start" if right else "end",
        dx=6 if right else -6,
        class_="name budget-name",
    )
    return [plain, name]


def _tip(data: ReportData, trace: Trace, ghost: list[int], index: int) -> str:
    moment = trace.moments[index]
    lines = [f"step {index:,}: {_VERB[moment.what]} {clipped(moment.name, 60)}"]
    lines += _loop_lines(moment.loop) if moment.loop else []
    measured = f", measured {bytes_text(data.memory[index])}" if data.memory else ""
    lines.append(f"planned {bytes_text(data.certificate.ram_bytes[index])}{measured}")
    sizes = ((GROUP_WORDS[group], trace.bytes_by_group[group][index]) for group in reversed(GROUPS))
    lines += [f"  {text} {bytes_text(size)}" for text, size in sizes if size]
    lines.append(f"plain training here {bytes_text(ghost[index])}")
    return "\n".join(lines)


def _loop_lines(loop: Loop) -> list[str]:
    """How an op runs in slices, what it streams, and how long that keeps link and processor busy in turn."""
    lines = [f"in {plural(loop.option.tiles, 'slice')}: {clipped(loop.option.name, 40)}"]
    if loop.streamed:
        lines.append(f"streams {clipped(', '.join(loop.streamed), 60)}")
        lines.append(f"  {bytes_text(loop.bytes_read)} read, {bytes_text(loop.bytes_written)} written")
        moved, computed = seconds_text(loop.moved.seconds), seconds_text(loop.compute.seconds)
        lines.append(f"  {moved} of transfers, then {computed} of compute, in turn")
    return lines


def _about(data: ReportData, trace: Trace) -> str:
    measured = f", measured at most {bytes_text(max(data.memory))}" if data.memory else ""
    return (
        f"Over {plural(len(trace.moments), 'step')} the plan holds at most "
        f"{bytes_text(data.certificate.peak_bytes)}{measured}; the budget is "
        f"{bytes_text(data.plan.budget.ram_bytes)}, and plain training holds "
        f"{bytes_text(data.plain.peak_bytes)} at its peak."
    )


def _legend(data: ReportData, trace: Trace, *, ghost: bool) -> Markup:
    present = {group_of(value) for value in data.graph.values}
    entries = [
        (f"fill {group}", GROUP_WORDS[group])
        for group in GROUPS
        if group in present or any(trace.bytes_by_group[group])
    ]
    if data.memory:
        entries.append(("stroke measured", "measured"))
    if ghost:
        entries.append(("stroke ghost", "plain training"))
    return legend([*entries, ("stroke budget", "budget")])
