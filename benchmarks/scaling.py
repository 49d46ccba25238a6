"""How planning grows with the graph: chains and residual networks of 250, 1,000 and 4,000 ops.

    python benchmarks/scaling.py [--ops N ...] [--time-limit S] [--page PATH]

Each graph is one training step in miniature, forward and true backward, with sizes and work drawn by chance
from a fixed seed. The budget is 35% of the way from the largest working set to the plain peak. Planned for a
microcontroller with an SD card, and for the same one without a card, which can only recompute; the peers plan
the same work in the same run. Writes docs/benchmarks/scaling.md; takes about fifteen minutes.
"""

import argparse
import platform
import random
import statistics
import time
from pathlib import Path
from typing import NamedTuple

import msgspec

from edgewise.devices import Device, load_device
from edgewise.errors import BudgetInfeasible
from edgewise.graph import WHOLE, Graph, Op, Option, Value, validate
from edgewise.plan import Budget, Plan, check, make_plan, plain_plan
from edgewise.plan.problem import Problem, floor_bytes

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks" / "scaling.md"
OPS = (250, 500, 1000, 2000, 4000)
SHARE = 0.35
PEERS = ("every-block", "square-root")
KIB = 1024


class _Builder:
    """Values and ops of one training step; what each forward op made is remembered for its backward op."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.values = [Value("x", 32 * KIB, "input")]
        self.ops: list[Op] = []

    def op(self, name: str, inputs: tuple[str, ...], size: int, flops: int, *, over: str = "") -> str:
        """Append an op that makes one value of `size` bytes; `over` is an operand it may overwrite."""
        out = f"{name}.out"
        self.values.append(Value(out, size))
        options = (WHOLE, Option("in-place", ((over, out),))) if over else (WHOLE,)
        self.ops.append(Op(name, inputs, (out,), flops=flops, options=options, layer=name.split(".")[0]))
        return out

    def size(self) -> int:
        return self.dice.choice((8, 16, 32, 64)) * KIB

    def work(self, size: int) -> int:
        """Flops of an op that makes `size` bytes: from an element-wise op to a convolution."""
        return int(size / 4 * 10 ** self.dice.uniform(0.5, 3.5))

    def graph(self, name: str, output: str) -> Graph:
        return validate(Graph(name, tuple(self.values), tuple(self.ops), (output,)))


def chain(ops: int) -> Graph:
    """Half of `ops` forward, one after another; each backward op reads its forward op's operand again."""
    build = _Builder(ops)
    length, made, work = ops // 2, ["x"], []
    for i in range(length):
        size = build.size() if i < length - 1 else 4
        work.append(build.work(size))
        made.append(build.op(f"f{i}", (made[-1],), size, work[-1]))
    gradient = made[-1]
    for i in reversed(range(length)):
        operands = tuple(dict.fromkeys((made[i], gradient)))
        size = next(value.bytes for value in build.values if value.name == made[i])
        gradient = build.op(f"b{i}", operands, size, 2 * work[i])
    return build.graph(f"chain-{ops}", gradient)


def residual(ops: int) -> Graph:
    """Blocks of `y = x + conv(relu(conv(x)))`, between layers of a chain that fill up to `ops`."""
    build = _Builder(ops)
    blocks = (ops - 2) // 8
    size = 32 * KIB
    stem = (ops - 8 * blocks) // 2
    work = {i: build.work(size) for i in range(stem)}
    x = build.values[0].name
    read = []  # what each stem layer or block reads
    for i in range(stem):
        read.append(x)
        x = build.op(f"stem{i}.f", (x,), size, work[i])
    inner = []
    for i in range(blocks):
        read.append(x)
        wide, one, two = build.size(), build.work(size), build.work(size)
        a = build.op(f"{i}.conv1", (x,), wide, one)
        r = build.op(f"{i}.relu", (a,), wide, wide // 4, over=a)
        c = build.op(f"{i}.conv2", (r,), size, two)
        inner.append((r, wide, one, two))
        x = build.op(f"{i}.add", (x, c), size, size // 4, over=c)
    gradient = x
    for i in reversed(range(blocks)):
        r, wide, one, two = inner[i]
        g = build.op(f"{i}.conv2-grad", (r, gradient), wide, 2 * two)
        g = build.op(f"{i}.relu-grad", (r, g), wide, wide // 4, over=g)
        g = build.op(f"{i}.conv1-grad", (read[stem + i], g), size, 2 * one)
        gradient = build.op(f"{i}.add-grad", (gradient, g), size, size // 4, over=g)
    for i in reversed(range(stem)):
        gradient = build.op(f"stem{i}.b", (read[i], gradient), size, 2 * work[i])
    return build.graph(f"residual-{ops}", gradient)
