"""The address map: where in the arena each value stays, from which step to which, and what ops work in."""

from typing import NamedTuple

from edgewise.report.chart import Caption, Frame, chart, grid, legend, step_ticks, x_of
from edgewise.report.nouns import ReportData
from edgewise.report.svg import WIDTH, Markup, box, join, line, path, tag, visible, words
from edgewise.report.trace import GROUP_WORDS, GROUPS, Trace, group_of
from edgewise.report.units import bytes_text, clipped, nice_step, plural

MAX_BOXES = 6000
"""Most rectangles that are drawn; the smallest areas are left out beyond it, and the page says how many."""

MAX_TIPS = 4000
MAX_NAMES = 40
"""Most rectangles with their name written on them."""

_CHARACTER = 8.5
"""Width of a character of a name in units of the drawing, on a page of ordinary width."""


class _Place(NamedTuple):
    """Bytes of the arena that are taken from step `begin` up to, not including, step `end`."""

    name: str
    begin: int
    end: int
    offset: int
    bytes: int
    group: str


def address_map(data: ReportData, trace: Trace) -> Markup:
    """The chart with its legend and, if places were left out, a line that says so."""
    arena = max(data.certificate.arena_bytes, 1)
    budget = data.plan.budget.ram_bytes
    frame = Frame(300, max(arena, min(budget, arena * 1.15)) * 1.02, top=12)
    count = len(trace.moments)
    places = _places(data, trace)
    places.sort(key=lambda place: -place.bytes * (place.end - place.begin))
    drawn = places[:MAX_BOXES]
    present = {place.group for place in places}
    keys = [(f"fill {group}", GROUP_WORDS[group]) for group in GROUPS if group in present]
    step = nice_step(frame.y_max, 5, binary=True)
    ticks = [step * i for i in range(int(frame.y_max / step) + 1)]
    shapes = [grid(frame, ticks)]
    for group in GROUPS:
        boxes = (_box(frame, place, count) for place in drawn if place.group == group)
        shapes.append(path("".join(box(*edges) for edges in boxes), f"block {group}"))
    if budget <= frame.y_max:
        keys.append(("stroke budget", f"budget {bytes_text(budget)}"))
        shapes.append(path(line(((0, frame.y(budget)), (WIDTH, frame.y(budget)))), "budget"))
    stays = len(places) - sum(room.bytes > 0 for room in trace.rooms)
    about = f"{plural(stays, 'stay')} of values in RAM, in an arena of {bytes_text(arena)}."
    body = chart(
        frame,
        Caption("addresses", "Address of each value over the steps of the plan", about),
        shapes,
        [*_names(frame, drawn, count), step_ticks(count, frame.total - 6, "step")],
        ticks=[(frame.y(t), bytes_text(t)) for t in ticks],
        tips={"boxes": [_tip(frame, place, count) for place in drawn[:MAX_TIPS]]},
    )
    left_out = len(places) - len(drawn)
    note = f"Not drawn: the {plural(left_out, 'stay')} of the smallest area." if left_out else ""
    return join((legend(keys), body, tag("p", note, class_="note") if note else ""))


def _places(data: ReportData, trace: Trace) -> list[_Place]:
    """Stays of values, and rooms of ops, without those of no bytes."""
    value = data.graph.value
    found = [
        _Place(
            stay.value,
            stay.begin,
            stay.end,
            stay.offset,
            value[stay.value].bytes,
            group_of(value[stay.value]),
        )
        for stay in trace.stays
    ]
    found += [
        _Place(f"workspace of {room.op}", room.step, room.step + 1, room.offset, room.bytes, room.group)
        for room in trace.rooms
    ]
    return [place for place in found if place.bytes]


def _box(frame: Frame, place: _Place, count: int) -> tuple[float, float, float, float]:
    """x, y, width and height of a place."""
    left, right = x_of(place.begin, count), x_of(place.end, count)
    top, bottom = frame.y(place.offset + place.bytes), frame.y(place.offset)
    return left, top, right - left, bottom - top


def _names(frame: Frame, drawn: list[_Place], count: int) -> list[Markup]:
    names = []
    for place in drawn:
        left, top, width, height = _box(frame, place, count)
        if height >= 13 and width >= _CHARACTER * (len(place.name) + 2):
            names.append(words(place.name, left, top + height / 2 + 4, dx=6, class_="block-name"))
        if len(names) == MAX_NAMES:
            break
    return names


def _tip(frame: Frame, place: _Place, count: int) -> list[object]:
    """Edges of the box and its words, for the tooltip."""
    left, top, width, height = _box(frame, place, count)
    last = place.end - 1
    steps = f"step {last:,}" if last == place.begin else f"steps {place.begin:,} to {last:,}"
    where = f"{bytes_text(place.bytes)} at {place.offset:,}\n{steps}"
    text = f"{visible(clipped(place.name, 60))}\n{where}"
    return [*(round(edge, 1) for edge in (left, top, left + width, top + height)), text]
