"""Run a built program on an emulated board, or on this computer, and read what it reports.

    from edgewise.emit import build, run, find_board

    built = build(folder, find_board("stm32f405"), ram_bytes=96 * 1024)
    seen = run(built, batches, store=folder / "weights.bin")

The files that host and program exchange are described in runtime/harness.c.
"""

from edgewise.emit.emulate.nouns import Emulated, Ending, Taken
from edgewise.emit.emulate.run import EMULATORS, find_emulator, run

__all__ = ["EMULATORS", "Emulated", "Ending", "Taken", "find_emulator", "run"]
