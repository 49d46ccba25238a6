"""`metrics.jsonl`: appended to and flushed line by line, cut back to the checkpoint on resume."""

import math
import os
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from edgewise.errors import CorruptArtifact
from edgewise.train.files import cannot_write, write_whole
from edgewise.train.records import MetricLine, StepLine

FILE = "metrics.jsonl"


class MetricsLog:
    """Appends lines to a file; each is there for others to read as soon as `write` returns.

    Raises:
        DeviceError: the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise cannot_write(path, error) from error

    def write(self, line: MetricLine) -> None:
        """Append `line`."""
        data = memoryview(msgspec.json.encode(line) + b"\n")
        try:
            while data:
                data = data[self._file.write(data) or 0 :]
        except OSError as error:
            raise cannot_write(self._path, error) from error

    def sync(self) -> None:
        """Bring all lines to disk, so that none is missing before the checkpoint that is written next."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise cannot_write(self._path, error) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def cut_back(path: Path, *, step: int, epoch: int) -> list[MetricLine]:
    """Drop what came after `step` steps and epoch `epoch`, and a torn last line; return what is kept.

    Raises:
        CorruptArtifact: a line but the last is damaged.
        DeviceError: the shortened file cannot be written.
    """
    data = path.read_bytes() if path.exists() else b""
    rows = data.split(b"\n")
    rows.pop()  # empty if the file ends as it should, else the torn line
    decoder = msgspec.json.Decoder(MetricLine)
    kept: list[MetricLine] = []
    for number, row in enumerate(rows, start=1):
        try:
            line: MetricLine = decoder.decode(row)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise CorruptArtifact(
                f"{path}, line {number}: {error}. Restore the file, or remove it to resume without its past."
            ) from error
        if line.step < step if isinstance(line, StepLine) else line.epoch <= epoch:
            kept.append(line)
    short = b"".join(msgspec.json.encode(line) + b"\n" for line in kept)
    if short != data:
        write_whole(path, short)
    return kept


def finite(number: float) -> float | None:
    """`number`, or `None` where it is none: JSON has no NaN."""
    return number if math.isfinite(number) else None
