"""Writing files of a run so that a reader sees the old one or the new one, never half of one."""

import os
from pathlib import Path

from edgewise.errors import DeviceError


def write_whole(path: Path, data: bytes) -> None:
    """Replace the file at `path` by `data`, whole or not at all.

    Raises:
        DeviceError: the disk is full or failed; the old file is still there.
    """
    part = part_of(path)
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error


def part_of(path: Path) -> Path:
    """Where the new `path` is written before it takes its name."""
    return path.with_name(f".{path.name}.part")


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` outlive a loss of power."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def cannot_write(path: Path, error: OSError) -> DeviceError:
    """The error that says so, and what to do."""
    return DeviceError(
        f"Cannot write {path}: {error.strerror or error}. What was there before is untouched. "
        "Make room or mend the permissions, then resume."
    )
