"""A planner at work, on stderr: seconds, the best overhead so far, and the bound that no plan can beat."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from edgewise.plan import Objective, Progress, ProgressCallback
from edgewise.report.units import joules_text, seconds_text


@contextmanager
def planning(minimize: Objective) -> Iterator[ProgressCallback | None]:
    """A callback for the planner that keeps one line on stderr up to date; `None` if that is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    console = Console(stderr=True, markup=False, highlight=False)
    with console.status("planning") as status:
        yield lambda progress: status.update(progress_text(progress, minimize))


def progress_text(progress: Progress, minimize: Objective) -> str:
    """`planning 12 s, search: overhead 3.4 mJ, at least 3.1 mJ (Ctrl-C: take it)`."""
    unit = joules_text if minimize == "joules" else seconds_text
    words = f"planning {progress.elapsed_seconds:.0f} s, {progress.phase}"
    if progress.incumbent is None:
        return f"{words}: no plan yet"
    words += f": overhead {unit(progress.incumbent)}"
    if progress.bound is not None:
        words += f", at least {unit(progress.bound)}"
    return f"{words} (Ctrl-C: take it)"
