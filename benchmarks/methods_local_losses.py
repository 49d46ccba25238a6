"""Activity perturbation and local losses (arXiv 2210.03310): the variance, and six methods on one network.

    python benchmarks/methods_local_losses.py [--seeds N] [--steps N] [--methods NAME ...] [--anew]

First the variance of forward gradients on weights and on activities beside the paper's formula; then a small
LocalMixer on some images of Fashion-MNIST (from the folder EDGEWISE_DATA, by default ../shared/data beside
the repository) trained by six methods, as in the paper's figure 5. Results are kept in
build/methods_local_losses/ and taken from there unless `--anew`: a run can be stopped and goes on. Writes
docs/benchmarks/methods_local_losses.md.
"""

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _command import command, machine
from _data import data_file
from _energy import DEVICES, energy_table, joules
from _figures import Figure, Found, save, table
from _rates import climb
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from edgewise.capture import SGD  # noqa: E402
from edgewise.methods import (  # noqa: E402
    ActivityPerturbation,
    Backprop,
    ForwardGradient,
    LocalLosses,
    Method,
    capture_with,
)
from edgewise.plan import plain_plan  # noqa: E402
from edgewise.run import Executor  # noqa: E402
from edgewise.zoo import build_model  # noqa: E402
from tests.support import DEVICE  # noqa: E402

PAGE = ROOT / "docs" / "benchmarks" / "methods_local_losses.md"
RESULTS = ROOT / "build" / "methods_local_losses"
SIZES = {"width": 32, "groups": 4, "blocks": 2}
BLOCKS = tuple(f"blocks.{i}" for i in range(SIZES["blocks"]))
LOCAL = ActivityPerturbation(BLOCKS, patches=True, groups=SIZES["groups"], law="rademacher")
METHODS: dict[str, tuple[str, Method, int]] = {
    "BP": ("backprop", Backprop(), -2),
    "L-BP": ("backprop from local losses too", LocalLosses(BLOCKS, stop_gradients=False), -2),
    "LG-BP": ("backprop, stopped between blocks", LocalLosses(BLOCKS), -2),
    "FG-W": ("noise on weights", ForwardGradient(law="rademacher"), -6),
    "FG-A": ("noise on activities", ActivityPerturbation(law="rademacher"), -4),
    "LG-FG-A": ("noise on activities, a loss for each block, position and group", LOCAL, -2),
}
"""Words, method, and where the search for its rate begins: at 10 to the power of half of this."""
HELD, HELD_SEED = 2000, 1000
"""Images that rates are found by, and the seed of the runs for it."""
SEED_STEPS = 10**6
"""What is random goes by the number of the step: seed s begins at s times this."""
PAPER = {
    "BP": "33.62 / 0.00", "L-BP": "30.75 / 0.00", "LG-BP": "33.84 / 0.05",
    "FG-W": "55.95 / 54.28", "FG-A": "59.72 / 41.29", "LG-FG-A": "30.68 / 19.39",
}  # fmt: skip
"""The paper's test and training error in %, supervised, of M/8/16 on CIFAR-10."""
TEXT = """# Noise on activities, losses within

Forward gradients without backprop through a network, after arXiv 2210.03310: noise on what layers put out in
place of noise on weights, and a loss of its own for each block, position and group of channels.

{figures}

## Variance

Mean variance of an element of the weight gradient of a layer from {p} to {q} units (tanh and a linear layer
behind it), in batches of {n} drawn anew each time, over {draws} draws. V is the variance of one sample's
gradient, S the mean squared gradient. Noise is normal; *shared* noise is that of all samples of a batch.

| noise | on | formula | predicted | measured | ratio |
|---|---|---|---:|---:|---:|
{variance}

## Six methods on one small network

LocalMixer with {width} channels in {groups} groups, {blocks} blocks, 4 x 4 patches of 28 x 28 pixels;
{samples:,} images of Fashion-MNIST, batches of {batch}, {steps:,} steps ({epochs:.0f} epochs) of SGD with
momentum 0.9 and a learning rate that falls linearly to zero. So few images, seen so often, are the paper's
own setting in small: it trains for 200 to 1,000 epochs, until backprop makes no error on its images. Noise is
of random signs. Rates are powers of the root of ten: from one on to whichever neighbour has the least loss on
{held:,} further images after {search} steps with another seed, until neither is better. Error on {tests:,}
test images and on the images trained on in percent, mean and standard deviation over seeds; *activations* is
what the plain plan needs at its peak beside parameters, optimizer states and heads.

| method | what it is | rate | seeds | test error | training error | activations | ms a step | paper |
|---|---|---:|---:|---:|---:|---:|---:|---:|
{training}

- The last column is the paper's own test and training error, of M/8/16 on CIFAR-10: another network and
  another task, for the order only.
- Measured with `{command}` on {machine}, one thread; milliseconds are of the processor.

Trained for shorter or longer, mean test error over the seeds. The figure above is that of each method at the
length that suits it best:

| steps | BP | LG-FG-A | above |
|---:|---:|---:|---:|
{lengths}

## Energy of a step

By the plain plan, on the profiles of three devices, whatever RAM they have.

{energy}
"""


@dataclass
class Falling:
    """SGD with momentum 0.9 and a learning rate that falls linearly to zero, set before each training."""

    lr: float = 0.0
    steps: int = 1
    state_names: tuple[str, ...] = ("momentum",)
    scratch: int = 0
    skips_zeros: bool = False

    def update(self, parameter: Tensor, gradient: Tensor, states: dict[str, Tensor], step: int) -> None:
        SGD(self.lr * max(0.0, 1 - step % SEED_STEPS / self.steps), 0.9).update(
            parameter, gradient, states, step
        )


# -- the variance of the theorem ---------------------------------------------------------------------------

P, Q, N, DATASET = 6, 4, 8, 64


def layer_and_data() -> tuple[nn.Sequential, Tensor, Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(P, Q, bias=False), nn.Tanh(), nn.Linear(Q, 3)).train()
    x = torch.randn(DATASET, P)
    return model, x, x[:, :3].argmax(1)  # targets that can be learned: else S would be next to nothing


def moments(model: nn.Module, x: Tensor, targets: Tensor) -> tuple[float, float]:
    """V and S of the first layer's weight."""
    losses = nn.functional.cross_entropy(model(x), targets, reduction="none")
    weight = next(model.parameters())
    apart = torch.stack([torch.autograd.grad(loss, weight, retain_graph=True)[0] for loss in losses])
    return float(apart.var(0, correction=0).mean()), float(apart.mean(0).square().mean())


def sampled_variance(method: Method, draws: int, *, samples: int, average: int) -> float:
    """Of the mean of `average` estimates on `samples` fresh samples each."""
    model, x, targets = layer_and_data()
    if isinstance(method, ForwardGradient):
        model[2].requires_grad_(requires_grad=False)
    captured = capture_with(method, model, "cross_entropy", SGD(lr=1.0), (x[:samples], targets[:samples]))
    generator = torch.Generator().manual_seed(1)
    estimates = []
    with Executor(captured, plain_plan(captured.graph, DEVICE), DEVICE) as executor:
        before = executor.state()
        for step in range(draws * average):
            chosen = torch.randint(DATASET, (samples,), generator=generator)
            executor.step((x[chosen], targets[chosen]), step)
            estimates.append((before["0.weight"] - executor.state()["0.weight"]).double())
            executor.load_state(before)
    means = torch.stack(estimates).unflatten(0, (draws, average)).mean(1)
    return float(means.var(0).mean())


def stored(path: Path, options: argparse.Namespace) -> dict[str, Any]:
    """What is known, unless it is to be measured anew."""
    path.parent.mkdir(parents=True, exist_ok=True)
    known: dict[str, Any] = json.loads(path.read_text()) if path.exists() and not options.anew else {}
    return known


def variance_rows(options: argparse.Namespace) -> tuple[list[str], float]:
    """Rows of the table, and by which share a measured variance is at most off the formula's."""
    path = RESULTS / f"variance{options.draws}.json"
    known = stored(path, options)
    v, s = moments(*layer_and_data())
    rows, off = [], 0.0
    for where, size, shared, method, average in (
        ("weights", P * Q, True, ForwardGradient(), 1),
        ("weights", P * Q, False, ForwardGradient(), N),
        ("activities", Q, True, ActivityPerturbation(shared=True), 1),
        ("activities", Q, False, ActivityPerturbation(), 1),
    ):
        predicted = (size + 2) / N * v + (size + 1) * s / (1 if shared else N)
        name = "pq" if where == "weights" else "q"
        formula = f"({name}+2)/N V + ({name}+1){'' if shared else '/N'} S"
        if formula not in known:
            known[formula] = sampled_variance(method, options.draws, samples=N // average, average=average)
            path.write_text(json.dumps(known))
        found = known[formula]
        off = max(off, abs(found / predicted - 1))
        rows.append(
            f"| {'shared' if shared else 'independent'} | {where} | {formula} | {predicted:.4f} "
            f"| {found:.4f} | {found / predicted:.2f} |"
        )
        print(rows[-1], flush=True)
    return rows, off


# -- training ----------------------------------------------------------------------------------------------


Labelled = tuple[Tensor, Tensor]
"""Images [N, 1, 28, 28] and their classes [N]."""


@dataclass(frozen=True)
class Images:
    train: Labelled
    held: Labelled
    test: Labelled

    @classmethod
    def load(cls, samples: int, tests: int) -> "Images":
        """A random part of them: the file's order is by class."""
        with np.load(data_file("fashion_mnist.npz"), allow_pickle=False) as arrays:
            parts = [torch.from_numpy(arrays[k]) for k in ("x_train", "y_train", "x_test", "y_test")]
        generator = torch.Generator().manual_seed(0)
        chosen = torch.randperm(len(parts[0]), generator=generator)
        chosen_tests = torch.randperm(len(parts[2]), generator=generator)[:tests]
        train, held = chosen[:samples], chosen[samples : samples + HELD]
        return cls(
            (cls._scaled(parts[0][train]), parts[1][train].long()),
            (cls._scaled(parts[0][held]), parts[1][held].long()),
            (cls._scaled(parts[2][chosen_tests]), parts[3][chosen_tests].long()),
        )

    @staticmethod
    def _scaled(pixels: Tensor) -> Tensor:
        return ((pixels.float() / 255 - 0.2860) / 0.3530).unsqueeze(1)


class Trainer:
    """The step of one method, captured once for all rates and seeds."""

    def __init__(self, method: Method, images: Images, batch: int) -> None:
        self.images, self.batch, self.optimizer = images, batch, Falling()
        first = images.train[0][:batch], images.train[1][:batch]
        self.captured = capture_with(method, mixer(0), "cross_entropy", self.optimizer, first)
        self.plan = plain_plan(self.captured.graph, DEVICE)
        self.executor = Executor(self.captured, self.plan, DEVICE)
        self.first = self.executor.state()

    @property
    def activations(self) -> int:
        """Bytes of the plain plan beside what lives from step to step."""
        sources = self.captured.graph.sources()
        return self.plan.peak_bytes - sum(v.bytes for v in sources if v.kind in ("parameter", "state"))

    def train(self, lr: float, seed: int, steps: int) -> float:
        """From the weights of `seed` on; milliseconds a step, or infinity where it diverges."""
        self.executor.load_state({**self.first, **mixer(seed).state_dict()})
        self.optimizer.lr, self.optimizer.steps = lr, steps
        x, y = self.images.train
        begin = time.process_time()
        for step, chosen in enumerate(batches(len(x), self.batch, steps, seed)):
            loss = self.executor.step((x[chosen], y[chosen]), seed * SEED_STEPS + step).loss
            if not math.isfinite(loss):
                return math.inf
        return (time.process_time() - begin) / steps * 1000

    def held_loss(self, lr: float, steps: int) -> float:
        """Mean loss on the held-out images after some steps."""
        if self.train(lr, HELD_SEED, steps) == math.inf:
            return math.inf
        return float(nn.functional.cross_entropy(self._scores(self.images.held[0]), self.images.held[1]))

    def measured(self, lr: float, seed: int, steps: int) -> dict[str, Any]:
        """What one training shows."""
        ms = self.train(lr, seed, steps)
        errors = {"error": self._error(*self.images.test), "train_error": self._error(*self.images.train)}
        return errors | {"activations": self.activations, "ms": ms}

    def _scores(self, x: Tensor) -> Tensor:
        self.executor.sync()
        with torch.no_grad():
            return torch.cat([self.captured.model(some) for some in x.split(self.batch)])

    def _error(self, x: Tensor, y: Tensor) -> float:
        return float((self._scores(x).argmax(1) != y).float().mean()) * 100


def mixer(seed: int) -> nn.Module:
    return build_model("local-mixer", SIZES, seed=seed).train()


def batches(samples: int, batch: int, steps: int, seed: int) -> list[Tensor]:
    """Each epoch in an order of its own."""
    generator = torch.Generator().manual_seed(1000 + seed)
    found: list[Tensor] = []
    while len(found) < steps:
        order = torch.randperm(samples, generator=generator)
        found += [part for part in order.split(batch) if len(part) == batch]
    return found[:steps]


class Bench:
    """Measures what is not stored yet; each figure is stored as soon as it is there."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.images = options, Images.load(options.samples, options.tests)
        size = "x".join(map(str, (*SIZES.values(), options.batch)))
        self.path = RESULTS / f"{size}of{options.samples}.json"
        self.known = stored(self.path, options)
        self.trainer = cache(lambda name: Trainer(METHODS[name][1], self.images, options.batch))

    def runs(self, name: str, steps: int) -> list[dict[str, Any]]:
        """One training for each seed, at the rate of the least loss on held-out images."""
        lr = climb(METHODS[name][2], partial(self.held_loss, name))

        def run(seed: int) -> dict[str, Any]:
            return {"rate": lr} | self.trainer(name).measured(lr, seed, steps)

        return [
            self.measured(f"{name} {lr} {seed} {steps}", partial(run, seed))
            for seed in range(self.options.seeds)
        ]

    def held_loss(self, name: str, lr: float) -> float:
        steps = self.options.search_steps
        found: float = self.measured(
            f"{name} {lr} held {steps}", lambda: self.trainer(name).held_loss(lr, steps)
        )
        return found

    def measured(self, key: str, measure: Callable[[], Any]) -> Any:
        if key not in self.known:
            self.known[key] = measure()
            self.path.write_text(json.dumps(self.known, indent=1))
            print(key, self.known[key], flush=True)
        return self.known[key]


def row(name: str, runs: list[dict[str, Any]]) -> str:
    errors, own = ([run[what] for run in runs] for what in ("error", "train_error"))
    spread = f" ± {statistics.stdev(errors):.2f}" if len(errors) > 1 else ""
    return (
        f"| {name} | {METHODS[name][0]} | {runs[0]['rate']} | {len(runs)} | {statistics.fmean(errors):.2f}"
        f"{spread} | {statistics.fmean(own):.2f} | {runs[0]['activations']:,} B"
        f" | {statistics.fmean(run['ms'] for run in runs):.0f} | {PAPER[name]} |"
    )


def by_length(bench: Bench) -> dict[int, tuple[float, float]]:
    """Mean test errors of backprop and LG-FG-A after so many steps."""
    found = {}
    for steps in sorted({bench.options.steps, *bench.options.other_steps}):
        both = [[run["error"] for run in bench.runs(name, steps)] for name in ("BP", "LG-FG-A")]
        found[steps] = (statistics.fmean(both[0]), statistics.fmean(both[1]))
    return found


def length_rows(lengths: dict[int, tuple[float, float]]) -> str:
    return "\n".join(
        f"| {steps:,} | {exact:.2f} | {ours:.2f} | {ours - exact:+.2f} |"
        for steps, (exact, ours) in lengths.items()
    )


def figures(variance_off: float, lengths: dict[int, tuple[float, float]]) -> tuple[Figure, ...]:
    """What was aimed at; each method after as many steps as suit it."""
    exact, ours = (min(errors) for errors in zip(*lengths.values(), strict=True))
    above = "test error of LG-FG-A above that of backprop, points"
    return (
        Figure(1, "variance off the formula of activity perturbation, %", 100 * variance_off, 10.0),
        Figure(5, above, ours - exact, 2.0, is_mean=True),
        Figure(6, "devices with energy of every row", len(DEVICES), 3, at_least=True, digits=0),
    )


def write(bench: Bench, variance: tuple[list[str], float], runs: dict[str, list[dict[str, Any]]]) -> None:
    """The page, and its figures beside it."""
    options, lengths = bench.options, by_length(bench)
    listed = figures(variance[1], lengths)
    text = TEXT.format(
        p=P, q=Q, n=N, draws=options.draws, variance="\n".join(variance[0]), **SIZES, figures=table(listed),
        training="\n".join(row(name, found) for name, found in runs.items()),
        samples=options.samples, batch=options.batch, steps=options.steps, tests=options.tests,
        epochs=options.steps / (options.samples // options.batch),
        held=HELD, search=options.search_steps, lengths=length_rows(lengths),
        energy=energy_table("method", ((n, joules(bench.trainer(n).captured.graph)) for n in runs)),
        command=command(__file__, "--page"),
        machine=machine(),
    )  # fmt: skip
    options.page.parent.mkdir(parents=True, exist_ok=True)
    options.page.write_text(text)
    title = text.partition("\n")[0].strip("# ")
    save(options.page, Found(title, command(__file__, "--page"), options.seeds, listed))


def main() -> None:
    parser = argparse.ArgumentParser(description="Activity perturbation and local losses.")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1000, help="of training")
    parser.add_argument("--other-steps", type=int, nargs="*", default=[500, 2000], help="two methods only")
    parser.add_argument("--search-steps", type=int, default=100, help="of each search for a rate")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--tests", type=int, default=5000, help="test images")
    parser.add_argument("--draws", type=int, default=1000, help="of each variance")
    parser.add_argument("--methods", nargs="*", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--anew", action="store_true", help="measure again what was measured before")
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(options)
    runs = {name: bench.runs(name, options.steps) for name in options.methods}
    write(bench, variance_rows(options), runs)


if __name__ == "__main__":
    main()
