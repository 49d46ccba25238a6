"""Forward-forward, in float32 and on int8, beside backpropagation: accuracy, memory by plan, time of a step.

    python benchmarks/methods_forward_forward.py [--seeds N] [--epochs N] [--samples N] [--repeats N]
        [--parts PART ...] [--page PATH]

Fashion-MNIST from the folder in EDGEWISE_DATA (`../shared/data` by default). INT8 backprop is made here of
the same products: linear layers and convolutions on int8 operands, forward and backward, all else float32.
Rates are found first, by training samples that are held out. What was measured is kept in
build/methods_forward_forward.jsonl and not measured again with the same options; writes
docs/benchmarks/methods_forward_forward.md.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from _data import data_file
from _energy import joules
from _forward_forward_page import Rows, write
from torch import Tensor, nn

from edgewise.capture import Captured, capture
from edgewise.capture.directions import step_number
from edgewise.capture.estimates import Estimate, Forward, Parameters, trace_estimate
from edgewise.devices import load_device
from edgewise.methods import Backprop, ForwardForward, Method, capture_with
from edgewise.methods.int8_operands import Int8Operands
from edgewise.plan import minimum_ram, plain_plan
from edgewise.run import Executor

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks" / "methods_forward_forward.md"
KEPT = ROOT / "build" / "methods_forward_forward.jsonl"
DEVICE = load_device("host")
BATCH = 64
BATCHES = (64, 128, 256)
HELD = 5_000
"""Training samples that rates are found by, beside those that are trained on."""
MAIN, DEEP, CONVOLUTIONS = "two hidden layers of 1,000", "eight hidden layers of 256", "three convolutions"

METHODS = ("backprop", "INT8 backprop", "forward-forward", "FF-INT8")
TWINS = {"INT8 backprop": "backprop", "FF-INT8": "forward-forward"}
"""INT8 takes the rate of its float twin."""
TRIED = {
    MAIN: {"backprop": (0.2, 0.4, 0.8), "forward-forward": (0.06, 0.12, 0.24)},
    CONVOLUTIONS: {"backprop": (0.03, 0.1, 0.3, 1.0), "forward-forward": (0.003, 0.01, 0.03, 0.1)},
}
"""First steps of plain SGD that are tried, by network."""
SETTINGS: dict[str, dict[str, Any]] = {
    MAIN: {"label_value": 20.0, "pairs": True, "candidates": 3},
    DEEP: {"label_value": 20.0, "pairs": True, "candidates": 3},
    CONVOLUTIONS: {"label": "wave", "label_value": 1.0, "pairs": True},
}
"""Of forward-forward, by network."""

Row = dict[str, Any]


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


NETWORKS: dict[str, Callable[[], nn.Sequential]] = {MAIN: mlp, DEEP: deep, CONVOLUTIONS: convolutional}


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


def captured_by(
    name: str, shape: str, batch: int, seed: int = 0, *, lr: float = 0.1, steps: int = 1000
) -> Captured:
    """The step of a method on a network whose first weights depend on the seed alone."""
    torch.manual_seed(seed)
    example = torch.zeros(batch, 1, 28, 28), torch.zeros(batch, dtype=torch.int64)
    model, optimizer = NETWORKS[shape](), Falling(lr, steps)
    if name == "INT8 backprop":
        trace = partial(trace_estimate, estimator=int8_backprop)
        return capture(model, "cross_entropy", optimizer, example, seed=seed, trace=trace)
    method: Method = Backprop()
    if name != "backprop":
        method = ForwardForward(precision="int8" if name == "FF-INT8" else "float32", **SETTINGS[shape])
    return capture_with(method, model, "cross_entropy", optimizer, example, seed=seed)


# -- accuracy ------------------------------------------------------------------------------------------------

Labelled = tuple[Tensor, Tensor]
"""Images [N, 1, 28, 28] and their classes [N]."""


class Samples:
    """Fashion-MNIST less the mean of the training samples, over the deviation of all their pixels.

    `count` training samples and `HELD` others, in an order that is the same for all methods, and `tests` of
    the test: by chance, for the file is sorted by class.
    """

    def __init__(self, count: int, tests: int) -> None:
        with np.load(data_file("fashion_mnist.npz")) as data:
            chosen = np.random.default_rng(0).permutation(len(data["x_train"]))
            own, held = chosen[:count], chosen[count : count + HELD]
            tested = np.random.default_rng(1).permutation(len(data["x_test"]))[:tests]
            self.train = _tensors(data["x_train"][own], data["y_train"][own])
            self.held = _tensors(data["x_train"][held], data["y_train"][held])
            self.test = _tensors(data["x_test"][tested], data["y_test"][tested])
        mean, deviation = self.train[0].mean(0), self.train[0].std()
        for x, _ in (self.train, self.held, self.test):
            x.sub_(mean).div_(deviation)

    def batches(self, epoch: int, seed: int) -> Iterator[Labelled]:
        """All of them once, in whole batches."""
        x, y = self.train
        order = torch.from_numpy(np.random.default_rng((seed, epoch)).permutation(len(x)))
        for chosen in order[: len(x) // BATCH * BATCH].split(BATCH):
            yield x[chosen], y[chosen]


def _tensors(x: Any, y: Any) -> Labelled:
    return torch.from_numpy(x).float().div_(255).unsqueeze(1), torch.from_numpy(y.astype(np.int64))


class Task(NamedTuple):
    """A network, and how long it is trained on how much."""

    shape: str
    samples: int
    tests: int
    epochs: int


FEW = Task(CONVOLUTIONS, 4_000, 1_000, 2)
"""What a convolutional network is trained on: its steps by int8 take long."""

samples_of = cache(lambda task: Samples(task.samples, task.tests))


def accuracy(name: str, task: Task, lr: float, seed: int, *, held: bool) -> Row:
    """Of the held-out or of the test samples, in percent. INT8 methods classify on int8, too."""
    samples: Samples = samples_of(task)
    steps = task.epochs * (task.samples // BATCH)
    captured = captured_by(name, task.shape, BATCH, seed, lr=lr, steps=steps)
    with Executor(captured, plain_plan(captured.graph, DEVICE), DEVICE) as executor:
        batches = (batch for epoch in range(task.epochs) for batch in samples.batches(epoch, seed))
        for step, batch in enumerate(batches):
            executor.step(batch, step)
    captured.model.eval()
    return {"percent": right_of(name, captured.model, samples.held if held else samples.test)}


def right_of(name: str, model: nn.Module, asked: Labelled) -> float:
    """Right answers in percent."""
    right = 0
    with torch.no_grad():
        for inputs, targets in zip(*(part.split(500) for part in asked), strict=True):
            if name == "INT8 backprop":
                with Int8Operands():
                    scores = model(inputs)
            else:
                scores = model(inputs)
            right += int((scores.argmax(1) == targets).sum())
    return 100 * right / len(asked[0])


# -- memory, energy and time ---------------------------------------------------------------------------------


def peaks(name: str, shape: str, batch: int, *, least: bool) -> Row:
    """Bytes at the peak of the plain plan, and with `least` of the smallest plan that was found."""
    captured = captured_by(name, shape, batch)
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
        captured = captured_by(name, shape, batch)
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


class Bench:
    """Measures what is not kept, part by part, into the rows of the page."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.kept, self.rows = options, Kept(KEPT), Rows()

    def accuracy(self, task: Task) -> None:
        """Rates by held-out samples, then the test by each method and seed."""
        for name in METHODS:
            lr = self.rate(task, TWINS.get(name, name))
            each = []
            for seed in range(self.options.seeds):
                key = ["test", name, *task, lr, seed, SETTINGS[task.shape]]
                each.append(self.kept.row(key, partial(accuracy, name, task, lr, seed, held=False)))
            self.rows.accuracy[task.shape, name] = (lr, [row["percent"] for row in each])

    def rate(self, task: Task, name: str) -> float:
        """The one of those tried that does best on held-out samples, with seed 0."""
        found = {}
        for lr in TRIED[task.shape][name]:
            key = ["held out", name, *task, lr, SETTINGS[task.shape]]
            row = self.kept.row(key, partial(accuracy, name, task, lr, 0, held=True))
            found[lr] = row["percent"]
        self.rows.held[task.shape, name] = found
        return max(found, key=lambda lr: found[lr])

    def memory(self) -> None:
        """At some batch sizes."""
        for shape in NETWORKS:
            for batch in (64, 256, 1024) if shape != CONVOLUTIONS else (64,):
                least = batch == 64 and shape != CONVOLUTIONS
                for name in METHODS:
                    key = ["peaks", shape, name, batch, SETTINGS[shape]]
                    measure = partial(peaks, name, shape, batch, least=least)
                    self.rows.memory[shape, batch, name] = self.kept.row(key, measure)

    def time(self) -> None:
        """Of the main network at some batch sizes, and of the convolutional one."""
        repeats = self.options.repeats
        for shape, batch in (*((MAIN, batch) for batch in BATCHES), (CONVOLUTIONS, BATCH)):
            key = ["times", shape, batch, repeats, SETTINGS[shape]]
            self.rows.time[shape, batch] = self.kept.row(key, partial(times, shape, batch, repeats))

    def energy(self) -> None:
        """Of a step."""
        for shape in (MAIN, CONVOLUTIONS):
            for name in METHODS:
                key = ["joules", shape, name, BATCH, SETTINGS[shape]]
                self.rows.energy[shape, name] = self.kept.row(
                    key, lambda n=name, s=shape: joules(captured_by(n, s, BATCH).graph)
                )


def main() -> None:
    """Measure what is not kept, and write the page after each part."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=40)
    parts = ("memory", "energy", "time", "convolutions", "accuracy")
    parser.add_argument("--parts", nargs="*", choices=parts, default=list(parts))
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    torch.set_num_threads(1)
    data_file("fashion_mnist.npz")
    bench, main_task = Bench(options), Task(MAIN, options.samples, 10_000, options.epochs)
    measures: dict[str, Callable[[], None]] = {
        "memory": bench.memory,
        "energy": bench.energy,
        "time": bench.time,
        "convolutions": partial(bench.accuracy, FEW),
        "accuracy": partial(bench.accuracy, main_task),
    }
    for part in options.parts:
        measures[part]()
        write(bench.rows, main_task, FEW, options)


if __name__ == "__main__":
    main()
