"""plan.json: what is written is read back; what is no plan is refused with words."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.errors import CorruptArtifact, UsageError
from edgewise.graph import Graph
from edgewise.plan import (
    Budget,
    decode_plan,
    encode_plan,
    file,
    load_plan,
    make_plan,
    minimum_ram,
    plain_plan,
    save_plan,
)
from tests.plan.graphs import PAGING, chain, graphs

PLAN = make_plan(chain(3), PAGING, Budget(minimum_ram(chain(3), PAGING).ram_bytes, seconds=1e9))


@given(graphs)
def test_round_trip(graph: Graph) -> None:
    plan = plain_plan(graph, PAGING)
    assert decode_plan(encode_plan(plan)) == plan


def test_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    save_plan(PLAN, path)
    assert load_plan(path) == PLAN
    assert encode_plan(load_plan(path)) == path.read_bytes()
    assert b'"format": "edgewise.plan/2"' in path.read_bytes()


def _changed(**fields: object) -> bytes:
    plan = msgspec.json.decode(encode_plan(PLAN))
    return msgspec.json.encode({k: v for k, v in {**plan, **fields}.items() if v != "absent"})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "plan is not a plan file: Input data was truncated. Plan again."),
        (b"nonsense", "plan is not a plan file: JSON is malformed"),
        (b"[1, 2]", "plan is not a plan file: Expected `object`, got `array`"),
        (b'{"format": "\xff"}', "plan is not a plan file: Invalid UTF-8|can't decode byte"),
        (b'{"x":' * 100_000, "plan is not a plan file"),
        (encode_plan(PLAN)[:-20], "plan is not a plan file: Input data was truncated"),
        (
            _changed(format="edgewise.plan/1"),
            "format `edgewise.plan/1` is not `edgewise.plan/2`, the one this",
        ),
        (_changed(format="absent"), "format `None` is not `edgewise.plan/2`"),
        (_changed(steps="absent"), "Object missing required field `steps`"),
        (_changed(extra=1), "Object contains unknown field `extra`"),
        (_changed(peak_bytes="1"), r"Expected `int`, got `str` - at `\$.peak_bytes`"),
        (_changed(peak_bytes=1.5), r"Expected `int`, got `float` - at `\$.peak_bytes`"),
        (_changed(minimize="dollars"), r"Invalid enum value 'dollars' - at `\$.minimize`"),
        (_changed(status="perfect"), r"Invalid enum value 'perfect' - at `\$.status`"),
        (_changed(budget={"ram_bytes": 1, "volts": 2}), r"unknown field `volts` - at `\$.budget`"),
        (_changed(steps=[["explode", "x"]]), r"Invalid value 'explode' - at `\$.steps\[0\]\[0\]`"),
        (_changed(steps=[["free", "x", "y"]]), r"`array` of at most length 1, got 2 - at `\$.steps\[0\]`"),
        (_changed(steps=[["free"]]), r"`array` of at least length 2, got 1 - at `\$.steps\[0\]`"),
        (_changed(addresses={"x": [0.5]}), r"Expected `int`, got `float` - at `\$.addresses\[...\]\[0\]`"),
        (_changed(homes=[1]), r"Expected `str`, got `int` - at `\$.homes\[0\]`"),
    ],
)
def test_what_is_no_plan_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(CorruptArtifact, match=message):
        decode_plan(data)


@given(st.data())
def test_no_damage_raises_anything_else(data: st.DataObject) -> None:
    good = encode_plan(PLAN)
    at = data.draw(st.integers(0, len(good) - 1))
    bad = good[:at] + data.draw(st.binary(max_size=3)) + good[at + data.draw(st.integers(0, 3)) :]
    try:
        decode_plan(bad)
    except CorruptArtifact as error:
        assert str(error).startswith("plan")  # noqa: PT017  # most damage is refused, some is another plan


def test_the_error_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(b"{")
    with pytest.raises(CorruptArtifact, match=r"broken\.json is not a plan file"):
        load_plan(path)


def test_files_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Cannot read .*none\.json: No such file .*`edgewise plan -o FILE`"):
        load_plan(tmp_path / "none.json")
    with pytest.raises(UsageError, match=r"Cannot write .*: Is a directory. Choose another place."):
        save_plan(PLAN, tmp_path)


def test_a_file_too_large_for_a_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "plan.json"
    save_plan(PLAN, path)
    monkeypatch.setattr(file, "MAX_FILE_BYTES", 100)
    with pytest.raises(
        CorruptArtifact, match=r"plan\.json: more than the 100 bytes that a plan file may have"
    ):
        load_plan(path)
