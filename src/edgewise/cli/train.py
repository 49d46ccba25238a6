"""`edgewise train`: a recipe becomes a run directory, with a report."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from edgewise.cli.app import INTERRUPTED
from edgewise.cli.output import Facts, note, write_facts, write_json
from edgewise.cli.params import AsJson, Switch
from edgewise.cli.training import Watcher
from edgewise.cli.words import against, count_words, gap_words
from edgewise.errors import UsageError
from edgewise.graph import load_graph
from edgewise.plan import Compute, Plan
from edgewise.report import write_report
from edgewise.report.loops import exact_words
from edgewise.report.units import bytes_text, exact_bytes, figure, joules_text, percent, plural, seconds_text
from edgewise.train import RunSummary, load_recipe
from edgewise.train.method_names import parse_method

EXAMPLE = """\
Ctrl-C writes a checkpoint; --resume goes on from it, to the same weights bit by bit. A run directory \
holds the recipe, the plan, metrics, the checkpoint and report.html.

Example:
  edgewise train digits
  edgewise train my-recipe.toml --set train.epochs=3 --device rpi4 --ram 0.5x -o runs/small
  edgewise train digits --method spsa:directions=4 --ram 200KiB
  edgewise train runs/small --resume"""

RUNS = Path("runs")
RECIPE_FILE = "recipe.toml"

app = App(name="train", help_epilogue=EXAMPLE)


@app.default
def train(
    recipe: str,
    /,
    *,
    run_dir: Annotated[Path | None, Parameter(name=["--run-dir", "-o"])] = None,
    set_: Annotated[tuple[str, ...], Parameter(name="--set", negative="", show_default=False)] = (),
    device: str | None = None,
    ram: str | None = None,
    method: str | None = None,
    resume: Switch = False,
    as_json: AsJson = False,
) -> int:
    """Train by a recipe inside the budget of a device.

    Args:
        recipe: Name of a recipe that comes along, or path of a .toml file, or a run directory to resume.
        run_dir: Folder for the run; runs/RECIPE if not given.
        set_: Change the recipe, as in `--set train.epochs=3`. Can be given many times.
        device: Name of a profile, or path of a .toml file, instead of the recipe's.
        ram: Budget, as in `256KiB`, or `0.5x` of plain training's, instead of the recipe's.
        method: How to get gradients, as in `spsa`, or `spsa:directions=4`, instead of the recipe's.
        resume: Continue an interrupted run.
        as_json: Print the result as JSON.
    """
    source, folder = _places(recipe, run_dir, resume=resume)
    overrides = [*set_, *_override("device.name", device), *_override("device.ram", ram)]
    found = load_recipe(source, overrides)
    if method is not None:
        found = msgspec.structs.replace(found, method=parse_method(method))

    from edgewise.train.loop import train_run  # noqa: PLC0415  -- imports torch

    note(f"training {recipe} in {folder}")
    try:
        with Watcher(found.device.minimize) as watch:
            summary = train_run(found, folder, resume=resume, watch=watch)
    except KeyboardInterrupt:  # while it was planning, or a second time
        return _interrupted(folder)
    return _finish(summary, folder, watch, as_json=as_json)


def _override(key: str, value: str | None) -> list[str]:
    return [] if value is None else [f"{key}={msgspec.json.encode(value).decode()}"]


def _places(recipe: str, run_dir: Path | None, *, resume: bool) -> tuple[str, Path]:
    """The recipe's file or name, and the run directory."""
    given = Path(recipe)
    if (given / RECIPE_FILE).is_file():
        if not resume or run_dir not in (None, given):
            raise UsageError(
                f"{recipe} is a run. Continue it with `--resume`, or train anew by its recipe, "
                f"{given / RECIPE_FILE}."
            )
        return str(given / RECIPE_FILE), given
    return recipe, run_dir or _default_folder(given.stem, resume=resume)


def _default_folder(name: str, *, resume: bool) -> Path:
    """The first of `runs/NAME`, `runs/NAME-2`, `runs/NAME-3`, ... that is free; to resume, the last taken."""
    taken = [RUNS / name]
    while taken[-1].exists():
        taken.append(RUNS / f"{name}-{len(taken) + 1}")
    return taken[-2] if resume and len(taken) > 1 else taken[-1]


def _finish(summary: RunSummary, folder: Path, watch: Watcher, *, as_json: bool) -> int:
    path = write_report(folder) if summary.steps else None
    if as_json:
        report = None if path is None else str(path)
        write_json({**msgspec.structs.asdict(summary), "run_dir": str(folder), "report": report})
    else:
        result = _result_words(watch.plan, folder)
        write_facts(_facts(summary, watch, result, path), title=f"{summary.model} on {summary.device}")
    return _interrupted(folder) if summary.interrupted else 0


def _interrupted(folder: Path) -> int:
    """Say where the checkpoint is and how to go on; returns the exit code."""
    from edgewise.train.checkpoint import TENSORS  # noqa: PLC0415  -- imports torch

    words = "there is no checkpoint yet. Start again."
    if (folder / TENSORS).is_file():
        again = f"edgewise train {shlex.quote(str(folder))} --resume"
        words = f"the checkpoint is {folder / TENSORS}. Continue with `{again}`."
    sys.stderr.write(f"edgewise: interrupted; {words}\n")
    return INTERRUPTED


def _result_words(plan: Plan | None, folder: Path) -> str:
    """Whether the steps had the same bits as without a plan; nothing where no op ran as a loop."""
    if plan is None or not any(isinstance(step, Compute) and step.streamed for step in plan.steps):
        return ""
    return exact_words(plan, load_graph(folder / "graph.json"))


def _facts(summary: RunSummary, watch: Watcher, result: str, report: Path | None) -> Facts:
    planned, certified, measured = (
        "nothing" if size is None else exact_bytes(size)
        for size in (summary.planned_peak_bytes, summary.certified_peak_bytes, summary.measured_peak_bytes)
    )
    share = summary.budget_ram_bytes / summary.plain_peak_bytes if summary.plain_peak_bytes else 1.0
    return [
        ("method", "" if summary.method == "backprop" else summary.method),
        (
            "plain training needs",
            f"{bytes_text(summary.plain_peak_bytes)} ({exact_bytes(summary.plain_peak_bytes)})",
        ),
        ("budget", f"{bytes_text(summary.budget_ram_bytes)}, {percent(share)} of that"),
        ("plan", _plan_words(summary, watch.plan)),
        ("quality", f"{gap_words(summary.status, summary.gap)} ({summary.solver})"),
        ("peak of a step", f"planned {planned}, certified {certified}, measured {measured}"),
        ("memory of the process", _process_words(summary)),
        ("time of a step", against(summary.planned_seconds, summary.plain_seconds, seconds_text)),
        ("energy of a step", against(summary.planned_joules, summary.plain_joules, joules_text)),
        ("result of a step", result),
        ("trained", _trained(summary)),
        ("diverged", _diverged(summary)),
        ("accuracy", _change(summary.accuracy_before, summary.accuracy_after, percent)),
        ("mean squared error", _change(summary.mse_before, summary.mse_after, figure)),
        ("report", "" if report is None else str(report)),
    ]


def _process_words(summary: RunSummary) -> str:
    """The kernel's figure, beside our own count."""
    if summary.process_bytes is None:
        return ""
    return f"rose by {bytes_text(summary.process_bytes)} in a step, by the kernel's count"


def _plan_words(summary: RunSummary, plan: Plan | None) -> str:
    if plan is not None:
        return count_words(plan)
    return f"{plural(summary.recomputed, 'op')} recomputed, {plural(summary.paged_out, 'value')} paged out"


def _trained(summary: RunSummary) -> str:
    step = (
        ""
        if summary.measured_seconds is None
        else f", {seconds_text(summary.measured_seconds)} a step on this machine"
    )
    return (
        f"{plural(summary.epochs, 'epoch')}, {plural(summary.steps, 'step')} "
        f"in {seconds_text(summary.training_seconds)}{step}"
    )


def _diverged(summary: RunSummary) -> str:
    if summary.diverged_at is None:
        return ""
    return f"the loss of step {summary.diverged_at} was no number; try a smaller `train.optimizer.lr`"


def _change(before: float | None, after: float | None, text: Callable[[float], str]) -> str:
    if before is None or after is None:
        return ""
    return f"{text(before)} before, {text(after)} after"
