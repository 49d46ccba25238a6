"""Which method to use here, and why: words derived from the rows of a comparison by explicit rules.

1. Nothing was trained: say what fits least, or what no method can serve.
2. No row gained more than chance: advise none.
3. Of the rows that ended at the level (`standings.py`), the one to use is that which spent least until there:
   joules or seconds, as the comparison's plans were made for. Of equal ones the first.
4. Each other row is a reason: what it spent, where it ended, why it does not fit, what it cannot serve.
5. Who leads when all have spent no more than the cheapest run, and who holds least RAM, is said if it is
   another.
"""

from typing import NamedTuple

from edgewise.report.standings import (
    Standing,
    Standings,
    has_diverged,
    is_higher_better,
    score_text,
    score_within,
    standings,
)
from edgewise.report.units import bytes_text, clipped, figure, joules_text, percent, plural, seconds_text
from edgewise.train.comparison import Comparison, Row

MUCH_LESS = 0.9
"""A peak below this share of another one is worth a word."""

SAME = 1e-6
MAX_PART = 160


class Advice(NamedTuple):
    """`use` names the row to use, `None` for none; `verdict` is the answer, `reasons` what it rests on."""

    use: str | None
    verdict: str
    reasons: tuple[str, ...]


def advise(comparison: Comparison) -> Advice:
    """The answer, by the rules above."""
    found = standings(comparison)
    others = [words for row in comparison.rows if (words := _refusal(row))]
    if not comparison.trained:
        return Advice(None, _nothing(comparison), tuple(others))
    winner = _winner(comparison, found)
    if winner is None:
        return Advice(None, _unlearnt(comparison, found), (*others, *_edges(comparison)))
    reasons = [_beside(comparison, found, winner, other) for other in found.standings if other != winner]
    reasons += [*others, *_leader(comparison, winner), *_smallest(comparison, winner), *_edges(comparison)]
    return Advice(winner.row.name, _verdict(comparison, winner), tuple(words for words in reasons if words))


def _winner(comparison: Comparison, found: Standings) -> Standing | None:
    arrived = [standing for standing in found.standings if standing.reached is not None]
    least = min((_spent(comparison, standing) for standing in arrived), default=0.0)
    return next((s for s in arrived if _spent(comparison, s) <= least * (1 + SAME)), None)


def _spent(comparison: Comparison, standing: Standing) -> float:
    if standing.reached is None:
        return float("inf")
    return standing.reached.joules if comparison.setting.minimize == "joules" else standing.reached.seconds


def _spent_words(comparison: Comparison, amount: float) -> str:
    return joules_text(amount) if comparison.setting.minimize == "joules" else seconds_text(amount)


# -- the answer ------------------------------------------------------------------------------------------


def _verdict(comparison: Comparison, winner: Standing) -> str:
    row, budget = winner.row, bytes_text(comparison.setting.ram_bytes)
    fitting = [other for other in comparison.rows if other.outcome not in ("does not fit", "cannot serve")]
    exact_fit = any(other.is_exact for other in fitting)
    unfit = [other for other in comparison.rows if other.is_exact and other.outcome == "does not fit"]
    if len(fitting) == 1 and len(comparison.rows) > 1:
        start = f"Only {_called(row)} fits {budget}{_price(comparison, row)}: use it."
    elif row.is_exact:
        start = f"{_capital(_called(row))} fits {budget}{_price(comparison, row)}: use it."
    elif unfit and not exact_fit:
        least = min((other.min_ram_bytes for other in unfit if other.min_ram_bytes), default=None)
        needs = f": it needs at least {bytes_text(least)}" if least else ""
        start = f"No plan of backprop fits {budget}{needs}. Use {row.name}."
    else:
        start = f"Use {row.name}: it fits {budget}{_price(comparison, row)}."
    return f"{start} {_arrival(comparison, winner)}"


def _arrival(comparison: Comparison, winner: Standing) -> str:
    if winner.reached is None:
        return ""
    spent = f"{joules_text(winner.reached.joules)} and {seconds_text(winner.reached.seconds)}"
    score = score_text(comparison, winner.score)
    what = comparison.metric if comparison.metric != "accuracy" else "of the test samples right"
    words = f"{score} {what}" if comparison.metric == "accuracy" else f"a {what} of {score}"
    level = score_text(comparison, standings(comparison).level)
    return (
        f"It ended at {words}; {level}, which is the same but for chance, took "
        f"{plural(winner.reached.steps, 'step')}: {spent} on the device."
    )


def _called(row: Row) -> str:
    if row.name == "backprop":
        return "planned backprop" if row.recomputed or row.paged_in or row.streamed else "plain backprop"
    return row.name


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _price(comparison: Comparison, row: Row) -> str:
    """` at +12% energy a step against plain backprop`."""
    plain = comparison.plain
    if plain is None or row.cost is None or plain.joules <= 0:
        return ""
    share = row.cost.joules / plain.joules - 1
    if abs(share) < SAME:
        return " at the energy of plain backprop"
    return f" at {percent(share, signed=True)} energy a step against plain backprop"


def _nothing(comparison: Comparison) -> str:
    unfit = [row for row in comparison.rows if row.outcome == "does not fit"]
    if not unfit:
        cannot = any(row.outcome == "cannot serve" for row in comparison.rows)
        return "No method can serve this model." if cannot else "Nothing has been trained to its end yet."
    known = [row for row in unfit if row.min_ram_bytes]
    budget = bytes_text(comparison.setting.ram_bytes)
    if not known:
        return f"Nothing fits {budget} and the time that was given."
    least = min(known, key=lambda row: row.min_ram_bytes or 0)
    return (
        f"Nothing fits {budget}. The least is {bytes_text(least.min_ram_bytes or 0)}, by {least.name}: "
        f"try `--ram {least.min_ram_bytes}`."
    )


def _unlearnt(comparison: Comparison, found: Standings) -> str:
    steps = max(row.steps for row in comparison.trained)
    best = f" (best: {score_text(comparison, found.best)})" if found.best is not None else ""
    return (
        f"None of the methods that fit learnt more than chance in {plural(steps, 'step')}{best}. "
        "Train longer with `--steps`, or give a learning rate with `--lr`."
    )


# -- the reasons -----------------------------------------------------------------------------------------


def _beside(comparison: Comparison, found: Standings, winner: Standing, other: Standing) -> str:
    score = score_text(comparison, other.score)
    total = other.row.steps * (other.row.cost.joules if other.row.cost else 0.0)
    if other.reached is None:
        lost = f"; it diverged: try a smaller `--lr {other.row.name}=...`" if has_diverged(other.row) else ""
        return f"{other.row.name}: {score} at the end, for {joules_text(total)}{lost}."
    spent, least = _spent(comparison, other), _spent(comparison, winner)
    if spent <= least * (1 + SAME):
        return f"{other.row.name}: as good for as much, {_spent_words(comparison, spent)}."
    ratio = f"{figure(spent / least)} times" if least > 0 and spent / least >= 2 else _more(spent, least)
    level = score_text(comparison, found.level)
    words = f"{other.row.name}: {score} at the end, {level} after {_spent_words(comparison, spent)}"
    return f"{words} ({ratio})."


def _more(spent: float, least: float) -> str:
    return f"{percent(spent / least - 1, signed=True)}" if least > 0 else "more"


def _refusal(row: Row) -> str:
    """Why a row has no curve; nothing if it has one."""
    if row.outcome == "does not fit":
        if row.min_ram_bytes is None:
            return f"{row.name}: {clipped(row.reason, MAX_PART)}"
        of = f" of layer `{row.layer}`" if row.layer else ""
        where = f", set by `{row.op}`{of}" if row.op else ""
        return f"{row.name} does not fit: it needs at least {bytes_text(row.min_ram_bytes)}{where}."
    if row.outcome == "cannot serve":
        parts = "; ".join(clipped(part, MAX_PART) for part in row.parts[:4]) or clipped(row.reason, MAX_PART)
        return f"{row.name} cannot serve this model: {parts}"
    return f"{row.name} is not finished." if row.outcome == "unfinished" else ""


def _leader(comparison: Comparison, winner: Standing) -> list[str]:
    """Who is ahead when each has spent no more than the cheapest run."""
    totals = [row.steps * row.cost.joules for row in comparison.trained if row.cost is not None]
    joules = min(totals, default=0.0)
    scores = {row.name: score_within(comparison, row, joules) for row in comparison.trained}
    known = {name: score for name, score in scores.items() if score is not None}
    mine = known.get(winner.row.name)
    if not known or mine is None:
        return []
    better = max if is_higher_better(comparison) else min
    name = better(known, key=lambda key: known[key])
    tie = standings(comparison).tie
    if abs(known[name] - mine) <= tie:
        return []
    scores_ = f"{score_text(comparison, known[name])} against {score_text(comparison, mine)}"
    return [f"With {joules_text(joules)} only, what the cheapest run took, {name} is ahead: {scores_}."]


def _smallest(comparison: Comparison, winner: Standing) -> list[str]:
    rows = [row for row in comparison.trained if row.peak_bytes is not None]
    if not rows or winner.row.peak_bytes is None:
        return []
    least = min(rows, key=lambda row: row.peak_bytes or 0)
    if (least.peak_bytes or 0) > MUCH_LESS * winner.row.peak_bytes:
        return []
    sizes = f"{bytes_text(least.peak_bytes or 0)} at its peak, {winner.row.name} "
    sizes += bytes_text(winner.row.peak_bytes)
    return [f"{least.name} holds least as it is planned here: {sizes}."]


def _edges(comparison: Comparison) -> list[str]:
    """Rows whose learning rate may be better beyond those that were tried."""
    found = [
        f"{row.name} ({row.search.lr:.3g}, the {row.search.is_edge})"
        for row in comparison.trained
        if row.search is not None and row.search.is_edge and not row.same_bits
    ]
    if not found:
        return []
    words = "At the edge of the learning rates that were tried, where others may be better (`--lr`)"
    return [f"{words}: {', '.join(found)}."]
