"""Plans made by hand in which nothing stays in RAM that an op can stream, or that can wait in the tier."""

import random
from collections.abc import Iterator

from edgewise.graph import Graph, Op, Option
from edgewise.plan import Compute, Free, PageIn, PageOut, Plan
from edgewise.plan import Step as PlanStep
from tests.support import plan_of_steps


def least_option(graph: Graph, op: Op) -> Option:
    """The option of least RAM when all it can stream is streamed."""

    def ram_bytes(option: Option) -> int:
        resident = {*op.reads, *op.outputs} - set(option.stream)
        return sum(graph.value[name].bytes for name in resident) + option.room_bytes(tuple(option.stream))

    return min((option for option in op.options if not option.overwrites), key=ram_bytes)


class _Streamer:
    """Goes through a graph op by op; everything not needed by the op at hand is in the tier."""

    def __init__(self, graph: Graph, rng: random.Random | None, *, at_home: bool) -> None:
        self.graph, self.rng = graph, rng
        carried = (v.name for v in graph.sources() if v.kind in ("parameter", "state"))
        self.homes = frozenset(carried if at_home else ())
        self.kept = {"step", *graph.outputs}

    def steps(self) -> Iterator[PlanStep]:
        for value in self.graph.sources():
            if value.name not in self.homes | self.kept:
                yield PageOut(value.name)
                yield Free(value.name)
        for op in self.graph.ops:
            yield from self._execute(op)
        if not self.homes:
            yield from map(PageIn, sorted(self.graph.required - self.kept))

    def _execute(self, op: Op) -> Iterator[PlanStep]:
        option = least_option(self.graph, op)
        streamed = tuple(name for name in option.stream if name not in self.kept)
        if self.rng is not None:
            option = self.rng.choice([option for option in op.options if not option.overwrites])
            offered = [name for name in option.stream if name not in self.kept]
            streamed = tuple(name for name in offered if self.rng.random() < 0.5)
        olds = [old for old, _ in op.updates]
        resident = [n for n in dict.fromkeys(op.reads) if n not in streamed and n not in self.kept]
        yield from map(PageIn, resident)
        yield Compute(op.name, option.name, streamed)
        made = [*op.outputs, *(new for old, new in op.updates if old not in streamed)]
        for name in made:
            if name not in streamed and name not in self.kept:
                yield PageOut(name)
                yield Free(name)
        yield from (Free(name) for name in resident if name not in olds)


def streaming_plan(graph: Graph, rng: random.Random | None = None, *, at_home: bool = True) -> Plan:
    """Every op by its option of least RAM with all streamed; with `rng`, by any option with any streamed."""
    streamer = _Streamer(graph, rng, at_home=at_home)
    return plan_of_steps(tuple(streamer.steps()), graph, homes=streamer.homes)
