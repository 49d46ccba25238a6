"""The independent check of a plan: replay it symbolically, trust nothing it says.

This file shares no code with the planners. It knows the rules of Graph, Plan and Device, replays the steps
one by one, and either returns a `Certificate` with what it counted or raises `PlanRejected` with the first
rule that is broken. Nothing in Edgewise runs a plan that has not passed here.
"""

import math
from typing import NoReturn

import msgspec

from edgewise.devices import Cost, CostModel, Device
from edgewise.errors import PlanRejected
from edgewise.graph import Graph, Op, Option
from edgewise.plan.nouns import Certificate, Compute, Free, PageIn, PageOut, Plan, Step

TOLERANCE = 1e-9
"""Relative difference allowed between a claimed and a recounted time or energy: the rounding of long sums."""


def check(plan: Plan, graph: Graph, device: Device) -> Certificate:
    """Certify `plan` for `graph` on `device`, or refuse it.

    Checked: the plan belongs to this graph and device; every operand of every step is in RAM; nothing is
    recomputed that must not be, no update happens twice or is left out; everything required is there at the
    end, in RAM or at home; RAM never exceeds the budget and no two values share an address; peak, seconds,
    joules are what the plan claims and within its budget.

    Raises:
        PlanRejected: a rule is broken; the message names the step and the rule.
    """
    if plan.graph_sha256 != graph.sha256:
        raise PlanRejected(
            f"This plan was made for another graph (`{plan.graph}`, digest {plan.graph_sha256[:12]}; "
            f"this one has {graph.sha256[:12]}). Plan again."
        )
    if plan.device != device.name:
        raise PlanRejected(f"This plan was made for device `{plan.device}`, not `{device.name}`. Plan again.")
    certificate = replay(plan.steps, graph, device, homes=plan.homes, cost_model=plan.cost_model)
    arena_bytes = _check_addresses(plan, graph)
    _check_claims(plan, certificate)
    _check_budget(plan, certificate)
    return msgspec.structs.replace(certificate, arena_bytes=arena_bytes)


def replay(
    steps: tuple[Step, ...],
    graph: Graph,
    device: Device,
    *,
    homes: tuple[str, ...] = (),
    cost_model: CostModel = "full",
) -> Certificate:
    """Replay `steps` and count what they need, without a budget or claims to hold them to.

    Raises:
        PlanRejected: a step cannot be done, or something required is missing at the end.
    """
    machine = _Machine(graph, device, homes, cost_model)
    for step in steps:
        machine.run(step)
    machine.finish()
    return machine.certificate()


class _Machine:
    """State of the replay: what is in RAM, what is stored in the tier, and the two clocks."""

    def __init__(self, graph: Graph, device: Device, homes: tuple[str, ...], cost_model: CostModel) -> None:
        self.graph, self.device, self.cost_model = graph, device, cost_model
        self.homes = frozenset(homes)
        sources = {value.name: value for value in graph.sources()}
        for name in homes:
            if name not in sources or sources[name].kind not in ("parameter", "state"):
                raise PlanRejected(f"`{name}` cannot live in the slower tier: it is no parameter or state.")
        if homes and device.memory.paging is None:
            raise PlanRejected(f"The plan pages, but device `{device.name}` has no tier to page to.")
        self.ram = {name for name in sources if name not in self.homes}
        self.stored = set(self.homes)
        self.live_bytes = sum(graph.value[name].bytes for name in self.ram)
        self.stored_bytes = sum(graph.value[name].bytes for name in self.stored)
        self.done: set[str] = set()
        self.overwritten: set[str] = set()  # by an update: no copy of them may come back
        self.index = -1
        self.peaks: list[int] = []
        self.lives: list[int] = []
        self.start_bytes = self.live_bytes
        self.clock = self.link_clock = self.joules = 0.0
        self.arrival: dict[str, float] = {}  # when a value that is paged in may be read
        self.departure: dict[str, float] = {}  # when a value that is paged out may be dropped or written over
        self.recomputed: list[str] = []
        self.paged_out: list[str] = []
        self.paged_in: list[str] = []
        self.streamed: list[str] = []
        self.exact = True
        self.bytes_written = self.bytes_read = 0

    def refuse(self, why: str) -> NoReturn:
        raise PlanRejected(f"Step {self.index} of the plan {why}. The plan is damaged or wrong: plan again.")

    def run(self, step: Step) -> None:
        self.index += 1
        if not isinstance(step, Compute) and step.value not in self.graph.value:
            self.refuse(f"names `{step.value}`, which is not in the graph")
        before = self.live_bytes
        peak = before
        match step:
            case Compute():
                peak = self._compute(step)
            case Free(value):
                self._drop(value, "frees")
                self.clock = max(self.clock, self.arrival.pop(value, 0.0), self.departure.pop(value, 0.0))
            case PageOut(value):
                self._page_out(value)
            case PageIn(value):
                self._page_in(value)
        self.peaks.append(max(peak, before, self.live_bytes))
        self.lives.append(self.live_bytes)

    def _hold(self, name: str) -> None:
        if name not in self.ram:
            self.ram.add(name)
            self.live_bytes += self.graph.value[name].bytes

    def _drop(self, name: str, verb: str) -> None:
        if name not in self.ram:
            self.refuse(f"{verb} `{name}`, which is not in RAM")
        self.ram.discard(name)
        self.live_bytes -= self.graph.value[name].bytes

    def _compute(self, step: Compute) -> int:
        op = self.graph.op.get(step.op)
        if op is None:
            self.refuse(f"computes `{step.op}`, which is not in the graph")
        option = op.option(step.option)
        if option is None:
            self.refuse(f"computes `{op.name}` by `{step.option}`, which it does not offer")
        first = op.name not in self.done
        if not first and not op.recomputable:
            self.refuse(f"recomputes `{op.name}`, which must run only once")
        reads = op.reads if first else op.inputs
        self._check_streams(op, option, step.streamed, reads)
        for name in reads:
            if name not in self.ram and name not in step.streamed:
                self.refuse(f"computes `{op.name}` without its operand `{name}` in RAM")
        peak = self._write(op, option, frozenset(step.streamed), first=first)
        self.done.add(op.name)
        self.exact = self.exact and option.exact
        if not first:
            self.recomputed.append(op.name)
        gone = [old for old, _ in (*option.overwrites, *(op.updates if first else ()))]
        arrivals = [self.arrival.get(name, 0.0) for name in reads]
        departures = [self.departure.pop(name, 0.0) for name in gone]
        self._pay(op, option, step.streamed, max([self.clock, *arrivals, *departures]))
        return peak

    def _check_streams(
        self, op: Op, option: Option, streamed: tuple[str, ...], reads: tuple[str, ...]
    ) -> None:
        """What is streamed may be, is an operand of this execution, and is in the tier and not in RAM."""
        what = f"computes `{op.name}` by `{option.name}`"
        if streamed and self.device.memory.paging is None:
            self.refuse(f"{what} with streams, but device `{self.device.name}` has no tier to stream from")
        if len(set(streamed)) != len(streamed):
            self.refuse(f"{what} and streams a value twice")
        for name in streamed:
            if name not in option.stream or (name not in reads and name not in op.outputs):
                self.refuse(f"{what} and streams `{name}`, which that does not offer")
            if name in self.ram:
                self.refuse(f"{what} and streams `{name}`, which is in RAM")
            if name in reads and name not in self.stored:
                self.refuse(f"{what} and streams `{name}`, which is not in the slower tier")
            if name in self.overwritten:
                self.refuse(f"{what} and streams `{name}`, which was overwritten by its update")

    def _write(self, op: Op, option: Option, streamed: frozenset[str], *, first: bool) -> int:
        """Make the outputs (and, the first time, the updates) of `op`; return the bytes needed meanwhile."""
        overwritten = {new: old for old, new in option.overwrites}
        resident = [name for name in op.outputs if name not in streamed]
        fresh = sum(self.graph.value[name].bytes for name in resident if name not in overwritten)
        tiles = sum(option.stream[name].tile_bytes for name in streamed)
        peak = self.live_bytes + fresh + option.workspace_bytes + tiles
        for old in overwritten.values():
            self._drop(old, f"computes `{op.name}` over")
        for name in resident:
            self._hold(name)
        for name in streamed.intersection(op.outputs):
            self._store(name, in_place=False)
        for old, new in op.updates if first else ():
            if old in streamed:
                self._store(new, in_place=True)
            else:
                self._drop(old, f"updates by `{op.name}`")
                self._hold(new)
            self.overwritten.add(old)
        return peak

    def _pay(self, op: Op, option: Option, streamed: tuple[str, ...], begin: float) -> None:
        """Time and energy of an execution that begins at `begin`; streams wait for the link, and keep it."""
        cost = self.device.op_cost(self.graph, op, tiles=option.tiles)
        if streamed:
            moved = self.device.stream_cost(op, option, streamed)
            self._count_streams(op, option, streamed)
            self.streamed.append(op.name)
            self.joules += moved.joules
            if self.cost_model == "full":
                begin = max(begin, self.link_clock) + moved.seconds
        self.clock = begin + cost.seconds
        if streamed and self.cost_model == "full":
            self.link_clock = self.clock
        self.joules += cost.joules

    def _count_streams(self, op: Op, option: Option, streamed: tuple[str, ...]) -> None:
        olds = {old for old, _ in op.updates}
        for name in streamed:
            moved = option.stream[name].moved_bytes
            self.bytes_read += moved if name not in op.outputs else 0
            self.bytes_written += moved if name in op.outputs or name in olds else 0

    def _page_out(self, name: str) -> None:
        paging = self.device.memory.paging
        if paging is None:
            self.refuse(f"pages `{name}`, but device `{self.device.name}` has no tier to page to")
        if name not in self.ram:
            self.refuse(f"pages out `{name}`, which is not in RAM")
        size = self.graph.value[name].bytes
        self._store(name, in_place=self._home_slot(name))
        self.bytes_written += size
        self.paged_out.append(name)
        self._transfer(name, self.departure, self.device.write_cost(size))

    def _store(self, name: str, *, in_place: bool) -> None:
        """`name` is in the tier from now on, `in_place` of what it replaces or in a slot of its own."""
        if name not in self.stored:
            self.stored.add(name)
            self.stored_bytes += 0 if in_place else self.graph.value[name].bytes
        paging = self.device.memory.paging
        limit = paging[1].bytes if paging is not None else None
        if paging is not None and limit is not None and self.stored_bytes > limit:
            self.refuse(
                f"stores `{name}`: {self.stored_bytes:,} B do not fit the {limit:,} B of `{paging[0]}`"
            )

    def _home_slot(self, name: str) -> bool:
        """Whether `name` is the updated version of a value at home, and so takes its slot in the tier."""
        return any(old in self.homes and new == name for old, new in self.graph.carries.items())

    def _page_in(self, name: str) -> None:
        if name not in self.stored:
            self.refuse(f"pages in `{name}`, which was not paged out")
        if name in self.overwritten:
            self.refuse(f"pages in `{name}`, which was overwritten by its update")
        if name in self.ram:
            self.refuse(f"pages in `{name}`, which is in RAM already")
        size = self.graph.value[name].bytes
        self._hold(name)
        self.bytes_read += size
        self.paged_in.append(name)
        self._transfer(name, self.arrival, self.device.read_cost(size))

    def _transfer(self, name: str, over: dict[str, float], cost: Cost) -> None:
        self.joules += cost.joules
        if self.cost_model == "poet":
            return
        if self.device.overlaps:
            self.link_clock = max(self.clock, self.link_clock) + cost.seconds
            over[name] = self.link_clock
        else:
            self.clock += cost.seconds

    def finish(self) -> None:
        """Everything required is where the next step looks for it."""
        self.index += 1
        for op in self.graph.ops:
            if op.updates and op.name not in self.done:
                self.refuse(f"is the end, but the updates of `{op.name}` were never made")
        at_home = {self.graph.carries.get(name, name) for name in self.homes}
        for name in sorted(self.graph.required):
            if name in at_home and name not in self.stored:
                self.refuse(
                    f"is the end, but `{name}` was not brought back to the slower tier where it lives"
                )
            if name not in at_home and name not in self.ram:
                self.refuse(f"is the end, but the required value `{name}` is not in RAM")
        self.clock = max(self.clock, self.link_clock)
        if self.cost_model == "full":
            self.joules += self.clock * self.device.compute.watts_idle

    def certificate(self) -> Certificate:
        return Certificate(
            peak_bytes=max([self.start_bytes, *self.peaks]),
            seconds=self.clock,
            joules=self.joules,
            arena_bytes=0,
            ram_bytes=tuple(self.peaks),
            live_bytes=tuple(self.lives),
            recomputed=tuple(self.recomputed),
            paged_out=tuple(self.paged_out),
            paged_in=tuple(self.paged_in),
            streamed=tuple(self.streamed),
            exact=self.exact,
            bytes_written=self.bytes_written,
            bytes_read=self.bytes_read,
        )


def _check_claims(plan: Plan, found: Certificate) -> None:
    if plan.peak_bytes != found.peak_bytes:
        raise PlanRejected(
            f"The plan claims a peak of {plan.peak_bytes:,} B, but needs {found.peak_bytes:,} B."
        )
    for what, claimed, counted in (("s", plan.seconds, found.seconds), ("J", plan.joules, found.joules)):
        if not math.isclose(claimed, counted, rel_tol=TOLERANCE, abs_tol=1e-15):
            raise PlanRejected(f"The plan claims {claimed:.9g} {what}, but takes {counted:.9g} {what}.")
    if not plan.gap >= 0 or (plan.status == "optimal" and plan.gap > 0):
        raise PlanRejected(f"The plan claims to be {plan.status} with a gap of {plan.gap}.")


def _check_budget(plan: Plan, found: Certificate) -> None:
    budget = plan.budget
    if found.peak_bytes > budget.ram_bytes:
        raise PlanRejected(
            f"The plan needs {found.peak_bytes:,} B of RAM; its budget is {budget.ram_bytes:,} B."
        )
    for what, limit, needed in (("s", budget.seconds, found.seconds), ("J", budget.joules, found.joules)):
        if limit is not None and needed > limit * (1 + TOLERANCE):
            raise PlanRejected(f"The plan needs {needed:.6g} {what}; its budget is {limit:.6g} {what}.")


class _Stays:
    """When each stay of each value in RAM begins and ends, with the addresses the plan gives it."""

    def __init__(self, plan: Plan, graph: Graph) -> None:
        self.plan, self.graph = plan, graph
        self.count: dict[str, int] = {}
        self.live: dict[str, int] = {}  # value -> offset
        self.end_bytes = 0

    def begin(self, name: str, at: int | None = None) -> None:
        offsets = self.plan.addresses.get(name, ())
        nth = self.count.get(name, 0)
        if nth >= len(offsets):
            raise PlanRejected(f"Stay {nth} of `{name}` in RAM has no address in the plan.")
        self.count[name] = nth + 1
        offset, size = offsets[nth], self.graph.value[name].bytes
        if offset < 0:
            raise PlanRejected(f"`{name}` has the negative address {offset}.")
        if at is not None and offset != at:
            raise PlanRejected(
                f"`{name}` overwrites its operand, but has another address ({offset}, not {at})."
            )
        for other, start in self.live.items():
            if size and offset < start + self.graph.value[other].bytes and start < offset + size:
                raise PlanRejected(f"`{name}` at {offset} overlaps `{other}` at {start}.")
        self.live[name] = offset
        self.end_bytes = max(self.end_bytes, offset + size)

    def end(self, name: str) -> int:
        return self.live.pop(name)

    def compute(self, op: Op, step: Compute, *, first: bool) -> None:
        option = op.option(step.option)
        pairs = [*(option.overwrites if option else ()), *(op.updates if first else ())]
        places = {new: self.end(old) for old, new in pairs if old not in step.streamed}
        for name in op.outputs:
            if name in places and name in self.live:
                self.end(name)  # made again in another place, while the old copy was still there
        for name, at in places.items():
            self.begin(name, at)
        for name in op.outputs:
            if name not in self.live and name not in step.streamed:
                self.begin(name)


def _check_addresses(plan: Plan, graph: Graph) -> int:
    """No two values in RAM share a byte, and what overwrites an operand is in its place. Returns the end."""
    stays = _Stays(plan, graph)
    done: set[str] = set()
    for value in graph.sources():
        if value.name not in plan.homes:
            stays.begin(value.name)
    for step in plan.steps:
        match step:
            case PageIn(value=name):
                stays.begin(name)
            case Free(value=name):
                stays.end(name)
            case Compute(op=name):
                stays.compute(graph.op[name], step, first=name not in done)
                done.add(name)
            case PageOut():
                pass
    if any(len(offsets) != stays.count.get(name, 0) for name, offsets in plan.addresses.items()):
        raise PlanRejected("The plan gives addresses to stays in RAM that do not happen.")
    return stays.end_bytes
