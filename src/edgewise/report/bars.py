"""Bars of time and energy: the plan against plain training, and what the difference is made of."""

from edgewise.report.breakdown import PART_WORDS, PARTS, Breakdown, Split, without_rounding
from edgewise.report.chart import legend
from edgewise.report.svg import WIDTH, Markup, box, drawing, join, path, tag
from edgewise.report.units import joules_text, percent, seconds_text

HEIGHT = 22.0
TIMES = "\N{MULTIPLICATION SIGN}"
ENLARGE_BELOW = 0.1
"""An extra below this share of plain training is drawn a second time, enlarged, or one would not see it."""


def bars(breakdown: Breakdown) -> Markup:
    """Both comparisons, with one legend."""
    used = [p for p in PARTS if any(getattr(s, p) > 0 for s in (breakdown.seconds, breakdown.joules))]
    return join(
        (
            legend([(f"fill {part}", PART_WORDS[part]) for part in used]),
            _comparison("Energy of one step", breakdown.joules, breakdown.plain_joules, "joules"),
            _comparison("Time of one step", breakdown.seconds, breakdown.plain_seconds, "seconds"),
        )
    )


def _comparison(title: str, planned: Split, plain: Split, unit: str) -> Markup:
    scale = max(planned.total, plain.total) or 1.0
    extra = planned.total - plain.total
    share = extra / plain.total if plain.total > 0 else 0.0
    amount = f"{_words(planned.total, unit)} ({percent(share, signed=True)})"
    rows = [
        _row("plain", _bar(plain, scale, f"{title}, plain"), _words(plain.total, unit)),
        _row("planned", _bar(planned, scale, f"{title}, planned"), amount),
    ]
    more = planned._replace(compute=planned.compute - plain.compute, idle=planned.idle - plain.idle)
    overhead = Split(*(without_rounding(amount, plain.total) for amount in more))
    if 0 < share < ENLARGE_BELOW and overhead.total > 0:
        label = f"the extra, {TIMES}{scale / overhead.total:,.0f}"
        rows.append(_row(label, _bar(overhead, overhead.total, label), _words(overhead.total, unit)))
    spent = [(PART_WORDS[part], getattr(planned, part)) for part in PARTS if getattr(planned, part) > 0]
    detail = ", ".join(f"{text} {_words(amount, unit)}" for text, amount in spent)
    return tag("div", tag("h3", title), *rows, tag("p", f"Planned: {detail}.", class_="note"), class_="bars")


def _row(label: str, bar: Markup, amount: str) -> Markup:
    left, right = tag("span", label, class_="bar-label"), tag("span", amount, class_="bar-amount")
    return tag("div", left, bar, right, class_="bar")


def _bar(split: Split, scale: float, title: str) -> Markup:
    x = 0.0
    pieces = [tag("title", title)]
    for part in PARTS:
        width = getattr(split, part) / scale * WIDTH
        if width > 0:
            pieces.append(path(box(x, 0, max(width, 1.0), HEIGHT), f"part {part}"))
        x += width
    return drawing(HEIGHT, *pieces)


def _words(amount: float, unit: str) -> str:
    return joules_text(amount) if unit == "joules" else seconds_text(amount)
