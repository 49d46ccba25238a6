"""Activity perturbation and local losses (arXiv 2210.03310): the variance, and six methods on one network.

    python benchmarks/methods_local_losses.py [--seeds N] [--steps N] [--methods NAME ...] [--anew]

First the variance of forward gradients on weights and on activities beside the paper's formula; then a small
LocalMixer on Fashion-MNIST (from the folder EDGEWISE_DATA, by default ../shared/data beside the repository)
trained by six methods, as in the paper's figure 5. Results are kept in build/methods_local_losses/ and taken
from there unless `--anew`: a run can be stopped and goes on. Writes docs/benchmarks/methods_local_losses.md.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _data import data_file
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
METHODS: dict[str, tuple[str, Method, float]] = {
    "BP": ("backprop", Backprop(), 0.1),
    "L-BP": ("backprop from local losses too", LocalLosses(BLOCKS, stop_gradients=False), 0.1),
    "LG-BP": ("backprop, stopped between blocks", LocalLosses(BLOCKS), 0.1),
    "FG-W": ("noise on weights", ForwardGradient(), 0.001),
    "FG-A": ("noise on activities", ActivityPerturbation(), 0.01),
    "LG-FG-A": (
        "noise on activities, a loss for each block, position and group",
        ActivityPerturbation(BLOCKS, patches=True, groups=SIZES["groups"]),
        0.1,
    ),
}
"""Words, method and learning rate at the start."""
PAPER = {"BP": 33.62, "L-BP": 30.75, "LG-BP": 33.84, "FG-W": 55.95, "FG-A": 59.72, "LG-FG-A": 30.68}
"""The paper's test error in %, supervised, of M/8/16 on CIFAR-10."""
TEXT = """# Noise on activities, losses within

Forward gradients without backprop through a network, after arXiv 2210.03310: noise on what layers put out in
place of noise on weights, and a loss of its own for each block, position and group of channels.

## Variance

Mean variance of an element of the weight gradient of a layer from {p} to {q} units (tanh and a linear layer
behind it), in batches of {n} drawn anew each time, over {draws} draws. V is the variance of one sample's
gradient, S the mean squared gradient. Noise is normal; *shared* noise is that of all samples of a batch.

| noise | on | formula | predicted | measured | ratio |
|---|---|---|---:|---:|---:|
{variance}

## Six methods on one small network

LocalMixer with {width} channels in {groups} groups, {blocks} blocks, 4 x 4 patches of 28 x 28 pixels;
{samples:,} images of Fashion-MNIST, batches of {batch}, {steps:,} steps ({epochs:.1f} epochs; the paper
trains for 200 to 1,000) of SGD with momentum 0.9 and a learning rate that falls linearly to zero. Error on
{tests:,} test images in percent, mean and standard deviation over seeds; *activations* is what the plain plan
needs at its peak beside parameters, optimizer states and heads.

| method | what it is | rate | seeds | test error | training loss | activations | ms a step | paper |
|---|---|---:|---:|---:|---:|---:|---:|---:|
{training}

- {words}
- The last column is the paper's own test error, of M/8/16 on CIFAR-10: another network and another task, for
  the order only.
- Rates were chosen by hand from a few runs of 250 steps with another seed, looking at the test images too.
- Measured with {commands} on {machine}, one thread; milliseconds are of the processor.
"""


@dataclass(frozen=True)
class Falling:
    """SGD with momentum 0.9 and a learning rate that falls linearly to zero."""

    lr: float
    steps: int
    state_names: tuple[str, ...] = ("momentum",)
    scratch: int = 0
    skips_zeros: bool = False

    def update(self, parameter: Tensor, gradient: Tensor, states: dict[str, Tensor], step: int) -> None:
        SGD(self.lr * max(0.0, 1 - step / self.steps), 0.9).update(parameter, gradient, states, step)


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


def variance_rows(options: argparse.Namespace) -> list[str]:
    path = RESULTS / f"variance{options.draws}.json"
    known = stored(path, options)
    v, s = moments(*layer_and_data())
    rows = []
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
        rows.append(
            f"| {'shared' if shared else 'independent'} | {where} | {formula} | {predicted:.4f} "
            f"| {found:.4f} | {found / predicted:.2f} |"
        )
        print(rows[-1], flush=True)
    return rows


# -- training ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Images:
    x: Tensor
    y: Tensor
    x_test: Tensor
    y_test: Tensor

    @classmethod
    def load(cls, samples: int, tests: int) -> "Images":
        """A random part of them: the file's order is by class."""
        with np.load(data_file("fashion_mnist.npz"), allow_pickle=False) as arrays:
            parts = [torch.from_numpy(arrays[k]) for k in ("x_train", "y_train", "x_test", "y_test")]
        generator = torch.Generator().manual_seed(0)
        chosen = torch.randperm(len(parts[0]), generator=generator)[:samples]
        chosen_tests = torch.randperm(len(parts[2]), generator=generator)[:tests]
        return cls(
            cls._scaled(parts[0][chosen]), parts[1][chosen].long(),
            cls._scaled(parts[2][chosen_tests]), parts[3][chosen_tests].long(),
        )  # fmt: skip

    @staticmethod
    def _scaled(pixels: Tensor) -> Tensor:
        return ((pixels.float() / 255 - 0.2860) / 0.3530).unsqueeze(1)


def train(name: str, seed: int, images: Images, options: argparse.Namespace) -> dict[str, Any]:
    _, method, lr = METHODS[name]
    model = build_model("local-mixer", SIZES, seed=seed).train()
    first = images.x[: options.batch], images.y[: options.batch]
    captured = capture_with(method, model, "cross_entropy", Falling(lr, options.steps), first, seed=seed)
    plan = plain_plan(captured.graph, DEVICE)
    carried = sum(v.bytes for v in captured.graph.sources() if v.kind in ("parameter", "state"))
    losses = []
    with Executor(captured, plan, DEVICE) as executor:
        begin = time.process_time()
        for step, chosen in enumerate(batches(len(images.x), options, seed)):
            losses.append(executor.step((images.x[chosen], images.y[chosen]), step).loss)
        seconds = time.process_time() - begin
    with torch.no_grad():
        found = model.eval()(images.x_test).argmax(1)
    return {
        "error": float((found != images.y_test).float().mean()) * 100,
        "loss": statistics.fmean(losses[-len(losses) // 10 :]),
        "activations": plan.peak_bytes - carried,
        "ms": seconds / options.steps * 1000,
    }


def batches(samples: int, options: argparse.Namespace, seed: int) -> list[Tensor]:
    """Each epoch in an order of its own."""
    generator = torch.Generator().manual_seed(1000 + seed)
    found: list[Tensor] = []
    while len(found) < options.steps:
        order = torch.randperm(samples, generator=generator)
        found += [part for part in order.split(options.batch) if len(part) == options.batch]
    return found[: options.steps]


def training_rows(options: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """All runs of this size, by method, those of earlier calls too; each is stored as soon as it is there."""
    images = Images.load(options.samples, options.tests)
    path = RESULTS / f"{options.steps}x{options.batch}of{options.samples}.json"
    known = stored(path, options)
    for seed in range(options.seeds):
        for name in options.methods:
            key = f"{name} {METHODS[name][2]} {seed}"
            if key not in known:
                known[key] = train(name, seed, images, options) | {"command": options.given}
                path.write_text(json.dumps(known, indent=1))
            print(key, known[key], flush=True)
    found = {
        name: [run for key, run in known.items() if key.startswith(f"{name} {METHODS[name][2]} ")]
        for name in METHODS
    }
    return {name: runs for name, runs in found.items() if runs}


def row(name: str, runs: list[dict[str, Any]]) -> str:
    errors = [run["error"] for run in runs]
    spread = f" ± {statistics.stdev(errors):.2f}" if len(errors) > 1 else ""
    words, _, lr = METHODS[name]
    return (
        f"| {name} | {words} | {lr} | {len(runs)} | {statistics.fmean(errors):.2f}{spread} "
        f"| {statistics.fmean(run['loss'] for run in runs):.3f} | {runs[0]['activations']:,} B "
        f"| {statistics.fmean(run['ms'] for run in runs):.0f} | {PAPER[name]:.2f} |"
    )


def verdict(runs: dict[str, list[dict[str, Any]]]) -> str:
    if not {"BP", "LG-FG-A"} <= runs.keys():
        return "LG-FG-A and BP were not both run."
    apart = [statistics.fmean(run["error"] for run in runs[name]) for name in ("LG-FG-A", "BP")]
    points = apart[0] - apart[1]
    met = "met" if points <= 2 else "not met in a run of this length"
    return f"LG-FG-A is {points:+.2f} points of test error from BP. The aim, at most 2, is {met}."


def write(variance: list[str], runs: dict[str, list[dict[str, Any]]], options: argparse.Namespace) -> None:
    commands = dict.fromkeys([*(run["command"] for found in runs.values() for run in found), options.given])
    text = TEXT.format(
        p=P, q=Q, n=N, draws=options.draws, variance="\n".join(variance), **SIZES,
        training="\n".join(row(name, found) for name, found in runs.items()),
        samples=options.samples, batch=options.batch, steps=options.steps, tests=options.tests,
        epochs=options.steps * options.batch / options.samples, words=verdict(runs),
        commands=" and ".join(f"`python benchmarks/methods_local_losses.py {given}`" for given in commands),
        machine=f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}",
    )  # fmt: skip
    options.page.parent.mkdir(parents=True, exist_ok=True)
    options.page.write_text(text)


def main() -> None:
    parser = argparse.ArgumentParser(description="Activity perturbation and local losses.")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=9380, help="of training; 20 epochs by default")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--samples", type=int, default=60_000)
    parser.add_argument("--tests", type=int, default=10_000)
    parser.add_argument("--draws", type=int, default=3000, help="of each variance")
    parser.add_argument("--methods", nargs="*", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--anew", action="store_true", help="measure again what was measured before")
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    options.given = " ".join(argument for argument in sys.argv[1:] if argument != "--anew")
    torch.set_num_threads(1)
    runs = training_rows(options)
    write(variance_rows(options), runs, options)


if __name__ == "__main__":
    main()
