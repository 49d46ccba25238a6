"""Edgewise in one sitting: graph -> plan -> check -> run, for one training step of a small network in NumPy.

The real package captures the graph from PyTorch, plans with a mixed-integer program instead of a search, knows
devices, addresses and work in place, and pages in the background. The idea is all here.
"""

import heapq
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

# 1. The graph: what one training step computes.
class Op(NamedTuple):
    """A pure function of `inputs`. It may overwrite some of them by its outputs: then they are gone for good."""
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    cost: float  # joules, seconds, flops: whatever there shall be little of
    overwrites: tuple[str, ...] = ()
    run: Callable[..., np.ndarray] | None = None

class Graph(NamedTuple):
    """Ops in a valid order, the size of every value, and what must be in RAM at the end."""
    ops: tuple[Op, ...]
    bytes: dict[str, int]
    required: frozenset[str]

    def sources(self) -> frozenset[str]:
        """What is in RAM at the start: all that no op makes."""
        return frozenset(self.bytes).difference(*(op.outputs for op in self.ops))

    def size(self, names: frozenset[str] | tuple[str, ...]) -> int:
        return sum(self.bytes[name] for name in names)

Tier = tuple[Callable[[int], float], Callable[[int], float]]  # cost of writing and of reading so many bytes
Step = tuple[str, str]  # ("compute", op), or "page_out", "page_in", "free" and a value
State = tuple[int, frozenset[str], frozenset[str]]  # ops done, values in RAM, values in the slower tier
Move = tuple[tuple[Step, ...], float, State]  # steps, what they add to the overhead, and where they lead

# 2. The plan: the cheapest steps that never hold more than the budget.
def plan(graph: Graph, ram_bytes: int, tier: Tier | None = None) -> tuple[list[Step], float]:
    """Steps of least overhead (the cost beyond every op once): a best-first search, exact, for small graphs."""
    start: State = (0, graph.sources(), frozenset())
    least, queue = {start: 0.0}, [(0.0, 0, 0, start, ())]
    while queue:
        overhead, _, _, state, trail = heapq.heappop(queue)
        if state[0] == len(graph.ops) and graph.required <= state[1]:
            return list(trail), overhead
        for more, cost, then in moves(graph, ram_bytes, tier, state):
            if overhead + cost < least.get(then, float("inf")):
                least[then] = overhead + cost
                heapq.heappush(queue, (least[then], -then[0], len(least), then, trail + more))
    raise ValueError(f"No plan fits {ram_bytes:,} bytes.")

def moves(graph: Graph, ram_bytes: int, tier: Tier | None, state: State) -> Iterator[Move]:
    """What may come next. Values are dropped only where something did not fit: to drop them sooner is no better."""
    done, ram, stored = state
    room, tight = ram_bytes - graph.size(ram), False
    for number, op in enumerate(graph.ops[: done + 1]):  # an earlier op again, or the next one for the first time
        first = number == done
        if ram.issuperset(op.inputs) and (first or not ram.issuperset(op.outputs)):
            if graph.size(op.outputs) - graph.size(op.overwrites) > room:
                tight = True
            else:
                then = (done + first, ram.difference(op.overwrites).union(op.outputs), stored.difference(op.overwrites))
                yield (("compute", op.name),), 0 if first else op.cost, then
    for value in sorted(stored - ram):
        tight |= graph.bytes[value] > room
        if tier and graph.bytes[value] <= room:
            yield (("page_in", value),), tier[1](graph.bytes[value]), (done, ram | {value}, stored)
    weights = {value for op in graph.ops if op.overwrites for value in op.overwrites + op.outputs}
    for value in sorted(ram - weights) if tight else ():  # the real planner moves weights, too
        yield (("free", value),), 0, (done, ram - {value}, stored)
        if tier and value not in stored:
            cost, then = tier[0](graph.bytes[value]), (done, ram - {value}, stored | {value})
            yield (("page_out", value), ("free", value)), cost, then

def plain(graph: Graph) -> list[Step]:
    """Every op once, every value kept until its last use: what training does without a plan."""
    last = {name: number for number, op in enumerate(graph.ops) for name in (*op.outputs, *op.inputs)}
    steps: list[Step] = []
    for number, op in enumerate(graph.ops):
        dead = [v for v in last if last[v] == number and v not in graph.required and v not in op.overwrites]
        steps += [("compute", op.name), *(("free", value) for value in dead)]
    return steps

# 3. The check: a replay that knows no planner. Nothing runs without it.
def check(graph: Graph, steps: list[Step]) -> int:
    """Peak bytes of `steps`; AssertionError if they break a rule."""
    ops, ram, stored, peak = {op.name: op for op in graph.ops}, graph.sources(), frozenset[str](), 0
    for what, name in steps:
        if what == "compute":
            op = ops[name]
            assert ram.issuperset(op.inputs), f"{name} lacks an operand, or ran already and must not again"
            peak = max(peak, graph.size(ram) + graph.size(op.outputs) - graph.size(op.overwrites))
            ram, stored = ram.difference(op.overwrites).union(op.outputs), stored.difference(op.overwrites)
        else:
            assert name in (stored - ram if what == "page_in" else ram), f"{what} {name}: it is not there"
            stored |= {name} if what == "page_out" else frozenset()
            ram = ram - {name} if what == "free" else ram | {name}
            peak = max(peak, graph.size(ram))
    assert graph.required <= ram, "the step is not complete"
    return peak

# 4. The executor, and a network for it.
def run(graph: Graph, steps: list[Step], arrays: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], int]:
    """Execute `steps` on the sources; what is in RAM at the end, and the most bytes that were held."""
    ops, peak, arrays = {op.name: op for op in graph.ops}, 0, {name: array.copy() for name, array in arrays.items()}
    with tempfile.TemporaryDirectory() as folder:
        for what, name in steps:
            if what == "compute":
                result = (op := ops[name]).run(*(arrays[value] for value in op.inputs))
                arrays = {v: a for v, a in arrays.items() if v not in op.overwrites} | {op.outputs[0]: result}
            elif what == "page_out":
                np.save(Path(folder, f"{name}.npy"), arrays[name])
            elif what == "page_in":
                arrays[name] = np.load(Path(folder, f"{name}.npy"))
            else:
                del arrays[name]
            peak = max(peak, sum(array.nbytes for array in arrays.values()))
    return arrays, peak

def network(width: int, depth: int, batch: int) -> tuple[Graph, dict[str, np.ndarray]]:
    """A step of gradient descent on `depth` layers of ReLU under squared error, and its sources. x is h0."""
    draw, flops, ops = np.random.default_rng(0).standard_normal, 2 * batch * width**2, []
    for i in range(depth):
        ops.append(Op(f"h{i + 1}", (f"h{i}", f"W{i}"), (f"h{i + 1}",), flops, (), lambda h, W: np.maximum(h @ W, 0)))
    ops.append(Op("loss", (f"h{depth}", "y"), (f"g{depth}",), 0, (), lambda h, y: (h - y) * (h > 0) / len(y)))
    for i in reversed(range(depth)):
        new, old, h, g = f"W{i}'", f"W{i}", f"h{i}", f"g{i + 1}"
        if i:
            ops.append(Op(f"g{i}", (g, old, h), (f"g{i}",), flops, (), lambda g, W, h: g @ W.T * (h > 0)))
        ops.append(Op(new, (h, g, old), (new,), flops, (old,), lambda h, g, W: np.subtract(W, 0.1 * h.T @ g, out=W)))
    arrays = {f"W{i}": draw((width, width)) / width**0.5 for i in range(depth)}
    arrays |= {name: draw((batch, width)) for name in ("h0", "y")}
    sizes = {v: arrays["W0" if v[0] == "W" else "y"].nbytes for op in ops for v in op.inputs + op.outputs}
    return Graph(tuple(ops), sizes, frozenset(f"W{i}'" for i in range(depth))), arrays

if __name__ == "__main__":
    graph, arrays = network(width=64, depth=4, batch=256)
    expected, usual = run(graph, plain(graph), arrays)
    steps, overhead = plan(graph, usual * 5 // 8, tier=(lambda size: 12 * size, lambda size: 6 * size))
    result, measured = run(graph, steps, arrays)
    print(f"plain {usual:,} B, budget {usual * 5 // 8:,} B, planned {check(graph, steps):,} B, measured {measured:,} B")
    print(" ".join(name if what == "compute" else f"{what}:{name}" for what, name in steps))
    same = all(np.array_equal(result[name], expected[name]) for name in graph.required)
    print(f"{overhead / sum(op.cost for op in graph.ops):.1%} more work; every weight the same, bit for bit: {same}")
