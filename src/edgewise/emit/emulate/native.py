"""The program of board `host`: an ordinary process."""

import subprocess
from pathlib import Path

from edgewise.emit.build import Built
from edgewise.emit.emulate.nouns import Ending
from edgewise.errors import DeviceError

SECONDS = 7200


def execute(built: Built, place: Path) -> Ending:
    """Run the program in the folder `place`.

    Raises:
        DeviceError: it crashed, or did not end within two hours.
    """
    try:
        done = subprocess.run(  # noqa: S603  -- the program we have just built
            [built.elf.resolve()], cwd=place, check=False, timeout=SECONDS, capture_output=True, text=True
        )
    except subprocess.TimeoutExpired as error:
        raise DeviceError(f"{built.elf} did not end within {SECONDS:,} s. Run fewer steps.") from error
    if done.returncode < 0 or done.stderr:
        raise DeviceError(f"{built.elf} crashed (signal {-done.returncode}): {done.stderr.strip()[-2000:]}")
    return Ending(done.returncode)
