"""Types of arguments that several commands take. What each means stands in the docstring of the command."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

AsJson = Annotated[bool, Parameter(name="--json", negative="", show_default=False)]
OutFile = Annotated[Path | None, Parameter(name=["--out", "-o"])]
Switch = Annotated[bool, Parameter(negative="", show_default=False)]
"""A flag that is there or not, without a `--no-` twin."""
