"""`edgewise report`: a run or a plan as one HTML file."""

from pathlib import Path

from cyclopts import App

from edgewise.cli.output import write_json, write_line
from edgewise.cli.params import AsJson, OutFile
from edgewise.devices import load_device
from edgewise.report import write_report

EXAMPLE = """\
Example:
  edgewise report runs/digits
  edgewise report plan.json --device my-board.toml -o plan.html"""

app = App(name="report", help_epilogue=EXAMPLE)


@app.default
def report(
    source: Path, /, *, device: str | None = None, out: OutFile = None, as_json: AsJson = False
) -> None:
    """Write the report of a run or a plan: one HTML file that needs no network.

    Args:
        source: Run directory, or a plan with its graph.json beside it.
        device: Name or .toml file of the device that the plan was made for, if it is not found otherwise.
        out: File to write; if not given, report.html in the run directory, or the plan's name with .html.
        as_json: Print the result as JSON.
    """
    path = write_report(source, out, None if device is None else load_device(device))
    if as_json:
        write_json({"path": str(path)})
    else:
        write_line(str(path))
