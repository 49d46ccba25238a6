"""`device.toml`: read and write a Device (DESIGN.md section 6); every number has an origin.

Every number of a profile is named, by its dotted path, in exactly one of two tables:

    [sources]                                # published or measured: says by whom
    "compute.flops_per_second" = "..."
    [assumed]                                # nobody's figure: says what was assumed, and why
    "memory.ram.bytes" = "..."
"""

import contextlib
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from edgewise.devices.nouns import Compute, Device, Memory
from edgewise.errors import CorruptArtifact, UsageError

FORMAT = "edgewise.device/1"
MAX_FILE_BYTES = 2**20
LIMIT = 1e300
"""Figures are below this, so that sums of them stay finite."""


class _DeviceFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    name: str
    description: str
    compute: Compute
    memory: Memory
    sources: dict[str, str] = {}
    assumed: dict[str, str] = {}


def read_device(path: Path) -> Device:
    """Device from the file at `path`.

    Raises:
        UsageError: the file cannot be read.
        CorruptArtifact: see `decode_device`.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UsageError(f"Cannot read the device file {path}: {error.strerror}. Check the path.") from error
    return decode_device(data, where=str(path))


def decode_device(data: bytes, *, where: str = "device") -> Device:
    """Device from the bytes of a `device.toml`; `where` names the source in errors.

    Raises:
        CorruptArtifact: not TOML, an unknown version or field, a wrong type, a number that is negative,
            endless or without an origin, a rate or size that is not above zero, or no figure for energy.
    """
    if len(data) > MAX_FILE_BYTES:
        raise CorruptArtifact(f"{where}: more bytes than a device file may have ({MAX_FILE_BYTES:,}).")
    try:
        table = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:  # no UTF-8, no TOML, or a number of too many digits
        raise CorruptArtifact(
            f"{where} is not TOML: {error}. Mend the file, or probe the device again."
        ) from error
    if table.get("format") != FORMAT:
        found = table.get("format", "missing")
        raise CorruptArtifact(f"{where}: format `{found}` is not `{FORMAT}`, the one this version reads.")
    try:
        file = msgspec.convert(table, _DeviceFile)
    except msgspec.ValidationError as error:
        raise CorruptArtifact(
            f"{where}: {error}. Mend the file; `edgewise devices show` prints a model."
        ) from error
    device = Device(file.name, file.description, file.compute, file.memory, file.sources, file.assumed)
    problem = next(_problems(device), None)
    if problem:
        raise CorruptArtifact(f"{where}: {problem}.")
    return device


def encode_device(device: Device) -> str:
    """`device` as the text of a `device.toml`."""
    head = {"format": FORMAT, "name": device.name, "description": device.description}
    blocks = ["\n".join(f"{key} = {_toml(value)}" for key, value in head.items())]
    for name in ("compute", "memory"):
        blocks.extend(_blocks(name, msgspec.to_builtins(getattr(device, name))))
    for name, origins in (("sources", device.sources), ("assumed", device.assumed)):
        if origins:
            blocks.append(
                f"[{name}]\n" + "\n".join(f"{_toml(key)} = {_toml(text)}" for key, text in origins.items())
            )
    return "\n\n".join(blocks) + "\n"


def save_device(device: Device, path: Path) -> None:
    """Write `device` to `path`; a reader sees the old file or the new one, never half of one.

    Raises:
        UsageError: the file cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(encode_device(device), encoding="utf-8")
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise UsageError(
            f"Cannot write the device file {path}: {error.strerror}. Choose another place."
        ) from error


def numbers(device: Device) -> dict[str, float]:
    """Every number that the profile gives, by its dotted path, as in `memory.sd.read_bytes_per_second`."""
    fields = (*_fields("compute.", device.compute), *_fields("memory.", device.memory))
    return {
        path: value for path, value, default in fields if value != default and not isinstance(value, bool)
    }


def _problems(device: Device) -> Iterator[str]:
    found = numbers(device)
    for path, value in found.items():
        must_be_positive = path.endswith(("_per_second", "bytes")) or ".class_flops_per_second." in path
        if not 0 <= value < LIMIT:  # false of what is no number, too
            yield f"`{path}` is {value}; it must be a number from 0 to {LIMIT:g}"
        elif must_be_positive and value == 0:
            yield f"`{path}` is 0; a rate or a size must be above zero"
        if path in device.sources and path in device.assumed:
            yield f"`{path}` is in `[sources]` and in `[assumed]`; it must be in exactly one of them"
        if path not in device.sources and path not in device.assumed:
            yield f"`{path}` has no origin; name it in `[sources]` or in `[assumed]` and say where it is from"
    fields = (*_fields("compute.", device.compute), *_fields("memory.", device.memory))
    known = {path for path, _, _ in fields}
    for path in (*device.sources, *device.assumed):
        if path not in known:
            yield f"an origin is given for `{path}`, which the profile does not have"
    if device.compute.joules_per_flop == 0 and device.compute.watts_busy == 0:
        yield "it gives no energy; set `compute.joules_per_flop` or `compute.watts_busy`"


def _fields(prefix: str, struct: msgspec.Struct) -> Iterator[tuple[str, Any, Any]]:
    """`(path, value, default)` of everything in `struct`, whether given or not."""
    for field in msgspec.structs.fields(type(struct)):
        value = getattr(struct, field.name)
        if isinstance(value, msgspec.Struct):
            yield from _fields(f"{prefix}{field.name}.", value)
        elif isinstance(value, dict):
            yield from ((f"{prefix}{field.name}.{key}", number, None) for key, number in value.items())
        elif value is not None:
            yield f"{prefix}{field.name}", value, field.default


def _blocks(name: str, table: dict[str, Any]) -> Iterator[str]:
    plain = [
        f"{_key(key)} = {_toml(value)}" for key, value in table.items() if not isinstance(value, dict | None)
    ]
    if plain:
        yield "\n".join((f"[{name}]", *plain))
    for key, value in table.items():
        if isinstance(value, dict) and value:
            yield from _blocks(f"{name}.{key}", value)


def _key(key: str) -> str:
    """Op classes may be called anything; what is no bare key of TOML is quoted."""
    return key if key.isascii() and key.replace("_", "").isalnum() else _toml(key)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = msgspec.json.encode(value).decode()  # a JSON string is a TOML basic string, but for DEL
        return escaped.replace("\x7f", "\\u007f")
    return repr(value)
