"""Checkpoints: `checkpoint.safetensors` and, beside it, `checkpoint.json` with its digest and the position.

Both are written under temporary names and brought to disk before either is renamed, the tensors first. Should
the process die between the two renames, the new tensors stand beside the old JSON; its digest does not match,
but that in the JSON which waits under its temporary name does, and the next reader finishes the rename.
"""

import hashlib
import os
from pathlib import Path

import msgspec
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from edgewise.errors import CorruptArtifact
from edgewise.train.files import cannot_write, part_of, sync_folder

FORMAT = "edgewise.checkpoint/1"
TENSORS, POSITION = "checkpoint.safetensors", "checkpoint.json"
MAX_POSITION_BYTES = 1 << 16


class Position(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`checkpoint.json`: where training stands, of which recipe, and the SHA-256 of the tensors beside it.

    `step` steps are done; `epoch` epochs are done and evaluated.
    """

    format: str
    recipe: str
    epoch: int
    step: int
    sha256: str


def save_checkpoint(folder: Path, state: dict[str, Tensor], *, recipe: str, epoch: int, step: int) -> None:
    """Replace the checkpoint in `folder`; if that fails, or the process dies, the old one is still good.

    Raises:
        DeviceError: the disk is full or failed.
    """
    tensors, position = folder / TENSORS, folder / POSITION
    try:
        _settle(folder)
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, part_of(tensors))
        _sync(part_of(tensors))
        found = Position(FORMAT, recipe, epoch, step, _digest(part_of(tensors)))
        part_of(position).write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
        _sync(part_of(position))
        part_of(tensors).chmod(part_of(position).stat().st_mode)  # the library leaves it to the owner alone
        part_of(tensors).replace(tensors)
        part_of(position).replace(position)
        sync_folder(folder)
    except SafetensorError as error:  # how the library reports a full disk
        raise cannot_write(tensors, OSError(str(error))) from error
    except OSError as error:
        raise cannot_write(tensors, error) from error


def load_position(folder: Path) -> Position | None:
    """Where the checkpoint in `folder` stands; `None` if there is none. Its tensors are known to be whole.

    Raises:
        CorruptArtifact: the checkpoint is damaged, half of it is missing, or its version is unknown.
    """
    tensors, position = folder / TENSORS, folder / POSITION
    try:
        _settle(folder)
        if not tensors.exists() and not position.exists():
            return None
        for path, other in ((tensors, position), (position, tensors)):
            if not path.exists():
                raise CorruptArtifact(
                    f"{path} is missing beside {other.name}. Restore it, or start a new run."
                )
        found = _read_position(position)
        if found.sha256 != _digest(tensors):
            raise CorruptArtifact(
                f"{tensors} is not the file that {POSITION} belongs to (its SHA-256 differs). "
                "It was damaged or exchanged: restore both, or start a new run."
            )
    except OSError as error:
        raise CorruptArtifact(
            f"Cannot read {error.filename or tensors}: {error.strerror}. Restore it."
        ) from error
    return found


def load_tensors(folder: Path) -> dict[str, Tensor]:
    """The tensors of the checkpoint in `folder`; call `load_position` first.

    Raises:
        CorruptArtifact: the file is no safetensors file.
    """
    path = folder / TENSORS
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CorruptArtifact(f"{path} is no sound safetensors file: {error}. Restore it.") from error
    return tensors


def _settle(folder: Path) -> None:
    """Finish the second rename if the process died before it."""
    tensors, position = folder / TENSORS, folder / POSITION
    if not part_of(position).exists() or not tensors.exists():
        return
    try:
        waiting = _read_position(part_of(position))
    except CorruptArtifact:
        return  # it was being written: the old pair is whole
    if waiting.sha256 == _digest(tensors):
        part_of(position).replace(position)
        sync_folder(folder)


def _read_position(path: Path) -> Position:
    with path.open("rb") as file:
        data = file.read(MAX_POSITION_BYTES + 1)
    if len(data) > MAX_POSITION_BYTES:
        raise CorruptArtifact(
            f"{path}: more bytes than a checkpoint's JSON may have ({MAX_POSITION_BYTES:,})."
        )
    try:
        found = msgspec.json.decode(data, type=Position)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptArtifact(f"{path} is no checkpoint: {error}. Restore it, or start a new run.") from error
    if found.format != FORMAT:
        raise CorruptArtifact(
            f"{path}: format `{found.format}` is not `{FORMAT}`, the one this version reads."
        )
    if found.step < 0 or found.epoch < 0:
        raise CorruptArtifact(f"{path}: step {found.step} of epoch {found.epoch} is no position. Restore it.")
    return found


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
