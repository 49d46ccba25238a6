"""How a benchmark was called and where, for its page."""

import platform
import shlex
import sys
from pathlib import Path

import torch


def command(file: str, *left_out: str) -> str:
    """The command, without those options that name a place, each with its value."""
    kept, rest = ["python", f"benchmarks/{Path(file).name}"], iter(sys.argv[1:])
    for word in rest:
        if word in left_out:
            next(rest)
        else:
            kept.append(word)
    return shlex.join(kept)


def machine() -> str:
    """Processor, Python and PyTorch."""
    return f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}"
