"""A run as its first weights, its seed and a few scalars a step, replayed without any pass of the model.

Where all that a step learns from its batch goes through its notes, as the coefficients c_i of SPSA and of
forward gradients do, the notes of every step are the run (MeZO, arXiv 2305.17333, section 2.1): a direction
is drawn again from (seed, stream, step), and the updates are the very kernels of the captured step, in its
order. So the weights and the optimizer's states come out bit for bit, at the cost of drawing and updating.

What follows from the batch in another way is not in the log: the running statistics of batch norms are not,
and must be given at the end of a replay (`statistics`); a method whose gradients need more than its notes, as
backprop or ElasticZO, is refused when the log is begun.

    edgewise.replay/1   one line of JSON (`Header`), then a record of fixed size for each step:
                        the notes as they lie in memory, and the CRC-32 of the step's number and them
"""

import hashlib
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import msgspec
import torch
from torch import Tensor

from edgewise.capture import Captured
from edgewise.capture.assemble import Reading
from edgewise.capture.lowering import STEP
from edgewise.capture.updates import UpdateKernel
from edgewise.errors import CorruptArtifact, UsageError
from edgewise.graph import Op

FORMAT = "edgewise.replay/1"
MAX_HEADER_BYTES = 1 << 16
CRC_BYTES = 4

State = dict[str, Tensor]
"""Parameters, buffers and states of optimizer and method by name, as `Executor.state` gives them."""


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a log belongs to: step `first_step` found the state `state_sha256`."""

    format: str
    graph_sha256: str
    seed: int
    optimizer: str
    first_step: int
    state_sha256: str
    record_bytes: int


@dataclass(frozen=True)
class Log:
    """The notes of steps `header.first_step` and on, one record each, without their check sums."""

    header: Header
    records: tuple[bytes, ...]


# -- what can be replayed ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Script:
    """What a replay executes: `ops` in order, from the values in `notes`."""

    ops: tuple[Op, ...]
    notes: dict[str, str]
    """The values that are logged -> the names of their notes."""
    missing: tuple[str, ...]
    """Buffers that a step changes by what is not logged."""


def script_of(captured: Captured) -> Script:
    """What a replay of this step executes.

    Raises:
        UsageError: a parameter or a state changes by more than the notes tell.
    """
    graph = captured.graph
    logged = {reading.program.operands[0]: n for n, reading in captured.notes.items() if _is_whole(reading)}
    known = {STEP, *logged, *(v.name for v in graph.sources() if v.kind in ("parameter", "state"))}
    possible = []
    for op in graph.ops:
        if known.issuperset(op.reads):
            possible.append(op)
            known.update(op.writes)
    missing = [old for old, new in graph.carries.items() if new not in known]
    trained = [name for name in missing if name in captured.states or graph.value[name].kind == "parameter"]
    if trained:
        raise UsageError(
            f"A run of {graph.name} by this method cannot be replayed: `{trained[0]}` changes by more than "
            "the notes of a step tell. Log a run of Spsa or ForwardGradient, or keep checkpoints."
        )
    wanted = set(graph.carries.values())
    chosen = []
    for op in reversed(possible):
        if wanted & set(op.writes) - set(logged):
            chosen.append(op)
            wanted.update(op.reads)
    used = {value: name for value, name in logged.items() if value in wanted}
    return Script(tuple(reversed(chosen)), used, tuple(missing))


def _is_whole(note: Reading) -> bool:
    """Whether the note is a stored value as it is, so that the value can be set from the log."""
    only_detached = all(view.target is torch.ops.aten.detach.default for view in note.program.views)
    return only_detached and len(note.program.operands) == 1


# -- writing -------------------------------------------------------------------------------------------------


class LogWriter:
    """Appends the notes of each step to the file at `path`; each record is handed to the system at once.

    Args:
        path: a new file.
        captured: the step that is run.
        state: what the first step begins with (`Executor.state()`).
        first_step: the number of that step.

    Raises:
        UsageError: the file exists, or runs of this step cannot be replayed.
    """

    def __init__(self, path: Path, captured: Captured, state: State, first_step: int = 0) -> None:
        script = script_of(captured)
        size = sum(captured.graph.value[value].bytes for value in script.notes)
        header = Header(FORMAT, *_belongs(captured), first_step, digest(state), size)
        self._open(path, captured, header, "xb")
        self._file.write(msgspec.json.encode(header) + b"\n")
        self._file.flush()
        self._next = first_step

    @classmethod
    def resume(cls, path: Path, captured: Captured, step: int) -> Self:
        """Go on with the log at `path` from `step`; what it holds of later steps is forgotten, torn or not.

        Raises:
            UsageError: the log is of another step, or ends before `step`.
            CorruptArtifact: as `read_log`, for the records that are kept.
        """
        data = _read(path)
        header, start = _header(data, path)
        size = header.record_bytes + CRC_BYTES
        end = start + (step - header.first_step) * size
        if not start <= end <= len(data):
            last = header.first_step + (len(data) - start) // size
            raise UsageError(
                f"{path} holds steps {header.first_step} to {last - 1}; it cannot go on from step {step}. "
                "Resume from a checkpoint within these, or begin a new log."
            )
        _records(data[:end], header, start, path)
        _check_fits(captured, header, path)
        writer = cls.__new__(cls)
        writer._open(path, captured, header, "r+b")  # noqa: SLF001
        writer._file.truncate(end)  # noqa: SLF001
        writer._file.seek(end)  # noqa: SLF001
        writer._next = step  # noqa: SLF001
        return writer

    def _open(self, path: Path, captured: Captured, header: Header, mode: str) -> None:
        self._notes = tuple(script_of(captured).notes.values())
        self._record_bytes = header.record_bytes
        try:
            self._file: BinaryIO = path.open(mode)  # type: ignore[assignment]
        except FileExistsError as error:
            raise UsageError(
                f"{path} exists. Go on with it by `LogWriter.resume`, or choose another name."
            ) from error
        except OSError as error:
            raise UsageError(f"Cannot write the log {path}: {error.strerror}. Check the path.") from error

    def append(self, notes: Mapping[str, Tensor]) -> None:
        """The notes of the next step (`StepResult.notes`)."""
        record = b"".join(_bytes(notes[name]) for name in self._notes)
        if len(record) != self._record_bytes:
            raise UsageError(
                f"Step {self._next} has {len(record)} bytes of notes, the log {self._record_bytes} a step. "
                "Append the notes of the step that the log was begun for."
            )
        self._file.write(record + _crc(self._next, record))
        self._file.flush()
        self._next += 1

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


# -- reading -------------------------------------------------------------------------------------------------


def read_log(path: Path) -> Log:
    """The log at `path`.

    Raises:
        UsageError: there is no such file.
        CorruptArtifact: not a log, of an unknown version, damaged, or its last record is torn.
    """
    data = _read(path)
    header, start = _header(data, path)
    return Log(header, _records(data, header, start, path))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"Cannot read the log {path}: {error.strerror}. Check the path.") from error


def _header(data: bytes, path: Path) -> tuple[Header, int]:
    """The header, and where the records begin."""
    end = data.find(b"\n", 0, MAX_HEADER_BYTES)
    try:
        header = msgspec.json.decode(data[: max(end, 0)], type=Header)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptArtifact(f"{path} is no log of a run: {error}. Expected format `{FORMAT}`.") from error
    if header.format != FORMAT:
        raise CorruptArtifact(
            f"{path}: format `{header.format}` is not `{FORMAT}`, the one this version reads."
        )
    if header.first_step < 0 or not 0 < header.record_bytes <= MAX_HEADER_BYTES:
        raise CorruptArtifact(
            f"{path}: {header.record_bytes} bytes a step from step {header.first_step} are no log. "
            "Restore it."
        )
    return header, end + 1


def _records(data: bytes, header: Header, start: int, path: Path) -> tuple[bytes, ...]:
    size = header.record_bytes + CRC_BYTES
    whole, torn = divmod(len(data) - start, size)
    if torn:
        raise CorruptArtifact(
            f"{path}: {torn} bytes follow step {header.first_step + whole - 1}, less than a record. The run "
            "was cut short: go on with it by `LogWriter.resume`, which drops them."
        )
    found = []
    for index in range(whole):
        at = start + index * size
        record, crc = data[at : at + header.record_bytes], data[at + header.record_bytes : at + size]
        if crc != _crc(header.first_step + index, record):
            raise CorruptArtifact(
                f"{path}: the record of step {header.first_step + index} is damaged (its CRC-32 differs). "
                "Restore the file."
            )
        found.append(record)
    return tuple(found)


# -- replaying -----------------------------------------------------------------------------------------------


def replay(
    captured: Captured, log: Log, state: State, statistics: Mapping[str, Tensor] | None = None
) -> State:
    """The state that the logged run ended with, made from the `state` that it began with.

    Args:
        captured: the step that was run, captured again or not.
        log: its log.
        state: what the first logged step began with; it is not changed.
        statistics: the running statistics at the end, which no log holds.

    Raises:
        UsageError: the log is of another step, seed, optimizer or state; or `statistics` lack some buffer.
    """
    script = script_of(captured)
    _check_fits(captured, log.header, "The log")
    if digest(state) != log.header.state_sha256:
        raise UsageError(
            f"The log begins at another state (SHA-256 {log.header.state_sha256[:12]}...) than the one given "
            f"({digest(state)[:12]}...). Give the state that its step {log.header.first_step} began with."
        )
    lacking = [name for name in script.missing if name not in (statistics or {})]
    if lacking:
        raise UsageError(
            f"Running statistics are not in the log: {', '.join(f'`{name}`' for name in lacking[:8])}. "
            "Give them as they were at the end, in `statistics`."
        )
    now = {name: tensor.clone() for name, tensor in state.items()}
    with torch.no_grad():
        for index, record in enumerate(log.records):
            now = _step(captured, script, now, record, log.header.first_step + index)
    return now | {name: tensor.clone() for name, tensor in (statistics or {}).items() if name in now}


def _step(captured: Captured, script: Script, state: State, record: bytes, step: int) -> State:
    """The state after one step."""
    tensors = {**captured.constants, **state, STEP: torch.tensor(step, dtype=torch.int64)}
    offset = 0
    for value in script.notes:
        tensors[value], storage = captured.empty(value)
        part = record[offset : offset + storage.numel()]
        storage.copy_(torch.frombuffer(bytearray(part), dtype=torch.uint8))
        offset += storage.numel()
    for op in script.ops:
        made = captured.kernels[op.name](tensors, "whole", True, _NOBODY)
        tensors.update(zip(op.outputs, made, strict=True))
        for old, new in op.updates:
            tensors[new] = tensors.pop(old)
    carries = captured.graph.carries
    return {name: tensors.get(carries.get(name, name), tensor) for name, tensor in state.items()}


class _Nobody:
    """Counts nothing."""

    def add(self, tensor: Tensor) -> None:
        """Held."""

    def drop(self, tensor: Tensor) -> None:
        """Given up."""

    def holds(self, tensor: Tensor) -> bool:
        """Never."""
        del tensor
        return False

    def note(self, hidden_bytes: int) -> None:
        """Hidden."""


_NOBODY = _Nobody()


# -- what a log belongs to -----------------------------------------------------------------------------------


def digest(state: State) -> str:
    """SHA-256 of names, dtypes, shapes and contents."""
    found = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach()
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(_bytes(tensor))
    return found.hexdigest()


def _check_fits(captured: Captured, header: Header, where: Path | str) -> None:
    for name, own in zip(("graph_sha256", "seed", "optimizer"), _belongs(captured), strict=True):
        found = getattr(header, name)
        if found != own:
            raise UsageError(
                f"{where} is of another run: its {name} is {found}, that of this step {own}. "
                "Capture the step as it was logged."
            )


def _belongs(captured: Captured) -> tuple[str, int, str]:
    """What makes a step this one: graph, seed and optimizer."""
    kernels: Iterable[object] = captured.kernels.values()
    used = {repr(kernel.optimizer) for kernel in kernels if isinstance(kernel, UpdateKernel)}
    return captured.graph.sha256, captured.seed, ", ".join(sorted(used))


def _bytes(tensor: Tensor) -> bytes:
    flat = tensor.detach().contiguous().reshape(-1)
    return bytes(flat.view(torch.uint8).numpy().tobytes())


def _crc(step: int, record: bytes) -> bytes:
    return zlib.crc32(step.to_bytes(8, "little") + record).to_bytes(CRC_BYTES, "little")
