"""Write a report beside what it is about."""

from pathlib import Path

from edgewise.devices import Device
from edgewise.report.frame import write_page
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
    return write_page(path, render_report(data), "report", "Name another file.")
