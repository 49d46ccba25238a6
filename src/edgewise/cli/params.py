"""Types of arguments that several commands take. What each means stands in the docstring of the command."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

AsJson = Annotated[bool, Parameter(name="--json", negative="", show_default=False)]
OutFile = Annotated[Path | None, Parameter(name=["--out", "-o"])]
MODEL_HELP = """\
A model may be followed by @, its batch size (8 if not given) and, if it does not know what it takes, \
the shape of one sample: resnet18@4, mynet:build@4x3x32x32, mynet:bert@2x128:int64. Its optimizer is \
SGD without momentum. A recipe decides all of this itself."""
"""What MODEL stands for, in the help of the commands that take one."""

Switch = Annotated[bool, Parameter(negative="", show_default=False)]
"""A flag that is there or not, without a `--no-` twin."""
