"""A checked Plan as C99 for a microcontroller, and emulated boards to run it on."""

from edgewise.emit.boards import BOARDS, HOST, Board, find_board
from edgewise.emit.build import Built, build, furnish
from edgewise.emit.emit import RESERVED_BYTES, Made, emit
from edgewise.emit.emulate import EMULATORS, Emulated, Taken, find_emulator, run
from edgewise.emit.folder import Emitted
from edgewise.emit.image import Store, contents, image, journal_entry_bytes, lay_out
from edgewise.emit.toolchain import COMPILERS, find_compiler

__all__ = [
    "BOARDS",
    "COMPILERS",
    "EMULATORS",
    "HOST",
    "RESERVED_BYTES",
    "Board",
    "Built",
    "Emitted",
    "Emulated",
    "Made",
    "Store",
    "Taken",
    "build",
    "contents",
    "emit",
    "find_board",
    "find_compiler",
    "find_emulator",
    "furnish",
    "image",
    "journal_entry_bytes",
    "lay_out",
    "run",
]
