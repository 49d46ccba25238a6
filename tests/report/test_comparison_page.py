"""The page of a comparison: what stands on it, and that nothing can break out of it."""

import re
from html import unescape
from pathlib import Path

import msgspec
import pytest

from edgewise.errors import UsageError
from edgewise.report.advice import advise
from edgewise.report.comparison_page import render_comparison, write_comparison
from edgewise.report.progress_curves import COLOURS
from tests.report.comparisons import by_loss, comparison, row, searched, unfit, unserved
from tests.report.inputs import Page

GOOD = (0.1, 0.5, 0.8, 0.9, 0.95)
ROWS = (
    row("backprop", 1.12, GOOD, recomputed=3, search=searched(0.1, None, 0.5, 2.0)),
    row("every-block", 1.3, GOOD, method="backprop", same_bits=True, run="backprop"),
    row("sign-spsa", 0.7, (0.1, 0.2, 0.3), method="spsa:sign=true"),
    unfit("elastic", 90_000),
    unserved("forward-gradient", "body.0: it cannot"),
)


def test_the_answer_stands_first_and_its_reasons_below() -> None:
    found = comparison(*ROWS)
    page = Page(render_comparison(found))
    advice = advise(found)
    assert page.text.index(advice.verdict) < page.text.index("Why")
    shown = page.text.replace(" ", "")
    for reason in advice.reasons:
        assert reason.replace("`", "").replace(" ", "") in shown
    assert "Methods for net on board" in page.text


def test_every_method_has_a_row() -> None:
    text = Page(render_comparison(comparison(*ROWS))).text
    for name in ("backprop", "every-block", "sign-spsa", "elastic", "forward-gradient"):
        assert name in text
    assert "weights as backprop" in text
    assert "does not fit. Least: 87.9 KiB. No plan fits." in text
    assert "cannot serve. It cannot be captured." in text
    assert "1.12 J (+12%)" in text
    assert "not reached" in text
    assert "1: diverged, 0.1: 0.5, 0.01: 2" in text


def test_there_are_three_charts_of_all_that_learnt() -> None:
    page = Page(render_comparison(comparison(*ROWS)))
    charts = [found.get("id") for found in page.named("div") if (found.get("class") or "") == "chart"]
    assert charts == ["by-joules", "by-seconds", "by-steps"]
    lines = [found for found in page.named("path") if "series" in (found.get("class") or "")]
    assert len(lines) == 3 * 3
    assert "At the end: backprop 95%, every-block 95%, sign-spsa 30%." in page.text


def test_the_pointer_is_told_all_scores() -> None:
    html = unescape(render_comparison(comparison(*ROWS)))
    tips = re.findall(r"sign-spsa [\d.]+%(?: \(ended\))?", html)
    assert {"sign-spsa 10%", "sign-spsa 20%", "sign-spsa 30%", "sign-spsa 30% (ended)"} == set(tips)


def test_many_lines_are_told_apart() -> None:
    rows = [row(f"m{i}", 1 + i, GOOD) for i in range(COLOURS + 2)]
    html = render_comparison(comparison(*rows))
    assert 'class="series s0 dashed"' in html
    assert 'class="swatch stroke s1 dashed"' in html


def test_a_model_without_scores_is_judged_by_its_loss() -> None:
    text = Page(render_comparison(comparison(by_loss("a", 1, (2.0, 1.0)), by_loss("b", 1, (2.0, 50.0))))).text
    assert "Training loss against energy" in text


@pytest.mark.parametrize("rows", [(), ROWS[3:], (row("a", 1, (0.1,)),), (row("a", 0.0, GOOD),)])
def test_little_to_show(rows: tuple) -> None:
    assert Page(render_comparison(comparison(*rows))).text
    assert Page(render_comparison(comparison(*rows, plain=None, plain_peak_bytes=None))).text


def test_names_and_errors_are_somebody_elses() -> None:
    bad = "</script><script>alert(1)</script>"
    rows = (row(bad, 1, GOOD), unfit("b", 9, reason=f"`{bad}"), unserved("c", bad))
    html = render_comparison(comparison(*rows, model=bad, data=bad, optimizer=bad))
    assert "<script>alert" not in html
    assert "alert(1)</script>" not in html


def test_it_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    found = comparison(*ROWS)
    path = write_comparison(found, tmp_path)
    assert path == tmp_path / "compare.html"
    assert path.read_text(encoding="utf-8") == render_comparison(found)
    assert [entry.name for entry in tmp_path.iterdir()] == ["compare.html"]
    with pytest.raises(UsageError, match="Cannot write the page"):
        write_comparison(found, tmp_path / "no")


def test_by_seconds_on_the_device() -> None:
    found = comparison(*ROWS)
    setting = msgspec.structs.replace(found.setting, steps=None, seconds=90.0)
    assert "for 90 s" in Page(render_comparison(msgspec.structs.replace(found, setting=setting))).text
