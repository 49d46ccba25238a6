"""What avoiding backpropagation costs (arXiv 2506.21833), redone: every method at the memory of zeroth order.

    python benchmarks/methods_zeroth_order.py [--seeds N] [--steps N] [--search-steps N] [--samples N]
                                              [--methods NAME ...] [--store PATH] [--page PATH]

A small convolutional network, pretrained on upright Fashion-MNIST, is fine-tuned on the same pictures turned
by 25 degrees. Each method's rate is the best of three after `--search-steps`, by samples that are in no other
set. What is trained, once for each seed, is kept in `--store`, so that a run that was cut short goes on where
it was. Plans are made for three devices within the RAM that plain SPSA takes plus 10%. Writes
docs/benchmarks/methods_zeroth_order.md; the whole takes some hours on one core, the options make it smaller.
Data: `fashion_mnist.npz` in the folder that `EDGEWISE_DATA` names, or in `../shared/data`.
"""

import argparse
import platform
import shlex
import statistics
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import torch
from _data import data_file
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from edgewise.capture import SGD, Captured  # noqa: E402
from edgewise.devices import Device, load_device  # noqa: E402
from edgewise.errors import BudgetInfeasible  # noqa: E402
from edgewise.methods import (  # noqa: E402
    Backprop,
    Elastic,
    ForwardGradient,
    Method,
    Spsa,
    Svrg,
    TopShare,
    capture_with,
)
from edgewise.plan import Budget, Compute, Plan, make_plan, plain_plan  # noqa: E402
from edgewise.run import Executor  # noqa: E402

PAGE = ROOT / "docs" / "benchmarks" / "methods_zeroth_order.md"
STORE = ROOT / "build" / "methods_zeroth_order.json"
DEVICES = ("rpi4", "jetson-tx2", "stm32f7")
BATCH = 32
ROOM = 1.1
"""RAM of every plan, as a multiple of what plain SPSA takes."""
DEGREES = 25
EVERY = 25
"""Steps between two tests."""
TESTED, HELD = 1000, 1000
"""Pictures to test by, and to find rates by."""
KIB = 1024

FIRST, MORE, SMALL = (1e-2, 3e-3, 1e-3), (1e-3, 3e-4, 1e-4), (3e-4, 1e-4, 3e-5)
METHODS: dict[str, tuple[Method, tuple[float, ...]]] = {
    "backprop": (Backprop(), FIRST),
    "FmAD": (ForwardGradient(), SMALL),
    "FmAD, 4 directions": (ForwardGradient(directions=4), MORE),
    "FmAD, top 10%": (ForwardGradient(top=TopShare(0.1, 50)), MORE),
    "FmAD, SVRG": (ForwardGradient(svrg=Svrg(64, 16)), SMALL),
    "SPSA": (Spsa(), SMALL),
    "SPSA in place": (Spsa(in_place=True), SMALL),
    "SPSA, 4 directions": (Spsa(directions=4), MORE),
    "SPSA, sign": (Spsa(sign=True), SMALL),
    "SPSA, top 10%": (Spsa(top=TopShare(0.1, 50)), MORE),
    "SPSA, SVRG": (Spsa(svrg=Svrg(64, 16)), SMALL),
    "ElasticZO": (Elastic(), MORE),
}
ROWS = {"backprop, plain": "backprop", "backprop, every block": "backprop", "backprop, planned": "backprop"}
"""Rows that one training stands for: a plan changes no bit of it."""

TEXT = """# What avoiding backpropagation costs

*The Cost of Avoiding Backpropagation* (arXiv 2506.21833), figure 2, redone on a model of ours. A
convolutional network of {parameters:,} parameters, pretrained on upright Fashion-MNIST, is fine-tuned for
{steps:,} steps of {batch} pictures turned by {degrees} degrees: {samples:,} of them, {tested:,} others to
test by, mean and standard deviation over {seeds} seeds. It begins at {start:.1%}. Every method has SGD
without momentum and the best of three rates, found on {held:,} further pictures in {search} steps; a rate in
brackets is the smallest or largest of the three, so a better one may lie beyond. The six defects of the
paper's code are left out, each with a test (`tests/methods/test_variants.py`).

## Accuracy, and memory

*Plain peak*: RAM of the step in the order it was captured in. *Planned*: within {room:.0%} of what plain SPSA
takes, which is {budget:,} bytes, on {device}; a plan changes no bit of what is trained. *Operations*: of a
planned step, recomputation included.

| method | rate | test accuracy | plain peak, KiB | planned peak, KiB | Mflop a step |
|---|---:|---:|---:|---:|---:|
{accuracy}

## Steps, time and energy to {target:.1%}

That is half of what backprop gains. *Time* and *energy* are those of the planned steps until the mean
accuracy over the seeds, tested every {every} steps, is there first, by the cost model of each device profile;
`-` where it is not within {steps:,} steps.

| method | steps | {headers} |
|---|---:|{lines}
{times}

## One step

| method | {headers} |
|---|{lines}
{costs}

{words}

Measured with `{command}` on {machine}, PyTorch {torch}.
"""


class Picture(nn.Sequential):
    """Two blocks of two convolutions, a mean over places, ten classes."""

    def __init__(self) -> None:
        super().__init__(
            nn.Sequential(nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, 1, 1), nn.ReLU()),
            nn.Sequential(nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 32, 3, 1, 1), nn.ReLU()),
            nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)),
        )


class Data(NamedTuple):
    """Pictures [N, 1, 28, 28] and classes: to pretrain by, to fine-tune by, to find rates by, to test by."""

    upright: tuple[Tensor, Tensor]
    train: tuple[Tensor, Tensor]
    held: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


class Training(msgspec.Struct):
    """What one training showed: test accuracy before and after every `EVERY` steps; held-out, at the end."""

    rate: float
    curve: list[float]


class Price(NamedTuple):
    """A step on one device."""

    peak: int
    seconds: float
    joules: float
    flops: int


class Store(msgspec.Struct):
    """All that was trained, by `method / rate / seed / steps / samples / set`, planned and counted.

    A price that is one number is the least RAM, where no plan fits.
    """

    runs: dict[str, Training] = {}
    prices: dict[str, Price | int] = {}
    peaks: dict[str, int] = {}


def turned(pictures: Tensor, degrees: float) -> Tensor:
    angle = torch.tensor(degrees).deg2rad()
    rows = [[angle.cos(), -angle.sin(), 0.0], [angle.sin(), angle.cos(), 0.0]]
    matrix = torch.tensor(rows).expand(len(pictures), 2, 3)
    grid = nn.functional.affine_grid(matrix, list(pictures.shape), align_corners=False)
    return nn.functional.grid_sample(pictures, grid, align_corners=False)


@cache
def data(samples: int) -> Data:
    found = np.load(data_file("fashion_mnist.npz"))
    x, y, x_test, y_test = (torch.from_numpy(found[k]) for k in ("x_train", "y_train", "x_test", "y_test"))
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    chosen = torch.randperm(len(x_test), generator=torch.Generator().manual_seed(1))[:TESTED]
    parts = (order[:20_000], order[20_000 : 20_000 + samples], order[50_000 : 50_000 + HELD])
    pictures = [(x[i].unsqueeze(1) / 255.0, y[i].long()) for i in parts]
    pictures.append((x_test[chosen].unsqueeze(1) / 255.0, y_test[chosen].long()))
    shifted = [(turned(p, DEGREES), c) for p, c in pictures[1:]]
    return Data(pictures[0], *shifted)


def pretrain(path: Path) -> None:
    """Two epochs of Adam on upright pictures; the weights go to `path`."""
    torch.manual_seed(0)
    model, (x, y) = Picture(), data(1).upright
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(2):
        for rows in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), path)


def fresh() -> Picture:
    path = ROOT / "build" / "methods_zeroth_order.safetensors"
    if not path.exists():
        pretrain(path)
    model = Picture()
    model.load_state_dict(load_file(path))
    return model


def accuracy(model: nn.Module, pictures: tuple[Tensor, Tensor]) -> float:
    with torch.no_grad():
        return float((model(pictures[0]).argmax(1) == pictures[1]).float().mean())


def captured(method: Method, rate: float, seed: int = 0) -> Captured:
    example = torch.zeros(BATCH, 1, 28, 28), torch.zeros(BATCH, dtype=torch.int64)
    return capture_with(method, fresh(), "cross_entropy", SGD(rate), example, seed=seed)


def trained(method: Method, rate: float, seed: int, steps: int, samples: int, *, held: bool) -> Training:
    """Fine-tune and test; on the held-out pictures if `held`."""
    step, (x, y) = captured(method, rate, seed), data(samples).train
    device = load_device(DEVICES[0])
    pictures = data(samples).held if held else data(samples).test
    dice = torch.Generator().manual_seed(seed)
    with Executor(step, plain_plan(step.graph, device), device) as executor:
        curve = [accuracy(step.model, pictures)] if not held else []
        for number in range(steps):
            rows = torch.randint(len(x), (BATCH,), generator=dice)
            executor.step((x[rows], y[rows]), number)
            if ((number + 1) % EVERY == 0 and not held) or number + 1 == steps:
                executor.sync()
                curve.append(accuracy(step.model, pictures))
    return Training(rate, curve)


class Bench:
    """Trains what is not in the store yet."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.path = options, options.store
        self.store = (
            msgspec.json.decode(self.path.read_bytes(), type=Store) if self.path.exists() else Store()
        )

    def run(self, name: str, rate: float, seed: int, *, held: bool) -> Training:
        method, samples = METHODS[name][0], self.options.samples
        steps = self.options.search_steps if held else self.options.steps
        key = f"{name} / {rate} / {seed} / {steps} / {samples} / {'held' if held else 'test'}"
        if key not in self.store.runs:
            found = trained(method, rate, seed, steps, samples, held=held)
            print(f"{key}: {found.curve[-1]:.1%}", flush=True)
            self.store.runs[key] = found
            self.save()
        return self.store.runs[key]

    def save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(msgspec.json.encode(self.store))

    def peak(self, name: str) -> int:
        """RAM of the plain step."""
        if name not in self.store.peaks:
            graph = captured(METHODS[name][0], 0.1).graph
            self.store.peaks[name] = plain_plan(graph, load_device(DEVICES[0])).peak_bytes
            self.save()
        return self.store.peaks[name]

    @property
    def budget(self) -> Budget:
        """RAM of every plan."""
        return Budget(int(ROOM * self.peak("SPSA")))

    def price(self, name: str, device: str) -> Price | int:
        """The step of a row within the budget, or the least RAM that it can do with."""
        key = f"{name} / {device} / {self.budget.ram_bytes} / {self.options.time_limit}"
        if key not in self.store.prices:
            self.store.prices[key] = price(name, load_device(device), self.budget, self.options.time_limit)
            print(f"{key}: {self.store.prices[key]}", flush=True)
            self.save()
        return self.store.prices[key]

    def best(self, name: str) -> list[Training]:
        """One training for each seed, at the best rate."""
        rates = METHODS[name][1]
        found = {rate: self.run(name, rate, 1000, held=True).curve[-1] for rate in rates}
        rate = max(rates, key=lambda r: found[r])
        return [self.run(name, rate, seed, held=False) for seed in range(self.options.seeds)]


# -- plans ---------------------------------------------------------------------------------------------------


def price(name: str, device: Device, budget: Budget, limit: float) -> Price | int:
    """The step of a row within the budget, or the least RAM that it can do with."""
    graph = captured(METHODS[ROWS.get(name, name)][0], 0.1).graph
    plan = plain_plan(graph, device)
    try:
        if name == "backprop, every block":
            plan = make_plan(graph, device, Budget(plan.peak_bytes), solver="every-block")
        elif name != "backprop, plain" and plan.peak_bytes > budget.ram_bytes:
            plan = make_plan(graph, device, budget, time_limit=limit)
    except BudgetInfeasible as error:
        return error.min_ram_bytes or 0
    return Price(
        plan.peak_bytes, plan.seconds, plan.joules, flops(plan, {o.name: o.flops for o in graph.ops})
    )


def flops(plan: Plan, of: dict[str, int]) -> int:
    return sum(of[step.op] for step in plan.steps if isinstance(step, Compute))


# -- the page ------------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """A line of all tables."""

    name: str
    runs: list[Training]
    plain_peak: int
    prices: dict[str, Price | int]

    def mean(self, index: int = -1) -> float:
        return statistics.mean(run.curve[index] for run in self.runs)

    def steps_to(self, target: float) -> int | None:
        reached = (i for i in range(len(self.runs[0].curve)) if self.mean(i) >= target)
        return next((i * EVERY for i in reached), None)


def rows(bench: Bench) -> Iterator[Row]:
    chosen = [n for n in METHODS if n in bench.options.methods]
    for name in [row for n in chosen for row in ([r for r, of in ROWS.items() if of == n] or [n])]:
        trained_as = ROWS.get(name, name)
        prices = {device: bench.price(name, device) for device in DEVICES}
        yield Row(name, bench.best(trained_as), bench.peak(trained_as), prices)


def accuracy_line(row: Row) -> str:
    rates, ends = METHODS[ROWS.get(row.name, row.name)][1], [run.curve[-1] for run in row.runs]
    rate = row.runs[0].rate
    text = f"({rate:g})" if rate in (min(rates), max(rates)) else f"{rate:g}"
    spread = f" +- {statistics.stdev(ends):.1%}" if len(ends) > 1 else ""
    found = row.prices[DEVICES[0]]
    planned = (
        f"{found.peak / KIB:,.0f} | {found.flops / 1e6:,.0f}"
        if isinstance(found, Price)
        else f"at least {found / KIB:,.0f} | -"
    )
    return f"| {row.name} | {text} | {row.mean():.1%}{spread} | {row.plain_peak / KIB:,.0f} | {planned} |"


def cost_line(row: Row, steps: int | None) -> str:
    cells = []
    for found in row.prices.values():
        known = isinstance(found, Price) and steps is not None
        cells.append(f"{steps * found.seconds:.3g} s, {steps * found.joules:.3g} J" if known else "-")  # type: ignore[operator,union-attr]
    return " | ".join(cells)


def words(found: dict[str, Row], target: float) -> str:
    """What the tables say, of the rows that there are."""
    if not {"backprop, planned", "SPSA"} <= set(found):
        return ""
    device = DEVICES[0]
    bp, others = found["backprop, planned"], [r for n, r in found.items() if not n.startswith("backprop")]
    best = max(others, key=lambda row: row.mean())
    price = bp.prices[device]
    if not isinstance(price, Price):
        return f"Within this RAM no plan of backprop exists on {device}: only what avoids it fits."
    steps, needed = bp.steps_to(target), best.steps_to(target)
    other = best.prices[device]
    text = (
        f"At the memory of zeroth order, planned backprop ends {100 * (bp.mean() - best.mean()):.1f} points "
        f"above the best of the others, {best.name}."
    )
    if steps and needed and isinstance(other, Price):
        ratio = needed * other.seconds / (steps * price.seconds)
        text += f" To {target:.1%}, that one takes {ratio:.1f} times as long as planned backprop on {device}."
    elif steps:
        text += f" None of the others than backprop comes to {target:.1%} within these steps." * (
            all(row.steps_to(target) is None for row in others)
        )
    return text


def caution(options: argparse.Namespace) -> str:
    """What a smaller run than the default must not be taken for."""
    if options.seeds >= 3 and len(options.methods) == len(METHODS):
        return ""
    return (
        "\n\nThis was a reduced run, of fewer seeds, steps or methods than the benchmark has by default: a "
        "first look, no ranking. Of one seed, differences of two or three points are chance."
    )


def page(found: dict[str, Row], bench: Bench) -> str:
    options = bench.options
    first = next(iter(found.values()))
    top = max(row.mean() for row in found.values() if row.name.startswith("backprop") or len(found) == 1)
    target = (first.mean(0) + top) / 2
    shown = [f"{'' if (s := row.steps_to(target)) is None else s}" or "-" for row in found.values()]
    timed = [cost_line(row, row.steps_to(target)) for row in found.values()]
    return TEXT.format(
        parameters=sum(w.numel() for w in Picture().parameters()), steps=options.steps, batch=BATCH,
        degrees=DEGREES, samples=options.samples, tested=TESTED,
        held=HELD, seeds=options.seeds, start=first.mean(0),
        search=options.search_steps, room=ROOM, budget=bench.budget.ram_bytes, device=DEVICES[0],
        target=target,
        every=EVERY, headers=" | ".join(DEVICES), lines="---:|" * len(DEVICES),
        accuracy="\n".join(accuracy_line(row) for row in found.values()),
        times="\n".join(f"| {n} | {s} | {t} |" for n, s, t in zip(found, shown, timed, strict=True)),
        costs="\n".join(f"| {name} | {cost_line(row, 1)} |" for name, row in found.items()),
        words=words(found, target) + caution(options), command=shlex.join(given()),
        machine=f"{platform.machine()}, Python {platform.python_version()}", torch=torch.__version__,
    )  # fmt: skip


def given() -> list[str]:
    """The command, without options that name a place."""
    kept, rest = ["python", "benchmarks/methods_zeroth_order.py"], iter(sys.argv[1:])
    for word in rest:
        if word in ("--store", "--page"):
            next(rest)
        else:
            kept.append(word)
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(description="What avoiding backpropagation costs.")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--search-steps", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS), metavar="NAME")
    parser.add_argument("--time-limit", type=float, default=30.0, help="seconds for each plan")
    parser.add_argument("--store", type=Path, default=STORE)
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(options)
    found: dict[str, Row] = {}
    for row in rows(bench):
        found[row.name] = row
        options.page.parent.mkdir(parents=True, exist_ok=True)
        options.page.write_text(page(found, bench))
    print(options.page.read_text())


if __name__ == "__main__":
    main()
