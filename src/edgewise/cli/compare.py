"""`edgewise compare`: many methods train one model on one device within one budget; which to use, and why."""

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import App, Parameter

from edgewise.cli.app import INTERRUPTED
from edgewise.cli.comparing import CompareProgress
from edgewise.cli.output import Facts, note, write_facts, write_json, write_line, write_table
from edgewise.cli.params import AsJson
from edgewise.cli.subject import parse_model
from edgewise.errors import UsageError
from edgewise.report.advice import Advice, advise
from edgewise.report.comparison_page import write_comparison
from edgewise.report.standings import Standing, score_text, standings
from edgewise.report.units import bytes_text, joules_text, percent, plural, seconds_text
from edgewise.train import Recipe, list_recipes, load_recipe, parse_seconds
from edgewise.train.comparison import FILE, Comparison, Row, load_comparison
from edgewise.train.contenders import Contender, parse_contender, parse_contenders, usual_contenders

EXAMPLE = """\
A model is written as for `plan`; it learns digits if it takes them, else random samples by heart. \
Methods are those of a recipe's [method], with settings behind colons (spsa:directions=4); every-block and \
square-root are backprop as it is planned elsewhere. Energy and time are those of the device's cost \
model. The same command goes on where an interrupted one ended.

Example:
  edgewise compare digits --device stm32f7 --ram 320KiB
  edgewise compare my-recipe.toml --ram 0.5x --methods backprop,spsa:directions=8 --seconds 10min
  edgewise compare mynet:build@8x3x32x32 --device rpi4 --steps 100 -o comparisons/mine"""

COMPARISONS = Path("comparisons")
NO_PLAN, UNSUPPORTED = 3, 4

app = App(name="compare", help_epilogue=EXAMPLE)


@app.default
def compare(  # noqa: PLR0913  -- eight flags, each of them an argument
    model: str,
    /,
    *,
    device: str | None = None,
    ram: str | None = None,
    methods: str | None = None,
    steps: int | None = None,
    seconds: str | None = None,
    lr: str | None = None,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    set_: Annotated[tuple[str, ...], Parameter(name="--set", negative="", show_default=False)] = (),
    as_json: AsJson = False,
) -> int:
    """Train a model by many methods within one budget; which to use here, and why.

    Args:
        model: A recipe, a built-in model, or `package.module:factory`. See below.
        device: Name of a profile, or path of a .toml file, instead of the recipe's.
        ram: Budget of each, as in `256KiB`, or `0.5x` of plain backprop's, instead of the recipe's.
        methods: Which, with commas between them. All if not given.
        steps: Steps of each. The recipe's if not given; 200 for a model without one.
        seconds: Seconds on the device for each, or `1x` of what plain backprop would take, instead of steps.
        lr: Learning rate, or `spsa=0.01,backprop=0.1`. Each method searches its own if not given.
        out: Folder for the comparison; comparisons/MODEL if not given.
        set_: Change the recipe, as in `--set train.batch=8`. Can be given many times.
        as_json: Print the result as JSON.
    """
    _check_length(steps, seconds)
    rates = _rates(lr)
    folder = out or COMPARISONS / (Path(model).stem if model.endswith(".toml") else model.replace(":", "."))
    limit = None if seconds is None else parse_seconds(seconds)
    chosen = None if methods is None else parse_contenders(methods)
    overrides = [*set_, *_override("device.name", device), *_override("device.ram", ram)]
    recipe = _recipe(model, overrides, folder)
    contenders = chosen or usual_contenders(recipe.method)
    _check_rates(rates, contenders)

    from edgewise.train.compare import compare_methods  # noqa: PLC0415  -- imports torch

    note(f"comparing {plural(len(contenders), 'method')} in {folder}")
    try:
        with CompareProgress() as watch:
            found = compare_methods(
                recipe, contenders, folder, steps=steps, seconds=limit, lr=rates, watch=watch
            )
    except KeyboardInterrupt:  # while it was planning or searching, or a second time
        return _interrupted(folder)
    return _finish(found, folder, as_json=as_json)


def _check_length(steps: int | None, seconds: str | None) -> None:
    if steps is not None and seconds is not None:
        raise UsageError("`--steps` and `--seconds` both say how long. Leave one out.")
    if steps is not None and steps < 1:
        raise UsageError(f"`--steps {steps}` must be at least 1.")


def _rates(text: str | None) -> dict[str, float]:
    """`0.1` is for all, `spsa=0.01,0.1` for spsa and all others."""
    rates = {}
    for part in (text or "").split(",") if text else []:
        name, _, number = part.strip().rpartition("=")
        try:
            rate = float(number)
        except ValueError as error:
            raise UsageError(f"`--lr {text}`: `{number}` is no number.") from error
        if not 0 < rate < float("inf"):
            raise UsageError(f"`--lr {text}`: a learning rate must be above zero.")
        rates[name and parse_contender(name).name] = rate
    return rates


def _check_rates(rates: dict[str, float], contenders: tuple[Contender, ...]) -> None:
    names = [contender.name for contender in contenders]
    strange = [name for name in rates if name and name not in names]
    if strange:
        raise UsageError(
            f"`--lr` names `{strange[0]}`, which is not compared. There are: {', '.join(names)}."
        )


def _recipe(model: str, overrides: list[str], folder: Path) -> Recipe:
    """The recipe `model`, or one that is made for the model."""
    if model.endswith(".json"):
        raise UsageError(f"{model} is a graph, which cannot be trained. Name a recipe or a model.")
    if model.endswith(".toml") or model in list_recipes():
        return load_recipe(model, overrides)
    name, batch, sample = parse_model(model)

    from edgewise.train.bare import bare_recipe  # noqa: PLC0415  -- imports torch
    from edgewise.train.recipe_file import decode_recipe, encode_recipe  # noqa: PLC0415

    note(f"making a recipe for {model}")
    bare = bare_recipe(name, batch, sample, folder)
    return decode_recipe(encode_recipe(bare), where=model, overrides=overrides)


def _override(key: str, value: str | None) -> list[str]:
    return [] if value is None else [f"{key}={msgspec.json.encode(value).decode()}"]


# -- the result ------------------------------------------------------------------------------------------


def _finish(found: Comparison, folder: Path, *, as_json: bool) -> int:
    advice, page = advise(found), write_comparison(found, folder)
    code = _code(found)
    if as_json:
        write_json(_payload(found, advice, folder, page, code))
    else:
        _write(found, advice, page)
    if any(row.outcome == "unfinished" for row in found.rows):
        return _interrupted(folder)
    if code:
        sys.stderr.write(f"edgewise: {advice.verdict}\n")
    return code


def _code(found: Comparison) -> int:
    """0 if something was trained; else 3 if something does not fit, or 4."""
    if found.trained:
        return 0
    return NO_PLAN if any(row.outcome == "does not fit" for row in found.rows) else UNSUPPORTED


def _payload(found: Comparison, advice: Advice, folder: Path, page: Path, code: int) -> dict[str, Any]:
    least = [row for row in found.rows if row.min_ram_bytes is not None]
    failed = min(least, key=lambda row: row.min_ram_bytes or 0) if code == NO_PLAN and least else None
    placed = {standing.row.name: standing for standing in standings(found).standings}
    rows = [{**msgspec.to_builtins(row), **_reached(placed.get(row.name))} for row in found.rows]
    return {
        **msgspec.to_builtins(found),
        "metric": found.metric,
        "level": standings(found).level,
        "rows": rows,
        "use": advice.use,
        "verdict": advice.verdict,
        "reasons": advice.reasons,
        "min_ram_bytes": failed.min_ram_bytes if failed else None,
        "op": failed.op if failed else None,
        "exit_code": code,
        "folder": str(folder),
        "report": str(page),
    }


def _reached(standing: Standing | None) -> dict[str, Any]:
    reached = standing.reached if standing else None
    return {
        "score": standing.score if standing else None,
        "steps_to_level": reached.steps if reached else None,
        "seconds_to_level": reached.seconds if reached else None,
        "joules_to_level": reached.joules if reached else None,
    }


def _write(found: Comparison, advice: Advice, page: Path) -> None:
    setting, level = found.setting, standings(found).level
    length = plural(setting.steps, "step") if setting.steps else f"{seconds_text(setting.seconds or 0)} each"
    facts: Facts = [
        ("data", f"{found.data}, {found.test_samples:,} test samples"),
        ("budget", f"{bytes_text(setting.ram_bytes)}{_share(found)}"),
        ("training", f"{length}, in batches of {found.batch:,} with {found.optimizer}"),
    ]
    write_facts(facts, title=f"{found.model} on {found.device}")
    write_line("")
    if found.trained:
        _write_table(found, level)
        write_line("")
    write_line(advice.verdict)
    for reason in advice.reasons:
        write_line(f"  - {reason}")
    write_line(f"report: {page}")


def _share(found: Comparison) -> str:
    if not found.plain_peak_bytes:
        return ""
    share = percent(found.setting.ram_bytes / found.plain_peak_bytes)
    return f", {share} of the {bytes_text(found.plain_peak_bytes)} of plain backprop"


def _write_table(found: Comparison, level: float | None) -> None:
    to = "to the level" if level is None else f"to {score_text(found, level)}"
    heads = {
        "method": False,
        "RAM": True,
        "energy/step": True,
        "vs plain": True,
        "time/step": True,
        found.metric: True,
        f"energy {to}": True,
        f"time {to}": True,
    }
    write_table(heads, (_cells(found, standing) for standing in standings(found).standings))


def _cells(found: Comparison, standing: Standing) -> list[str]:
    row, reached = standing.row, standing.reached
    cost, plain = row.cost, found.plain.joules if found.plain else 0.0
    return [
        row.name,
        bytes_text(row.peak_bytes or 0),
        joules_text(cost.joules) if cost else "",
        percent(cost.joules / plain - 1, signed=True) if cost and plain > 0 else "",
        seconds_text(cost.seconds) if cost else "",
        score_text(found, standing.score),
        joules_text(reached.joules) if reached else "-",
        seconds_text(reached.seconds) if reached else "-",
    ]


def _interrupted(folder: Path) -> int:
    """Say what is kept and how to go on; returns the exit code."""
    path = folder / FILE
    rows: tuple[Row, ...] = load_comparison(path).rows if path.is_file() else ()
    done = sum(row.outcome != "unfinished" for row in rows)
    again = shlex.join(["edgewise", *sys.argv[1:]])
    sys.stderr.write(
        f"edgewise: interrupted; {plural(done, 'method')} done, kept in {folder}. Continue with `{again}`.\n"
    )
    return INTERRUPTED
