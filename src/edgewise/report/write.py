"""Write a report beside what it is about."""

import os
from pathlib import Path

from edgewise.devices import Device
from edgewise.errors import UsageError
from edgewise.report.load import load_report
from edgewise.report.page import render_report


def write_report(source: Path, out: Path | None = None, device: Device | None = None) -> Path:
    """Write the report of the run directory or plan file `source` to `out`; returns its path.

    Without `out` it is `report.html` in the run directory, or the plan file's name with `.html`. A reader
    sees the old page or the new one, never half of one.

    Raises:
        UsageError: something to read is not there, or the page cannot be written.
        CorruptArtifact: see `load_report`.
    """
    data = load_report(source, device)
    path = out or (source / "report.html" if data.is_run else source.with_suffix(".html"))
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(render_report(data), encoding="utf-8")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UsageError(f"Cannot write the report {path}: {error.strerror}. Name another file.") from error
    return path
