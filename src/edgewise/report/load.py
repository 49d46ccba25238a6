"""From a run directory or a `plan.json` to ReportData. Reading is strict; absent pieces are simply not there."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from edgewise.devices import Device
from edgewise.errors import CorruptArtifact, UsageError
from edgewise.graph import Graph, decode_graph
from edgewise.plan import Plan, check, replay
from edgewise.plan.schedule import lay_out, plain_order
from edgewise.report.nouns import (
    MEMORY_FORMAT,
    Digest,
    EpochLine,
    MemoryFile,
    MetricLine,
    ReportData,
    StepLine,
)

MAX_FILE_BYTES = 256 * 2**20
"""Most bytes of a file that is read whole."""

PLAN_FORMAT = "edgewise.plan/1"

T = TypeVar("T")


def load_report(source: Path, device: Device | None = None) -> ReportData:
    """Everything a report shows, from `source`: a run directory, or a plan file with `graph.json` beside it.

    `device` is what the plan was made for; without it, the device is read from `environment.json` or
    `device.toml` beside the plan, or it is the built-in profile of that name.

    Raises:
        UsageError: there is no plan or no graph, or the device is not to be found.
        CorruptArtifact: a file is damaged; `PlanRejected` if it is the plan that fails the check.
    """
    is_run = source.is_dir()
    folder = source if is_run else source.parent
    plan_path = source / "plan.json" if is_run else source
    digests: list[Digest] = []
    plan = _decode_plan(_read(plan_path, digests, needed="the plan"), plan_path)
    graph_path = folder / "graph.json"
    graph = decode_graph(_read(graph_path, digests, needed="the plan's graph"), where=str(graph_path))
    environment = _optional(folder / "environment.json", digests, _decode_environment)
    device = device or _find_device(plan, folder, environment, digests)
    certificate = check(plan, graph, device)
    plain = replay(lay_out(plain_order(graph), graph), graph, device, cost_model=plan.cost_model)
    data = ReportData(source, graph, device, plan, certificate, plain, is_run, environment=environment)
    return _with_run(data, folder, digests) if is_run else msgspec.structs.replace(data, digests=tuple(digests))


def _with_run(data: ReportData, folder: Path, digests: list[Digest]) -> ReportData:
    """`data` with what only a run leaves behind."""
    recipe = _optional(folder / "recipe.toml", digests, _decode_text)
    lines = _optional(folder / "metrics.jsonl", digests, _decode_metrics) or ()
    memory = _optional(folder / "memory.json", digests, _decode_memory)
    if memory is not None and len(memory) != len(data.plan.steps):
        raise CorruptArtifact(
            f"{folder / 'memory.json'} has {len(memory):,} figures, but the plan has {len(data.plan.steps):,} "
            "steps. It belongs to another plan; run again or remove it."
        )
    for path in sorted(folder.glob("checkpoint.*")):
        if path.is_file():
            digests.append(_digest_large(path))
    steps = {line.step: line for line in lines if isinstance(line, StepLine)}  # a resumed run repeats some
    epochs = {line.epoch: line for line in lines if isinstance(line, EpochLine)}
    return msgspec.structs.replace(
        data,
        memory=memory,
        recipe=recipe,
        steps=tuple(steps[number] for number in sorted(steps)),
        epochs=tuple(epochs[number] for number in sorted(epochs)),
        digests=tuple(digests),
    )


def _read(path: Path, digests: list[Digest], *, needed: str) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise CorruptArtifact(f"{path}: {size:,} bytes is more than a report reads ({MAX_FILE_BYTES:,}).")
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"Cannot read {needed} {path}: {error.strerror}. Give a run directory, or a plan.json with its "
            "graph.json beside it."
        ) from error
    digests.append(Digest(path.name, len(data), hashlib.sha256(data).hexdigest()))
    return data


def _optional(path: Path, digests: list[Digest], decode: Callable[[bytes, Path], T]) -> T | None:
    return decode(_read(path, digests, needed="the file"), path) if path.exists() else None


def _digest_large(path: Path) -> Digest:
    with path.open("rb") as file:
        return Digest(path.name, path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


def _decode(data: bytes, kind: type[T], path: Path, what: str) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptArtifact(f"{path} is not {what}: {error}. Run or plan again.") from error


def _decode_plan(data: bytes, path: Path) -> Plan:
    fields = _decode(data, dict[str, Any], path, "a plan file")
    found = fields.pop("format", None)
    if found != PLAN_FORMAT:
        raise CorruptArtifact(f"{path}: format `{found}` is not `{PLAN_FORMAT}`, the one this version reads.")
    return _decode(msgspec.json.encode(fields), Plan, path, "a plan file")


def _decode_text(data: bytes, path: Path) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise CorruptArtifact(f"{path} is not text in UTF-8: {error}. Restore the file.") from error


def _decode_environment(data: bytes, path: Path) -> dict[str, Any]:
    return _decode(data, dict[str, Any], path, "an environment file")


def _decode_memory(data: bytes, path: Path) -> tuple[int, ...]:
    file = _decode(data, MemoryFile, path, "a memory file")
    if file.format != MEMORY_FORMAT:
        raise CorruptArtifact(f"{path}: format `{file.format}` is not `{MEMORY_FORMAT}`, the one this version reads.")
    return file.live_bytes


def _decode_metrics(data: bytes, path: Path) -> tuple[MetricLine, ...]:
    """Every line of `metrics.jsonl`. A last line without its end was cut off when the run died: it is left out."""
    rows = data.split(b"\n")
    rows.pop()  # empty if the file ends as it should, else the torn line
    decoder = msgspec.json.Decoder(MetricLine)
    lines: list[MetricLine] = []
    for number, row in enumerate(rows, start=1):
        try:
            lines.append(decoder.decode(row))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise CorruptArtifact(f"{path}, line {number}: {error}. Restore the file or run again.") from error
    return tuple(lines)


def _find_device(
    plan: Plan, folder: Path, environment: dict[str, Any] | None, digests: list[Digest]
) -> Device:
    if environment is not None and "device" in environment:
        path = folder / "environment.json"
        try:
            return msgspec.convert(environment["device"], Device)
        except msgspec.ValidationError as error:
            raise CorruptArtifact(f"{path}: `device` is not a device: {error}. Run again.") from error
    profile = _optional(folder / "device.toml", digests, _decode_device)
    return profile or _built_in(plan)


def _decode_device(data: bytes, path: Path) -> Device:
    try:
        return msgspec.toml.decode(data, type=Device)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptArtifact(f"{path} is not a device profile: {error}. Restore the file.") from error


def _built_in(plan: Plan) -> Device:
    raise UsageError(
        f"The plan is for device `{plan.device}`, whose profile is not beside it. Put its `device.toml` there."
    )
