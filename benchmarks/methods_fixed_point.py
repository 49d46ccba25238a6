"""Fixed point on the last mile: `python benchmarks/methods_fixed_point.py`.

A small network is pretrained in float32 on Fashion-MNIST (and one on four speakers of spoken digits), and
adapted to shifted data: by the fixed-point method in integers, and by backpropagation in float32 with the
same weights trained on the same samples. Writes docs/benchmarks/methods_fixed_point.md. Results are kept as
they come in build/methods_fixed_point.json; a run that was stopped goes on from there, and results of other
settings are left out. Data: EDGEWISE_DATA.
"""

import argparse
import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec
import torch
from _data import data_file
from _energy import joules
from _fixed_point_page import Costs, Result, write
from _last_mile import BATCH, Domain, Split, accuracy, fashion, pretrained, spoken
from torch import nn

from edgewise.capture import SGD, Captured, capture
from edgewise.devices import Device, load_device
from edgewise.graph import Graph
from edgewise.methods import Block, FixedPoint, capture_with
from edgewise.methods.fixed_point import inference_graph, quantize
from edgewise.plan import plain_plan
from edgewise.run import Executor

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks" / "methods_fixed_point.md"
KEPT = ROOT / "build" / "methods_fixed_point.json"
SCOPES = ("head", "biases", "all")
"""What is trained: the 650 weights of the head, 50 biases (as TinyTL does, arXiv 2007.11622), all 4,218."""
EPSILON = 0.03
"""Of 0.01 to 0.4, where most signs are right: less, and 8-bit activations do not tell the moves of biases."""


@dataclass(frozen=True)
class Setting:
    """How a scope is trained by fixed point, and by backprop. Both rates fall to nothing over the steps."""

    blocks: tuple[Block, ...]
    lr: float
    steps: int
    backprop_lr: float

    def method(self, steps: int) -> FixedPoint:
        """Of the paper, in blocks, for so many steps."""
        return FixedPoint(epsilon=EPSILON, headroom=4, blocks=self.blocks, decay_steps=steps)


SETTINGS = {
    "biases": Setting((Block(("11.*",), 16), Block(("*.bias",), 4)), 0.2, 300, 0.1),
    "head": Setting((Block(("11.*",), 96),), 0.25, 1600, 1.0),
    "all": Setting(
        (Block(("11.*",), 96), Block(("*.bias",), 3, 0.4), Block(("*.weight",), 1, 0.02)), 0.25, 400, 0.05
    ),
}


def trained_in(model: nn.Module, scope: str) -> nn.Module:
    """A copy of which only `scope` requires gradients."""
    chosen = copy.deepcopy(model).eval()
    for name, parameter in chosen.named_parameters():
        wanted = {"biases": name.endswith("bias"), "head": name.startswith("11."), "all": True}
        parameter.requires_grad_(wanted[scope])
    return chosen


def step_of(model: nn.Module, domain: Domain, scope: str, steps: int, seed: int) -> Captured:
    """The fixed-point step; scales of activations are those of 256 training samples of the new domain."""
    method, inputs, targets = SETTINGS[scope].method(steps), domain.train.inputs, domain.train.targets
    scaled = quantize(trained_in(model, scope), inputs[:256], method)
    example = (inputs[:BATCH], targets[:BATCH])
    return capture_with(method, scaled, "cross_entropy", SGD(lr=SETTINGS[scope].lr), example, seed=seed)


def by_fixed_point(
    captured: Captured, domain: Domain, steps: int, seed: int, device: Device
) -> tuple[float, float]:
    """Accuracy after `steps`, and seconds a step."""
    with Executor(captured, plain_plan(captured.graph, device), device) as executor:
        begin = time.perf_counter()
        for step, batch in enumerate(domain.train.batches(steps, seed)):
            executor.step(batch, step)
        seconds = (time.perf_counter() - begin) / steps
    return accuracy(captured.model, domain.test), seconds


def by_backprop(model: nn.Module, domain: Domain, scope: str, steps: int, seed: int) -> float:
    """Accuracy after `steps` of SGD in float32; norms as in evaluation, as they are folded in integers."""
    chosen = trained_in(model, scope)
    trained = [p for p in chosen.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=SETTINGS[scope].backprop_lr)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    for inputs, targets in domain.train.batches(steps, seed):
        optimizer.zero_grad()
        nn.functional.cross_entropy(chosen(inputs), targets).backward()
        optimizer.step()
        schedule.step()
    return accuracy(chosen, domain.test)


def steps_of(scope: str, args: argparse.Namespace) -> int:
    """Steps of fixed point."""
    return max(1, round(SETTINGS[scope].steps * args.steps))


def settings_of(scope: str, args: argparse.Namespace) -> str:
    """All that a result depends on, but for the seed and the domain."""
    setting = SETTINGS[scope]
    method = setting.method(steps_of(scope, args))
    backprop = f"{args.backprop_steps} steps at {setting.backprop_lr}"
    return f"{method}, lr {setting.lr}; {backprop}; {args.pretraining} before, {args.samples} samples"


def adapted(model: nn.Module, domain: Domain, scope: str, seed: int, args: argparse.Namespace) -> Result:
    """One case."""
    steps = steps_of(scope, args)
    captured = step_of(model, domain, scope, steps, seed)
    integer_before = accuracy(captured.model, domain.test)
    found, seconds = by_fixed_point(captured, domain, steps, seed, args.device)
    return Result(
        seed,
        domain.name,
        scope,
        steps,
        accuracy(model, domain.test),
        integer_before,
        found,
        by_backprop(model, domain, scope, args.backprop_steps, seed),
        seconds,
        settings_of(scope, args),
    )


def known_results(args: argparse.Namespace) -> list[Result]:
    """Those of earlier runs with these settings."""
    found = msgspec.json.decode(KEPT.read_bytes(), type=list[Result]) if KEPT.exists() else []
    return [result for result in found if result.settings == settings_of(result.scope, args)]


def results(args: argparse.Namespace) -> Iterator[Result]:
    """Every case, those of an earlier run first read."""
    known = {(r.seed, r.domain, r.scope): r for r in known_results(args)}
    for seed in range(args.seeds):
        source, domains = fashion(args.samples, 2000)
        speech_source, speech = spoken()
        networks = {
            "fashion": pretrained(source, seed, args.pretraining),
            "spoken": pretrained(speech_source, seed, args.pretraining),
        }
        for scope in SCOPES:
            for domain in (*domains, speech):
                key = (seed, domain.name, scope)
                if key not in known:
                    known[key] = adapted(networks[domain.source], domain, scope, seed, args)
                    KEPT.parent.mkdir(exist_ok=True)
                    KEPT.write_bytes(msgspec.json.encode(list(known.values())))
                print(
                    *(f"{field}={value}" for field, value in msgspec.structs.asdict(known[key]).items()),
                    flush=True,
                )
                yield known[key]


# -- memory ------------------------------------------------------------------------------------------------


def without_workspace(graph: Graph) -> Graph:
    """The same ops with no room to work in: integer units need none to emulate themselves."""
    bare = tuple(
        msgspec.structs.replace(
            op, options=tuple(msgspec.structs.replace(o, workspace_bytes=0) for o in op.options)
        )
        for op in graph.ops
    )
    return msgspec.structs.replace(graph, ops=bare)


class Graphs(NamedTuple):
    """Of a scope: inference in integers, a step of fixed point, and one of backprop in float32."""

    inference: Graph
    step: Graph
    backprop: Graph


def graphs(model: nn.Module, samples: Split, scope: str, blocks: tuple[Block, ...]) -> Graphs:
    """Of these samples as one batch."""
    example = (samples.inputs, samples.targets)
    method = msgspec.structs.replace(SETTINGS[scope].method(1000), blocks=blocks)
    scaled = quantize(trained_in(model, scope), samples.inputs, method)
    return Graphs(
        inference_graph(scaled),
        capture_with(method, scaled, "cross_entropy", SGD(lr=1e-2), example).graph,
        capture(trained_in(model, scope), "cross_entropy", SGD(lr=1e-2), example).graph,
    )


def costs(device: Device, args: argparse.Namespace) -> Costs:
    """Peaks of plain plans at two batch sizes, and energy at the larger one."""
    _, domains = fashion(BATCH, BATCH)
    model, samples = pretrained(domains[0].train, 0, 5), domains[0].train  # neither cost asks how well
    found = Costs([], [], 0.0)
    for batch in (1, BATCH):
        some = Split(samples.inputs[:batch], samples.targets[:batch])
        for scope in SCOPES:
            for blocks in ((), SETTINGS[scope].blocks):
                made = graphs(model, some, scope, blocks)
                row, above = memory_row(made, device, batch, scope, blocks)
                found.memory.append(row)
                found = found._replace(most_above_inference=max(above, found.most_above_inference))
            if batch == BATCH:
                found.energy.extend(energy_rows(made, scope, args))
    return found


def memory_row(
    made: Graphs, device: Device, batch: int, scope: str, blocks: tuple[Block, ...]
) -> tuple[str, float]:
    """A line of the table of memory, and by which share a step on integer units is above inference."""
    directions = " + ".join(str(block.directions) for block in blocks) or "1"
    peaks = [plain_plan(g, device).peak_bytes for g in made]
    bare = [plain_plan(without_workspace(g), device).peak_bytes for g in made[:2]]
    above = bare[1] / bare[0] - 1
    cells = (
        f"| {batch} | {scope} | {directions} "
        f"| {bare[0]:,} | {bare[1]:,} ({above:+.1%}) "
        f"| {peaks[0]:,} | {peaks[1]:,} ({peaks[1] / peaks[0] - 1:+.1%}) | {peaks[2]:,} |"
    )
    return cells, above


def energy_rows(made: Graphs, scope: str, args: argparse.Namespace) -> Iterator[tuple[str, dict[str, float]]]:
    """Of a step, and of all of them, of both ways to train."""
    ways = (
        ("fixed point", made.step, steps_of(scope, args)),
        ("backprop", made.backprop, args.backprop_steps),
    )
    for way, graph, steps in ways:
        for count in (1, steps):
            yield f"{scope} | {way} | {count:,}", joules(graph, count)


def write_page(found: list[Result], spent: Costs, args: argparse.Namespace) -> None:
    """With what was measured so far."""
    blocks = "\n".join(
        f"| {scope} | {' '.join(f'`{name}`' for name in block.names)} | {block.directions} "
        f"| {s.lr * block.rate:g} | {steps_of(scope, args):,} | {s.backprop_lr:g} |"
        for scope, s in SETTINGS.items()
        for block in s.blocks
    )
    seeds = len({result.seed for result in found})
    called = f"python benchmarks/methods_fixed_point.py --seeds {seeds} --steps {args.steps:g}"
    words = {"command": called, "settings": blocks, "args": args, "batch": BATCH, "epsilon": EPSILON}
    write(PAGE, found, spent, 10 * len(SCOPES), **words)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--steps", type=float, default=1.0, help="of fixed point, as a multiple of each scope's"
    )
    parser.add_argument("--backprop-steps", type=int, default=1000)
    parser.add_argument("--pretraining", type=int, default=1500, help="steps")
    parser.add_argument("--samples", type=int, default=1000, help="of each shifted domain")
    parser.add_argument("--kept", action="store_true", help="write the page from what a run has kept so far")
    args = parser.parse_args()
    data_file("fashion_mnist.npz")
    args.device = load_device("stm32f7")
    spent = costs(args.device, args)
    if args.kept:
        write_page(known_results(args), spent, args)
        return
    found: list[Result] = []
    for result in results(args):
        found.append(result)
        write_page(found, spent, args)


if __name__ == "__main__":
    main()
