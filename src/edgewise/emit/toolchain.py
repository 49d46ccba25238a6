"""C compilers: which there are, how they are called for a board, and what a program takes of its memories.

`zig cc` (the wheel `ziglang`) builds for every board and for this computer; `arm-none-eabi-gcc` and the
system's `cc` do when they are asked for, or when there is no zig.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from msgspec import Struct

from edgewise.emit.boards import Board
from edgewise.errors import BudgetInfeasible, DeviceError, UsageError

COMPILERS = ("zig", "gcc")
INSTALL = (
    "Install one with `pip install edgewise[mcu]` (zig, for all boards), or `apt-get install "
    "gcc-arm-none-eabi libnewlib-arm-none-eabi`."
)
FLAGS = (
    "-std=c99",
    "-O2",
    "-g",
    "-fomit-frame-pointer",  # which zig keeps, in a register that a kernel's tile has use for
    "-Wall",
    "-Wextra",
    "-ffp-contract=off",  # a contracted a * b + c has other bits, on those boards that can
    "-ffunction-sections",
    "-fdata-sections",
    "-Wframe-larger-than=1024",
)
SECONDS = 600
_OVERFLOW = re.compile(r"region [`'\"]?(RAM|FLASH)'?.*?overflowed by (\d+) byte")


class Compiler(Struct, frozen=True):
    """A C compiler: its name here, the words it is called with, and the file that is run."""

    name: str
    words: tuple[str, ...]
    program: Path

    def stamp(self) -> str:
        """Tells this compiler from the one that will be installed in its place."""
        file = self.program.stat()
        return f"{self.program} {file.st_size} {file.st_mtime_ns}"

    def command(self, board: Board) -> list[str]:
        """What compiles and links for `board`, without sources, script and output."""
        target: Sequence[str] = ()
        if not board.is_host:
            target = board.zig if self.name == "zig" else ("-mthumb", *board.gcc, "-nostartfiles")
        return [*self.words, *target, *FLAGS]


def find_compiler(board: Board, name: str | None = None) -> Compiler:
    """The compiler called `name` for `board`; zig, or else gcc, if no name is given.

    Raises:
        UsageError: there is no such name.
        DeviceError: it is not installed.
    """
    if name is not None and name not in COMPILERS:
        raise UsageError(f"There is no compiler `{name}`. There are: {', '.join(COMPILERS)}.")
    zig = find_spec("ziglang")
    if name in (None, "zig") and zig is not None and zig.origin is not None:
        return Compiler("zig", (sys.executable, "-m", "ziglang", "cc"), Path(zig.origin).parent / "zig")
    gcc = "cc" if board.is_host else "arm-none-eabi-gcc"
    found = shutil.which(gcc)
    if name in (None, "gcc") and found is not None:
        return Compiler("gcc", (gcc,), Path(found).resolve())
    wanted = {"zig": "the Python package `ziglang`", "gcc": f"`{gcc}` on the path"}
    missing = " and for ".join(words for key, words in wanted.items() if name in (None, key))
    raise DeviceError(f"No C compiler for board `{board.name}`: looked for {missing}. {INSTALL}")


def compile_program(
    compiler: Compiler, board: Board, arguments: Sequence[str], output: Path, ram_bytes: int
) -> None:
    """Compile and link `arguments` (sources and flags) to `output`.

    Raises:
        BudgetInfeasible: it does not fit in `ram_bytes`, or in the board's flash.
        DeviceError: the compiler refuses it, or does not end within ten minutes.
    """
    command = [*compiler.command(board), *arguments, "-o", str(output)]
    try:
        done = subprocess.run(  # noqa: S603  -- a compiler of ours, and files of the caller's
            command, capture_output=True, text=True, check=False, timeout=SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise DeviceError(
            f"{compiler.words[0]} did not build {output} within {SECONDS} s. Is the machine overloaded?"
        ) from error
    if done.returncode == 0:
        return
    _refuse_overflow(done.stderr, board, ram_bytes)
    lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()[-3:]
    raise DeviceError(
        f"{compiler.name} cannot build {output} for board `{board.name}`: {' / '.join(lines[:3])}. "
        f"The whole command: {' '.join(command)}"
    )


def compile_objects(
    compiler: Compiler, board: Board, flags: Sequence[str], sources: Sequence[Path], headers: Sequence[Path]
) -> list[Path]:
    """An object file for each of `sources`, from the cache of the user where the same was compiled before.

    Objects are kept by the digest of all that goes into them: compiler, command, source, and every header.

    Raises:
        DeviceError: the compiler refuses a source.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgewise" / "objects"
    cache.mkdir(parents=True, exist_ok=True)
    words = (compiler.stamp(), *compiler.command(board), *_portable(flags))
    common = hashlib.sha256(" ".join(words).encode())
    for header in sorted(headers):
        common.update(header.read_bytes())
    made = []
    for source in sources:
        digest = common.copy()
        digest.update(source.read_bytes())
        made.append(cache / f"{digest.hexdigest()}.o")
        if not made[-1].is_file():
            with tempfile.TemporaryDirectory(dir=cache) as place:
                fresh = Path(place) / source.with_suffix(".o").name
                compile_program(compiler, board, [*flags, "-c", str(source)], fresh, 0)
                fresh.replace(made[-1])
    return made


def _portable(flags: Sequence[str]) -> list[str]:
    """Flags but for the folders of headers, whose content counts instead."""
    return [flag for flag in flags if not flag.startswith("-I")]


def _refuse_overflow(said: str, board: Board, ram_bytes: int) -> None:
    """Raise if the linker says that a memory is too small; it says so of each section, of all at the last."""
    over = {"RAM": 0, "FLASH": 0}
    for region, missing in _OVERFLOW.findall(said):
        over[region] = max(over[region], int(missing))
    if over["RAM"]:
        least = ram_bytes + over["RAM"]
        raise BudgetInfeasible(
            f"The program needs {over['RAM']:,} B more than its {ram_bytes:,} B of RAM on board "
            f"`{board.name}`. Give it {least:,} B, or plan the model for {over['RAM']:,} B less.",
            min_ram_bytes=least,
        )
    if over["FLASH"]:
        raise BudgetInfeasible(
            f"The program needs {over['FLASH']:,} B more than the {board.flash_bytes:,} B of flash of board "
            f"`{board.name}`. Keep frozen parameters in the store, or take a board with more flash."
        )
