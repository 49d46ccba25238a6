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

from edgewise.capture import SGD, Captured, capture  # noqa: E402
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

METHODS = ("backprop", "INT8 backprop", "forward-forward", "FF-INT8")
RATES = {"backprop": 0.1, "INT8 backprop": 0.1, "forward-forward": 0.02, "FF-INT8": 0.02}
"""Steps of plain SGD, the same through a run; for forward-forward the best of a few on one seed."""

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


def captured_by(name: str, network: Network, batch: int, seed: int, label: str = "corner") -> Captured:
    """The step of a method on a network whose first weights depend on the seed alone."""
    torch.manual_seed(seed)
    model, example = network(), (torch.zeros(batch, 1, 28, 28), torch.zeros(batch, dtype=torch.int64))
    optimizer = SGD(RATES[name])
    if name == "INT8 backprop":
        trace = partial(trace_estimate, estimator=int8_backprop)
        return capture(model, "cross_entropy", optimizer, example, seed=seed, trace=trace)
    method: Method = Backprop()
    if name != "backprop":
        precision = "int8" if name == "FF-INT8" else "float32"
        height = 10.0 if label == "corner" else 1.0
        method = ForwardForward(precision=precision, label=label, label_value=height)  # type: ignore[arg-type]
    return capture_with(method, model, "cross_entropy", optimizer, example, seed=seed)


# -- accuracy ------------------------------------------------------------------------------------------------


class Samples:
    """Fashion-MNIST in [0, 1], the training samples in an order that is the same for all methods."""

    def __init__(self, count: int) -> None:
        with np.load(data_file("fashion_mnist.npz")) as data:
            chosen = np.random.default_rng(0).permutation(len(data["x_train"]))[:count]
            self.train = _tensors(data["x_train"][chosen], data["y_train"][chosen])
            self.test = _tensors(data["x_test"], data["y_test"])

    def batches(self, epoch: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All of them once, in whole batches."""
        x, y = self.train
        order = torch.from_numpy(np.random.default_rng((seed, epoch)).permutation(len(x)))
        for chosen in order[: len(x) // BATCH * BATCH].split(BATCH):
            yield x[chosen], y[chosen]


def _tensors(x: Any, y: Any) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(x).float().div_(255).unsqueeze(1), torch.from_numpy(y.astype(np.int64))


def accuracy(name: str, network: Network, samples: Samples, epochs: int, seed: int, label: str) -> Row:
    """Of the test samples, in percent, after training. INT8 methods classify on int8, too."""
    captured = captured_by(name, network, BATCH, seed, label)
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
    label = "wave" if shape == "three convolutions" else "corner"
    captured = captured_by(name, SHAPES[shape], batch, 0, label)
    found: Row = {"plain": plain_plan(captured.graph, DEVICE).peak_bytes}
    found["weights"] = sum(p.numel() * p.element_size() for p in captured.model.parameters())
    if least:
        found["least"] = minimum_ram(captured.graph, DEVICE, time_limit=20).ram_bytes
    return found


def times(shape: str, batch: int, repeats: int) -> Row:
    """Median processor time of a step by each method, seconds, in turn, under the plain plan."""
    label = "wave" if shape == "three convolutions" else "corner"
    x, y = torch.rand(batch, 1, 28, 28), torch.randint(0, 10, (batch,))
    executors = {}
    for name in METHODS:
        captured = captured_by(name, SHAPES[shape], batch, 0, label)
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


def accuracies(
    kept: Kept, options: argparse.Namespace, shape: str, label: str, samples: Samples
) -> list[str]:
    """A line for each method."""
    found: dict[str, list[float]] = {name: [] for name in METHODS}
    for seed in range(options.seeds):
        for name in METHODS:
            key = ["accuracy", shape, name, options.samples, options.epochs, seed]
            row = kept.row(key, partial(accuracy, name, SHAPES[shape], samples, options.epochs, seed, label))
            found[name].append(row["percent"])
    lines = []
    for name, each in found.items():
        mean, listed = statistics.mean(each), ", ".join(f"{percent:.2f}" for percent in each)
        below = statistics.mean(found["backprop"]) - mean
        lines.append(f"| {name} | {RATES[name]} | {listed} | {mean:.2f} | {below:+.2f} |")
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
    return [time_line(kept, "two hidden layers of 1,000", batch, repeats) for batch in (64, 128, 256)]


def time_line(kept: Kept, shape: str, batch: int, repeats: int) -> str:
    """A line of times."""
    row = kept.row(["time", shape, batch, repeats], partial(times, shape, batch, repeats))
    cells = " | ".join(f"{1e3 * row[name]:.1f}" for name in METHODS)
    return f"| {shape} | {batch} | {cells} | {row['FF-INT8'] / row['backprop']:.2f} |"


def size(count: int) -> str:
    """Bytes, for people."""
    return f"{count / 2**20:.2f} MiB"


TEXT = """# Forward-forward and FF-INT8

Fashion-MNIST in [0, 1], batches of {batch}, plain SGD at one rate through the run, {samples:,} training
samples, {epochs} epochs, all 10,000 test samples, {seeds} seed(s). *INT8 backprop* is backpropagation with
all products of int8 operands and stochastically rounded gradients, everything else float32: the same
products as FF-INT8. Both classify on int8, too.

## Accuracy: two hidden layers of 1,000

{accuracy_columns}
{accuracy}

## Accuracy: three convolutions, labels as waves

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
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    torch.set_num_threads(1)
    kept = Kept(KEPT)
    data_file("fashion_mnist.npz")
    samples = Samples(options.samples)
    made: dict[str, list[str]] = {}
    if "memory" in options.parts:
        made["memory"] = memory_lines(kept)
    if "time" in options.parts:
        made["time"] = time_lines(kept, options.repeats)
    if "accuracy" in options.parts:
        made["accuracy"] = accuracies(kept, options, "two hidden layers of 1,000", "corner", samples)
    if "convolutions" in options.parts:
        made["convolutions"] = accuracies(kept, options, "three convolutions", "wave", samples)
        if "time" in made:
            made["time"].append(time_line(kept, "three convolutions", BATCH, options.repeats))
    for part, lines in made.items():
        print(part, *lines, sep="\n", flush=True)
    write(options, made)


def write(options: argparse.Namespace, made: dict[str, list[str]]) -> None:
    """The page."""
    asked = {"seeds": 3, "epochs": 3, "samples": 20_000, "repeats": 30}
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
        machine=f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}",
        **{PLACES[part]: "\n".join(made.get(part, ["(left out of this run)"])) for part in PARTS},
    )
    options.page.write_text(text)


PLACES = {"accuracy": "accuracy", "memory": "memory", "time": "times", "convolutions": "convolutions"}
"""The place of each part in the text."""

READING = """After this much training backpropagation is far ahead. int8 products alone
are several times faster than float32's, but a step rounds each weight to int8 anew and makes two passes, so
that small batches gain nothing. On the convolutional network forward-forward holds more, not less: the first
layer's activations, of right and wrong labels at once, are larger than all that backpropagation keeps. And
where memory is what matters, planned backpropagation needs far less than either (*least*): the int8 ops can
not be run as loops."""


if __name__ == "__main__":
    main()
