"""RAM by category: what the most crowded step of the plan holds, against that of plain training."""

from edgewise.report.chart import legend
from edgewise.report.nouns import ReportData
from edgewise.report.svg import WIDTH, Markup, box, drawing, join, path, tag
from edgewise.report.trace import GROUP_WORDS, GROUPS, Trace, trace_plain
from edgewise.report.units import bytes_text, clipped, percent

HEIGHT = 22.0
TIMES = "\N{MULTIPLICATION SIGN}"
ENLARGE_BELOW = 0.1
"""A plan below this share of plain training is drawn a second time, enlarged, or one would not see it."""


def at_peak(trace: Trace) -> tuple[int, dict[str, int]]:
    """The first step that holds the most, and its bytes by group."""
    totals = [sum(sizes) for sizes in zip(*(trace.bytes_by_group[group] for group in GROUPS), strict=True)]
    if not totals:
        return 0, dict.fromkeys(GROUPS, 0)
    index = max(range(len(totals)), key=lambda i: totals[i])
    return index, {group: trace.bytes_by_group[group][index] for group in GROUPS}


def categories(data: ReportData, trace: Trace) -> Markup:
    """Two stacked bars and the table of their figures."""
    plain_trace = trace_plain(data.graph, data.device)
    at, planned = at_peak(trace)
    _, plain = at_peak(plain_trace)
    present = [group for group in GROUPS if planned[group] or plain[group]]
    scale = max(sum(planned.values()), sum(plain.values()), 1)
    name = clipped(trace.moments[at].name) if trace.moments else ""
    keys = legend([(f"fill {group}", GROUP_WORDS[group]) for group in present])
    bars = [_bar("plain", plain, present, scale), _bar("planned", planned, present, scale)]
    if 0 < sum(planned.values()) < ENLARGE_BELOW * scale:
        factor = scale / sum(planned.values())
        bars.append(_bar(f"planned, {TIMES}{factor:,.0f}", planned, present, sum(planned.values())))
    note = f"The plan holds most in step {at:,}, at {name}." if name else "The plan has no steps."
    return join((keys, tag("div", *bars, class_="bars"), _table(present, plain, planned), _note(note)))


def _note(text: str) -> Markup:
    return tag("p", text, class_="note")


def _bar(label: str, sizes: dict[str, int], groups: list[str], scale: int) -> Markup:
    x = 0.0
    pieces = [tag("title", f"RAM at the peak, {label}")]
    for group in groups:
        width = sizes[group] / scale * WIDTH
        pieces.append(path(box(x, 0, width, HEIGHT) if width else "", f"part {group}"))
        x += width
    left = tag("span", label, class_="bar-label")
    right = tag("span", bytes_text(sum(sizes.values())), class_="bar-amount")
    return tag("div", left, drawing(HEIGHT, *pieces), right, class_="bar")


def _table(groups: list[str], plain: dict[str, int], planned: dict[str, int]) -> Markup:
    heads = [tag("th", "Category", scope="col")]
    heads += [tag("th", text, scope="col", class_="number") for text in ("plain", "planned", "difference")]
    rows = [_row(GROUP_WORDS[group], plain[group], planned[group]) for group in reversed(groups)]
    rows.append(_row("together", sum(plain.values()), sum(planned.values())))
    table = tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *rows))
    return tag("div", table, class_="scroll")


def _row(label: str, plain: int, planned: int) -> Markup:
    change = percent(planned / plain - 1, signed=True) if plain else ""
    cells = [tag("td", text, class_="number") for text in (bytes_text(plain), bytes_text(planned), change)]
    return tag("tr", tag("th", label, scope="row"), *cells)
