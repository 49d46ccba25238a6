"""Random small graphs with everything a graph may have, by seed; and a strategy that draws them."""

import random

from hypothesis import strategies as st

from edgewise.devices import Compute, Device, Memory, Ram, Tier
from edgewise.graph import Graph, Op, Option, Value, validate

PAGING = Device(
    "pages",
    "pages to an SD card, one thing at a time",
    Compute(1.0, 1.0, watts_idle=0.01),
    Memory(Ram(1 << 30), sd=Tier(4.0, 3.0, read_latency_seconds=0.5, write_latency_seconds=0.25, watts=0.75)),
)
OVERLAPPING = Device(
    "overlaps",
    "pages while it computes",
    Compute(1.0, 1.0, watts_idle=0.01),
    Memory(Ram(1 << 30), sd=Tier(4.0, 3.0, read_latency_seconds=0.5, watts=0.75, overlap=True)),
)
DISKLESS = Device("diskless", "has RAM only", Compute(1.0, 1.0), Memory(Ram(1 << 30)))
SMALL_TIER = Device(
    "small-tier",
    "pages to a tier of 24 B",
    Compute(1.0, 1.0),
    Memory(Ram(1 << 30), flash=Tier(4.0, 3.0, watts=0.75, bytes=24)),
)


def random_graph(seed: int, *, most_ops: int = 7) -> Graph:
    """A graph of 2 to `most_ops` ops: skips, several outputs, in-place options, updates, no reruns."""
    return _Builder(random.Random(seed), most_ops).graph()


class _Builder:
    def __init__(self, dice: random.Random, most_ops: int) -> None:
        self.dice, self.count = dice, dice.randint(2, most_ops)
        self.values: list[Value] = []
        self.ops: list[Op] = []
        self.readable: list[str] = []
        self.unused: list[str] = []
        self.movable: list[str] = []  # parameters and states that no op has updated yet

    def graph(self) -> Graph:
        for number in range(self.dice.randint(1, 3)):
            kind = self.dice.choice(["input", "parameter", "state"])
            name = self._value(f"{kind[0]}{number}", kind)
            if kind != "input":
                self.movable.append(name)
        for number in range(self.count):
            self._op(number)
        outputs = [self.ops[-1].outputs[0]] if self.ops[-1].outputs else []
        if self.dice.random() < 0.2 and self.unused:
            outputs.append(self.dice.choice(self.unused))
        readable = set(self.readable)
        kept = tuple(dict.fromkeys(name for name in outputs if name in readable))
        return validate(Graph("random", tuple(self.values), tuple(self.ops), kept))

    def _value(self, name: str, kind: str = "activation", size: int | None = None) -> str:
        self.values.append(Value(name, self.dice.randint(0, 12) if size is None else size, kind))
        self.readable.append(name)
        self.unused.append(name)
        return name

    def _op(self, number: int) -> None:
        dice = self.dice
        recent = self.readable[-2:]
        inputs = {dice.choice(recent) if dice.random() < 0.7 else dice.choice(self.readable)}
        for _ in range(2):
            if dice.random() < 0.4:
                inputs.add(dice.choice(self.readable))
        chosen = tuple(sorted(inputs))
        self.unused = [name for name in self.unused if name not in inputs]
        updates: list[tuple[str, str]] = []
        if self.movable and dice.random() < 0.3:
            old = dice.choice(self.movable)
            self.movable.remove(old)
            chosen = tuple(name for name in chosen if name != old)
            self.readable.remove(old)
            new = self._value(f"{old}'", next(v.kind for v in self.values if v.name == old), self._size(old))
            self.readable.remove(new)
            updates.append((old, new))
        outputs = tuple(self._value(f"v{number}{letter}") for letter in "abc"[: dice.choice([1, 1, 1, 2])])
        self.readable += [new for _, new in updates]
        self.ops.append(
            Op(
                f"op{number}",
                chosen,
                outputs,
                flops=dice.randint(0, 9),
                recomputable=dice.random() < 0.8,
                updates=tuple(updates),
                options=self._options(chosen, outputs),
            )
        )

    def _options(self, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> tuple[Option, ...]:
        whole = Option("whole", workspace_bytes=self.dice.choice([0, 0, 3]))
        pairs = [
            (old, new)
            for old in inputs
            for new in outputs
            if self._size(old) == self._size(new) and not old.startswith(("p", "s"))
        ]
        return (whole, Option("in-place", (self.dice.choice(pairs),))) if pairs else (whole,)

    def _size(self, name: str) -> int:
        return next(value.bytes for value in self.values if value.name == name)


graphs = st.builds(random_graph, st.integers(0, 10**9), most_ops=st.integers(2, 7))
"""Any random small graph."""


def chain(length: int, *, size: int = 100) -> Graph:
    """A training step in miniature: forward, then backward that reads each forward value once more."""
    values = [Value("x", size, "input")]
    ops = []
    for i in range(length):
        values.append(Value(f"h{i}", size))
        ops.append(Op(f"f{i}", (f"h{i - 1}" if i else "x",), (f"h{i}",), flops=10 + i % 3))
    values.append(Value(f"g{length}", size, "gradient"))
    ops.append(Op("loss", (f"h{length - 1}",), (f"g{length}",), flops=1))
    for i in reversed(range(length)):
        values.append(Value(f"g{i}", size, "gradient"))
        ops.append(Op(f"b{i}", (f"h{i - 1}" if i else "x", f"g{i + 1}"), (f"g{i}",), flops=20))
    return validate(Graph(f"chain-{length}", tuple(values), tuple(ops), ("g0",)))


def fork(flops: int, *, recomputable: bool = True) -> Graph:
    """f makes a for n and h; g in between needs 13 B. Recomputing a costs `flops` J, paging it 4.12 J."""
    sizes = {"x": 2, "a": 8, "u": 1, "m": 10, "t": 1, "y": 1}
    values = tuple(
        Value(name, size, "input" if name == "x" else "activation") for name, size in sizes.items()
    )
    ops = (
        Op("f", ("x",), ("a",), flops=flops, recomputable=recomputable),
        Op("n", ("a",), ("u",), flops=1),
        Op("g", ("x", "u"), ("m",), flops=1, recomputable=False),
        Op("s", ("m",), ("t",), flops=1),
        Op("h", ("a", "t"), ("y",), flops=1),
    )
    return validate(Graph("fork", values, ops, ("y",)))
