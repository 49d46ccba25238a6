import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.errors import UsageError
from edgewise.train import Amount, parse_bytes, parse_seconds


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("262144", Amount(262144)),
        ("256KiB", Amount(262144)),
        (" 256 kib ", Amount(262144)),
        ("64MB", Amount(64e6)),
        ("1.5GiB", Amount(1.5 * 2**30)),
        (".5x", Amount(0.5, relative=True)),
        ("2X", Amount(2, relative=True)),
    ],
)
def test_sizes(text: str, amount: Amount) -> None:
    assert parse_bytes(text) == amount


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("0.2", Amount(0.2)),
        ("200ms", Amount(0.2)),
        ("3 min", Amount(180)),
        ("1.5x", Amount(1.5, relative=True)),
    ],
)
def test_times(text: str, amount: Amount) -> None:
    assert parse_seconds(text) == amount


@pytest.mark.parametrize("text", ["", "KiB", "-1", "1e3", "12 apples", "1,5", "0x", "0", "1s", "9" * 400])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(
        UsageError, match=r"is not a size such as `256KiB`, or a multiple of|must be above zero"
    ):
        parse_bytes(text)


@pytest.mark.parametrize("text", ["", "1KiB", "0s"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(
        UsageError, match=r"is not a time such as `200ms`, or a multiple of|must be above zero"
    ):
        parse_seconds(text)


def test_the_message_lists_the_units() -> None:
    with pytest.raises(
        UsageError, match=r"`1 foot` is not a size .* Units: B, KB, MB, GB, KiB, MiB, GiB, x\."
    ):
        parse_bytes("1 foot")


@given(st.integers(1, 2**50), st.floats(1, 1e12))
def test_only_multiples_depend_on_plain_training(number: int, plain: float) -> None:
    assert parse_bytes(f"{number}").of(plain) == number
    assert parse_bytes(f"{number}x").of(plain) == number * plain
