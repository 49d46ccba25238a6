"""What avoiding backpropagation costs (arXiv 2506.21833), redone: every method at the memory of zeroth order.

    python benchmarks/methods_zeroth_order.py [--seeds N] [--steps N] [--search-steps N] [--samples N]
                                              [--methods NAME ...] [--store PATH] [--page PATH]

A small residual network, pretrained on upright Fashion-MNIST, is fine-tuned on the same pictures turned by 25
degrees. Each method's rate is found first, by samples that are in no other set. What is trained, once for
each seed, is kept in `--store`, so that a run that was cut short goes on where it was. Plans are made for
three devices within the RAM that plain SPSA takes plus 10%. Writes docs/benchmarks/methods_zeroth_order.md;
the whole takes about ten minutes of one core, the options make it smaller. Data: `fashion_mnist.npz` in the
folder that `EDGEWISE_DATA` names, or in `../shared/data`.
"""

import argparse
import math
import statistics
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import torch
from _command import command, machine
from _data import data_file
from _energy import DEVICES
from _figures import Figure, Found, save, table
from _rates import climb
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from edgewise.capture import SGD, Captured, Optimizer
from edgewise.devices import Device, load_device
from edgewise.errors import BudgetInfeasible
from edgewise.methods import (
    Backprop,
    Elastic,
    ForwardGradient,
    Method,
    Spsa,
    Svrg,
    TopShare,
    capture_with,
)
from edgewise.plan import Budget, Compute, Plan, make_plan, plain_plan
from edgewise.run import Executor
from edgewise.train.rate_search import Adjustable

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks" / "methods_zeroth_order.md"
STORE = ROOT / "build" / "methods_zeroth_order.json"
BATCH = 12
"""With it, the step of SPSA fits in the 320 KiB of an STM32F7."""
ROOM = 1.1
"""RAM of every plan, as a multiple of what plain SPSA takes."""
DEGREES = 25
TESTS = 8
"""Tests of a training after the first: close together at first, for backprop is soon there."""
TESTED, HELD = 1000, 1000
"""Pictures to test by, and to find rates by."""
SEARCH_SEED = 1000
SEED_STEPS = 10**6
"""What is random goes by the number of the step: seed s begins at s times this."""
KIB = 1024

METHODS: dict[str, tuple[Method, int]] = {
    "backprop": (Backprop(), -5),
    "FmAD": (ForwardGradient(law="rademacher"), -8),
    "FmAD, 2 directions": (ForwardGradient(directions=2, law="rademacher"), -7),
    "FmAD, top 10%": (ForwardGradient(law="rademacher", top=TopShare(0.1, 50)), -7),
    "FmAD, SVRG": (ForwardGradient(law="rademacher", svrg=Svrg(64, 16)), -8),
    "SPSA": (Spsa(), -8),
    "SPSA in place": (Spsa(in_place=True), -8),
    "SPSA, 2 directions": (Spsa(directions=2), -7),
    "SPSA, sign": (Spsa(sign=True), -7),
    "SPSA, top 10%": (Spsa(top=TopShare(0.1, 50)), -7),
    "SPSA, SVRG": (Spsa(svrg=Svrg(64, 16)), -8),
    "ElasticZO": (Elastic(), -8),
}
"""Each method, and where the search for its rate begins: at 10 to the power of half of this."""
OPTIMIZER = SGD(1.0)
"""Its rate is set before each training."""
ROWS = {"backprop, plain": "backprop", "backprop, every block": "backprop", "backprop, planned": "backprop"}
"""Rows that one training stands for: a plan changes no bit of it."""

PUBLISHED = (
    "The paper reports up to 31.1 points more accuracy, 34.8% faster convergence and 3.8 times fewer"
    " operations for checkpointed backprop, on language models of 110 million parameters and more."
)
TEXT = """# What avoiding backpropagation costs

*The Cost of Avoiding Backpropagation* (arXiv 2506.21833), figures 2 and 6, redone on a model of ours. A
residual network of {parameters:,} parameters, four blocks of two convolutions, pretrained on upright
Fashion-MNIST, is fine-tuned for {steps:,} steps of {batch} pictures turned by {degrees} degrees, out of
{samples:,}; {tested:,} others to test by, mean and standard deviation over {seeds} seeds. It begins at
{start:.1%}. Every method has SGD without momentum. Its rate is the power of the root of ten with the least
loss on {held:,} further pictures after {search} steps with another seed: the search goes on until both
neighbours have been tried and are no better. Directions are random signs. The six defects of the paper's
code are left out, each with a test (`tests/methods/test_variants.py`).

{figures}

## Accuracy, and memory

*Plain peak*: RAM of the step in the order it was captured in. *Planned*: within {room:.0%} of what plain SPSA
takes, which is {budget:,} bytes, on {device}; a plan changes no bit of what is trained. So the first three
rows are one training: as it comes, with every block checkpointed as in the paper, and planned by Edgewise.
*Operations*: of a planned step, recomputation included.

| method | rate | test accuracy | plain peak, KiB | planned peak, KiB | Mflop a step |
|---|---:|---:|---:|---:|---:|
{accuracy}

## Steps, operations, time and energy to {target:.1%}

That is half of what backprop gains. *Time* and *energy* are those of the planned steps until the mean
accuracy over the seeds is there first, by the cost model of each device profile; `-` where it is not within
{steps:,} steps. Tests are after {moments} steps.

| method | steps | Gflop | {headers} |
|---|---:|---:|{lines}
{times}

## One step

| method | {headers} |
|---|{lines}
{costs}

## What it says

{words}

Measured with `{command}` on {machine}.
"""


class Block(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(channels, channels, 3, 1, 1, bias=False) for _ in range(2))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return torch.relu(x_BCHW + self.second(torch.relu(self.first(x_BCHW))))


class Picture(nn.Sequential):
    """A convolution, four blocks, means over the quarters of the picture, ten classes."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__(
            nn.Sequential(nn.Conv2d(1, channels, 3, 2, 1), nn.ReLU()),
            *(Block(channels) for _ in range(4)),
            nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, 10)),
        )


class Data(NamedTuple):
    """Pictures [N, 1, 28, 28] and classes: to pretrain by, to fine-tune by, to find rates by, to test by."""

    upright: tuple[Tensor, Tensor]
    train: tuple[Tensor, Tensor]
    held: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


class Training(msgspec.Struct):
    """What one training showed: test accuracy after each of `tested(steps)`."""

    rate: float
    curve: list[float]


class Price(NamedTuple):
    """A step on one device."""

    peak: int
    seconds: float
    joules: float
    flops: int


class Store(msgspec.Struct):
    """All that was measured; keys say of what.

    `losses` are those of held-out pictures after the steps of a search, `None` where it diverged. A price
    that is one number is the least RAM, where no plan fits.
    """

    losses: dict[str, float | None] = {}
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
    path = ROOT / "build" / "zeroth_order_pretrained.safetensors"
    if not path.exists():
        pretrain(path)
    model = Picture()
    model.load_state_dict(load_file(path))
    return model


def captured(method: Method, optimizer: Optimizer = OPTIMIZER) -> Captured:
    example = torch.zeros(BATCH, 1, 28, 28), torch.zeros(BATCH, dtype=torch.int64)
    return capture_with(method, fresh(), "cross_entropy", optimizer, example)


class Trainer:
    """The step of one method, captured once: every rate and seed begins with the same weights."""

    def __init__(self, method: Method) -> None:
        self.optimizer, device = Adjustable(OPTIMIZER), load_device(DEVICES[0])
        self.step = captured(method, self.optimizer)
        self.executor = Executor(self.step, plain_plan(self.step.graph, device), device)
        self.first = self.executor.state()

    def train(self, rate: float, seed: int, steps: int, samples: tuple[Tensor, Tensor]) -> Iterator[int]:
        """From the first weights on; how many steps are done, before the first and after each."""
        self.executor.load_state(self.first)
        self.optimizer.set_rate(rate)
        self.loss = 0.0
        dice, (x, y) = torch.Generator().manual_seed(seed), samples
        for done in range(steps):
            yield done
            rows = torch.randint(len(x), (BATCH,), generator=dice)
            self.loss = self.executor.step((x[rows], y[rows]), seed * SEED_STEPS + done).loss
        yield steps

    def scores(self, pictures: Tensor) -> Tensor:
        """Of the model as it is now."""
        self.executor.sync()
        with torch.no_grad():
            return torch.cat([self.step.model(some) for some in pictures.split(10)])

    def held_loss(self, rate: float, steps: int, pictures: Data) -> float | None:
        """Mean loss of the held-out pictures after some steps, if it does not diverge."""
        for _ in self.train(rate, SEARCH_SEED, steps, pictures.train):
            if not math.isfinite(self.loss):
                return None
        found = float(nn.functional.cross_entropy(self.scores(pictures.held[0]), pictures.held[1]))
        return found if math.isfinite(found) else None

    def training(self, rate: float, seed: int, steps: int, pictures: Data) -> Training:
        """Test accuracy while it learns."""
        (x, y), at = pictures.test, tested(steps)
        curve = [
            float((self.scores(x).argmax(1) == y).float().mean())
            for done in self.train(rate, seed, steps, pictures.train)
            if done in at
        ]
        return Training(rate, curve)


class Bench:
    """Measures what is not in the store yet."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.path = options, options.store
        self.store = (
            msgspec.json.decode(self.path.read_bytes(), type=Store) if self.path.exists() else Store()
        )
        self.trainer = cache(lambda name: Trainer(METHODS[name][0]))

    def save(self, told: str) -> None:
        print(told, flush=True)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(msgspec.json.encode(self.store))

    def held_loss(self, name: str, rate: float) -> float:
        key = f"{name} / {rate:.0e} / {self.options.search_steps} / {self.options.samples}"
        if key not in self.store.losses:
            found = self.trainer(name).held_loss(rate, self.options.search_steps, data(self.options.samples))
            self.store.losses[key] = found
            self.save(f"{key}: held-out loss {found}")
        known = self.store.losses[key]
        return math.inf if known is None else known

    def best_rate(self, name: str) -> float:
        """Found by held-out pictures."""
        return climb(METHODS[name][1], partial(self.held_loss, name))

    def trainings(self, name: str) -> list[Training]:
        """One for each seed, at the best rate."""
        found, options = [], self.options
        lr = self.best_rate(name)
        for seed in range(options.seeds):
            key = f"{name} / {lr:.0e} / {seed} / {options.steps} / {options.samples}"
            if key not in self.store.runs:
                run = self.trainer(name).training(lr, seed, options.steps, data(options.samples))
                self.store.runs[key] = run
                self.save(f"{key}: {run.curve[-1]:.1%}")
            found.append(self.store.runs[key])
        return found

    def peak(self, name: str) -> int:
        """RAM of the plain step."""
        if name not in self.store.peaks:
            graph = captured(METHODS[name][0]).graph
            self.store.peaks[name] = plain_plan(graph, load_device(DEVICES[0])).peak_bytes
            self.save(f"{name}: {self.store.peaks[name]:,} bytes")
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
            self.save(f"{key}: {self.store.prices[key]}")
        return self.store.prices[key]


def tested(steps: int) -> list[int]:
    """The steps after which there is a test."""
    return sorted({round(steps * (i / TESTS) ** 2) for i in range(TESTS + 1)})


# -- plans ---------------------------------------------------------------------------------------------------


def price(name: str, device: Device, budget: Budget, limit: float) -> Price | int:
    """The step of a row within the budget, or the least RAM that it can do with."""
    graph = captured(METHODS[ROWS.get(name, name)][0]).graph
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
    tested: list[int]
    runs: list[Training]
    plain_peak: int
    prices: dict[str, Price | int]

    def mean(self, index: int = -1) -> float:
        return statistics.mean(run.curve[index] for run in self.runs)

    def steps_to(self, target: float) -> int | None:
        reached = (done for i, done in enumerate(self.tested) if self.mean(i) >= target)
        return next(reached, None)


def rows(bench: Bench) -> Iterator[Row]:
    chosen = [n for n in METHODS if n in bench.options.methods]
    for name in [row for n in chosen for row in ([r for r, of in ROWS.items() if of == n] or [n])]:
        trained_as = ROWS.get(name, name)
        prices = {device: bench.price(name, device) for device in DEVICES}
        yield Row(
            name, tested(bench.options.steps), bench.trainings(trained_as), bench.peak(trained_as), prices
        )


def accuracy_line(row: Row) -> str:
    ends = [run.curve[-1] for run in row.runs]
    spread = f" +- {statistics.stdev(ends):.1%}" if len(ends) > 1 else ""
    found = row.prices[DEVICES[0]]
    planned = (
        f"{found.peak / KIB:,.0f} | {found.flops / 1e6:,.0f}"
        if isinstance(found, Price)
        else f"at least {found / KIB:,.0f} | -"
    )
    lr = f"{row.runs[0].rate:g}"
    return f"| {row.name} | {lr} | {row.mean():.1%}{spread} | {row.plain_peak / KIB:,.0f} | {planned} |"


def time_line(row: Row, target: float) -> str:
    steps, found = row.steps_to(target), row.prices[DEVICES[0]]
    work = f"{steps * found.flops / 1e9:,.1f}" if steps is not None and isinstance(found, Price) else "-"
    return f"| {row.name} | {'-' if steps is None else steps} | {work} | {cost_cells(row, steps)} |"


def cost_cells(row: Row, steps: int | None) -> str:
    return " | ".join(
        f"{figure(steps * found.seconds)} s, {figure(steps * found.joules)} J"
        if isinstance(found, Price) and steps is not None
        else "-"
        for found in row.prices.values()
    )


def figure(number: float) -> str:
    """In three digits, or more of large numbers."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def words(found: dict[str, Row], target: float) -> str:
    """What the tables say, of the rows that there are."""
    if not {*ROWS, "SPSA"} <= set(found):
        return "Backprop and SPSA were not both run."
    device = DEVICES[0]
    bp, checkpointed = (found[f"backprop, {how}"].prices[device] for how in ("planned", "every block"))
    if not isinstance(bp, Price) or not isinstance(checkpointed, Price):
        return f"Within this RAM no plan of backprop exists on {device}: only what avoids it fits."
    planned, zeroth = found["backprop, planned"], found["SPSA"]
    best = best_other(found)
    points, over_zeroth = (100 * (planned.mean() - row.mean()) for row in (best, zeroth))
    lines = [
        (
            f"Planned backprop takes {bp.peak / checkpointed.peak:.0%} of the RAM of backprop with every"
            f" block checkpointed and, on {device}, {bp.seconds / checkpointed.seconds:.2f} times its time a"
            " step, at the same accuracy, bit by bit."
        ),
        (
            f"At the memory of zeroth order it ends {points:.1f} points above the best of the others,"
            f" {best.name}, and {over_zeroth:.1f} above SPSA."
        ),
        *(faster(planned, found[name], target) for name in dict.fromkeys((best.name, "SPSA"))),
        PUBLISHED,
    ]
    return "\n".join(f"- {line}" for line in lines)


def faster(bp: Row, other: Row, target: float) -> str:
    """How much more the other needs to come to the target."""
    needed, steps = other.steps_to(target), bp.steps_to(target)
    if not needed or not steps:
        return f"{other.name} does not come to {target:.1%} within these steps."
    prices = [(p, q) for p, q in zip(other.prices.values(), bp.prices.values(), strict=True)
              if isinstance(p, Price) and isinstance(q, Price)]  # fmt: skip
    times, joules, work = (
        [needed * getattr(p, what) / (steps * getattr(q, what)) for p, q in prices]
        for what in ("seconds", "joules", "flops")
    )
    return (
        f"To {target:.1%}, {other.name} takes {needed / steps:.1f} times the steps of planned backprop, "
        f"{work[0]:.1f} times the operations, and by device {span(times)} times the time and {span(joules)} "
        "times the energy."
    )


def span(figures: list[float]) -> str:
    """`1.2 to 1.5`, or one of them where they look alike."""
    return " to ".join(dict.fromkeys(f"{figure:.1f}" for figure in (min(figures), max(figures))))


def figures(found: dict[str, Row], bench: Bench, target: float) -> tuple[Figure, ...]:
    """What planned backprop was to show against what avoids backprop, and what was aimed at."""
    devices = min(sum(isinstance(p, Price) for p in row.prices.values()) for row in found.values())
    energy = Figure(6, "devices with energy of every row", devices, 3, at_least=True, digits=0)
    if not {*ROWS, "SPSA"} <= set(found):
        return (energy,)
    rows_ = (found["backprop, planned"], found["backprop, every block"], best_other(found))
    planned, _, best = rows_
    price, of_checkpoints, of_best = (row.prices[DEVICES[0]] for row in rows_)
    words = f"planned backprop above {best.name}, the best of the others, points"
    above = 100 * (planned.mean() - best.mean())
    listed = [Figure(2, words, above, 0, at_least=True, is_mean=True)]
    if isinstance(price, Price) and isinstance(of_checkpoints, Price):
        words = "its RAM by that of backprop with every block checkpointed"
        listed.append(Figure(2, "its RAM by that of plain SPSA", price.peak / bench.peak("SPSA"), ROOM))
        listed.append(Figure(2, words, price.peak / of_checkpoints.peak, 1))
    needed, steps = best.steps_to(target), planned.steps_to(target)
    if needed and steps and isinstance(price, Price) and isinstance(of_best, Price):
        for what, ratio in (
            ("operations", of_best.flops / price.flops),
            (f"time on {DEVICES[0]}", of_best.seconds / price.seconds),
        ):
            words = f"{what} of {best.name} to the target, by planned backprop's"
            listed.append(Figure(2, words, needed / steps * ratio, 1, at_least=True, is_mean=True))
    return (*listed, energy)


def best_other(found: dict[str, Row]) -> Row:
    """The row of most accuracy that is no backprop."""
    return max((row for name, row in found.items() if name not in ROWS), key=lambda row: row.mean())


def caution(options: argparse.Namespace) -> str:
    """What this run lacks of the default one."""
    left_out = [name for name in METHODS if name not in options.methods]
    text = f"\n\nNot run: {'; '.join(left_out)}." if left_out else ""
    if options.seeds < 3:
        text += "\n\nOf so few seeds, differences of two or three points are chance."
    return text


def write(found: dict[str, Row], bench: Bench) -> None:
    """The page, and its figures beside it."""
    options = bench.options
    first = next(iter(found.values()))
    top = max(row.mean() for row in found.values() if row.name in ROWS or len(found) == 1)
    target = (first.mean(0) + top) / 2
    listed, called = figures(found, bench, target), command(__file__, "--store", "--page")
    text = TEXT.format(
        parameters=sum(w.numel() for w in Picture().parameters()), steps=options.steps, batch=BATCH,
        degrees=DEGREES, samples=options.samples, tested=TESTED,
        held=HELD, seeds=options.seeds, start=first.mean(0),
        search=options.search_steps, room=ROOM, budget=bench.budget.ram_bytes, device=DEVICES[0],
        target=target,
        moments=", ".join(map(str, first.tested)), headers=" | ".join(DEVICES), lines="---:|" * len(DEVICES),
        accuracy="\n".join(accuracy_line(row) for row in found.values()),
        times="\n".join(time_line(row, target) for row in found.values()),
        costs="\n".join(f"| {name} | {cost_cells(row, 1)} |" for name, row in found.items()),
        words=words(found, target) + caution(options), command=called, figures=table(listed),
        machine=machine(),
    )  # fmt: skip
    options.page.parent.mkdir(parents=True, exist_ok=True)
    options.page.write_text(text)
    save(options.page, Found(text.partition("\n")[0].strip("# "), called, options.seeds, listed))


def main() -> None:
    parser = argparse.ArgumentParser(description="What avoiding backpropagation costs.")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--search-steps", type=int, default=100)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS), metavar="NAME")
    parser.add_argument("--time-limit", type=float, default=10.0, help="seconds for each plan")
    parser.add_argument("--store", type=Path, default=STORE)
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(options)
    found: dict[str, Row] = {}
    for row in rows(bench):
        found[row.name] = row
        write(found, bench)
    print(options.page.read_text())


if __name__ == "__main__":
    main()
