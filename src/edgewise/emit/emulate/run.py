"""`run`: from batches and a store to losses and a store, on whichever emulator there is."""

import shutil
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgewise.emit.build import Built
from edgewise.emit.emulate import native, qemu
from edgewise.emit.emulate.files import Report, read_fault, read_report, write_command
from edgewise.emit.emulate.nouns import Emulated, Ending, Taken
from edgewise.emit.emulate.symbols import faulted
from edgewise.errors import CorruptArtifact, DeviceError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

EMULATORS = ("unicorn", "qemu")
CORRUPT = 2
"""EW_STORE_CORRUPT of store.h."""


def find_emulator(built: Built, name: str | None = None) -> str:
    """The emulator called `name`; the first that is installed and knows the board, if no name is given.

    Raises:
        UsageError: there is no such name.
        DeviceError: it is not installed, or none is.
    """
    if built.board.is_host:
        return "none"
    if name is not None and name not in EMULATORS:
        raise UsageError(f"There is no emulator `{name}`. There are: {', '.join(EMULATORS)}.")
    there = {
        "unicorn": bool(built.board.unicorn) and built.medium != "sd" and find_spec("unicorn") is not None,
        "qemu": built.medium != "memory" and shutil.which("qemu-system-arm") is not None,
    }
    usable = [each for each in EMULATORS if there[each] and name in (None, each)]
    if usable:
        return usable[0]
    what = f"Emulator `{name}` cannot" if name else "No emulator that is installed can"
    raise DeviceError(
        f"{what} run board `{built.board.name}` with its store on medium `{built.medium}`. "
        "Install unicorn (`pip install edgewise[mcu]`), or QEMU (`apt-get install qemu-system-arm`)."
    )


def run(  # noqa: PLR0913  # one call is one run, and each argument a part of it
    built: Built,
    batches: "Sequence[Sequence[Tensor]] | bytes",
    *,
    store: Path,
    steps: int | None = None,
    first_step: int = 0,
    inputs: "Sequence[Sequence[Tensor]]" = (),
    emulator: str | None = None,
    read_back: Sequence[tuple[int, int]] = (),
    power_off_at: int | None = None,
) -> Emulated:
    """Train on `batches`, a step each, from the store in the file `store` on, which is left as it is.

    At the end the program writes to its store what lives in RAM, and lets the model infer from `inputs`.

    Args:
        built: the program.
        batches: of each step the tensors of `model_inputs`, or the bytes of all of them, one after the other.
        store: image of a store, as weights.bin.
        steps: how many; needed with bytes.
        first_step: the number of the first step, as random draws and AdamW count them.
        inputs: of each inference the tensors of `model_infer_inputs`; for models that were emitted with it.
        emulator: `unicorn` or `qemu`; whichever is there if not given.
        read_back: ranges of the arena (offset, bytes) to return as they are at the end.
        power_off_at: number of the write to the store, from 0, during which power is lost (unicorn only).

    Raises:
        UsageError: arguments that make no sense.
        CorruptArtifact: the store is damaged, or of another model.
        DeviceError: no emulator; or the program failed, faulted, or touched what it must not.
    """
    data, count = _bytes_of(batches, steps)
    chosen = find_emulator(built, emulator)
    if power_off_at is not None and chosen != "unicorn":
        raise UsageError("`power_off_at` needs the emulator `unicorn`.")
    with tempfile.TemporaryDirectory(prefix="edgewise-") as folder:
        place = Path(folder)
        (place / "batches.bin").write_bytes(data)
        (place / "inputs.bin").write_bytes(_bytes_of(inputs, None)[0])
        shutil.copyfile(store, place / "store.bin")
        write_command(place, first_step, count, len(inputs), read_back)
        ending = _execute(built, place, chosen, power_off_at)
        image = (place / "store.bin").read_bytes()
        if ending.code is None:
            return Emulated(built.board.name, chosen, (), image, power_lost=True)
        report, rest = _report(built, place, store)
    return _emulated(built, chosen, ending, report, rest, image, len(inputs), read_back)


def _bytes_of(batches: "Sequence[Sequence[Tensor]] | bytes", steps: int | None) -> tuple[bytes, int]:
    if isinstance(batches, bytes):
        if steps is None:
            raise UsageError("Batches as bytes need `steps`, how many there are.")
        return batches, steps
    count = len(batches) if steps is None else steps
    if count > len(batches):
        raise UsageError(f"{count} steps need as many batches: there are {len(batches)}.")
    tensors = (tensor for batch in batches[:count] for tensor in batch)
    return b"".join(tensor.detach().contiguous().cpu().numpy().tobytes() for tensor in tensors), count


def _execute(built: Built, place: Path, emulator: str, power_off_at: int | None) -> Ending:
    if emulator == "unicorn":
        from edgewise.emit.emulate import unicorn  # noqa: PLC0415  -- part of an extra

        return unicorn.execute(built, place, power_off_at=power_off_at)
    if emulator == "qemu":
        return qemu.execute(built, place)
    return native.execute(built, place)


def _report(built: Built, place: Path, store: Path) -> tuple[Report, bytes]:
    fault = read_fault(place)
    if fault is not None:
        raise faulted(built, fault)
    report, rest = read_report(place)
    if report.status == CORRUPT:
        raise CorruptArtifact(f"{store}: {report.failure}. Emit the model anew.")
    if report.status:
        raise DeviceError(f"On board `{built.board.name}` {report.failure}.")
    return report, rest


def _emulated(
    built: Built,
    emulator: str,
    ending: Ending,
    report: Report,
    rest: bytes,
    image: bytes,
    inferences: int,
    read_back: Sequence[tuple[int, int]],
) -> Emulated:
    outputs_bytes = len(rest) - 4 * report.steps - sum(size for _, size in read_back)
    sizes = [*[outputs_bytes // max(inferences, 1)] * inferences, *(size for _, size in read_back)]
    ends = list(accumulate(sizes, initial=4 * report.steps))
    found = tuple(rest[begin:end] for begin, end in pairwise(ends))
    init, steps, save, inferred, end = _moments(built, emulator, ending, report)
    return Emulated(
        board=built.board.name,
        emulator=emulator,
        losses=tuple(np.frombuffer(rest[: 4 * report.steps], "<f4").tolist()),
        store=image,
        outputs=found[:inferences],
        read_back=found[inferences:],
        stack_bytes=None if built.board.is_host else report.stack_bytes,
        instructions=end.instructions if emulator == "qemu" else ending.instructions,
        read_bytes=end.read_bytes,
        written_bytes=end.written_bytes,
        by_steps=_between(init, steps),
        by_inferences=_between(save, inferred),
    )


def _moments(built: Built, emulator: str, ending: Ending, report: Report) -> list[Taken]:
    """What the run had taken at each of the report's marks."""
    counts: Sequence[int | None] = [None] * len(report.marks)
    if emulator == "qemu":
        counts = [qemu.instructions(built, mark.ticks) for mark in report.marks]
    elif emulator == "unicorn":
        counts = ending.looks
    return [
        Taken(count, mark.read_bytes, mark.written_bytes)
        for count, mark in zip(counts, report.marks, strict=True)
    ]


def _between(one: Taken, other: Taken) -> Taken:
    counted = one.instructions is not None and other.instructions is not None
    return Taken(
        (other.instructions or 0) - (one.instructions or 0) if counted else None,
        other.read_bytes - one.read_bytes,
        other.written_bytes - one.written_bytes,
    )
