"""Sparse update, its selector, int8 training and winner-take-all sampling, on Fashion-MNIST.

    EDGEWISE_DATA=FOLDER python benchmarks/methods_sparse_update.py [--seeds N] [--samples N] [--epochs N]

A small convolutional net is pretrained on classes 0 to 4, its norms are folded into its convolutions, it gets
a new head, and is adapted to classes 5 to 9 by steps that Edgewise captured, planned and executed. Writes
docs/benchmarks/methods_sparse_update.md. Runs are kept in build/methods_sparse_update.json, so that an
interrupted call goes on where it stopped; `--fresh` forgets them.
"""

import argparse
import copy
import json
import statistics
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from _command import machine
from _data import data_file
from _energy import DEVICES, energy_table, joules
from _figures import Figure, Found, save
from torch import Tensor, nn

from edgewise.capture import SGD, Captured
from edgewise.devices import load_device
from edgewise.errors import BudgetInfeasible
from edgewise.methods import (
    Backprop,
    Method,
    SparseUpdate,
    capture_with,
    fold_norms,
    quantize,
    select,
    use_wta_crs,
)
from edgewise.plan import Budget, Compute, Plan, make_plan, plain_plan
from edgewise.run import Executor
from edgewise.zoo.models import build_model

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks" / "methods_sparse_update.md"
STATE = ROOT / "build" / "methods_sparse_update.json"
DEVICE = load_device("stm32f7")
BUDGETS_KIB = (136, 160, 208, 272)
PROGRAM = "python benchmarks/methods_sparse_update.py"
RATES = (0.03, 0.1, 0.3)
SHARES = (1.0, 0.3, 0.1)
TEXT = """# Sparse update, int8 training and sampled rows

Fashion-MNIST at 14x14 pixels. Mean accuracy on the test images of the classes trained on, and the standard
deviation over {seeds} seeds. Learning rates are the best of {rates} on {held} held-out images, in the mean
of the seeds. RAM is the planned peak of one step, weights included, on the profile `{device}`, and for a
plain plan unless said otherwise. All steps were captured, planned and executed by Edgewise.

## Adapting a network to new classes

DigitsCNN (six convolutions of 8 and 16 channels and a head, {parameters:,} weights and biases) is pretrained
on {pretraining:,} images of classes 0 to 4, its norms are folded, its head is drawn anew, and it is adapted
to classes 5 to 9 with {samples} images, {epochs} epochs, batch {batch}, SGD.

| what is trained | trained numbers | accuracy, % | RAM, B | MFLOP | learning rate |
|---|---:|---:|---:|---:|---:|
{transfer}

- *Selected* rows: what `select` chose for that RAM from {probed} batches; trained numbers are those of the
  first seed, RAM the most of all seeds. *Planned* rows: full backprop within that RAM by `make_plan`, with
  recomputation and paging where that is needed; a plan changes at most the order of sums, so the accuracy is
  that of full backprop.
- Selected with the first seed: {choices}.

{sections}## Energy of a step

By the profiles of three devices, for the plans of the tables, whatever RAM the device has. A profile has one
price for an operation, of whatever width: what int8 would save is not in it.

{energy}

Written by `{command}` on {machine}, one thread.
"""

INT8_TEXT = """## Int8

The same task; weights, activations and biases are whole numbers (`quantize`). RAM is left out, because the
captured step holds whole numbers in 32-bit floats. Seeds: {seeds}.

| what is trained | scaling | accuracy, % | learning rate |
|---|---|---:|---:|
{rows}

"""

WTA_TEXT = """## Winner-take-all column-row sampling

An MLP 196-256-256-10 on all ten classes, trained from its initial weights: {mlp_samples:,} images,
{mlp_epochs} epochs, batch {mlp_batch}; seeds: {seeds}. *Kept* is what the forward pass makes and the
backward pass reads, in the plain order; a ReLU keeps a mask where nobody keeps its output.

| share of rows | rows kept | accuracy, % | kept, B | RAM, B | MFLOP | learning rate |
|---|---:|---:|---:|---:|---:|---:|
{rows}

"""

Data = tuple[Tensor, Tensor]


@cache
def fashion() -> dict[str, Data]:
    found = {}
    with np.load(data_file("fashion_mnist.npz")) as arrays:
        for part in ("train", "test"):
            x = torch.from_numpy(arrays[f"x_{part}"]).float()[:, None] / 255
            x = nn.functional.avg_pool2d((x - 0.286) / 0.353, 2)
            found[part] = (x, torch.from_numpy(arrays[f"y_{part}"]).long())
    return found


def classes(part: str, least: int, most: int) -> Data:
    x, y = fashion()[part]
    inside = (y >= least) & (y <= most)
    return x[inside], y[inside] - least


def batches(data: Data, size: int, seed: int, epochs: int) -> Iterator[Data]:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        order = torch.randperm(len(data[0]), generator=generator)
        for start in range(0, len(order) - size + 1, size):
            rows = order[start : start + size]
            yield data[0][rows], data[1][rows]


@cache
def pretrained(seed: int, samples: int) -> nn.Module:
    """In plain PyTorch, on classes 0 to 4; norms folded, the head new."""
    model = build_model("digits-cnn", {"width": 8, "depth": 3, "classes": 5}, seed=seed).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    x, y = classes("train", 0, 4)
    for inputs, targets in batches((x[:samples], y[:samples]), 64, seed, 3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    fold_norms(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.head.reset_parameters()  # type: ignore[operator, union-attr]
    return model


def accuracy(model: nn.Module, data: Data) -> float:
    model.eval()
    with torch.no_grad():
        right = sum(int((model(x).argmax(1) == y).sum()) for x, y in zip(*map_split(data), strict=True))
    return 100 * right / len(data[1])


def map_split(data: Data) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    return data[0].split(500), data[1].split(500)


class Bench:
    """Runs by key, kept in a file; `options` are part of every key."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        shown = {"samples", "epochs", "batch", "pretraining", "mlp_samples", "mlp_epochs", "mlp_batch"}
        self.sizes = json.dumps({name: vars(options)[name] for name in sorted(shown)})
        known = {} if options.fresh or not STATE.is_file() else json.loads(STATE.read_text())
        self.known: dict[str, Any] = known
        self.energy: dict[str, dict[str, float]] = {}

    def once(self, key: str, run: Callable[[], Any]) -> Any:
        key = f"{key} {self.sizes}"
        if key not in self.known:
            self.known[key] = run()
            STATE.parent.mkdir(exist_ok=True)
            STATE.write_text(json.dumps(self.known))
        return self.known[key]

    def adapting(self, seed: int) -> tuple[Data, Data]:
        """Images to adapt with, and held-out ones."""
        x, y = classes("train", 5, 9)
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
        own, held = order[: self.options.samples], order[-self.options.held :]
        return (x[own], y[own]), (x[held], y[held])

    def model(self, seed: int, scaled: bool | None) -> nn.Module:
        model = copy.deepcopy(pretrained(seed, self.options.pretraining))
        if scaled is not None:
            quantize(model, [self.adapting(seed)[0][0][:64]], scaled=scaled)
        return model.train()

    def settings(self, method: Method | int, seed: int) -> Method:
        """The method itself, or what is selected for so many KiB."""
        if not isinstance(method, int):
            return method

        def choose() -> str:
            own = list(batches(self.adapting(seed)[0], self.options.batch, seed, 1))[: self.options.probed]
            found = select(self.model(seed, None), "cross_entropy", SGD(0.1), own, DEVICE, method * 1024)
            return msgspec.json.encode(found).decode()

        return msgspec.json.decode(self.once(f"choice {method} {seed}", choose), type=SparseUpdate)

    def trained(
        self, method: Method | int, seed: int, lr: float, scaled: bool | None = None
    ) -> dict[str, Any]:
        """One run: accuracies, and what a step of it costs."""
        model, (own, held) = self.model(seed, scaled), self.adapting(seed)
        settings = self.settings(method, seed)
        captured = self.captured(settings, model, seed, lr)
        plan = plain_plan(captured.graph, DEVICE)
        with Executor(captured, plan, DEVICE) as executor:
            for step, batch in enumerate(batches(own, self.options.batch, seed, self.options.epochs)):
                executor.step(batch, step)
        names = [new[0] for op in captured.graph.ops for new in op.updates]
        sparse = settings if isinstance(settings, SparseUpdate) else None
        return {
            "held": accuracy(model, held),
            "test": accuracy(model, classes("test", 5, 9)),
            "trained": sum(numbers(captured, name, sparse) for name in names),
            "choice": words(sparse) if sparse else "",
            **figures(captured, plan),
        }

    def captured(self, method: Method, model: nn.Module, seed: int, lr: float = 0.1) -> Captured:
        """The step that adapts `model`."""
        example = next(batches(self.adapting(seed)[0], self.options.batch, seed, 1))
        return capture_with(method, model, "cross_entropy", SGD(lr), example, seed=seed)

    def first(self, method: Method | int, scaled: bool | None = None) -> Captured:
        """That of the first seed."""
        return self.captured(self.settings(method, 0), self.model(0, scaled), 0)

    def price(self, label: str, step: Callable[[], Captured]) -> None:
        """Note the energy of a row's step by plain plans."""
        self.energy[label] = self.once(f"energy {label}", lambda: joules(step().graph))

    def row(
        self, label: str, run: Callable[[int, float], dict[str, Any]], seeds: int
    ) -> tuple[list[dict[str, Any]], float]:
        """The runs of all seeds at the learning rate that is best on their held-out images."""
        tried = {
            lr: [
                self.once(f"{label} {seed} {lr}", lambda seed=seed, lr=lr: run(seed, lr))
                for seed in range(seeds)
            ]
            for lr in RATES
        }
        best = max(tried, key=lambda lr: statistics.mean(found["held"] for found in tried[lr]))
        return tried[best], best


def numbers(captured: Captured, name: str, settings: SparseUpdate | None) -> int:
    """How many numbers of a parameter are trained."""
    shape = captured.layouts[name].size
    share = settings.weights.get(name.rpartition(".")[0], 1.0) if settings and len(shape) > 1 else 1.0
    rows = len(share) if isinstance(share, tuple) else max(1, round(share * shape[0]))
    return captured.layouts[name].count // shape[0] * rows


def words(settings: SparseUpdate) -> str:
    """A choice in short."""
    parts = [
        f"`{p}`" + (f" ({len(c)} channels)" if isinstance(c, tuple) else "")
        for p, c in settings.weights.items()
    ]
    alone = [f"`{path}`" for path in settings.biases if path not in settings.weights]
    return ", ".join(parts) + (f"; biases of {', '.join(alone)}" if alone else "")


def figures(captured: Captured, plan: Plan) -> dict[str, Any]:
    graph = captured.graph
    return {"ram": plan.peak_bytes, "flops": sum(op.flops for op in graph.ops)}


def spread(runs: list[dict[str, Any]]) -> str:
    found = [run["test"] for run in runs]
    mean = f"{statistics.mean(found):.1f}"
    return f"{mean} ± {statistics.stdev(found):.1f}" if len(found) > 1 else mean


def transfer(bench: Bench) -> tuple[list[str], list[str]]:
    """Rows of the first table, and the selector's choices in words."""
    methods: dict[str, Method | int] = {
        "all: full backprop": Backprop(),
        "last layer": SparseUpdate({"head": 1.0}, ("head",)),
        "biases, and the last layer": SparseUpdate({"head": 1.0}, ("",)),
        **{f"selected for {kib} KiB": kib for kib in bench.options.budgets},
    }
    rows, choices = [], []
    for label, method in methods.items():
        try:  # a budget may be too small for any choice
            runs, lr = bench.row(
                label, lambda seed, lr, m=method: bench.trained(m, seed, lr), bench.options.seeds
            )
        except BudgetInfeasible as error:
            rows.append(f"| {label} | 0 | does not fit: {error.min_ram_bytes:,} B is the least | | | |")
            continue
        first = runs[0]
        rows.append(
            f"| {label} | {first['trained']:,} | {spread(runs)} | {max(r['ram'] for r in runs):,} "
            f"| {first['flops'] / 1e6:.1f} | {lr} |"
        )
        print(rows[-1], flush=True)
        bench.price(label, partial(bench.first, method))
        if isinstance(method, int):
            choices.append(f"{method} KiB: {first['choice']}")
        if isinstance(method, Backprop):
            rows += [planned(bench, kib, runs, lr) for kib in bench.options.budgets]
    return rows, choices


def planned(bench: Bench, kib: int, runs: list[dict[str, Any]], lr: float) -> str:
    """Full backprop within a budget: the accuracy is that of full backprop."""
    label = f"all: full backprop, planned for {kib} KiB"
    found = {
        name: bench.once(f"planned {kib} {name}", partial(plan_within, bench, kib, name)) for name in DEVICES
    }
    here = found[DEVICE.name]
    if here is None:
        return f"| {label} | | does not fit | | | |"
    bench.energy[label] = {name: of["joules"] for name, of in found.items() if of is not None}
    cells = f"{here['ram']:,} | {here['flops'] / 1e6:.1f}"
    print(label, cells, flush=True)
    return f"| {label} | {runs[0]['trained']:,} | {spread(runs)} | {cells} | {lr} |"


def plan_within(bench: Bench, kib: int, device: str) -> dict[str, float] | None:
    """What a step of full backprop costs within so many KiB on a device; none if no plan fits."""
    graph = bench.first(Backprop()).graph
    try:
        plan = make_plan(graph, load_device(device), Budget(kib * 1024), time_limit=bench.options.time_limit)
    except BudgetInfeasible:
        return None
    again = [step.op for step in plan.steps if isinstance(step, Compute)]
    return {"ram": plan.peak_bytes, "joules": plan.joules, "flops": sum(graph.op[op].flops for op in again)}


def int8(bench: Bench) -> Iterator[str]:
    part = SparseUpdate({"coarse": 1.0, "head": 1.0}, ("coarse", "head"))
    for label, method in (("all", Backprop()), ("second half", part)):
        for scaled in (True, False):
            name = "quantization-aware" if scaled else "none"
            run: Any = lambda seed, lr, m=method, s=scaled: bench.trained(m, seed, lr, s)  # noqa: E731
            runs, lr = bench.row(f"int8 {label} {name}", run, bench.options.side_seeds)
            bench.price(
                f"int8, {label}, scaling: {name}",
                partial(bench.first, method, scaled),
            )
            yield f"| {label} | {name} | {spread(runs)} | {lr} |"


def kept_bytes(captured: Captured) -> int:
    """What the forward pass makes and the backward pass reads."""
    graph = captured.graph
    loss = next(i for i, op in enumerate(graph.ops) if set(graph.outputs) & set(op.outputs))
    made = {name for op in graph.ops[: loss + 1] for name in op.outputs}
    return sum(graph.value[n].bytes for n in {n for op in graph.ops[loss + 1 :] for n in op.inputs} & made)


def sampling(options: argparse.Namespace, share: float, seed: int, lr: float) -> Captured:
    """The step of the MLP with a share of the rows; the model is trained from its initial weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = (nn.Linear(196, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
        model = nn.Sequential(nn.Flatten(), *layers).train()
    if share < 1:
        use_wta_crs(model, share)
    example = next(batches(first_images(options), options.mlp_batch, seed, 1))
    lean = SparseUpdate({"": 1.0}, ("",))  # all of it; and of a ReLU, only a mask is kept if that is enough
    return capture_with(lean, model, "cross_entropy", SGD(lr), example, seed=seed)


def first_images(options: argparse.Namespace) -> Data:
    """What the MLP is trained on."""
    x, y = fashion()["train"]
    return x[: options.mlp_samples], y[: options.mlp_samples]


def sampled(bench: Bench, share: float, seed: int, lr: float) -> dict[str, Any]:
    options, (x, y) = bench.options, fashion()["train"]
    held = (x[-options.held :], y[-options.held :])
    captured = sampling(options, share, seed, lr)
    model, plan = captured.model, plain_plan(captured.graph, DEVICE)
    with Executor(captured, plan, DEVICE) as executor:
        steps = batches(first_images(options), options.mlp_batch, seed, options.mlp_epochs)
        for step, batch in enumerate(steps):
            executor.step(batch, step)
    test = accuracy(model, fashion()["test"])
    figured = figures(captured, plan)
    return {"held": accuracy(model, held), "test": test, "kept": kept_bytes(captured), **figured}


def wta(bench: Bench) -> Iterator[str]:
    from edgewise.methods.wta_crs import rows_kept  # noqa: PLC0415

    for share in SHARES:
        run: Any = lambda seed, lr, s=share: sampled(bench, s, seed, lr)  # noqa: E731
        runs, lr = bench.row(f"wta {share}", run, bench.options.side_seeds)
        size, first = bench.options.mlp_batch, runs[0]
        bench.price(f"MLP, {share:.0%} of the rows", partial(sampling, bench.options, share, 0, 0.1))
        yield (
            f"| {share:.0%} | {rows_kept(size, share)} of {size} | {spread(runs)} | {first['kept']:,} "
            f"| {first['ram']:,} | {first['flops'] / 1e6:.1f} | {lr} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Sparse update, int8 training and sampled rows.")
    sizes = {"seeds": 3, "side_seeds": 3, "samples": 600, "epochs": 3, "batch": 8, "pretraining": 6000,
             "probed": 4, "held": 500, "mlp_samples": 6000, "mlp_epochs": 3, "mlp_batch": 128,
             "time_limit": 20}  # fmt: skip
    for name, size in sizes.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=size)
    parser.add_argument("--budgets", type=int, nargs="*", default=list(BUDGETS_KIB), help="in KiB")
    parser.add_argument("--fresh", action="store_true", help="forget earlier runs")
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(options)
    rows, choices = transfer(bench)
    sections = ""
    write(bench, sizes, rows, choices, sections)
    for measure, text in ((wta, WTA_TEXT), (int8, INT8_TEXT)):
        shown = {**vars(options), "seeds": options.side_seeds}
        found: list[str] = []
        for row in measure(bench):
            found.append(row)
            print(row, flush=True)
            section = text.format(rows="\n".join(found), **shown)
            write(bench, sizes, rows, choices, sections + section)
        sections += section


def write(bench: Bench, sizes: dict[str, int], rows: list[str], choices: list[str], sections: str) -> None:
    """The page with all that was measured so far."""
    options = bench.options
    given = [f"--{n.replace('_', '-')} {vars(options)[n]}" for n in sizes if vars(options)[n] != sizes[n]]
    if tuple(options.budgets) != BUDGETS_KIB:
        given.append(f"--budgets {' '.join(map(str, options.budgets))}")
    text = TEXT.format(
        transfer="\n".join(rows),
        choices="; ".join(choices),
        sections=sections,
        parameters=sum(p.numel() for p in pretrained(0, options.pretraining).parameters()),
        device=DEVICE.name,
        rates=", ".join(str(rate) for rate in RATES),
        command=" ".join((PROGRAM, *given)),
        energy=energy_table("row", bench.energy.items()),
        machine=machine(),
        **{name: vars(options)[name] for name in sizes},
    )
    options.page.parent.mkdir(parents=True, exist_ok=True)
    options.page.write_text(text)
    devices = min(len(of) for of in bench.energy.values())
    figures = (Figure(6, "devices with energy of every row", devices, 3, at_least=True, digits=0),)
    seeds = min(options.seeds, options.side_seeds)
    save(options.page, Found(text.splitlines()[0].strip("# "), " ".join((PROGRAM, *given)), seeds, figures))


if __name__ == "__main__":
    main()
