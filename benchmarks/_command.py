"""How a benchmark was called, for its page."""

import shlex
import sys
from pathlib import Path


def command(file: str, *left_out: str) -> str:
    """The command, without those options that name a place, each with its value."""
    kept, rest = ["python", f"benchmarks/{Path(file).name}"], iter(sys.argv[1:])
    for word in rest:
        if word in left_out:
            next(rest)
        else:
            kept.append(word)
    return shlex.join(kept)
