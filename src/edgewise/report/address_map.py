"""The address map: where in the arena each value stays, and from which step to which."""

from edgewise.report.chart import Caption, Frame, chart, grid, legend, step_ticks, x_of
from edgewise.report.nouns import ReportData
from edgewise.report.svg import WIDTH, Markup, box, join, line, path, tag, visible, words
from edgewise.report.trace import GROUP_WORDS, GROUPS, Stay, Trace, group_of
from edgewise.report.units import bytes_text, clipped, nice_step, plural

MAX_BOXES = 6000
"""Most rectangles that are drawn; the smallest areas are left out beyond it, and the page says how many."""

MAX_TIPS = 4000
MAX_NAMES = 40
"""Most rectangles with their name written on them."""

_CHARACTER = 8.5
"""Width of a character of a name in units of the drawing, on a page of ordinary width."""


def address_map(data: ReportData, trace: Trace) -> Markup:
    """The chart with its legend and, if stays were left out, a line that says so."""
    arena = max(data.certificate.arena_bytes, 1)
    budget = data.plan.budget.ram_bytes
    frame = Frame(300, max(arena, min(budget, arena * 1.15)) * 1.02, top=12)
    count = len(trace.moments)
    sizes = {value.name: value.bytes for value in data.graph.values}
    stays = [stay for stay in trace.stays if sizes[stay.value]]
    stays.sort(key=lambda stay: -sizes[stay.value] * (stay.end - stay.begin))
    drawn = stays[:MAX_BOXES]
    groups = {value.name: group_of(value) for value in data.graph.values}
    keys = [(f"fill {group}", GROUP_WORDS[group]) for group in GROUPS if group in set(groups.values())]
    step = nice_step(frame.y_max, 5, binary=True)
    ticks = [step * i for i in range(int(frame.y_max / step) + 1)]
    shapes = [grid(frame, ticks)]
    for group in GROUPS:
        boxes = (_box(frame, stay, sizes[stay.value], count) for stay in drawn if groups[stay.value] == group)
        shapes.append(path("".join(box(*edges) for edges in boxes), f"block {group}"))
    if budget <= frame.y_max:
        keys.append(("stroke budget", f"budget {bytes_text(budget)}"))
        shapes.append(path(line(((0, frame.y(budget)), (WIDTH, frame.y(budget)))), "budget"))
    about = f"{plural(len(stays), 'stay')} of values in RAM, in an arena of {bytes_text(arena)}."
    body = chart(
        frame,
        Caption("addresses", "Address of each value over the steps of the plan", about),
        shapes,
        [*_names(frame, drawn, sizes, count), step_ticks(count, frame.total - 6, "step")],
        ticks=[(frame.y(t), bytes_text(t)) for t in ticks],
        tips={"boxes": [_tip(frame, stay, sizes[stay.value], count) for stay in drawn[:MAX_TIPS]]},
    )
    left_out = len(stays) - len(drawn)
    note = f"Not drawn: the {plural(left_out, 'stay')} of the smallest area." if left_out else ""
    return join((legend(keys), body, tag("p", note, class_="note") if note else ""))


def _box(frame: Frame, stay: Stay, size: int, count: int) -> tuple[float, float, float, float]:
    """x, y, width and height of a stay."""
    left, right = x_of(stay.begin, count), x_of(stay.end, count)
    top, bottom = frame.y(stay.offset + size), frame.y(stay.offset)
    return left, top, right - left, bottom - top


def _names(frame: Frame, drawn: list[Stay], sizes: dict[str, int], count: int) -> list[Markup]:
    names = []
    for stay in drawn:
        left, top, width, height = _box(frame, stay, sizes[stay.value], count)
        if height >= 13 and width >= _CHARACTER * (len(stay.value) + 2):
            names.append(words(stay.value, left, top + height / 2 + 4, dx=6, class_="block-name"))
        if len(names) == MAX_NAMES:
            break
    return names


def _tip(frame: Frame, stay: Stay, size: int, count: int) -> list[object]:
    """Edges of the box and its words, for the tooltip."""
    left, top, width, height = _box(frame, stay, size, count)
    where = f"{bytes_text(size)} at {stay.offset:,}\nsteps {stay.begin:,} to {stay.end - 1:,}"
    text = f"{visible(clipped(stay.value, 60))}\n{where}"
    return [*(round(edge, 1) for edge in (left, top, left + width, top + height)), text]
