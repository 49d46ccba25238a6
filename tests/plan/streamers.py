"""Graphs whose ops may run as loops that stream, and orders of actions that do so at random."""

import random
from dataclasses import dataclass, field

import msgspec

from edgewise.graph import Graph, Op, Option, Stream, validate
from edgewise.plan.schedule import Action


def tiled(graph: Graph, dice: random.Random) -> Graph:
    """`graph` whose ops may also be executed by a loop that streams some of their operands."""
    ops = []
    for op in graph.ops:
        offered = [name for name in (*op.reads, *op.outputs) if dice.random() < 0.8]
        streams = tuple(_stream(graph, op, name, dice) for name in offered)
        loop = Option("loop", workspace_bytes=dice.randint(0, 3), streams=streams, tiles=2)
        ops.append(msgspec.structs.replace(op, options=(*op.options, loop)))
    return validate(msgspec.structs.replace(graph, ops=tuple(ops)))


def _stream(graph: Graph, op: Op, name: str, dice: random.Random) -> Stream:
    """Now and then an operand is read in part only, as a table is of which some rows are wanted."""
    size, partly = graph.value[name].bytes, name not in op.outputs and dice.random() < 0.2
    moved = dice.randint(0, size) if partly else size + dice.randint(0, 3)
    return Stream(name, dice.randint(0, 3), moved, dice.randint(1, 3))


@dataclass
class Streamer:
    """Makes an order that streams or pages at random; everything is in the tier between ops."""

    graph: Graph
    dice: random.Random
    order: list[Action] = field(default_factory=list)

    def run(self) -> tuple[Action, ...]:
        homes = self.homes()
        self.order += [Action("out", v.name) for v in self.graph.sources() if v.name not in homes]
        for op in self.graph.ops:
            self.execute(op)
        at_home = {self.graph.carries.get(name, name) for name in homes}
        self.order += [Action("in", name) for name in sorted(self.graph.required - at_home)]
        return tuple(self.order)

    def homes(self) -> frozenset[str]:
        return frozenset(v.name for v in self.graph.sources() if v.kind in ("parameter", "state"))

    def execute(self, op: Op) -> None:
        loop = op.option("loop")
        offered = sorted(loop.stream) if loop and self.dice.random() < 0.7 else []
        streamed = frozenset(name for name in offered if self.dice.random() < 0.7)
        self.order += [Action("in", name) for name in dict.fromkeys(op.reads) if name not in streamed]
        self.order.append(Action("compute", op.name, "loop" if offered else "", streamed))
        self.order += [Action("out", name) for name in op.outputs if name not in streamed]
        news = [new for old, new in op.updates if old not in streamed]
        self.order += [Action("out", new) for new in news]
