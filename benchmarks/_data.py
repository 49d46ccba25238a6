"""The data sets that some benchmarks need and that are not part of the project."""

import os
import sys
from pathlib import Path

FOLDER = Path(os.environ.get("EDGEWISE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


def data_file(name: str) -> Path:
    """Where the data set `name` lies; without it the benchmark ends here, in peace, so that others go on."""
    path = FOLDER / name
    if not path.is_file():
        print(f"Skipped: there is no {path}. Set EDGEWISE_DATA to the folder that holds {name}.")
        sys.exit(0)
    return path
