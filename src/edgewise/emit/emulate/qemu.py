"""QEMU as an emulated board (`qemu-system-arm`, 7.2 or later): faults are seen by the program's own handlers.

Its clock is made to run one nanosecond an instruction (`-icount shift=0`), so that the program's SysTick
counts instructions, to within one tick; calls of the host count twice. The board may have more RAM than the
budget: it is the linker and the memory protection unit that hold the program to it.
"""

import subprocess
from pathlib import Path

from edgewise.emit.build import Built
from edgewise.emit.emulate.nouns import Ending
from edgewise.errors import DeviceError

PROGRAM = "qemu-system-arm"
SECONDS = 7200
QUIET = ("-display", "none", "-serial", "null", "-monitor", "none")
CLOCK = ("-icount", "shift=0,sleep=off")
SEMIHOSTING = ("-semihosting-config", "enable=on,target=native")
SMALLEST_CARD = 1 << 20
INSTRUCTIONS_PER_SECOND = 10**9


def execute(built: Built, place: Path) -> Ending:
    """Run the program; its files are in `place`.

    Raises:
        DeviceError: QEMU refuses, or the program does not end within two hours.
    """
    card = place / "store.bin"
    size = card.stat().st_size
    drive: tuple[str, ...] = ()
    if built.medium == "sd":
        with card.open("r+b") as file:  # cards come in powers of two
            file.truncate(max(SMALLEST_CARD, 1 << (size - 1).bit_length()))
        drive = ("-drive", "if=sd,format=raw,file=store.bin")
    command = [PROGRAM, "-M", built.board.qemu, *QUIET, *CLOCK, *SEMIHOSTING, *drive]
    try:
        done = subprocess.run(  # noqa: S603
            [*command, "-kernel", str(built.elf.resolve())],
            cwd=place,
            check=False,
            timeout=SECONDS,
            capture_output=True,
            text=True,
        )
    except subprocess.TimeoutExpired as error:
        raise DeviceError(
            f"{built.elf} did not end within {SECONDS:,} s in QEMU. Run fewer steps."
        ) from error
    if built.medium == "sd":
        with card.open("r+b") as file:
            file.truncate(size)
    if done.returncode not in (0, 1, 3):  # what the harness and the fault handlers exit with
        raise DeviceError(
            f"{PROGRAM} failed on machine `{built.board.qemu}` ({done.returncode}): "
            f"{done.stderr.strip()[-500:]}. Does `{PROGRAM} -M help` list that machine?"
        )
    return Ending(done.returncode)


def instructions(built: Built, ticks: int) -> int:
    """How many are executed while SysTick counts `ticks`."""
    return round(ticks * INSTRUCTIONS_PER_SECOND / built.board.clock_hz)
