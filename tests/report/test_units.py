"""Figures for people."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.report.units import (
    MINUS,
    bytes_text,
    clipped,
    exact_bytes,
    figure,
    joules_text,
    nice_step,
    percent,
    plural,
    seconds_text,
)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (0.0813, "0.0813"),
        (0.5, "0.5"),
        (9.999, "10"),
        (12.34, "12.3"),
        (99.96, "100"),
        (4096, "4,096"),
        (-2.5, "-2.5"),
        (8.1e-7, "8.1e-07"),
        (1e300, "1e+300"),
    ],
)
def test_a_figure_has_three_digits(number: float, text: str) -> None:
    assert figure(number) == text


@given(st.floats(-1e300, 1e300))
@settings(deadline=None)
def test_a_figure_is_close_to_its_number_and_short(number: float) -> None:
    text = figure(number)

    assert float(text.replace(",", "")) == pytest.approx(number, rel=0.006)
    assert len(text) < 24


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1,023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (303_456, "296.3 KiB"),
        (2**20, "1 MiB"),
        (5 * 2**50, "5,120 TiB"),
    ],
)
def test_bytes_take_the_largest_unit(size: int, text: str) -> None:
    assert bytes_text(size) == text


def test_exact_bytes() -> None:
    assert exact_bytes(98_304) == "98,304 B"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (7.3e-5, "73 µs"), (0.0012, "1.2 ms"), (59, "59 s"), (600, "10 min"), (9000, "2.5 h")],
)
def test_seconds(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


def test_joules() -> None:
    assert joules_text(0.0736) == "73.6 mJ"
    assert joules_text(3e-15) == "0.003 pJ"


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0, "0%"),
        (0.5, "+50%"),
        (-0.628, f"{MINUS}62.8%"),
        (1e-6, "+<0.01%"),
        (0.0052, "+0.52%"),
        (2.63, "+263%"),
    ],
)
def test_percent(share: float, text: str) -> None:
    assert percent(share, signed=True) == text
    assert percent(abs(share)) == text.lstrip(f"+{MINUS}")


def test_plural() -> None:
    assert [plural(n, "step") for n in (0, 1, 1200)] == ["0 steps", "1 step", "1,200 steps"]


def test_a_long_name_is_cut() -> None:
    assert clipped("abc", 3) == "abc"
    assert clipped("abcd", 3) == "ab\N{HORIZONTAL ELLIPSIS}"


@given(st.floats(1e-9, 1e15), st.integers(1, 10))
@settings(deadline=None)
def test_ticks_are_few_and_not_too_few(span: float, pieces: int) -> None:
    step = nice_step(span, pieces)

    assert pieces / 2.6 < span / step <= pieces * (1 + 1e-9)
    assert nice_step(1.0, 5) == pytest.approx(0.2)


def test_ticks_of_bytes_are_powers_of_two() -> None:
    assert nice_step(300 * 1024, 6, binary=True) == 64 * 1024
    assert nice_step(0, 6) == 1
