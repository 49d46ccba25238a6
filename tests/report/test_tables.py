"""Tables: what is folded away, what is left out, and how steps and units are written."""

import msgspec
import pytest

from edgewise.devices import Cost
from edgewise.report import ReportData
from edgewise.report.choices import Choice
from edgewise.report.tables import MAX_ROWS, SHOWN, choice_table, device_table, recipe_text
from tests.report.inputs import Page

EN_DASH = "\N{EN DASH}"


def choice(**changes: object) -> Choice:
    cost = Cost(0.002, 3e-6)
    found = Choice(
        "h1", "", 2048, "paged", 1, ((2, 5),), 0.1, 4096, cost, None, cost, (), "none: for tests", False
    )
    return found._replace(**changes)


def words(*found: Choice) -> str:
    return Page(choice_table(found, "sd").replace("<wbr>", "")).text


def test_a_row() -> None:
    head = "Value What Size Away from RAM RAM if kept Time Energy Otherwise"

    assert words(choice()) == f"{head} h1 paged 2 KiB 3 steps 2{EN_DASH}4 4 KiB 2 ms 3 µJ none: for tests"


@pytest.mark.parametrize(
    ("gaps", "text"),
    [
        (((7, 8),), "1 step 7 "),
        (((0, 2), (4, 6)), f"4 steps 0{EN_DASH}1, 4{EN_DASH}5 "),
        (((0, 2), (4, 6), (8, 9)), f"5 steps 0{EN_DASH}1, 4{EN_DASH}5 ... "),
        (((1000, 2000),), f"1,000 steps 1,000{EN_DASH}1,999 "),
    ],
)
def test_the_steps_without_it(gaps: tuple[tuple[int, int], ...], text: str) -> None:
    assert text in words(choice(gaps=gaps))


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("recomputed", "recomputed"),
        ("recomputed and paged", "recomputed and paged"),
        ("lives in the slower tier", "lives in sd"),
    ],
)
def test_how_it_came_back(how: str, text: str) -> None:
    assert f"h1 {text} 2 KiB" in words(choice(how=how))
    assert f"h1 {text} \N{MULTIPLICATION SIGN}3 2 KiB" in words(choice(how=how, times=3))


def test_a_layer_is_named_unless_the_value_says_it() -> None:
    assert "h1 body.3 paged" in words(choice(layer="body.3"))
    assert "body.3:h1 paged" in words(choice(layer="body.3", value="body.3:h1"))


@pytest.mark.parametrize(
    ("count", "summary"),
    [(SHOWN, None), (SHOWN + 1, "1 more"), (MAX_ROWS, f"{MAX_ROWS - SHOWN} more")],
)
def test_long_tables_are_folded(count: int, summary: str | None) -> None:
    page = Page(choice_table([choice()] * count, "sd"))

    assert len(list(page.named("span"))) == count
    assert len(page.named("details")) == (summary is not None)
    assert summary is None or f" {summary} " in page.text


def test_what_is_too_much_is_counted() -> None:
    text = words(*([choice()] * (MAX_ROWS + 2)))

    assert text.endswith("Not listed: 2 values more, 4 KiB together.")


def test_a_device_without_a_tier(run_data: ReportData) -> None:
    memory = msgspec.structs.replace(run_data.device.memory, sd=None)
    device = msgspec.structs.replace(run_data.device, memory=memory)
    text = Page(device_table(msgspec.structs.replace(run_data, device=device))).text

    assert "memory.ram.bytes 256 KiB assumed: " in text
    assert "overlap" not in text


def test_a_figure_without_a_source(run_data: ReportData) -> None:
    device = msgspec.structs.replace(run_data.device, sources={}, assumed={})

    assert "256 KiB not stated" in Page(device_table(msgspec.structs.replace(run_data, device=device))).text


def test_a_recipe_of_a_megabyte_is_cut(run_data: ReportData) -> None:
    assert len(recipe_text(msgspec.structs.replace(run_data, recipe="x" * 2**20))) < 2**17
