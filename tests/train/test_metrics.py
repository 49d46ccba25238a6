import os
from pathlib import Path
from typing import Any

import pytest

from edgewise.errors import CorruptArtifact, DeviceError
from edgewise.train import EpochLine, StepLine
from edgewise.train.files import write_whole
from edgewise.train.metrics import MetricsLog, cut_back, finite

LINES = [
    EpochLine(0, None, 0.1),
    StepLine(0, 1, 2.5),
    StepLine(1, 1, None),
    EpochLine(1, 2.0),
    StepLine(2, 2, 1.0),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with MetricsLog(tmp_path / "metrics.jsonl") as log:
        for line in LINES:
            log.write(line)
    return tmp_path / "metrics.jsonl"


def test_each_line_is_there_at_once(tmp_path: Path) -> None:
    with MetricsLog(tmp_path / "m") as log:
        log.write(StepLine(0, 1, 0.5))
        assert (tmp_path / "m").read_text().startswith('{"type":"step","step":0,"epoch":1,"loss":0.5,')
        log.sync()


def test_the_log_is_appended_to(path: Path) -> None:
    with MetricsLog(path) as log:
        log.write(StepLine(3, 2))
    assert cut_back(path, step=99, epoch=99) == [*LINES, StepLine(3, 2)]


@pytest.mark.parametrize(
    ("step", "epoch", "count"),
    [(0, -1, 0), (0, 0, 1), (1, 0, 2), (2, 0, 3), (2, 1, 4), (3, 1, 5), (99, 99, 5)],
)
@pytest.mark.parametrize("torn", [b"", b"{", b'{"type":"step","step":3}'])
def test_cutting_back(path: Path, step: int, epoch: int, count: int, torn: bytes) -> None:
    path.write_bytes(path.read_bytes() + torn)
    assert cut_back(path, step=step, epoch=epoch) == LINES[:count]
    assert cut_back(path, step=99, epoch=99) == LINES[:count]
    assert path.read_bytes().count(b"\n") == count


def test_cutting_back_what_is_not_there(tmp_path: Path) -> None:
    assert cut_back(tmp_path / "m", step=3, epoch=1) == []
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("row", [b"{", b'{"type":"stop"}', b"\xff", b"[" * 5000, b""])
def test_a_damaged_line_is_named(path: Path, row: bytes) -> None:
    rows = path.read_bytes().split(b"\n")
    rows[2] = row
    path.write_bytes(b"\n".join(rows))
    with pytest.raises(
        CorruptArtifact, match=r"metrics\.jsonl, line 3: .* Restore the file, or remove it to resume"
    ):
        cut_back(path, step=99, epoch=99)


@pytest.mark.parametrize(("number", "kept"), [(1.5, 1.5), (float("nan"), None), (float("-inf"), None)])
def test_what_json_cannot_say(number: float, kept: float | None) -> None:
    assert finite(number) == kept


def full(*_: Any) -> None:
    raise OSError(28, "No space left on device")


def test_a_log_that_cannot_be_written(tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(
        DeviceError, match=r"Cannot write .*m: No such file or directory\. What was there before"
    ):
        MetricsLog(tmp_path / "none" / "m")
    with (
        MetricsLog(Path("/dev/full")) as log,
        pytest.raises(DeviceError, match=r"Cannot write /dev/full: No space"),
    ):
        log.write(StepLine(0))
    with MetricsLog(tmp_path / "m") as log:
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(DeviceError, match="No space left on device"):
            log.sync()


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "f"
    write_whole(path, b"old")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(
            DeviceError, match=r"Cannot write .*f: No space left on device\. What was there before is un"
        ):
            write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]
