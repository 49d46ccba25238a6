"""plan.json: plans on disk. Reading is strict and executes nothing; it does not check, `check` does."""

from pathlib import Path
from typing import Any

import msgspec

from edgewise.errors import CorruptArtifact, UsageError
from edgewise.plan.nouns import Plan

FORMAT = "edgewise.plan/2"
MAX_FILE_BYTES = 256 * 2**20
"""Most bytes of a plan file that is read."""


def encode_plan(plan: Plan) -> bytes:
    """`plan` as the bytes of a `plan.json`."""
    return msgspec.json.format(
        msgspec.json.encode({"format": FORMAT, **msgspec.structs.asdict(plan)}), indent=1
    )


def decode_plan(data: bytes, *, where: str = "plan") -> Plan:
    """The plan in `data`; `where` names it in errors.

    Raises:
        CorruptArtifact: no JSON, another format, an unknown or missing field, or a value of the wrong type.
    """
    try:
        fields = msgspec.json.decode(data, type=dict[str, Any])
        found = fields.pop("format", None)
        if found != FORMAT:
            raise CorruptArtifact(f"{where}: format `{found}` is not `{FORMAT}`, the one this version reads.")
        return msgspec.convert(fields, Plan)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptArtifact(f"{where} is not a plan file: {error}. Plan again.") from error


def save_plan(plan: Plan, path: Path) -> None:
    """Write `plan` to `path`, replacing what is there.

    Raises:
        UsageError: the file cannot be written.
    """
    try:
        path.write_bytes(encode_plan(plan))
    except OSError as error:
        raise UsageError(f"Cannot write {path}: {error.strerror}. Choose another place.") from error


def load_plan(path: Path) -> Plan:
    """The plan in the file `path`; see `decode_plan`.

    Raises:
        UsageError: the file cannot be read.
        CorruptArtifact: it is no plan file, or too large for one.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise CorruptArtifact(
                f"{path}: more than the {MAX_FILE_BYTES:,} bytes that a plan file may have."
            )
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"Cannot read {path}: {error.strerror}. `edgewise plan -o FILE` writes one."
        ) from error
    return decode_plan(data, where=str(path))
