"""Where each value lies while each step of a plan runs: the plan's addresses, stay by stay."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from edgewise.graph import Graph
from edgewise.plan import Compute, Free, PageIn, Plan, Step


@dataclass(frozen=True)
class Moment:
    """A step of the plan, and offsets in the arena while it runs: of values, and of the room an op works in.

    `first` says that a `Compute` is the op's first execution.
    """

    step: Step
    at: Mapping[str, int]
    room: int
    first: bool


@dataclass
class Replay:
    """Follows a plan from the start of a step to its end; `at` holds the offset of what is in RAM now."""

    graph: Graph
    plan: Plan

    def __post_init__(self) -> None:
        self.at: dict[str, int] = {}
        self._stays: Counter[str] = Counter()
        self._rooms: Counter[str] = Counter()
        for value in self.graph.sources():
            if value.name not in self.plan.homes:
                self._begin(value.name)

    def run(self) -> Iterator[Moment]:
        """Every step, with the offsets that it sees: those of operands and of results."""
        done: set[str] = set()
        for step in self.plan.steps:
            match step:
                case PageIn(name):
                    self._begin(name)
                    yield Moment(step, dict(self.at), 0, first=False)
                case Free(name):
                    del self.at[name]
                case Compute():
                    yield self._compute(step, first=step.op not in done)
                    done.add(step.op)
                case _:
                    yield Moment(step, dict(self.at), 0, first=False)

    def _begin(self, name: str) -> None:
        self.at[name] = self.plan.addresses[name][self._stays[name]]
        self._stays[name] += 1

    def _compute(self, step: Compute, *, first: bool) -> Moment:
        op = self.graph.op[step.op]
        option = op.option(step.option) or op.options[0]
        room = 0
        if option.room_bytes(step.streamed):
            room = self.plan.workspaces[op.name][self._rooms[op.name]]
            self._rooms[op.name] += 1
        seen = dict(self.at)
        pairs = [*option.overwrites, *(op.updates if first else ())]
        replaced = [(old, new) for old, new in pairs if old not in step.streamed]
        for old, _ in replaced:
            del self.at[old]
        for name in op.outputs:
            if name in self.at and name in {new for _, new in replaced}:
                del self.at[name]
        for _, new in replaced:
            self._begin(new)
        for name in op.outputs:
            if name not in self.at and name not in step.streamed:
                self._begin(name)
        return Moment(step, {**seen, **self.at}, room, first)
