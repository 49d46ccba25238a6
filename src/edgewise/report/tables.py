"""The tables of the page: what did not stay in RAM, what ran as loops, the run, the device, and the files."""

from collections.abc import Iterable, Sequence

from edgewise.devices import numbers
from edgewise.plan import Plan
from edgewise.report.choices import Choice
from edgewise.report.loops import Loop
from edgewise.report.nouns import ReportData
from edgewise.report.svg import Markup, breakable, join, tag
from edgewise.report.units import (
    bytes_text,
    clipped,
    figure,
    joules_text,
    metric,
    percent,
    plural,
    seconds_text,
)

SHOWN = 15
"""Rows of a table that are seen at once; the others unfold."""

MAX_ROWS = 400
MAX_TEXT = 64 * 1024
"""Most characters of a text that is shown as it is."""

TIMES = "\N{MULTIPLICATION SIGN}"
EN_DASH = "\N{EN DASH}"


def choice_table(found: Sequence[Choice], tier: str) -> Markup:
    """Every value that was recomputed, paged or streamed (`tier`: from where), the largest saving first."""
    heads = ("Value", "What", "Size", "Away from RAM", "RAM if kept", "Time", "Energy", "Otherwise")
    rows = [_choice_row(choice, tier) for choice in found[:MAX_ROWS]]
    table = _folding(heads, rows, numeric={2, 4, 5, 6})
    left_out = len(found) - len(rows)
    if left_out:
        size = bytes_text(sum(choice.bytes for choice in found[MAX_ROWS:]))
        table = join((table, _note(f"Not listed: {plural(left_out, 'value')} more, {size} together.")))
    return table


def _choice_row(choice: Choice, tier: str) -> Markup:
    name = [tag("code", breakable(clipped(choice.value)))]
    if choice.layer and not choice.value.startswith(choice.layer):
        name.append(tag("div", clipped(choice.layer), class_="under"))
    kind = "recomputed" if choice.how.startswith("recomputed") else "paged"
    kind = "streamed" if choice.how == "streamed" else kind
    how = f"lives in {tier}" if choice.how == "lives in the slower tier" else choice.how
    times = choice.streams if choice.how == "streamed" else choice.times
    badge = f"{how} {TIMES}{times:,}" if times > 1 else how
    cells: list[object] = [
        tag("td", *name, class_="long"),
        tag("td", tag("span", badge, class_=f"badge {kind}"), *_streamed(choice), class_="span"),
        tag("td", bytes_text(choice.bytes), class_="number"),
        tag("td", _away(choice), class_="span"),
        tag("td", bytes_text(choice.keep_peak_bytes), class_="number"),
        tag("td", seconds_text(choice.paid.seconds), class_="number"),
        tag("td", joules_text(choice.paid.joules), class_="number"),
        tag("td", choice.otherwise, class_="long"),
    ]
    return tag("tr", *cells)


def _streamed(choice: Choice) -> list[Markup]:
    """How often a value was streamed, unless that is said already, and how much of it moved."""
    if not choice.streams:
        return []
    times = f" {TIMES}{choice.streams:,}" if choice.streams > 1 else ""
    what = "" if choice.how == "streamed" else f"streamed{times}, "
    return [tag("div", f"{what}{bytes_text(choice.moved_bytes)} moved", class_="under")]


def _away(choice: Choice) -> Markup:
    spans = [_span(begin, end - 1) for begin, end in choice.gaps[:2]]
    more = " ..." if len(choice.gaps) > len(spans) else ""
    steps = plural(choice.idle_steps, "step")
    return join((steps, tag("div", ", ".join(spans) + more, class_="under")))


def _span(first: int, last: int) -> str:
    return f"{first:,}" if first == last else f"{first:,}{EN_DASH}{last:,}"


def loop_table(found: Sequence[Loop], plan: Plan) -> Markup:
    """Every execution in slices, the longest first."""
    heads = ("Op", "By", "Streams", "RAM", "RAM if whole", "Read", "Written", "Time", "Of the step")
    ranked = sorted(found, key=lambda loop: -loop.seconds)
    table = _folding(heads, [_loop_row(loop, plan) for loop in ranked[:MAX_ROWS]], numeric=range(3, 9))
    left_out = ranked[MAX_ROWS:]
    if left_out:
        time = seconds_text(sum(loop.seconds for loop in left_out))
        table = join((table, _note(f"Not listed: {plural(len(left_out), 'loop')} more, {time} together.")))
    return table


def _loop_row(loop: Loop, plan: Plan) -> Markup:
    name = [tag("code", breakable(clipped(loop.op.name)))]
    if loop.op.layer and not loop.op.name.startswith(loop.op.layer):
        name.append(tag("div", clipped(loop.op.layer), class_="under"))
    sums = "" if loop.option.exact else "; sums reordered"
    under = f"{plural(loop.option.tiles, 'slice')}{sums}"
    share = percent(loop.seconds / plan.seconds) if plan.seconds > 0 else ""
    streams = breakable(clipped(", ".join(loop.streamed))) if loop.streamed else "nothing"
    figures = (
        bytes_text(loop.ram_bytes),
        bytes_text(loop.whole_bytes),
        bytes_text(loop.bytes_read),
        bytes_text(loop.bytes_written),
        seconds_text(loop.seconds),
        share,
    )
    return tag(
        "tr",
        tag("td", *name, class_="long"),
        tag("td", clipped(loop.option.name), tag("div", under, class_="under"), class_="long"),
        tag("td", streams, class_="long"),
        *(tag("td", text, class_="number") for text in figures),
    )


def _note(text: str) -> Markup:
    return tag("p", text, class_="note")


def _folding(heads: Sequence[str], rows: Sequence[Markup], numeric: Iterable[int] = ()) -> Markup:
    """A table whose rows beyond `SHOWN` unfold."""
    first = _table(heads, rows[:SHOWN], numeric)
    rest = rows[SHOWN:]
    if not rest:
        return first
    return join((first, tag("details", tag("summary", f"{len(rest):,} more"), _table(heads, rest, numeric))))


def _table(heads: Sequence[str], rows: Sequence[Markup], numeric: Iterable[int] = ()) -> Markup:
    right = set(numeric)
    cells = [
        tag("th", text, scope="col", class_="number" if nth in right else None)
        for nth, text in enumerate(heads)
    ]
    return tag("div", tag("table", tag("thead", tag("tr", *cells)), tag("tbody", *rows)), class_="scroll")


def device_table(data: ReportData) -> Markup:
    """Every number of the profile with where it is from."""
    device = data.device
    rows = []
    figures = {name: _amount(name, number) for name, number in numbers(device).items()}
    paging = device.memory.paging
    if paging is not None:
        figures[f"memory.{paging[0]}.overlap"] = "yes" if paging[1].overlap else "no"
    for name, amount in figures.items():
        source, assumed = device.sources.get(name), device.assumed.get(name)
        origin = source or (f"assumed: {assumed}" if assumed else "not stated")
        cells = [
            tag("td", tag("code", clipped(name)), class_="path"),
            tag("td", amount, class_="number"),
        ]
        rows.append(tag("tr", *cells, tag("td", clipped(origin, 600), class_="long")))
    return _folding(("Figure", "Value", "Source"), rows[:MAX_ROWS], numeric={1})


def _amount(name: str, number: float) -> str:
    """A figure of a profile with the unit that its name ends in."""
    last = name.rpartition(".")[2]
    if last.endswith("bytes"):
        return bytes_text(number)
    if last == "joules_per_flop":
        return f"{joules_text(number)}/flop"
    if last.startswith("watts"):
        return metric(number, "W")
    if "seconds" in last:
        return seconds_text(number)
    if last.endswith("bytes_per_second"):
        return f"{bytes_text(number)}/s"
    return f"{figure(number / 1e6)} Mflop/s"


def environment_table(data: ReportData) -> Markup:
    """Where the run took place."""
    found = data.environment
    if found is None:
        return Markup("")
    facts = [("platform", found.platform), ("threads", f"{found.threads:,}"), *sorted(found.versions.items())]
    rows = [
        tag("tr", tag("th", clipped(name), scope="row"), tag("td", clipped(text, 300), class_="long"))
        for name, text in facts[:MAX_ROWS]
    ]
    return tag("div", tag("table", tag("tbody", *rows)), class_="scroll")


def recipe_text(data: ReportData) -> Markup:
    """The recipe as it was run."""
    return tag("pre", clipped(data.recipe, MAX_TEXT)) if data.recipe is not None else Markup("")


def file_table(data: ReportData) -> Markup:
    """Name, size and digest of each file that the page was made from."""
    rows = [
        tag(
            "tr",
            tag("td", clipped(digest.name), class_="long"),
            tag("td", f"{digest.bytes:,} B", class_="number"),
            tag("td", tag("code", digest.sha256), class_="long"),
        )
        for digest in data.digests
    ]
    return _table(("File", "Size", "SHA-256"), rows, numeric={1})
