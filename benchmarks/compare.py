"""Which method within which budget: `edgewise compare` on two small networks and two boards.

    python benchmarks/compare.py [--share 1.0] [--work FOLDER] [--page PATH]

A perceptron and a convolutional network learn the digits by every method, on a board with a card to page to
and on one without. All figures of the page are from `comparison.json`; what is done is not done again, so
that an interrupted call can be repeated. Takes a quarter of an hour; `--share 0.1` trains a tenth of the
steps. Writes docs/benchmarks/compare.md.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import msgspec
from _command import machine

from edgewise.devices import Memory, load_device, save_device
from edgewise.report.advice import advise
from edgewise.report.standings import Standing, score_text, standings
from edgewise.report.units import bytes_text, joules_text, percent, plural
from edgewise.train import load_recipe
from edgewise.train.compare import CompareWatch, compare_methods
from edgewise.train.comparison import Comparison, Row
from edgewise.train.contenders import usual_contenders

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks" / "compare.md"
BOARD = "stm32f7"
SGD = 'train.optimizer={kind="sgd",lr=0.1}'


class Case(NamedTuple):
    """A network on a board within a budget."""

    title: str
    recipe: str
    changes: tuple[str, ...]
    has_card: bool
    ram: str
    steps: int


MLP = ("digits-mlp", ("model.args.hidden=[48]", "train.batch=64", SGD))
CNN = ("digits", ("train.batch=16", SGD))
CASES = (
    Case("A perceptron on a board with a card", *MLP, True, "1x", 400),
    Case("A perceptron on a board with a card", *MLP, True, "0.4x", 400),
    Case("A perceptron on a board without a card", *MLP, False, "0.96x", 400),
    Case("A convolutional network on a board without a card", *CNN, False, "0.3x", 120),
)
TEXT = """# Methods within a budget

Two small networks learn the digits by plain SGD, by every method that Edgewise has, each within the same RAM:
`edgewise compare` on the profile `stm32f7`, with its card to page to, and without any. Energy is that of the
device's cost model for the plan that was executed. Accuracy is of one run each, on 359 test samples. The
*level* is the best accuracy less two standard errors. Learning rates are searched by as many trials for each
method, once a network.

- Perceptron: 64 inputs, 48 hidden units, ten classes; batches of 64.
- Convolutional network: the zoo's `digits-cnn`; batches of 16.
{cases}
Measured with `python benchmarks/compare.py{share}` on {machine}.
"""


class Printed(CompareWatch):
    """Prints rows as they come."""

    def row(self, row: Row) -> None:
        last = row.marks[-1].accuracy if row.marks else None
        print(f"  {row.name}: {row.outcome}, accuracy {last}", flush=True)


def board(has_card: bool, work: Path) -> Path:
    """The profile, with or without its slower tier."""
    device, name = load_device(BOARD), BOARD if has_card else f"{BOARD}-without-card"
    if not has_card:
        gone = "memory.sd."
        device = msgspec.structs.replace(
            device,
            name=name,
            memory=Memory(device.memory.ram),
            sources={key: text for key, text in device.sources.items() if not key.startswith(gone)},
            assumed={key: text for key, text in device.assumed.items() if not key.startswith(gone)},
        )
    path = work / f"{name}.toml"
    save_device(device, path)
    return path


def compared(case: Case, share: float, work: Path, rates: dict[str, dict[str, float]]) -> Comparison:
    """One comparison, kept in its folder; `rates` keeps what was found for the network in another one."""
    steps = max(1, round(case.steps * share))
    path = board(case.has_card, work)
    places = [f'device.name="{path}"', f"device.ram={case.ram}", "device.time_limit_seconds=10"]
    recipe = load_recipe(case.recipe, [*case.changes, *places])
    folder = work / f"{case.recipe}-{path.stem}-{case.ram}-{steps}"
    print(folder, flush=True)
    contenders = usual_contenders(recipe.method)
    lr = rates.get(case.recipe)
    found = compare_methods(recipe, contenders, folder, steps=steps, lr=lr, watch=Printed())
    if lr is None:
        rates[case.recipe] = {row.name: row.search.lr for row in found.trained if row.search is not None}
    return found


def section(case: Case, found: Comparison) -> str:
    """A budget's heading, verdict and table."""
    advice, placed = advise(found), {s.row.name: s for s in standings(found).standings}
    length = plural(found.setting.steps or 0, "step")
    ram = f"{bytes_text(found.setting.ram_bytes)}, {case.ram} of plain backprop"
    level = standings(found).level
    to = "energy to the level" if level is None else f"energy to the level, {score_text(found, level)}"
    lines = [
        f"\n## {case.title}: {ram}\n",
        f"{length} each.\n",
        f"> {advice.verdict}\n",
        f"| method | RAM | energy of a step | against plain backprop | accuracy | {to} |",
        "|---|---:|---:|---:|---:|---:|",
        *(line(found, row, placed.get(row.name)) for row in found.rows),
    ]
    return "\n".join(lines) + "\n"


def line(found: Comparison, row: Row, standing: Standing | None) -> str:
    """A row of the table."""
    if standing is None or row.cost is None or found.plain is None:
        least = f"needs {bytes_text(row.min_ram_bytes)}" if row.min_ram_bytes else row.outcome
        return f"| {row.name} | {least} | | | | |"
    share = percent(row.cost.joules / found.plain.joules - 1, signed=True)
    until = joules_text(standing.reached.joules) if standing.reached else "not reached"
    ram, joules = bytes_text(row.peak_bytes or 0), joules_text(row.cost.joules)
    return f"| {row.name} | {ram} | {joules} | {share} | {score_text(found, standing.score)} | {until} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--share", type=float, default=1.0, help="of the steps")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "compare")
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    rates: dict[str, dict[str, float]] = {}
    parts = [section(case, compared(case, options.share, options.work, rates)) for case in CASES]
    share = "" if options.share == 1 else f" --share {options.share:g}"
    options.page.write_text(TEXT.format(cases="".join(parts), machine=machine(), share=share))


if __name__ == "__main__":
    main()
