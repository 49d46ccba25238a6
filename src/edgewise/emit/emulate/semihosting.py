"""Arm semihosting for an emulator that has none: files in one folder, and exit.

A write to `store.bin` can be the one during which power is lost: its first half is done, nothing after it.
"""

import os
import struct
from collections.abc import Callable
from pathlib import Path

OPEN, WRITE, READ, SEEK, FLEN, EXIT_EXTENDED = 0x01, 0x05, 0x06, 0x0A, 0x0C, 0x20
MODES = {1: os.O_RDONLY, 3: os.O_RDWR, 5: os.O_RDWR | os.O_CREAT | os.O_TRUNC}  # rb, r+b, wb
STORE = "store.bin"
FAILED = -1
WORDS = struct.Struct("<3I")

Read = Callable[[int, int], bytearray]
Write = Callable[[int, bytes], None]


class Exit(Exception):
    """The program ends with `code`; `None` if power was lost."""

    def __init__(self, code: int | None) -> None:
        super().__init__(code)
        self.code = code


class Semihosting:
    """Calls by number and the address of their words; files by the names that are in `folder`."""

    def __init__(self, folder: Path, power_off_at: int | None = None) -> None:
        self.folder = folder
        self.power_off_at = power_off_at
        self.store_writes = 0
        self._store: int | None = None
        self._open: set[int] = set()

    def call(  # noqa: PLR0911  -- one for each call
        self, operation: int, at: int, read: Read, write: Write
    ) -> int:
        """Do what the program asks with the words at address `at`; returns what it gets in r0.

        Raises:
            Exit: the program ends.
            OSError: the host's disk failed.
        """
        words: tuple[int, int, int] = WORDS.unpack(read(at, WORDS.size))  # some calls have fewer
        first, second, third = words
        if operation == EXIT_EXTENDED:
            raise Exit(second)
        if operation == OPEN:
            return self._open_file(bytes(read(first, third)).decode("ascii"), second)
        if first not in self._open:
            return FAILED
        if operation == SEEK:
            os.lseek(first, second, os.SEEK_SET)
            return 0
        if operation == FLEN:
            return os.fstat(first).st_size
        if operation == READ:
            data = os.read(first, third)
            write(second, data)
            return third - len(data)
        if operation == WRITE:
            return self._write(first, bytes(read(second, third)))
        return FAILED

    def _open_file(self, name: str, mode: int) -> int:
        if "/" in name or mode not in MODES:
            return FAILED
        try:
            file = os.open(self.folder / name, MODES[mode], 0o644)
        except OSError:
            return FAILED
        self._open.add(file)
        if name == STORE:
            self._store = file
        return file

    def _write(self, file: int, data: bytes) -> int:
        if file == self._store:
            if self.store_writes == self.power_off_at:
                os.write(file, data[: len(data) // 2])
                raise Exit(None)
            self.store_writes += 1
        return len(data) - os.write(file, data)

    def close(self) -> None:
        """Close every file."""
        for file in self._open:
            os.close(file)
        self._open.clear()
