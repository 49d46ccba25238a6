"""The rules by which a comparison is put into words, one by one, on rows by hand."""

import msgspec
import pytest

from edgewise.report.advice import advise
from edgewise.report.standings import score_within, standings
from edgewise.train.comparison import Comparison
from tests.report.comparisons import by_loss, comparison, row, searched, unfit, unserved

GOOD = (0.1, 0.5, 0.8, 0.9, 0.95)
LATE = (0.1, 0.2, 0.3, 0.4, 0.5)


def by_time(found: Comparison) -> Comparison:
    return msgspec.structs.replace(found, setting=msgspec.structs.replace(found.setting, minimize="seconds"))


def test_the_level_is_the_best_less_chance() -> None:
    found = standings(comparison(row("a", 1, GOOD), row("b", 1, LATE)))
    assert (found.first, found.best) == (0.1, 0.95)
    assert found.level == pytest.approx(0.94)  # one point: two standard errors are less
    few = standings(comparison(row("a", 1, GOOD), test_samples=100))
    assert few.level == pytest.approx(0.95 - 2 * (0.95 * 0.05 / 100) ** 0.5)
    assert found.standings[0].reached == (40, 8.0, 40.0)
    assert found.standings[1].reached is None
    by = standings(comparison(by_loss("a", 1, (2.0, 1.0)), by_loss("b", 1, (1.5, 1.02))))
    assert (by.first, by.best, by.level) == (1.5, 1.0, 1.01)


def test_a_row_that_lost_the_level_again_did_not_reach_it() -> None:
    found = standings(comparison(row("a", 1, (0.1, 0.95, 0.5)), row("b", 1, GOOD)))
    assert found.standings[0].reached is None


def test_what_a_row_had_learnt_for_so_much_energy() -> None:
    one = row("a", 2.0, GOOD)
    found = comparison(one)
    assert [score_within(found, one, joules) for joules in (0, 19.9, 20, 1000)] == [0.1, 0.1, 0.5, 0.95]


def test_planned_backprop_that_fits_is_used() -> None:
    planned = row("backprop", 1.12, GOOD, recomputed=3)
    found = advise(comparison(planned, unfit("every-block", 90_000), row("spsa", 0.7, LATE)))
    assert found.use == "backprop"
    assert found.verdict == (
        "Planned backprop fits 64 KiB at +12% energy a step against plain backprop: use it. It ended at 95% "
        "of the test samples right; 94%, which is the same but for chance, took 40 steps: 44.8 J and 8.96 s "
        "on the device."
    )
    assert found.reasons == (
        "spsa: 50% at the end, for 28 J.",
        "every-block does not fit: it needs at least 87.9 KiB, set by `fc1:mm` of layer `fc1`.",
    )


def test_plain_backprop_that_fits_costs_nothing_more() -> None:
    found = advise(comparison(row("backprop", 1.0, GOOD), row("spsa", 1.0, LATE)))
    assert found.verdict.startswith("Plain backprop fits 64 KiB at the energy of plain backprop: use it.")


def test_the_only_one_that_fits() -> None:
    found = advise(comparison(row("backprop", 3, GOOD, streamed=4), unfit("spsa", 70_000)))
    assert found.verdict.startswith("Only planned backprop fits 64 KiB at +200% energy a step")


def test_only_zeroth_order_fits() -> None:
    rows = (unfit("backprop", 80_000), unfit("every-block", 90_000, method="backprop"))
    found = advise(comparison(*rows, row("spsa", 0.8, GOOD), row("elastic", 0.9, LATE)))
    assert found.use == "spsa"
    assert found.verdict.startswith(
        "No plan of backprop fits 64 KiB: it needs at least 78.1 KiB. Use spsa. It ended at"
    )


def test_another_method_that_is_as_good_for_less() -> None:
    found = advise(comparison(row("backprop", 20.0, GOOD), row("spsa", 1.0, GOOD), row("elastic", 1.5, GOOD)))
    assert found.verdict.startswith("Use spsa: it fits 64 KiB at the energy of plain backprop.")
    assert found.reasons[:2] == (
        "backprop: 95% at the end, 94% after 800 J (20 times).",
        "elastic: 95% at the end, 94% after 60 J (+50%).",
    )


def test_what_counts_is_what_plans_were_made_for() -> None:
    slow = row("spsa", 1.0, GOOD)
    slow = msgspec.structs.replace(slow, cost=msgspec.structs.replace(slow.cost, seconds=9.0))
    found = comparison(slow, row("backprop", 2.0, GOOD))
    assert advise(found).use == "spsa"
    assert advise(by_time(found)).use == "backprop"


def test_of_equal_ones_the_first() -> None:
    twin = row("every-block", 1.0, GOOD, method="backprop", same_bits=True)
    found = advise(comparison(row("backprop", 1.0, GOOD), twin))
    assert found.use == "backprop"
    assert found.reasons == ("every-block: as good for as much, 40 J.",)


def test_who_is_ahead_with_little_energy() -> None:
    slow = row("backprop", 4.0, (0.1, 0.2, 0.9, 0.95))
    found = advise(comparison(slow, row("spsa", 1.0, LATE)))
    assert found.use == "backprop"
    assert "With 40 J only, what the cheapest run took, spsa is ahead: 50% against 20%." in found.reasons


def test_who_holds_least() -> None:
    found = advise(comparison(row("backprop", 1, GOOD), row("spsa", 1, LATE, peak_bytes=30_000)))
    assert "spsa holds least as it is planned here: 29.3 KiB at its peak, backprop 58.6 KiB." in found.reasons


def test_rates_at_the_edge_of_the_search() -> None:
    rows = (
        row("backprop", 1, GOOD, search=searched(1.0, 1.0, 2.0, 3.0)),
        row("spsa", 1, LATE, search=searched(0.1, 2.0, 1.0, 2.0)),
        row("elastic", 1, LATE, search=searched(0.01, 2.0, 2.0, 1.0)),
    )
    assert advise(comparison(*rows)).reasons[-1] == (
        "At the edge of the learning rates that were tried, where others may be better (`--lr`): "
        "backprop (1, the largest), elastic (0.01, the least)."
    )


def test_nothing_has_learnt() -> None:
    flat = (0.1, 0.1, 0.105, 0.1, 0.105)
    found = advise(comparison(row("backprop", 1, flat), row("spsa", 1, flat)))
    assert found.use is None
    assert standings(comparison(row("backprop", 1, flat))).level is None
    assert found.verdict == (
        "None of the methods that fit learnt more than chance in 40 steps (best: 10.5%). "
        "Train longer with `--steps`, or give a learning rate with `--lr`."
    )


def test_all_diverged() -> None:
    lost = msgspec.structs.replace(row("a", 1, ()), marks=(by_loss("a", 1, (1.0,)).marks[0],))
    assert advise(comparison(lost)).use is None


def test_nothing_fits() -> None:
    found = advise(
        comparison(unfit("backprop", 90_000), unfit("spsa", 70_000), unserved("elastic", "a.b: no"))
    )
    assert found.verdict == "Nothing fits 64 KiB. The least is 68.4 KiB, by spsa: try `--ram 70000`."
    assert found.reasons[-1] == "elastic cannot serve this model: a.b: no"
    slow = advise(comparison(unfit("backprop", None, reason="One step takes too long.")))
    assert slow.verdict == "Nothing fits 64 KiB and the time that was given."
    assert slow.reasons == ("backprop: One step takes too long.",)


def test_nothing_can_serve() -> None:
    found = advise(comparison(unserved("backprop"), unserved("spsa", "a: x", "b: y")))
    assert found.verdict == "No method can serve this model."
    assert found.reasons == (
        "backprop cannot serve this model: It cannot be captured.",
        "spsa cannot serve this model: a: x; b: y",
    )


def test_what_is_not_finished() -> None:
    half = msgspec.structs.replace(row("backprop", 1, GOOD), outcome="unfinished")
    assert advise(comparison(half)).verdict == "Nothing has been trained to its end yet."
    both = advise(comparison(row("spsa", 1, GOOD), half))
    assert "backprop is not finished." in both.reasons


def test_by_the_training_loss() -> None:
    found = advise(comparison(by_loss("backprop", 1, (2.0, 1.0, 0.5)), by_loss("spsa", 1, (2.2, 2.1, 2.0))))
    assert found.use == "backprop"
    assert (
        "It ended at a training loss of 0.5; 0.53, which is the same but for chance, took 30" in found.verdict
    )


def test_what_diverged() -> None:
    lost = row("spsa", 1, LATE)
    last = msgspec.structs.replace(lost.marks[-1], train_loss=None)
    lost = msgspec.structs.replace(lost, marks=(*lost.marks[:-1], last))
    found = advise(comparison(row("backprop", 1, GOOD), lost))
    assert found.reasons[0] == "spsa: 50% at the end, for 40 J; it diverged: try a smaller `--lr spsa=...`."
