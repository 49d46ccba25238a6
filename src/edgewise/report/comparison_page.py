"""The page of a comparison: which method to use here and why, the table, and what was learnt by when."""

from collections.abc import Sequence
from pathlib import Path

from edgewise import __version__
from edgewise.report.advice import Advice, advise
from edgewise.report.frame import document, header, section, tile, write_page
from edgewise.report.progress_curves import Axis, progress_curve
from edgewise.report.standings import Standing, score_text, standings
from edgewise.report.svg import Markup, breakable, join, tag
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
from edgewise.train.comparison import Comparison, Row

PAGE = "compare.html"
MAX_REASON = 600

AXES = (
    Axis("joules", "energy", lambda row, step: step * (row.cost.joules if row.cost else 0.0), joules_text),
    Axis("seconds", "time", lambda row, step: step * (row.cost.seconds if row.cost else 0.0), seconds_text),
    Axis("steps", "training steps", lambda _, step: float(step), lambda steps: f"{figure(steps)} steps"),
)


def write_comparison(comparison: Comparison, folder: Path) -> Path:
    """Write the page into `folder`; returns its path.

    Raises:
        UsageError: it cannot be written.
    """
    hint = "Make room, or compare into another folder."
    return write_page(folder / PAGE, render_comparison(comparison), "page", hint)


def render_comparison(comparison: Comparison) -> str:
    """`comparison` as one HTML page that loads nothing."""
    advice = advise(comparison)
    title = f"Methods for {clipped(comparison.model)} on {clipped(comparison.device)}"
    body = [
        _head(comparison, advice, title),
        section("Why", "", _list(advice.reasons)),
        section("The methods", _table_words(comparison), _table(comparison)),
        *_curves(comparison),
        section("Learning rates", _search_words(comparison), _searches(comparison)),
        tag("footer", f"Made by Edgewise {__version__}."),
    ]
    return document(title, join(body))


def _head(comparison: Comparison, advice: Advice, title: str) -> Markup:
    return header(title, coded(advice.verdict), _subtitle(comparison), _tiles(comparison))


def _list(texts: Sequence[str]) -> Markup:
    return tag("ul", *(tag("li", coded(text)) for text in texts)) if texts else Markup("")


def coded(text: str) -> Markup:
    """`text` with what stands between backticks as code."""
    parts = text.split("`")
    return join(tag("code", part) if place % 2 else part for place, part in enumerate(parts))


def _subtitle(comparison: Comparison) -> str:
    rows = plural(len(comparison.rows), "method")
    return (
        f"{rows} for the same model on {clipped(comparison.data)} in batches of {comparison.batch:,} with "
        f"{comparison.optimizer}, each by a plan within the same RAM. Energy and time are those of the "
        "device's cost model; what was learnt is measured, in one run each, on "
        f"{comparison.test_samples:,} test samples."
    )


def _tiles(comparison: Comparison) -> list[Markup]:
    setting, plain = comparison.setting, comparison.plain
    by_steps = setting.steps is not None
    length = f"{setting.steps:,} steps" if by_steps else f"for {seconds_text(setting.seconds or 0.0)}"
    until = "and on to the next evaluation" if by_steps else "on the device, by its cost model"
    found = [tile("Budget", bytes_text(setting.ram_bytes), exact_bytes(setting.ram_bytes))]
    if comparison.plain_peak_bytes is not None:
        share = setting.ram_bytes / comparison.plain_peak_bytes if comparison.plain_peak_bytes else 1.0
        words = f"the budget is {percent(share)} of that"
        found.append(tile("Plain backprop needs", bytes_text(comparison.plain_peak_bytes), words))
    if plain is not None:
        words = f"and {seconds_text(plain.seconds)}, on a device with RAM enough"
        found.append(tile("A step of plain backprop", joules_text(plain.joules), words))
    found.append(tile("Each method trains", length, until))
    return found


# -- the table -------------------------------------------------------------------------------------------


def _table_words(comparison: Comparison) -> str:
    found = standings(comparison)
    words = (
        "One step of each, planned for the device. RAM is certified by the check of the plan; moved is what "
        "goes to and from the slower tier."
    )
    if found.level is None:
        return words
    return (
        f"{words} The level is {score_text(comparison, found.level)}: the best {comparison.metric}, "
        f"{score_text(comparison, found.best)}, less what chance may make of it."
    )


def _table(comparison: Comparison) -> Markup:
    score = comparison.metric.capitalize()
    heads = ["Method", "RAM", "Energy", "Time", "Operations", "Moved", score]
    heads += ["Energy to the level", "Time to the level"]
    placed = {standing.row.name: standing for standing in standings(comparison).standings}
    cells = [tag("th", head, scope="col", class_="number" if nth else None) for nth, head in enumerate(heads)]
    rows = [
        _trained(comparison, placed[row.name]) if row.name in placed else _refused(row, len(heads))
        for row in comparison.rows
    ]
    return tag("div", tag("table", tag("thead", tag("tr", *cells)), tag("tbody", *rows)), class_="scroll")


def _name(row: Row) -> Markup:
    under = [row.method] if row.method != row.name else []
    under += [f"{row.status}, gap {percent(row.gap)}" if row.gap else row.status] if row.status else []
    under += [f"weights as {row.run}" if row.same_bits else ""]
    notes = "; ".join(clipped(text) for text in under if text)
    return tag(
        "td", tag("code", breakable(clipped(row.name))), tag("div", notes, class_="under"), class_="long"
    )


def _trained(comparison: Comparison, standing: Standing) -> Markup:
    row, reached, cost = standing.row, standing.reached, standing.row.cost
    texts = [
        bytes_text(row.peak_bytes or 0),
        f"{joules_text(cost.joules)}{_against(comparison, cost.joules)}" if cost else "",
        seconds_text(cost.seconds) if cost else "",
        f"{figure(cost.flops / 1e6)} MFLOP" if cost else "",
        bytes_text(cost.bytes_moved) if cost else "",
        score_text(comparison, standing.score),
        joules_text(reached.joules) if reached else "not reached",
        seconds_text(reached.seconds) if reached else "not reached",
    ]
    return tag("tr", _name(row), *(tag("td", text, class_="number") for text in texts))


def _against(comparison: Comparison, joules: float) -> str:
    plain = comparison.plain
    if plain is None or plain.joules <= 0:
        return ""
    share = joules / plain.joules - 1
    return f" ({percent(share, signed=True)})" if abs(share) >= 1e-6 else ""


def _refused(row: Row, columns: int) -> Markup:
    where = f" Least: {bytes_text(row.min_ram_bytes)}." if row.min_ram_bytes else ""
    text = f"{row.outcome}.{where} {clipped(row.reason, MAX_REASON)}"
    return tag("tr", _name(row), tag("td", coded(text), colspan=columns - 1, class_="long"))


# -- the curves, and where the rates come from -----------------------------------------------------------


def _curves(comparison: Comparison) -> list[Markup]:
    about = {
        "joules": "The same energy is at the same place: a line above another learns more from it.",
        "seconds": "The same, by time on the device.",
        "steps": "Steps of different methods cost different amounts. Methods whose weights are the same bit "
        "by bit share a line.",
    }
    metric = comparison.metric.capitalize()
    return [
        section(f"{metric} against {axis.title}", about[axis.name], progress_curve(comparison, axis))
        for axis in AXES
    ]


def _search_words(comparison: Comparison) -> str:
    steps = sum(row.search.steps for row in comparison.trained if row.search and not row.same_bits)
    if not steps:
        return "They were given."
    return (
        "Each method tried as many rates, from the same weights on the same batches: "
        f"{plural(steps, 'step')} together, which are in no other figure of this page. The largest rate "
        "within one standard error of the least loss is taken. Few steps favour what learns early."
    )


def _searches(comparison: Comparison) -> Markup:
    rows = [row for row in comparison.trained if row.search is not None and not row.same_bits]
    if not rows:
        return Markup("")
    heads = [tag("th", text, scope="col") for text in ("Method", "Rate", "Tried, with the loss in the end")]
    body = [
        tag(
            "tr",
            tag("td", tag("code", breakable(clipped(row.name))), class_="long"),
            tag("td", f"{row.search.lr:.3g}", class_="number"),
            tag("td", ", ".join(_trials(row)) or "given", class_="long"),
        )
        for row in rows
        if row.search is not None
    ]
    return tag("div", tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *body)), class_="scroll")


def _trials(row: Row) -> list[str]:
    trials = sorted(row.search.trials, key=lambda trial: -trial.lr) if row.search else []
    return [f"{t.lr:.3g}: {'diverged' if t.loss is None else figure(t.loss)}" for t in trials]
