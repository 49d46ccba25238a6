"""How long a user waits: the help of the command line, and the demo from start to report.

    python benchmarks/command_line.py [--runs N] [--page PATH]

Writes docs/benchmarks/command_line.md; takes about a minute. The demo is the run of `make demo`, without the
set-up.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks" / "command_line.md"
EDGEWISE = str(Path(sys.executable).with_name("edgewise"))
QUICK = ("--help", "plan --help", "devices", "recipes")
DEMO = ("train", "digits", "--device", "stm32f7", "--ram", "320KiB", "-o")
TEXT = """# How long a user waits

| command | median of {runs} | of that, processor |
|---|---:|---:|
{quick}

`edgewise --help` loads neither torch nor a solver; a test holds that.

The demo (`make demo` without its set-up), one thread:

| | |
|---|---:|
| from the command to the report | {total:.1f} s |
| of that, processor | {processor:.1f} s |
| of that, training and evaluation | {training:.1f} s |
| RAM: plain, budget | {plain:,} B, {budget:,} B |
| RAM: planned, certified, measured | {planned:,} B, {certified:,} B, {measured:,} B |
| accuracy before and after | {before:.1%}, {after:.1%} |

Measured with `python benchmarks/command_line.py` on {machine}.
"""


def processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def seconds_of(arguments: list[str]) -> tuple[float, float, str]:
    """Seconds on the clock, of the processor, and what was printed."""
    begin, used = time.perf_counter(), processor_seconds()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([EDGEWISE, *arguments], check=True, capture_output=True, text=True, env=environment)
    return time.perf_counter() - begin, processor_seconds() - used, done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description="How long a user waits.")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    rows = []
    for command in QUICK:
        runs = [seconds_of(command.split()) for _ in range(options.runs)]
        clock, processor = (statistics.median(run[i] for run in runs) for i in (0, 1))
        rows.append(f"| `edgewise {command}` | {clock:.2f} s | {processor:.2f} s |")
        print(rows[-1], flush=True)
    with tempfile.TemporaryDirectory() as folder:
        total, processor, stdout = seconds_of([*DEMO, str(Path(folder) / "demo")])
        found = json.loads((Path(folder) / "demo" / "summary.json").read_bytes())
    print(stdout)
    text = TEXT.format(
        runs=options.runs,
        quick="\n".join(rows),
        total=total,
        processor=processor,
        training=found["training_seconds"],
        plain=found["plain_peak_bytes"],
        budget=found["budget_ram_bytes"],
        planned=found["planned_peak_bytes"],
        certified=found["certified_peak_bytes"],
        measured=found["measured_peak_bytes"],
        before=found["accuracy_before"],
        after=found["accuracy_after"],
        machine=f"{platform.machine()}, Python {platform.python_version()}",
    )
    options.page.parent.mkdir(parents=True, exist_ok=True)
    options.page.write_text(text)


if __name__ == "__main__":
    main()
