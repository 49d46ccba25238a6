"""Forward-forward, in float32 and on int8, beside backpropagation: accuracy, memory by plan, time of a step.

    python benchmarks/methods_forward_forward.py [--seeds N] [--epochs N] [--samples N] [--repeats N]
        [--parts PART ...] [--page PATH]

Fashion-MNIST from the folder in EDGEWISE_DATA (`../shared/data` by default). INT8 backprop is made here of
the same products: linear layers and convolutions on int8 operands, forward and backward, all else float32.
What was measured is kept in build/methods_forward_forward.jsonl and not measured again with the same options;
writes docs/benchmarks/methods_forward_forward.md.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _data import data_file
from torch import Tensor, nn

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from edgewise.capture import Captured, capture  # noqa: E402
from edgewise.capture.directions import step_number  # noqa: E402
from edgewise.capture.estimates import Estimate, Forward, Parameters, trace_estimate  # noqa: E402
from edgewise.devices import load_device  # noqa: E402
from edgewise.methods import Backprop, ForwardForward, Method, capture_with  # noqa: E402
from edgewise.methods.int8_operands import Int8Operands  # noqa: E402
from edgewise.plan import minimum_ram, plain_plan  # noqa: E402
from edgewise.run import Executor  # noqa: E402

PAGE = ROOT / "docs" / "benchmarks" / "methods_forward_forward.md"
KEPT = ROOT / "build" / "methods_forward_forward.jsonl"
DEVICE = load_device("host")
PARTS = ("accuracy", "memory", "time", "convolutions")
BATCH = 64
BATCHES = (64, 128, 256)
CANDIDATES = 3
MAIN = "two hidden layers of 1,000"
FEW = (4_000, 1_000)
"""Training and test samples of the convolutional network."""

METHODS = ("backprop", "INT8 backprop", "forward-forward", "FF-INT8")
RATES = {
    "two hidden layers of 1,000": dict(zip(METHODS, (0.4, 0.4, 0.12, 0.12), strict=True)),
    "eight hidden layers of 256": dict.fromkeys(METHODS, 0.05),
    "three convolutions": dict(zip(METHODS, (0.1, 0.1, 0.02, 0.02), strict=True)),
}
"""First steps of plain SGD, by network.

For two hidden layers, what did best in float32 on 20,000 training samples, 3 epochs, judged on 5,000 others
of the training samples; INT8 has the rate of its float twin. The others are not tuned: of the eight layers
only memory is measured.
"""

Row = dict[str, Any]
Network = Callable[[], nn.Sequential]


def mlp() -> nn.Sequential:
    """Two hidden layers of 1,000."""
    hidden = (nn.Linear(784, 1000), nn.ReLU(), nn.Linear(1000, 1000), nn.ReLU())
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(1000, 10))


def deep() -> nn.Sequential:
    """Eight hidden layers of 256."""
    widths = (784, *[256] * 8)
    layers = [p for a, b in pairwise(widths) for p in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(256, 10))


def convolutional() -> nn.Sequential:
    """Three convolutions, of 16, 32 and 32 channels."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((1, 16), (16, 32), (32, 32)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 9, 10))


def int8_backprop(forward: Forward, parameters: Parameters, _: dict[str, Tensor]) -> Estimate:
    """The gradient by backpropagation, all products of int8 operands, gradients rounded stochastically."""
    with Int8Operands(step_number(forward.batch[0])):
        loss = forward(parameters, keep=True)
    found = torch.autograd.grad(loss, list(parameters.values()))
    return Estimate(loss.detach(), dict(zip(parameters, found, strict=True)))


@dataclass(frozen=True)
class Falling:
    """Plain SGD whose rate falls from `lr` to zero in a straight line over so many steps."""

    lr: float
    steps: int
    state_names: tuple[str, ...] = ()
    scratch: int = 0
    skips_zeros: bool = True

    def update(self, parameter: Tensor, gradient: Tensor, states: dict[str, Tensor], step: int) -> None:
        """As `SGD` with the rate of this step."""
        del states
        parameter.add_(gradient, alpha=-self.lr * max(0.0, 1 - step / self.steps))


def captured_by(name: str, shape: str, batch: int, seed: int, steps: int = 1000) -> Captured:
    """The step of a method on a network whose first weights depend on the seed alone."""
    torch.manual_seed(seed)
    example = torch.zeros(batch, 1, 28, 28), torch.zeros(batch, dtype=torch.int64)
    model, optimizer = SHAPES[shape](), Falling(RATES[shape][name], steps)
    if name == "INT8 backprop":
        trace = partial(trace_estimate, estimator=int8_backprop)
        return capture(model, "cross_entropy", optimizer, example, seed=seed, trace=trace)
    method: Method = Backprop()
    if name != "backprop":
        precision = "int8" if name == "FF-INT8" else "float32"
        settings: dict[str, Any] = {"label_value": 20.0, "pairs": True, "candidates": CANDIDATES}
        if shape == "three convolutions":
            settings = {"label": "wave", "label_value": 1.0}
        method = ForwardForward(precision=precision, **settings)  # type: ignore[arg-type]
    return capture_with(method, model, "cross_entropy", optimizer, example, seed=seed)


# -- accuracy ------------------------------------------------------------------------------------------------


class Samples:
    """Fashion-MNIST less the mean of the training samples, over the deviation of all their pixels.

    `count` training samples, in an order that is the same for all methods, and the first `tests` of the test.
    """

    def __init__(self, count: int, tests: int) -> None:
        with np.load(data_file("fashion_mnist.npz")) as data:
            chosen = np.random.default_rng(0).permutation(len(data["x_train"]))[:count]
            self.train = _tensors(data["x_train"][chosen], data["y_train"][chosen])
            self.test = _tensors(data["x_test"][:tests], data["y_test"][:tests])
        mean, deviation = self.train[0].mean(0), self.train[0].std()
        for x in (self.train[0], self.test[0]):
            x.sub_(mean).div_(deviation)

    def batches(self, epoch: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All of them once, in whole batches."""
        x, y = self.train
        order = torch.from_numpy(np.random.default_rng((seed, epoch)).permutation(len(x)))
        for chosen in order[: len(x) // BATCH * BATCH].split(BATCH):
            yield x[chosen], y[chosen]


def _tensors(x: Any, y: Any) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(x).float().div_(255).unsqueeze(1), torch.from_numpy(y.astype(np.int64))


def accuracy(name: str, shape: str, samples: Samples, epochs: int, seed: int) -> Row:
    """Of the test samples, in percent, after training. INT8 methods classify on int8, too."""
    captured = captured_by(name, shape, BATCH, seed, epochs * (len(samples.train[0]) // BATCH))
    with Executor(captured, plain_plan(captured.graph, DEVICE), DEVICE) as executor:
        step = 0
        for epoch in range(epochs):
            for batch in samples.batches(epoch, seed):
                executor.step(batch, step)
                step += 1
    captured.model.eval()
    x, y = samples.test
    right = 0
    with torch.no_grad():
        for inputs, targets in zip(x.split(500), y.split(500), strict=True):
            if name == "INT8 backprop":
                with Int8Operands():
                    scores = captured.model(inputs)
            else:
                scores = captured.model(inputs)
            right += int((scores.argmax(1) == targets).sum())
    return {"percent": 100 * right / len(x)}


# -- memory and time -----------------------------------------------------------------------------------------

SHAPES: dict[str, Network] = {
    "two hidden layers of 1,000": mlp,
    "eight hidden layers of 256": deep,
    "three convolutions": convolutional,
}


def peaks(name: str, shape: str, batch: int, *, least: bool) -> Row:
    """Bytes at the peak of the plain plan, and with `least` of the smallest plan that was found."""
    captured = captured_by(name, shape, batch, 0)
    found: Row = {"plain": plain_plan(captured.graph, DEVICE).peak_bytes}
    found["weights"] = sum(p.numel() * p.element_size() for p in captured.model.parameters())
    if least:
        found["least"] = minimum_ram(captured.graph, DEVICE, time_limit=20).ram_bytes
    return found


def times(shape: str, batch: int, repeats: int) -> Row:
    """Median processor time of a step by each method, seconds, in turn, under the plain plan."""
    x, y = torch.rand(batch, 1, 28, 28), torch.randint(0, 10, (batch,))
    executors = {}
    for name in METHODS:
        captured = captured_by(name, shape, batch, 0)
        executors[name] = Executor(captured, plain_plan(captured.graph, DEVICE), DEVICE)
    spent: dict[str, list[float]] = {name: [] for name in METHODS}
    for step in range(repeats + 2):
        for name, executor in executors.items():
            begin = time.thread_time()
            executor.step((x, y), step)
            if step >= 2:
                spent[name].append(time.thread_time() - begin)
    for executor in executors.values():
        executor.close()
    return {name: statistics.median(each) for name, each in spent.items()}


# -- rows that are kept --------------------------------------------------------------------------------------


class Kept:
    """Rows by what they are of, in a file, so that a run goes on where another stopped."""

    def __init__(self, path: Path) -> None:
        self._path, self._rows = path, {}
        if path.exists():
            for line in path.read_text().splitlines():
                key, row = json.loads(line)
                self._rows[json.dumps(key)] = row

    def row(self, key: list[Any], measure: Callable[[], Row]) -> Row:
        """The row of that key, measured if it is not there."""
        name = json.dumps(key)
        if name not in self._rows:
            self._rows[name] = measure()
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a") as file:
                file.write(json.dumps([key, self._rows[name]]) + "\n")
            print(name, json.dumps(self._rows[name]), flush=True)
        return self._rows[name]  # type: ignore[no-any-return]

    def found(self, keys: list[list[Any]]) -> list[Row]:
        """The rows of these keys; none if any is missing."""
        rows = [self._rows.get(json.dumps(key)) for key in keys]
        return rows if all(rows) else []


def figures(kept: Kept, options: argparse.Namespace) -> list[str]:
    """A line for each figure that was aimed at: what was measured, and by how much it is missed."""
    shape, runs = MAIN, [kept.found(accuracy_key(MAIN, n, options)) for n in METHODS]
    lines = []
    if all(runs):
        backprop, _, ours, int8 = (statistics.mean(row["percent"] for row in each) for each in runs)
        lines.append(figure("float32 below backprop, points", backprop - ours, 2.0))
        lines.append(figure("INT8 below float32, points", ours - int8, 0.5))
    peaks_found = [kept.found([["memory", shape, name, BATCH]]) for name in METHODS]
    if all(peaks_found):
        backprop, int8_backprop, _, ours = (row["plain"] for (row,) in peaks_found)
        lines.append(figure(f"memory by backprop's, batch {BATCH}", ours / backprop, 0.7))
        lines.append(figure(f"memory by INT8 backprop's, batch {BATCH}", ours / int8_backprop, 0.75))
    for batch in BATCHES:
        for row in kept.found([["time", shape, batch, options.repeats]]):
            ratio = row["FF-INT8"] / row["backprop"]
            lines.append(figure(f"time of a step by backprop's, batch {batch}", ratio, 1.0))
    return lines


def figure(name: str, measured: float, most: float) -> str:
    """A line of the table of figures."""
    verdict = "met" if measured <= most else f"missed by {measured - most:.2f}"
    return f"| {name} | {most:g} | {measured:.2f} | {verdict} |"


def accuracy_key(shape: str, name: str, options: argparse.Namespace) -> list[list[Any]]:
    """Keys of the rows of all seeds."""
    start = ["accuracy", shape, name, options.samples, options.epochs]
    return [[*start, seed] for seed in range(options.seeds)]


def accuracies(kept: Kept, shape: str, samples: Samples, epochs: int, seeds: int) -> list[str]:
    """A line for each method."""
    found: dict[str, list[float]] = {name: [] for name in METHODS}
    for seed in range(seeds):
        for name in METHODS:
            key = ["accuracy", shape, name, len(samples.train[0]), epochs, seed]
            row = kept.row(key, partial(accuracy, name, shape, samples, epochs, seed))
            found[name].append(row["percent"])
    lines = []
    for name, each in found.items():
        mean, listed = statistics.mean(each), ", ".join(f"{percent:.2f}" for percent in each)
        below = statistics.mean(found["backprop"]) - mean
        lines.append(f"| {name} | {RATES[shape][name]} | {listed} | {mean:.2f} | {below:+.2f} |")
    return lines


def memory_lines(kept: Kept) -> list[str]:
    """A line for each network and batch."""
    lines = []
    for shape in SHAPES:
        for batch in (64, 256, 1024) if shape != "three convolutions" else (64,):
            least = batch == 64 and shape != "three convolutions"
            found = {
                name: kept.row(
                    ["memory", shape, name, batch], partial(peaks, name, shape, batch, least=least)
                )
                for name in METHODS
            }
            cells = [size(found[name]["plain"]) for name in METHODS]
            ours = found["FF-INT8"]["plain"]
            less = [f"{1 - ours / found[name]['plain']:.0%}" for name in METHODS[:2]]
            floors = [size(found[name]["least"]) if least else "" for name in METHODS]
            row = (shape, batch, size(found["backprop"]["weights"]), *cells, *less, *floors)
            lines.append("| " + " | ".join(map(str, row)) + " |")
    return lines


def time_lines(kept: Kept, repeats: int) -> list[str]:
    """A line for each network and batch."""
    return [time_line(kept, MAIN, batch, repeats) for batch in BATCHES]


def time_line(kept: Kept, shape: str, batch: int, repeats: int) -> str:
    """A line of times."""
    row = kept.row(["time", shape, batch, repeats], partial(times, shape, batch, repeats))
    cells = " | ".join(f"{1e3 * row[name]:.1f}" for name in METHODS)
    return f"| {shape} | {batch} | {cells} | {row['FF-INT8'] / row['backprop']:.2f} |"


def size(count: int) -> str:
    """Bytes, for people."""
    return f"{count / 2**20:.2f} MiB"


TEXT = """# Forward-forward and FF-INT8

Fashion-MNIST, less the mean image and over the deviation of all pixels, for every method; batches of
{batch}, plain SGD whose rate falls to zero in a straight line, {samples:,} training samples, {epochs} epochs,
all 10,000 test samples, {seeds} seed(s). *INT8 backprop* is backpropagation with all products of int8
operands and stochastically rounded gradients, everything else float32: the same products as FF-INT8. Both
classify on int8, too.

| figure | aim: at most | measured | |
|---|---:|---:|---|
{figures}

Forward-forward here learns from pairs (`pairs`: softplus of the goodness of a wrong label less that of the
right one), and from the wrong label in which the first layer finds most goodness, of {candidates} that are
drawn (`candidates`). With 5,000 of the training samples held out, three rates were tried for backpropagation
at this width, 0.1, 0.2 and 0.4, and the last did best. For forward-forward, rates, the loss, the sharpness,
the height of the label, and how wrong labels are chosen were tried in some 25 short runs, most of them at
half the width: it is the more tuned of the two. Less the mean image, both are better.

## Accuracy: two hidden layers of 1,000

{accuracy_columns}
{accuracy}

## Accuracy: three convolutions, labels as waves

{few[0]:,} training samples, one epoch, {few[1]:,} test samples, one seed, rates not tuned.

{accuracy_columns}
{convolutions}

## Peak memory

Of the plain plan: weights and all else that is held at once. *Least* is the smallest plan that was found for
the same step, from recomputation to loops. Weights are float32 for every method, so small batches are mostly
weights. FF-INT8 makes the gradient of a linear layer piece by piece within the update, so it is never whole;
that is no privilege of forward-forward, but the simple INT8 backprop here does not.

{memory_columns}
{memory}

## Time of a step

Milliseconds of processor time of one thread, median of {repeats} steps, in turn. Forward-forward makes
two passes, of right and wrong labels: 7.1 million multiply-adds a sample against backprop's 4.6 for the
two hidden layers, which int8 has to make up for first.

| network | batch | {names} | FF-INT8 / backprop |
|---|---:|---:|---:|---:|---:|---:|
{times}

{reading}

Measured with `python benchmarks/methods_forward_forward.py{command}` on
{machine}, a core shared with other work.
Memory and accuracy do not depend on the machine but for rounding; times do.
"""

MEMORY_COLUMNS = (
    f"| network | batch | weights | {' | '.join(METHODS)} | FF-INT8 below backprop | below INT8 backprop "
    f"| {' | '.join(f'least, {name}' for name in METHODS)} |\n|---|{'---:|' * 12}"
)
ACCURACY_COLUMNS = (
    "| method | rate | test accuracy by seed, % | mean | below backprop |\n|---|---:|---|---:|---:|"
)


def main() -> None:
    """Measure what is not kept, and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    torch.set_num_threads(1)
    kept = Kept(KEPT)
    data_file("fashion_mnist.npz")
    made: dict[str, list[str]] = {}
    if "accuracy" in options.parts:
        samples = Samples(options.samples, 10_000)
        made["accuracy"] = accuracies(kept, MAIN, samples, options.epochs, options.seeds)
    if "memory" in options.parts:
        made["memory"] = memory_lines(kept)
    if "time" in options.parts:
        made["time"] = time_lines(kept, options.repeats)
    if "convolutions" in options.parts:
        few = Samples(*FEW)
        made["convolutions"] = accuracies(kept, "three convolutions", few, 1, 1)
        if "time" in made:
            made["time"].append(time_line(kept, "three convolutions", BATCH, options.repeats))
    for part, lines in made.items():
        print(part, *lines, sep="\n", flush=True)
    write(kept, options, made)


def write(kept: Kept, options: argparse.Namespace, made: dict[str, list[str]]) -> None:
    """The page."""
    asked = {"seeds": 1, "epochs": 3, "samples": 20_000, "repeats": 40}
    command = "".join(f" --{n} {getattr(options, n)}" for n, d in asked.items() if getattr(options, n) != d)
    if len(options.parts) < len(PARTS):
        command += f" --parts {' '.join(options.parts)}"
    text = TEXT.format(
        batch=BATCH,
        samples=options.samples,
        epochs=options.epochs,
        seeds=options.seeds,
        repeats=options.repeats,
        accuracy_columns=ACCURACY_COLUMNS,
        names=" | ".join(METHODS),
        memory_columns=MEMORY_COLUMNS,
        command=command,
        reading=READING,
        candidates=CANDIDATES,
        few=FEW,
        figures="\n".join(figures(kept, options)),
        machine=f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}",
        **{PLACES[part]: "\n".join(made.get(part, ["(left out of this run)"])) for part in PARTS},
    )
    options.page.write_text(text)


PLACES = {"accuracy": "accuracy", "memory": "memory", "time": "times", "convolutions": "convolutions"}
"""The place of each part in the text."""

READING = """An executor hands every tensor of 64 KiB and more back to the system at once, and new pages
cost time: in float32 backpropagation those of the gradients of weights, in FF-INT8 those of what is rounded.
A step of FF-INT8 reads each weight once to round it and once to change it, and makes two passes; int8
products are several times faster than float32's, but they are the smaller part of the step. On the
convolutional network forward-forward holds more, not less: the first layer's activations, of right and wrong
labels at once, are larger than all that backpropagation keeps. And where memory is what matters, planned
backpropagation needs far less than either (*least*): the int8 ops can not be run as loops."""


if __name__ == "__main__":
    main()
