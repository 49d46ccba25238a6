"""What a certified plan does, step by step: bytes by kind, and when and where each value stays in RAM.

The steps have passed `check`, so this replay only follows them. The bytes of all groups during a step add up
to the `ram_bytes` that the certificate states for it.
"""

from typing import Literal, NamedTuple

import msgspec

from edgewise.devices import Cost, Device
from edgewise.graph import Graph, Op, Value
from edgewise.plan import Compute, Free, PageIn, PageOut, Plan, Step
from edgewise.plan.schedule import lay_out, plain_order
from edgewise.report.loops import Loop, loops

GROUPS = ("parameter", "input", "other", "activation", "gradient", "loop")
"""Kinds as the charts show them, in the order in which they are stacked, from the bottom."""

GROUP_WORDS = {
    "parameter": "parameters and state",
    "input": "input",
    "other": "outputs and workspace",
    "activation": "activations",
    "gradient": "gradients",
    "loop": "tiles and workspace of loops",
}
_GROUP = {"state": "parameter", "output": "other"}

What = Literal["compute", "recompute", "page_out", "page_in", "free"]


def group_of(value: Value) -> str:
    """The group of `GROUPS` that `value` is shown in."""
    return _GROUP.get(value.kind, value.kind)


class Stay(NamedTuple):
    """`value` is in RAM at `offset` from step `begin` up to, not including, step `end`. `by` brought it."""

    value: str
    begin: int
    end: int
    offset: int
    by: What | None


class Room(NamedTuple):
    """What op `op` works in during step `step`: workspace, and the tiles of what it streams."""

    op: str
    step: int
    offset: int
    bytes: int
    group: str


class Moment(NamedTuple):
    """One step: what it does, to what, and its own cost. A transfer's seconds are its time on the link.

    `updates` says that it overwrites parameters by their new versions. Where the step is a `loop`, `cost` is
    that of its iterations, and what it streams costs `loop.moved` besides.
    """

    what: What
    name: str
    cost: Cost
    updates: bool = False
    loop: Loop | None = None


class Trace(msgspec.Struct, frozen=True):
    """The replay of a plan; `bytes_by_group[group][i]` is held while step i runs."""

    moments: tuple[Moment, ...]
    bytes_by_group: dict[str, tuple[int, ...]]
    stays: tuple[Stay, ...]
    rooms: tuple[Room, ...]
    backward_begin: int | None

    @property
    def stays_of(self) -> dict[str, list[Stay]]:
        """Stays by value, in the order in which they begin."""
        found: dict[str, list[Stay]] = {}
        for stay in sorted(self.stays, key=lambda stay: (stay.begin, stay.end)):
            found.setdefault(stay.value, []).append(stay)
        return found


def trace(plan: Plan, graph: Graph, device: Device) -> Trace:
    """Follow `plan`, which `check` has certified for `graph` and `device`."""
    found = {loop.step: loop for loop in loops(plan, graph, device)}
    return _Follower(graph, device, plan, found).follow(plan.steps)


def trace_plain(graph: Graph, device: Device) -> Trace:
    """Follow plain training: every op once, each value kept until its last use. Stays have no addresses."""
    return _Follower(graph, device, None, {}).follow(plain_steps(graph))


def plain_steps(graph: Graph) -> tuple[Step, ...]:
    """The steps of plain training."""
    return lay_out(plain_order(graph), graph)


class _Follower:
    """Follows steps; without a `plan` (whose addresses it reads) every offset is 0."""

    def __init__(self, graph: Graph, device: Device, plan: Plan | None, loops_at: dict[int, Loop]) -> None:
        self.graph, self.device, self.plan, self.loops_at = graph, device, plan, loops_at
        self.held = dict.fromkeys(GROUPS, 0)
        self.series: dict[str, list[int]] = {group: [] for group in GROUPS}
        self.open: dict[str, tuple[int, int, What | None]] = {}  # value -> begin, offset, what brought it
        self.count: dict[str, int] = {}
        self.stays: list[Stay] = []
        self.rooms: list[Room] = []
        self.worked: dict[str, int] = {}  # op -> executions that needed room
        self.moments: list[Moment] = []
        self.done: set[str] = set()
        self.backward_begin: int | None = None
        homes = plan.homes if plan else ()
        for value in graph.sources():
            if value.name not in homes:
                self._begin(value.name, 0, None)

    def _begin(self, name: str, index: int, by: What | None) -> None:
        nth = self.count.get(name, 0)
        self.count[name] = nth + 1
        value = self.graph.value[name]
        self.held[group_of(value)] += value.bytes
        self.open[name] = (index, self.plan.addresses[name][nth] if self.plan else 0, by)

    def _work(self, room: Room) -> None:
        nth = self.worked.get(room.op, 0)
        self.worked[room.op] = nth + 1
        offset = self.plan.workspaces[room.op][nth] if self.plan else 0
        self.rooms.append(room._replace(offset=offset))

    def _end(self, name: str, index: int) -> None:
        begin, offset, by = self.open.pop(name)
        value = self.graph.value[name]
        self.held[group_of(value)] -= value.bytes
        self.stays.append(Stay(name, begin, index, offset, by))

    def follow(self, steps: tuple[Step, ...]) -> Trace:
        for index, step in enumerate(steps):
            self._follow(index, step)
        for name in list(self.open):
            self._end(name, len(steps))
        series = {group: tuple(sizes) for group, sizes in self.series.items()}
        return Trace(tuple(self.moments), series, tuple(self.stays), tuple(self.rooms), self.backward_begin)

    def _follow(self, index: int, step: Step) -> None:
        before = dict(self.held)
        if isinstance(step, Compute):
            self._compute(index, self.graph.op[step.op], step, before)
            return
        size = self.graph.value[step.value].bytes
        if isinstance(step, Free):
            self._end(step.value, index + 1)
            self._note("free", step.value, Cost(0.0, 0.0), before)
        elif isinstance(step, PageOut):
            self._note("page_out", step.value, self.device.write_cost(size), before)
        elif isinstance(step, PageIn):
            self._begin(step.value, index, "page_in")
            self._note("page_in", step.value, self.device.read_cost(size), self.held)

    def _compute(self, index: int, op: Op, step: Compute, during: dict[str, int]) -> None:
        option, loop = op.option(step.option), self.loops_at.get(index)
        overwrites = option.overwrites if option else ()
        room = option.room_bytes(step.streamed) if option else 0
        if room:
            group = "loop" if loop else "other"
            during[group] += room
            self._work(Room(op.name, index, 0, room, group))
        first = op.name not in self.done
        self.done.add(op.name)
        what: What = "compute" if first else "recompute"
        in_place = {new for _, new in overwrites}
        made = [name for name in op.outputs if name not in step.streamed]
        for name in made:
            value = self.graph.value[name]
            during[group_of(value)] += 0 if name in in_place else value.bytes
        updates = [pair for pair in op.updates if first and pair[0] not in step.streamed]
        for old, _ in (*overwrites, *updates):
            self._end(old, index)
        for name in (*made, *(new for _, new in updates)):
            if name in self.open and name not in in_place:
                continue  # it is in RAM already, and the same bits land in the same place
            if name in self.open:
                self._end(name, index)
            self._begin(name, index, what)
        if self.backward_begin is None and any(self.graph.value[n].kind == "gradient" for n in op.outputs):
            self.backward_begin = index
        learns = first and any(self.graph.value[old].kind == "parameter" for old, _ in op.updates)
        cost = loop.compute if loop else self.device.op_cost(self.graph, op)
        self._note(what, op.name, cost, during)
        self.moments[-1] = self.moments[-1]._replace(updates=learns, loop=loop)

    def _note(self, what: What, name: str, cost: Cost, during: dict[str, int]) -> None:
        self.moments.append(Moment(what, name, cost))
        for group in GROUPS:
            self.series[group].append(during[group])
