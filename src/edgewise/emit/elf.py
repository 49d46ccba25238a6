"""Programs as files: read by pyelftools, which is part of the extra `mcu`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgewise.errors import DeviceError


@contextmanager
def read_elf(path: Path) -> Iterator[Any]:
    """The program in the file `path`, open (`elftools.elf.elffile.ELFFile`).

    Raises:
        DeviceError: pyelftools is not installed.
    """
    try:
        from elftools.elf.elffile import ELFFile  # noqa: PLC0415  -- part of an extra
    except ImportError as error:
        raise DeviceError(
            "What a program takes of flash and RAM is read by pyelftools, which is not installed. "
            "Install it with `pip install edgewise[mcu]`."
        ) from error
    with path.open("rb") as file:
        yield ELFFile(file)
