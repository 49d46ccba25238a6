"""The files that the harness reads and writes (runtime/harness.c, boards/startup.c)."""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from edgewise.errors import DeviceError

COMMAND = struct.Struct("<5I")
RANGE = struct.Struct("<2I")
REPORT = struct.Struct("<IiIIII")
MARK = struct.Struct("<3Q")
FAULT = struct.Struct("<7I")
COMMAND_MAGIC, REPORT_MAGIC, FAULT_MAGIC = (int.from_bytes(b"EWD" + c, "little") for c in (b"C", b"R", b"F"))

STAGES = ("reading its files", "model_init", "model_step", "model_save", "model_infer", "the end")
STATUS = {
    1: "the medium failed",
    2: "the store is corrupt: it has no commit record, or belongs to another model",
    3: "the journal is full",
    4: "the store was misused",
    -1: "a file of the host could not be read or written",
}


class Mark(NamedTuple):
    """What a run had taken at some moment: ticks of the processor's clock, and bytes through the medium."""

    ticks: int
    read_bytes: int
    written_bytes: int


class Marks(NamedTuple):
    """The moments after the parts of a run."""

    init: Mark
    steps: Mark
    save: Mark
    inferences: Mark
    all: Mark


class Report(NamedTuple):
    """The head of result.bin."""

    magic: int
    status: int
    stage: int
    steps: int
    stack_bytes: int
    reserved: int
    marks: Marks

    @property
    def failure(self) -> str:
        """What went wrong, and where; nothing if nothing did."""
        if not self.status:
            return ""
        what = STATUS.get(self.status, f"error {self.status}")
        return f"{STAGES[self.stage]} failed after {self.steps} steps: {what}"


class Fault(NamedTuple):
    """fault.bin: a fault that the processor's own handlers caught."""

    magic: int
    exception: int
    status: int
    address: int
    pc: int
    lr: int
    sp: int


def write_command(
    place: Path, first_step: int, steps: int, inferences: int, ranges: Sequence[tuple[int, int]]
) -> None:
    """Write command.bin: what the harness is to do."""
    words = COMMAND.pack(COMMAND_MAGIC, first_step, steps, inferences, len(ranges))
    (place / "command.bin").write_bytes(words + b"".join(RANGE.pack(*each) for each in ranges))


def read_report(place: Path) -> tuple[Report, bytes]:
    """The report, and what follows it: losses, and what was to be read back.

    Raises:
        DeviceError: the program ended without a report.
    """
    path = place / "result.bin"
    data = path.read_bytes() if path.is_file() else b""
    size = REPORT.size + MARK.size * len(Marks._fields)
    if len(data) < size:
        raise DeviceError(
            "The program ended without a report. Is its runtime that of this version? Emit and build it anew."
        )
    marks = Marks(*map(Mark._make, MARK.iter_unpack(data[REPORT.size : size])))
    report = Report._make((*REPORT.unpack_from(data), marks))
    if report.magic != REPORT_MAGIC:
        raise DeviceError("The program stopped in the middle, without a fault that was seen. Build it anew.")
    return report, data[size:]


def read_fault(place: Path) -> Fault | None:
    """What the fault handlers saw, if they were called."""
    path = place / "fault.bin"
    if not path.is_file() or path.stat().st_size < FAULT.size:
        return None
    return Fault._make(FAULT.unpack_from(path.read_bytes()))
