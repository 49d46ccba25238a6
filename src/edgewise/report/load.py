"""From a run directory or a `plan.json` to ReportData: read strictly, hold back what is not there."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from edgewise.devices import Device, decode_device, encode_device, load_device
from edgewise.errors import CorruptArtifact, UsageError
from edgewise.graph import decode_graph
from edgewise.plan import Curve, Plan, check, decode_curve, decode_plan, replay
from edgewise.report.nouns import Digest, ReportData
from edgewise.report.trace import plain_steps
from edgewise.report.units import clipped
from edgewise.train import (
    ENVIRONMENT_FORMAT,
    MEMORY_FORMAT,
    SUMMARY_FORMAT,
    Environment,
    EpochLine,
    MemoryFile,
    MetricLine,
    RunSummary,
    StepLine,
)

MAX_FILE_BYTES = 256 * 2**20
"""Most bytes of a file that is read whole."""

MAX_FIGURE = 1e300
"""Largest amount that a file may state: sums of them are finite too."""

T = TypeVar("T")
WithFormat = TypeVar("WithFormat", Environment, MemoryFile, RunSummary)
Decoder = Callable[[bytes, Path], T]


def load_report(source: Path, device: Device | None = None) -> ReportData:
    """Everything a report shows, from `source`: a run directory, or a plan file with `graph.json` beside it.

    `device` is what the plan was made for; without it, the device is read from `environment.json` or
    `device.toml` beside the plan, or it is the profile of that name on the shelf.

    Raises:
        UsageError: there is no plan or no graph, or the device is not to be found.
        CorruptArtifact: a file is damaged; `PlanRejected` if it is the plan that fails the check.
    """
    is_run = source.is_dir()
    folder = source if is_run else source.parent
    reader = _Reader(folder)
    plan_path = source / "plan.json" if is_run else source
    plan = decode_plan(reader.needed(plan_path, "the plan"), where=str(plan_path))
    _check_figures(plan.budget, str(plan_path))
    graph_path = folder / "graph.json"
    graph = decode_graph(reader.needed(graph_path, "the plan's graph"), where=str(graph_path))
    environment = reader.optional("environment.json", _decode_environment)
    device = device or _find_device(plan, reader, environment)
    certificate = check(plan, graph, device)
    plain = replay(plain_steps(graph), graph, device, cost_model=plan.cost_model)
    curve = reader.optional("pareto.json", _decode_curve)
    if curve is not None:
        _check_curve(curve, plan, folder / "pareto.json")
    data = ReportData(
        source,
        graph,
        device,
        plan,
        certificate,
        plain,
        is_run=is_run,
        environment=environment,
        curve=curve,
    )
    if is_run:
        data = _with_run(data, reader)
    return msgspec.structs.replace(data, digests=tuple(reader.digests))


def _with_run(data: ReportData, reader: "_Reader") -> ReportData:
    """`data` with what only a run leaves behind."""
    lines = reader.optional("metrics.jsonl", _decode_metrics) or ()
    memory = reader.optional("memory.json", _decode_memory)
    if memory is not None and len(memory.live_bytes) != len(data.plan.steps):
        raise CorruptArtifact(
            f"{reader.folder / 'memory.json'} has {len(memory.live_bytes):,} figures, but the plan has "
            f"{len(data.plan.steps):,} steps. It belongs to another plan; run again or remove it."
        )
    summary = reader.optional("summary.json", _decode_summary)
    if summary is not None and summary.certified_peak_bytes != data.certificate.peak_bytes:
        stated, found = summary.certified_peak_bytes, data.certificate.peak_bytes
        raise CorruptArtifact(
            f"{reader.folder / 'summary.json'} states a certified peak of {stated:,} B, but the plan has "
            f"{found:,} B. It belongs to another plan; run again or remove it."
        )
    steps = {line.step: line for line in lines if isinstance(line, StepLine)}  # a resumed run repeats some
    epochs = {line.epoch: line for line in lines if isinstance(line, EpochLine)}
    recipe = reader.optional("recipe.toml", _decode_text)
    reader.digest_checkpoint()
    return msgspec.structs.replace(
        data,
        memory_file=memory,
        recipe=recipe,
        summary=summary,
        steps=tuple(steps[number] for number in sorted(steps)),
        epochs=tuple(epochs[number] for number in sorted(epochs)),
    )


class _Reader:
    """Reads files of one folder and keeps the digest of each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.digests: list[Digest] = []

    def needed(self, path: Path, what: str) -> bytes:
        try:
            return self._read(path)
        except OSError as error:
            raise UsageError(
                f"Cannot read {what} {path}: {error.strerror}. Give a run directory, or a plan.json with its "
                "graph.json beside it."
            ) from error

    def optional(self, name: str, decode: Decoder[T]) -> T | None:
        path = self.folder / name
        try:
            data = self._read(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UsageError(f"Cannot read {path}: {error.strerror}. Mend or remove it.") from error
        return decode(data, path)

    def digest_checkpoint(self) -> None:
        """Digests of the checkpoint's files, which are too large to be read whole."""
        for path in sorted(self.folder.glob("checkpoint.*")):
            if path.is_file():
                with path.open("rb") as file:
                    sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                self.digests.append(Digest(path.name, path.stat().st_size, sha256))

    def _read(self, path: Path) -> bytes:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise CorruptArtifact(
                f"{path}: {size:,} bytes are more than a report reads ({MAX_FILE_BYTES:,})."
            )
        data = path.read_bytes()
        self.digests.append(Digest(path.name, len(data), hashlib.sha256(data).hexdigest()))
        return data


def _decode(data: bytes, kind: type[T], path: Path, what: str) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptArtifact(f"{path} is not {what}: {error}. Run or plan again.") from error


def _decode_formatted(
    data: bytes, kind: type[WithFormat], path: Path, what: str, expected: str
) -> WithFormat:
    found = _decode(data, kind, path, what)
    _check_format(found.format, expected, path)
    _check_figures(found, str(path))
    return found


def _check_format(found: object, expected: str, path: Path) -> None:
    if found != expected:
        raise CorruptArtifact(f"{path}: format `{found}` is not `{expected}`, the one this version reads.")


def _decode_environment(data: bytes, path: Path) -> Environment:
    return _decode_formatted(data, Environment, path, "an environment file", ENVIRONMENT_FORMAT)


def _decode_memory(data: bytes, path: Path) -> MemoryFile:
    return _decode_formatted(data, MemoryFile, path, "a memory file", MEMORY_FORMAT)


def _decode_summary(data: bytes, path: Path) -> RunSummary:
    return _decode_formatted(data, RunSummary, path, "a run's summary", SUMMARY_FORMAT)


def _decode_curve(data: bytes, path: Path) -> Curve:
    curve = decode_curve(data, where=str(path))
    for struct in (curve, *curve.points):
        _check_figures(struct, str(path))
    return curve


def _check_curve(curve: Curve, plan: Plan, path: Path) -> None:
    """Refuse a curve of something else: its figures would stand beside those of another graph or device."""
    mine = (plan.graph_sha256, plan.device, plan.cost_model)
    if (curve.graph_sha256, curve.device, curve.cost_model) != mine:
        raise CorruptArtifact(
            f"{path} is the curve of another graph, device or cost model (`{curve.graph}` on "
            f"`{curve.device}`). Plan again with `--pareto`, or remove it."
        )


def _decode_text(data: bytes, path: Path) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise CorruptArtifact(f"{path} is not text in UTF-8: {error}. Restore the file.") from error


def _decode_metrics(data: bytes, path: Path) -> tuple[MetricLine, ...]:
    """Every line of `metrics.jsonl`. A last line without its end was cut off when the run died: left out."""
    rows = data.split(b"\n")
    rows.pop()  # empty if the file ends as it should, else the torn line
    decoder = msgspec.json.Decoder(MetricLine)
    lines: list[MetricLine] = []
    for number, row in enumerate(rows, start=1):
        try:
            line = decoder.decode(row)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise CorruptArtifact(
                f"{path}, line {number}: {error}. Restore the file or run again."
            ) from error
        _check_figures(line, f"{path}, line {number}")
        lines.append(line)
    return tuple(lines)


def _check_figures(found: msgspec.Struct, where: str) -> None:
    """Refuse figures that no run writes: they would break the charts, or draw them far outside the page."""
    for field in msgspec.structs.fields(found):
        value = getattr(found, field.name)
        for number in value if isinstance(value, tuple) else (value,):
            bad = (isinstance(number, int) and not 0 <= number < 2**63) or (
                isinstance(number, float) and not abs(number) <= MAX_FIGURE
            )
            if bad or (field.name == "test_accuracy" and number is not None and not 0 <= number <= 1):
                shown = clipped(str(number), 24)
                raise CorruptArtifact(
                    f"{where}: {shown} is no possible `{field.name}`. Restore the file or run again."
                )


def _find_device(plan: Plan, reader: _Reader, environment: Environment | None) -> Device:
    if environment is not None:
        return _run_device(environment.device, reader.folder / "environment.json")
    beside = reader.optional("device.toml", lambda data, path: decode_device(data, where=str(path)))
    if beside is not None:
        return beside
    try:
        return load_device(plan.device)
    except UsageError as error:
        raise UsageError(
            f"The plan is for device `{plan.device}`, and there is no profile of that name. "
            f"Put its device.toml beside the plan, or pass `--device`."
        ) from error


def _run_device(fields: dict[str, Any], path: Path) -> Device:
    """The device as the run recorded it, held to the same rules as a profile on the shelf."""
    try:
        device = msgspec.convert(fields, Device)
    except msgspec.ValidationError as error:
        raise CorruptArtifact(f"{path}: `device` is not a device: {error}. Run again.") from error
    return decode_device(encode_device(device).encode(), where=f"{path}, `device`")
