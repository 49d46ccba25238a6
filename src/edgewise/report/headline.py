"""The head of the page: the verdict in one sentence, and the figures that everything else explains."""

from edgewise.report.breakdown import Breakdown
from edgewise.report.frame import header, tile
from edgewise.report.loops import Loop, exact_words
from edgewise.report.nouns import ReportData
from edgewise.report.svg import Markup, tag
from edgewise.report.units import (
    bytes_text,
    clipped,
    exact_bytes,
    figure,
    joules_text,
    percent,
    plural,
    seconds_text,
)

ARROW = "\N{RIGHTWARDS ARROW}"


def head(data: ReportData, breakdown: Breakdown, found: tuple[Loop, ...]) -> Markup:
    """Title, verdict and tiles."""
    title = f"{clipped(data.graph.name)} on {clipped(data.device.name)}"
    return header(title, verdict(data, breakdown), subtitle(data), tiles(data, breakdown, found))


def verdict(data: ReportData, breakdown: Breakdown) -> str:
    """One sentence: what fits where, and what it costs."""
    budget, plain = data.plan.budget.ram_bytes, data.plain.peak_bytes
    peak = data.certificate.peak_bytes
    start = f"One training step takes {bytes_text(peak)} of RAM"
    if data.measured_peak_bytes is not None:
        start = f"One training step took {bytes_text(data.measured_peak_bytes)} of RAM"
    if peak == plain:
        return f"{start}, as plain training does; the budget is {bytes_text(budget)}."
    return (
        f"{start} within a budget of {bytes_text(budget)}, where plain training needs {bytes_text(plain)}. "
        f"The price is {_more(breakdown.extra_joules)} energy and {_more(breakdown.extra_seconds)} time."
    )


def _more(share: float) -> str:
    if share == 0:
        return "no more"
    return f"{percent(abs(share))} {'more' if share > 0 else 'less'}"


def tiles(data: ReportData, breakdown: Breakdown, loops: tuple[Loop, ...]) -> list[Markup]:
    """The figures, each with the words that say what it is."""
    plain, budget = data.plain.peak_bytes, data.plan.budget.ram_bytes
    return [
        tile(
            "Plain training needs",
            bytes_text(plain),
            f"{exact_bytes(plain)}, each value kept until its last use",
        ),
        tile("Budget", bytes_text(budget), f"{exact_bytes(budget)}{_share_of_plain(budget, plain)}"),
        _peaks(data),
        tile(
            "Energy of one step",
            percent(breakdown.extra_joules, signed=True),
            f"{joules_text(data.certificate.joules)}; plain {joules_text(data.plain.joules)}",
        ),
        tile(
            "Time of one step",
            percent(breakdown.extra_seconds, signed=True),
            f"{seconds_text(data.certificate.seconds)}; plain {seconds_text(data.plain.seconds)}",
        ),
        *_traffic(data, loops),
        _plan_tile(data, loops),
        *_learnt(data),
    ]


def _share_of_plain(size: int, plain: int) -> str:
    return f", {percent(size / plain)} of plain training" if plain else ""


def _peaks(data: ReportData) -> Markup:
    """Planned, certified and measured, side by side."""
    rows: list[object] = []
    figures = [
        ("planned", data.plan.peak_bytes),
        ("certified", data.certificate.peak_bytes),
        ("measured", data.measured_peak_bytes),
    ]
    for label, size in figures:
        text = "not run" if size is None else bytes_text(size)
        over = size is not None and size > data.plan.budget.ram_bytes
        rows += [
            tag("b", text, class_="warn" if over else None),
            tag("span", f"{label}{_off(data, label, size)}"),
        ]
    return tag("dl", tag("dt", "Peak of RAM"), tag("dd", *rows, class_="peaks"), class_="tile")


def _off(data: ReportData, label: str, size: int | None) -> str:
    if label != "measured" or size is None:
        return ""
    if size > data.plan.budget.ram_bytes:
        return ", above the budget"
    difference = size / data.plan.peak_bytes - 1 if data.plan.peak_bytes else 0.0
    return f", {percent(difference, signed=True)} of planned" if difference else ""


def _traffic(data: ReportData, loops: tuple[Loop, ...]) -> list[Markup]:
    """What wears the slower tier; nothing where nothing moves."""
    found, paging = data.certificate, data.device.memory.paging
    together = found.bytes_written + found.bytes_read
    if paging is None or not together:
        return []
    sliced = sum(loop.bytes_written + loop.bytes_read for loop in loops)
    share = f"; {percent(sliced / together)} of both in slices" if sliced else ""
    exact = f"{exact_bytes(found.bytes_written)}; " if found.bytes_written >= 1024 else ""
    limit = data.plan.budget.written_bytes
    exact = (
        f"{exact_bytes(found.bytes_written)} of {bytes_text(limit)} allowed; " if limit is not None else exact
    )
    words = f"{exact}{bytes_text(found.bytes_read)} read{share}"
    return [tile(f"Written to {paging[0]} in a step", bytes_text(found.bytes_written), words)]


def _plan_tile(data: ReportData, loops: tuple[Loop, ...]) -> Markup:
    plan, found = data.plan, data.certificate
    done = (
        f"{plural(len(found.recomputed), 'recomputation')}, {plural(len(found.paged_out), 'page-out')}, "
        f"{plural(len(found.paged_in), 'page-in')}"
    )
    if loops:
        done += f", {plural(len({loop.op.name for loop in loops}), 'op')} in slices"
    thing = "energy" if plan.minimize == "joules" else "time"
    if plan.status == "optimal":
        bound = f"no plan has less extra {thing}"
    elif plan.gap < 1:
        bound = f"a better one saves at most {percent(plan.gap)} of the extra {thing}"
    else:
        bound = f"how much extra {thing} a better one would save is not known"
    return tile("Plan", plan.status, f"{done}; {bound}")


def _learnt(data: ReportData) -> list[Markup]:
    tiles_ = []
    for what, points, text in (
        ("Test accuracy", data.accuracies, percent),
        ("Test mean squared error", data.errors, figure),
    ):
        if not points:
            continue
        (first, before), (last, after) = points[0], points[-1]
        start = "before training" if first == 0 else f"after epoch {first:,}"
        if last == first:
            tiles_.append(tile(what, text(after), start))
        else:
            tiles_.append(
                tile(what, f"{text(before)} {ARROW} {text(after)}", f"{start}, and after epoch {last:,}")
            )
    return tiles_


def subtitle(data: ReportData) -> str:
    """What the page was made from and how the plan was found."""
    cost = "" if data.plan.cost_model == "full" else f", cost model {data.plan.cost_model}"
    return (
        f"{plural(len(data.graph.ops), 'op')} in a plan of {plural(len(data.plan.steps), 'step')}, found by "
        f"the solver {clipped(data.plan.solver)} for the least {data.plan.minimize}{cost}."
        f"{_method(data)}{_bits(data)}"
    )


def _method(data: ReportData) -> str:
    """How the steps get their gradients, where that is not by backprop."""
    if data.summary is None or data.summary.method == "backprop":
        return ""
    return f" Gradients are by {clipped(data.summary.method)}: plain training means each of its ops once."


def _bits(data: ReportData) -> str:
    """What loops do to the result, where there are any that stream or may change it."""
    if not data.certificate.streamed and data.certificate.exact:
        return ""
    return f" Its result is {exact_words(data.plan, data.graph)}."
