"""The figures that the decisions in docs/decisions/ rest on, measured anew: `python benchmarks/decisions.py`.

Writes docs/benchmarks/decisions.md. Takes about half a minute; only the times depend on the machine.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch._functorch.aot_autograd import aot_export_module

from edgewise.capture import SGD, capture, philox
from edgewise.capture.joint import _layers, trace_joint
from edgewise.devices import CostModel, Device, load_device
from edgewise.graph import Graph, Op, Value
from edgewise.plan import Budget, replay
from edgewise.plan.problem import Problem, page_everything
from edgewise.plan.schedule import lay_out, plain_order
from edgewise.zoo import Task, resolve_task
from edgewise.zoo.losses import resolve_loss

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks" / "decisions.md"
MASK = 2**20
REPEATS = 9

Row = tuple[str, str, str]


class _WithLoss(nn.Module):
    def __init__(self, task: Task) -> None:
        super().__init__()
        self.model, self.loss = task.model, resolve_loss(task.loss)

    def forward(self, inputs: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.loss(self.model(inputs), targets),)


def paths(task: Task) -> Iterator[Row]:
    """How many nodes of the joint graph know the module they belong to."""
    with _layers(task.model):
        exported, _ = aot_export_module(
            _WithLoss(task), task.example_batch, trace_joint=True, output_loss_index=0, decompositions=None
        )
    joint = trace_joint(task.model, resolve_loss(task.loss), task.example_batch)
    for name, module in (("aot_export_module", exported), ("..._joint_with_descriptors", joint.module)):
        calls = [node for node in module.graph.nodes if node.op == "call_function"]
        known = sum(bool((node.meta.get("custom") or {}).get("layer")) for node in calls)
        yield "0001", f"ResNet-18, nodes with a module path, `{name}`", f"{known} of {len(calls)}"


def least_seconds(work: Callable[[], Any]) -> float:
    """The quickest of some runs, after one to warm up."""
    work()
    seconds = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def drawing() -> Iterator[Row]:
    """What keyed randomness costs, on one thread."""
    keyed = least_seconds(lambda: philox.bernoulli((MASK,), 0.9, torch.bool, 1, 0, 0))
    usual = least_seconds(lambda: torch.empty(MASK, dtype=torch.bool).bernoulli_(0.9))
    yield "0003", "a dropout mask of 2^20 elements, keyed Philox", f"{keyed * 1e3:.0f} ms"
    yield "0003", "the same by torch's generator", f"{usual * 1e3:.0f} ms"


def updates(graph: Graph, device: Device) -> Iterator[Row]:
    """Plain peak with each gradient consumed at once, and with all updates at the end of the step."""
    late = _late(graph)
    weights = sum(value.bytes for value in graph.sources() if value.kind in ("parameter", "state"))
    yield "0004", "ResNet-18, batch 1, weights and buffers", f"{weights:,} B"
    for name, step in (("as soon as their gradient is there", graph), ("at the end of the step", late)):
        peak = replay(lay_out(plain_order(step), step), step, device).peak_bytes
        yield "0004", f"plain peak, updates {name}", f"{peak:,} B ({peak - weights:,} B above the weights)"


def _late(graph: Graph) -> Graph:
    """The step as plain PyTorch takes it: every gradient is kept until all are there."""
    ops, last, gradients = [], [], []
    for op in graph.ops:
        if not op.name.endswith(":update"):
            ops.append(op)
        elif op.kind == "optimizer":
            last.append(op)
        else:  # it makes its gradients itself: let another op make them
            made = [
                Value(f"{old}.gradient", graph.value[old].bytes, "gradient")
                for old, _ in op.updates
                if graph.value[old].kind == "parameter"
            ]
            gradients += made
            names = tuple(value.name for value in made)
            ops.append(Op(f"{op.name}.gradients", op.inputs, names, op.flops, op.kind))
            last.append(Op(op.name, names, (), 0, "optimizer", recomputable=False, updates=op.updates))
    return Graph(graph.name, (*graph.values, *gradients), (*ops, *last), graph.outputs)


def homes(graph: Graph, device: Device) -> Iterator[Row]:
    """Least RAM where weights live in the slower tier."""
    model: CostModel = "full"
    order, at_home = page_everything(Problem(graph, device, Budget(2**62), "joules", model))
    found = replay(lay_out(order, graph, at_home), graph, device, homes=tuple(sorted(at_home)))
    yield (
        "0006",
        "ResNet-18, batch 1, peak with everything paged and all weights at home",
        f"{found.peak_bytes:,} B",
    )


class _Attention(nn.Module):
    def forward(self, x_BHTD: torch.Tensor) -> torch.Tensor:
        return nn.functional.scaled_dot_product_attention(x_BHTD, x_BHTD, x_BHTD)


def attention() -> Iterator[Row]:
    """Attention in parts: its ops, and the biggest value among them."""
    x_BHTD = torch.randn(8, 4, 128, 16)
    model = nn.Sequential(nn.Linear(16, 16), _Attention())
    graph = capture(model, "mse", SGD(0.1), (x_BHTD, torch.zeros_like(x_BHTD))).graph
    biggest = max(graph.values, key=lambda value: value.bytes)
    inside = [op for op in graph.ops if op.layer == "1"]
    yield "0005", "attention 8x4x128x16 by its parts", f"{len(inside)} ops"
    yield (
        "0005",
        "biggest value (scores, 8x4x128x128), and one operand",
        f"{biggest.bytes:,} B, {x_BHTD.nbytes:,} B",
    )


def page(rows: list[Row]) -> str:
    """The table, in Markdown."""
    lines = [
        "# Figures behind the decisions",
        "",
        f"Written by `python benchmarks/decisions.py` with torch {torch.__version__}.",
        "",
        "| decision | what | measured |",
        "|---|---|---|",
        *(f"| {number} | {what} | {figure} |" for number, what, figure in rows),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print and write."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    task = resolve_task("resnet18", batch=1)
    graph = capture(task.model, task.loss, SGD(0.1), task.example_batch).graph
    device = load_device("rpi4")
    rows = [*paths(task), *drawing(), *updates(graph, device), *attention(), *homes(graph, device)]
    text = page(rows)
    print(text)
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
