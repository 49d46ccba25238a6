"""A generated folder and a board become a program: compiled, linked within its RAM, measured.

In the folder are model.h, model.c and kernels/, as generated, and runtime/ and boards/, by `furnish`. The
program goes to build/BOARD/model.elf, beside the linker script that it was made with.
"""

import json
import shutil
from pathlib import Path

from msgspec import Struct

from edgewise.emit.boards import BOARDS, STACK_BYTES, Board, linker_script
from edgewise.emit.elf import read_elf
from edgewise.emit.toolchain import compile_objects, compile_program, find_compiler
from edgewise.errors import UsageError

HERE = Path(__file__).parent
SUPPORT = ("runtime", "boards", "boards/freestanding")
"""The last is for compilers without a C library."""
MEDIA = {"file": "medium_file.c", "sd": "medium_sd.c", "memory": "medium_memory.c"}


class Built(Struct, frozen=True):
    """A program for a board.

    Attributes:
        elf: the program.
        board, compiler: what it was built for, and by.
        ram_bytes: what it may use, stack and all.
        flash_used_bytes: code, constants and initial data.
        ram_used_bytes: the arena, other variables, and both stacks.
        stack_bytes: what is there of it for the program's stack.
        medium: what its store is on.
    """

    elf: Path
    board: Board
    compiler: str
    ram_bytes: int
    flash_used_bytes: int
    ram_used_bytes: int
    stack_bytes: int
    medium: str


def furnish(folder: Path) -> None:
    """Put the sources beside model.c and the kernels into `folder`: runtime and boards."""
    for name in SUPPORT:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for source in sorted((HERE / name).iterdir()):
            if source.suffix in (".c", ".h"):
                shutil.copyfile(source, folder / name / source.name)


def sources(folder: Path, board: Board, medium: str) -> list[Path]:
    """What is compiled of `folder` for `board`."""
    runtime, boards = folder / "runtime", folder / "boards"
    host = "host_stdio.c" if board.is_host else "host_semihosting.c"
    ours = ("store.c", "slices.c", MEDIA[medium], "harness.c", host)
    of_board = ["host.c"] if board.is_host else ["startup.c", "mpu.c"]
    of_board += {"sd": [f"spi_{board.name}.c"], "memory": ["memory.c"]}.get(medium, [])
    return [
        folder / "model.c",
        *folder.glob("flash.c"),
        *sorted((folder / "kernels").glob("*.c")),
        *(runtime / name for name in ours),
        *(boards / name for name in of_board),
    ]


def build(
    folder: Path, board: Board, *, ram_bytes: int, compiler: str | None = None, medium: str | None = None
) -> Built:
    """The program that trains the model in `folder` on `board`, within `ram_bytes`.

    Args:
        folder: as generated; the stack's size is `stack_bytes` of its model.json, if it has one.
        board: one of `BOARDS`.
        ram_bytes: of RAM, for the arena, all other variables, and the stack. No matter for `HOST`.
        compiler: `zig` or `gcc`; whichever is there if not given.
        medium: what the store is on, one of `board.media`; the first if not given.

    Raises:
        UsageError: the folder is none, or the board has not that much RAM or no such medium.
        BudgetInfeasible: the program does not fit; says the least RAM in which it does.
        DeviceError: there is no compiler, or it refuses the sources.
    """
    medium = medium or board.media[0]
    files = sources(folder, board, medium) if medium in board.media else []
    _refuse_misuse(folder, board, ram_bytes, medium, files)
    chosen = find_compiler(board, compiler)
    elf = folder / "build" / board.name / "model.elf"
    elf.parent.mkdir(parents=True, exist_ok=True)
    stack_bytes = 0 if board.is_host else _stack_bytes(folder)
    headers = (
        ["kernels", *SUPPORT] if chosen.name == "zig" and not board.is_host else ["kernels", *SUPPORT[:2]]
    )
    flags = [f"-I{folder}", *(f"-I{folder / name}" for name in headers)]
    linking = []
    if not board.is_host:
        script = elf.with_name("board.ld")
        script.write_text(linker_script(board, ram_bytes, stack_bytes), encoding="utf-8")
        flags.append("-DEW_EMULATED")
        linking = [f"-Wl,-T,{script}", "-Wl,--gc-sections"]
    own = [path for path in files if b'"model.h"' in path.read_bytes() or path.name == "model.c"]
    known = [header for name in headers for header in (folder / name).glob("*.h")]
    objects = compile_objects(chosen, board, flags, [path for path in files if path not in own], known)
    compile_program(chosen, board, [*flags, *linking, *map(str, (*own, *objects))], elf, ram_bytes)
    flash_used, ram_used = memory_sizes(elf, board)
    return Built(elf, board, chosen.name, ram_bytes, flash_used, ram_used, stack_bytes, medium)


def _refuse_misuse(folder: Path, board: Board, ram_bytes: int, medium: str, files: list[Path]) -> None:
    if medium not in board.media:
        raise UsageError(f"Board `{board.name}` has no medium `{medium}`. It has: {', '.join(board.media)}.")
    missing = [path for path in files if not path.is_file()]
    if missing:
        raise UsageError(
            f"{folder} is no generated model: there is no {missing[0].relative_to(folder)}. "
            "Make one with `edgewise emit`."
        )
    if not board.is_host and not 0 < ram_bytes <= board.ram_bytes:
        larger = [other.name for other in BOARDS.values() if other.ram_bytes >= ram_bytes]
        raise UsageError(
            f"Board `{board.name}` has {board.ram_bytes:,} B of RAM, not the {ram_bytes:,} B asked for. "
            f"These have: {', '.join(larger) or 'none that is known here'}."
        )


def _stack_bytes(folder: Path) -> int:
    path = folder / "model.json"
    if not path.is_file():
        return STACK_BYTES
    return int(json.loads(path.read_text(encoding="utf-8")).get("stack_bytes", STACK_BYTES))


def memory_sizes(elf: Path, board: Board) -> tuple[int, int]:
    """Bytes of flash and of RAM that the program takes."""
    if board.is_host:
        return 0, 0
    flash = ram = 0
    with read_elf(elf) as program:
        for section in program.iter_sections():
            if not section["sh_flags"] & 2:  # SHF_ALLOC
                continue
            in_ram = section["sh_addr"] >= board.ram_start
            ram += section["sh_size"] if in_ram else 0
            flash += section["sh_size"] if section["sh_type"] != "SHT_NOBITS" else 0
    return flash, ram
