"""The memory timeline: what is in RAM during each step of the plan, against the budget and plain training."""

from edgewise.plan import Compute
from edgewise.plan.schedule import lay_out, plain_order
from edgewise.report.chart import (
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
from edgewise.report.nouns import ReportData
from edgewise.report.svg import WIDTH, Markup, band, join, line, path, stair, words
from edgewise.report.trace import GROUP_WORDS, GROUPS, Trace
from edgewise.report.units import bytes_text, nice_step

RUG = (("recompute", "recompute"), ("page_out", "page out"), ("page_in", "page in"))
"""The strips under the plot: what a moment does, and its words."""

_VERB = {
    "compute": "compute",
    "recompute": "compute again",
    "page_out": "page out",
    "page_in": "page in",
    "free": "free",
}


def plain_line(data: ReportData, trace: Trace) -> list[int]:
    """What plain training holds while it executes the op that the plan has last executed for the first time.

    Plain training has fewer steps, so the two are aligned op by op: at equal x, both have come equally far.
    """
    steps = lay_out(plain_order(data.graph), data.graph)
    at = {
        step.op: size for step, size in zip(steps, data.plain.ram_bytes, strict=True) if isinstance(step, Compute)
    }
    start = sum(value.bytes for value in data.graph.sources())
    held, line_ = start, []
    for moment in trace.moments:
        if moment.what == "compute":
            held = at.get(moment.name, held)
        line_.append(held)
    return line_


def timeline(data: ReportData, trace: Trace) -> Markup:
    """The chart with its legend."""
    count = len(trace.moments)
    ghost = plain_line(data, trace)
    top = max(data.plain.peak_bytes, data.plan.budget.ram_bytes, data.certificate.peak_bytes, *(data.memory or (0,)))
    frame = Frame(320, top * 1.04, below=24 + 16 * len(RUG) + 28)
    step = nice_step(frame.y_max, 6, binary=True)
    ticks = [step * i for i in range(int(frame.y_max / step) + 1)]
    runs = columns(count)
    edges = [x_of(run.start, count) for run in runs] + [WIDTH]
    shown = peaks(runs, data.certificate.ram_bytes)
    shapes = [grid(frame, ticks), *_areas(frame, trace, edges, shown)]
    shapes.append(path(stair(edges, [frame.y(ghost[i]) for i in peaks(runs, ghost)]), "ghost"))
    if data.memory is not None:
        shapes.append(path(stair(edges, [frame.y(data.memory[i]) for i in peaks(runs, data.memory)]), "measured"))
    shapes.append(path(line(((0, frame.y(data.plan.budget.ram_bytes)), (WIDTH, frame.y(data.plan.budget.ram_bytes)))), "budget"))
    rows = _rows(frame)
    shapes += [_rug(trace, what, pixel) for (what, _), (pixel, _, _) in zip(RUG, rows, strict=True)]
    shapes.append(_boundary(frame, trace))
    overlay = [*_labels(data, frame, ghost), _phases(frame, trace), step_ticks(count, frame.total - 6, "step")]
    body = chart(
        frame,
        shapes,
        overlay,
        title=_title(data),
        ticks=[(frame.y(t), bytes_text(t)) for t in ticks],
        rows=rows,
        tips=column_tips(count, runs, lambda i: _tip(data, trace, ghost, shown[i])),
    )
    return join((_legend(data), body))


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


def _rows(frame: Frame) -> list[tuple[float, str, str]]:
    return [(frame.base + 36 + 16 * nth, text, what) for nth, (what, text) in enumerate(RUG)]


def _rug(trace: Trace, what: str, pixel: float) -> Markup:
    """A tick at each step that does `what`; ticks that would coincide are drawn once."""
    count = len(trace.moments)
    places = {round(x_of(i + 0.5, count), 1) for i, moment in enumerate(trace.moments) if moment.what == what}
    rail = path(line(((0, pixel), (WIDTH, pixel))), "rail")
    return join((rail, path("".join(f"M{x:g} {pixel - 5:g}v10" for x in sorted(places)), f"mark {what}")))


def _boundary(frame: Frame, trace: Trace) -> Markup:
    if trace.backward_begin is None:
        return Markup("")
    x = x_of(trace.backward_begin, len(trace.moments))
    return path(line(((x, frame.top), (x, frame.base + 22))), "boundary")


def _phases(frame: Frame, trace: Trace) -> Markup:
    if trace.backward_begin is None:
        return Markup("")
    x = x_of(trace.backward_begin, len(trace.moments))
    y = frame.base + 17
    return join(
        (
            words("forward", x, y, anchor="end", dx=-8, class_="phase"),
            words("backward and update", x, y, dx=8, class_="phase"),
        )
    )


def _labels(data: ReportData, frame: Frame, ghost: list[int]) -> list[Markup]:
    """Names of the two lines, beside them, on the side where the other does not stand."""
    budget = data.plan.budget.ram_bytes
    at = x_of(max(range(len(ghost)), key=lambda i: ghost[i]) + 0.5, len(ghost))
    right = at > WIDTH / 2
    plain = words(
        f"plain training {bytes_text(data.plain.peak_bytes)}",
        at,
        frame.y(data.plain.peak_bytes) - 6,
        anchor="end" if right else "start",
        class_="name ghost-name",
    )
    name = words(
        f"budget {bytes_text(budget)}",
        0 if right else WIDTH,
        frame.y(budget) - 6,
        anchor="start" if right else "end",
        dx=6 if right else -6,
        class_="name budget-name",
    )
    return [plain, name]


def _tip(data: ReportData, trace: Trace, ghost: list[int], index: int) -> str:
    moment = trace.moments[index]
    lines = [f"step {index:,}: {_VERB[moment.what]} {moment.name}"]
    measured = f", measured {bytes_text(data.memory[index])}" if data.memory is not None else ""
    lines.append(f"planned {bytes_text(data.certificate.ram_bytes[index])}{measured}")
    sizes = ((GROUP_WORDS[group], trace.bytes_by_group[group][index]) for group in reversed(GROUPS))
    lines += [f"  {text} {bytes_text(size)}" for text, size in sizes if size]
    lines.append(f"plain training here {bytes_text(ghost[index])}")
    return "\n".join(lines)


def _title(data: ReportData) -> str:
    return (
        f"RAM in each step of the plan: at most {bytes_text(data.certificate.peak_bytes)}, "
        f"budget {bytes_text(data.plan.budget.ram_bytes)}, plain training {bytes_text(data.plain.peak_bytes)}"
    )


def _legend(data: ReportData) -> Markup:
    present = {("parameter" if v.kind == "state" else "other" if v.kind == "output" else v.kind) for v in data.graph.values}
    entries = [(f"fill {group}", GROUP_WORDS[group]) for group in GROUPS if group in present or group == "other"]
    if data.memory is not None:
        entries.append(("stroke measured", "measured"))
    return legend([*entries, ("stroke ghost", "plain training"), ("stroke budget", "budget")])
