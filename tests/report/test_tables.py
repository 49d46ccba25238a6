"""Tables: what is folded away, what is left out, and how steps and units are written."""

import msgspec
import pytest

from edgewise.devices import Cost
from edgewise.graph import Op, Option, Stream
from edgewise.plan import Plan
from edgewise.report import ReportData
from edgewise.report.choices import Choice
from edgewise.report.loops import Loop
from edgewise.report.tables import MAX_ROWS, SHOWN, choice_table, device_table, loop_table, recipe_text
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
    ("changes", "text"),
    [
        ({"how": "streamed", "times": 0, "streams": 1}, "h1 streamed 3 KiB moved 2 KiB"),
        (
            {"how": "streamed", "times": 0, "streams": 4},
            "h1 streamed \N{MULTIPLICATION SIGN}4 3 KiB moved 2 KiB",
        ),
        (
            {"how": "paged", "times": 2, "streams": 1},
            "h1 paged \N{MULTIPLICATION SIGN}2 streamed, 3 KiB moved 2 KiB",
        ),
        (
            {"how": "lives in the slower tier", "times": 0, "streams": 3},
            "h1 lives in sd streamed \N{MULTIPLICATION SIGN}3, 3 KiB moved 2 KiB",
        ),
    ],
)
def test_what_was_streamed(changes: dict[str, object], text: str) -> None:
    assert text in words(choice(**changes, moved_bytes=3072))


def looping(**changes: object) -> Loop:
    op = Op("conv", ("x",), ("y",), layer="body.1")
    option = Option("rows 4", streams=(Stream("x", 1, 1, 1),), tiles=16)
    found = Loop(3, op, option, ("x",), 2048, 65536, 4096, 1024, Cost(0.25, 1.0), Cost(0.25, 1.0))
    return found._replace(**changes)


def loop_words(plan: Plan, *found: Loop) -> str:
    return Page(loop_table(found, plan).replace("<wbr>", "")).text


class TestLoops:
    """The table of what ran in slices."""

    def test_a_row(self, plan: Plan) -> None:
        plan = msgspec.structs.replace(plan, seconds=2.0)
        head = "Op By Streams RAM RAM if whole Read Written Time Of the step"

        row = "conv body.1 rows 4 16 slices x 2 KiB 64 KiB 4 KiB 1 KiB 500 ms 25%"
        assert loop_words(plan, looping()) == f"{head} {row}"

    def test_sums_in_another_order(self, plan: Plan) -> None:
        option = Option("rows 4", tiles=1, exact=False)

        assert "rows 4 1 slice; sums reordered" in loop_words(plan, looping(option=option))

    def test_a_loop_that_streams_nothing(self, plan: Plan) -> None:
        assert "16 slices nothing 2 KiB" in loop_words(plan, looping(streamed=()))

    def test_the_longest_stands_first(self, plan: Plan) -> None:
        short = looping(op=Op("short", ("x",), ("y",)), moved=Cost(0.0, 0.0))
        text = loop_words(plan, short, looping())

        assert text.index("conv") < text.index("short")

    def test_a_step_that_takes_no_time(self, plan: Plan) -> None:
        assert loop_words(msgspec.structs.replace(plan, seconds=0.0), looping()).endswith("500 ms")

    @pytest.mark.parametrize(
        ("count", "summary"), [(SHOWN, None), (SHOWN + 1, "1 more"), (MAX_ROWS, f"{MAX_ROWS - SHOWN} more")]
    )
    def test_long_tables_are_folded(self, count: int, summary: str | None, plan: Plan) -> None:
        page = Page(loop_table([looping()] * count, plan))

        assert page.text.count("16 slices") == count
        assert len(page.named("details")) == (summary is not None)

    def test_what_is_too_much_is_counted(self, plan: Plan) -> None:
        assert loop_words(plan, *([looping()] * (MAX_ROWS + 3))).endswith(
            "Not listed: 3 loops more, 1.5 s together."
        )


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
