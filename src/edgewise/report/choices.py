"""Why it paid: for each value that was recomputed, paged or streamed, what each way would have cost.

A value is *away* between the end of one stay in RAM and the recomputation or page-in that brings it back, and
while ops take it slice by slice from the slower tier, or leave it there. Keeping it instead would add its
bytes to every step of that time; recomputing, paging and streaming have the device's prices. The price
compared is that of the plan's objective; joules include idle power for the seconds that an action takes.
"""

from collections import Counter
from typing import Literal, NamedTuple

import msgspec

from edgewise.devices import Cost
from edgewise.graph import Stream
from edgewise.report.loops import NOTHING, Loop, stream_bytes, stream_cost
from edgewise.report.nouns import ReportData
from edgewise.report.trace import Stay, Trace
from edgewise.report.units import bytes_text, clipped, joules_text, seconds_text

How = Literal["recomputed", "paged", "recomputed and paged", "lives in the slower tier", "streamed"]


class Choice(NamedTuple):
    """One value that did not stay in RAM.

    `gaps` are the runs of steps `[begin, end)` for which it was away; it came back `times` times, and
    `streams` executions moved `moved_bytes` of it in slices, both ways together.
    `idle_seconds` is how long that is on the device. `keep_peak_bytes` is the most RAM that any of these
    steps would need with the value kept. Costs are those of all times together: `paid` by the plan, and by
    either way alone, `None` where it is closed. `missing` are operands that a recomputation would first need
    back in RAM. `otherwise` is the way not taken, in words; `looks_dearer`: on its own, that one costs less.
    """

    value: str
    layer: str
    bytes: int
    how: How
    times: int
    gaps: tuple[tuple[int, int], ...]
    idle_seconds: float
    keep_peak_bytes: int
    paid: Cost
    recompute: Cost | None
    paging: Cost | None
    missing: tuple[str, ...]
    otherwise: str
    looks_dearer: bool
    streams: int = 0
    moved_bytes: int = 0

    @property
    def idle_steps(self) -> int:
        """Steps for which the value was away."""
        return sum(end - begin for begin, end in self.gaps)


def choices(data: ReportData, trace: Trace) -> tuple[Choice, ...]:
    """Every value that was recomputed, paged or streamed, the largest saving (bytes x seconds away) first."""
    chooser = _Chooser(data, trace)
    names = dict.fromkeys((*trace.stays_of, *chooser.loops))
    found = [choice for name in names if (choice := chooser.choice(name)) is not None]
    return tuple(sorted(found, key=lambda c: (-c.bytes * max(c.idle_seconds, 1e-12), c.value)))


def _is_held(stay: Stay) -> bool:
    """Whether a value was made again for its own sake: not to be overwritten by the next step."""
    return stay.by == "recompute" and stay.end > stay.begin + 1


class _Chooser:
    def __init__(self, data: ReportData, trace: Trace) -> None:
        self.data, self.trace = data, trace
        self.graph, self.device, self.plan = data.graph, data.device, data.plan
        self.stays = trace.stays_of
        self.loops: dict[str, list[Loop]] = {}  # value -> executions that stream it
        for loop in (moment.loop for moment in trace.moments if moment.loop is not None):
            for name in loop.streamed:
                self.loops.setdefault(name, []).append(loop)
        self.clock = self._clock()
        self.homes = frozenset(data.plan.homes)
        self.count = Counter((moment.what, moment.name) for moment in trace.moments)
        full = data.plan.cost_model == "full"
        self.idle_watts = data.device.compute.watts_idle if full else 0.0

    def _clock(self) -> list[float]:
        """Seconds at which each step begins: compute, and transfers where they do not overlap it."""
        transfers = self.plan.cost_model == "full" and not self.device.overlaps
        times = [0.0]
        for moment in self.trace.moments:
            counts = moment.what in ("compute", "recompute") or transfers
            streams = moment.loop.moved.seconds if moment.loop else 0.0
            times.append(times[-1] + (moment.cost.seconds + streams if counts else 0.0))
        return times

    def choice(self, name: str) -> Choice | None:
        stays, streams = self.stays.get(name, []), self.loops.get(name, [])
        back = [stay for stay in stays if stay.by == "page_in" or _is_held(stay)]
        if not back and not streams:
            return None
        gaps = self._gaps(name, stays, streams)
        recompute = self._recompute(name, len(back))
        paging = self._paging(name, len(back))
        how = self._how(name, back)
        missing = self._missing(name, back[0].begin) if back and how != "recomputed" else ()
        otherwise, dearer = self._otherwise(name, how, recompute, paging, missing)
        if streams:
            otherwise, dearer = self._in_one_piece(name, streams)
        size = self.graph.value[name].bytes
        return Choice(
            name,
            self._layer(name),
            size,
            how,
            len(back),
            gaps,
            sum(self.clock[end] - self.clock[begin] for begin, end in gaps),
            max((self._with(name, i) for begin, end in gaps for i in range(begin, end)), default=size),
            self._paid(name, back, streams),
            recompute,
            paging,
            missing,
            otherwise,
            dearer,
            len(streams),
            sum(sum(stream_bytes(loop.op, loop.option, (name,))) for loop in streams),
        )

    def _gaps(self, name: str, stays: list[Stay], streams: list[Loop]) -> tuple[tuple[int, int], ...]:
        """Steps `[begin, end)` without the value; for one that lives elsewhere also before its first stay.

        One that is streamed is away from the loop that makes it, and until the last that reads it.
        """
        spans = [(stay.begin, stay.end) for stay in stays]
        begins = [begin for begin, _ in spans] + [loop.step for loop in streams]
        ends = [end for _, end in spans] + [loop.step + 1 for loop in streams]
        away, gaps = 0 if name in self.homes else min(begins), []
        for begin, end in [*spans, (max(ends), max(ends))]:
            gaps.append((away, begin))
            away = max(away, end)
        return tuple((begin, end) for begin, end in gaps if end > begin)

    def _with(self, name: str, index: int) -> int:
        """RAM in step `index` with the value whole, and no tile of it."""
        loop = self.trace.moments[index].loop
        tile = loop.option.stream[name].tile_bytes if loop and name in loop.streamed else 0
        return self.data.certificate.ram_bytes[index] - tile + self.graph.value[name].bytes

    def _how(self, name: str, back: list[Stay]) -> How:
        if name in self.homes:
            return "lives in the slower tier"
        if not back:
            return "streamed"
        ways = {stay.by for stay in back}
        return "recomputed and paged" if len(ways) > 1 else "recomputed" if "recompute" in ways else "paged"

    def _paid(self, name: str, back: list[Stay], streams: list[Loop]) -> Cost:
        """Recomputations, page-ins and page-outs of the value (of its update, where it lives in the tier).

        And what loops moved of it.
        """
        seconds = joules = 0.0
        stored = self.graph.carries.get(name, name) if name in self.homes else name
        size = self.graph.value[name].bytes
        for times, price in (
            (self.count["page_in", name], self.device.read_cost),
            (self.count["page_out", stored], self.device.write_cost),
        ):
            if times:
                cost = price(size)
                seconds += times * cost.seconds if self.plan.cost_model == "full" else 0.0
                joules += times * cost.joules
        times = sum(stay.by == "recompute" for stay in back)
        if times:
            cost = self.device.op_cost(self.graph, self.graph.producer[name])
            seconds, joules = seconds + times * cost.seconds, joules + times * cost.joules
        for cost in self._stream_costs(name, streams):
            seconds, joules = seconds + cost.seconds, joules + cost.joules
        return self._with_idle(seconds, joules)

    def _stream_costs(self, name: str, streams: list[Loop]) -> list[Cost]:
        model = self.plan.cost_model
        return [stream_cost(self.device, loop.op, loop.option, (name,), model) for loop in streams]

    def _in_one_piece(self, name: str, streams: list[Loop]) -> tuple[str, bool]:
        """What moving the value whole would cost where it is streamed; whether that fits and is cheaper."""
        size, whole = self.graph.value[name].bytes, NOTHING
        for loop in streams:
            piece = Stream(name, size, size, 1)
            option = msgspec.structs.replace(loop.option, streams=(piece,))
            cost = stream_cost(self.device, loop.op, option, (name,), self.plan.cost_model)
            whole = Cost(whole.seconds + cost.seconds, whole.joules + cost.joules)
        whole = self._with_idle(*whole)
        words = f"in one piece: {self._words(whole)}"
        most = max(self._with(name, loop.step) for loop in streams)
        if most > self.plan.budget.ram_bytes:
            return f"{words}, but {bytes_text(most)} of RAM", False
        costs = self._stream_costs(name, streams)
        paid = self._with_idle(sum(c.seconds for c in costs), sum(c.joules for c in costs))
        return words, self._price(whole) < self._price(paid)

    def _layer(self, name: str) -> str:
        op = self.graph.producer.get(name)
        if op is None:
            op = next((op for op in self.graph.ops if name in op.reads), None)
        return op.layer if op else ""

    def _recompute(self, name: str, times: int) -> Cost | None:
        op = self.graph.producer.get(name)
        if op is None or not op.recomputable or name not in op.outputs:
            return None
        cost = self.device.op_cost(self.graph, op)
        return self._with_idle(cost.seconds * times, cost.joules * times)

    def _paging(self, name: str, times: int) -> Cost | None:
        """Once out and `times` in; a value at home goes out only if it was changed."""
        if self.device.memory.paging is None:
            return None
        size = self.graph.value[name].bytes
        read, write = self.device.read_cost(size), self.device.write_cost(size)
        writes = 1
        if name in self.homes:
            writes = min(1, self.count["page_out", self.graph.carries.get(name, name)])
        seconds = read.seconds * times + write.seconds * writes
        joules = read.joules * times + write.joules * writes
        return self._with_idle(seconds if self.plan.cost_model == "full" else 0.0, joules)

    def _with_idle(self, seconds: float, joules: float) -> Cost:
        return Cost(seconds, joules + seconds * self.idle_watts)

    def _missing(self, name: str, at: int) -> tuple[str, ...]:
        op = self.graph.producer.get(name)
        if op is None or not op.recomputable or name not in op.outputs:
            return ()

        def present(operand: str) -> bool:
            return any(stay.begin < at < stay.end for stay in self.stays.get(operand, ()))

        return tuple(operand for operand in op.inputs if not present(operand))

    def _price(self, cost: Cost) -> float:
        return cost.joules if self.plan.minimize == "joules" else cost.seconds

    def _words(self, cost: Cost) -> str:
        by_energy = self.plan.minimize == "joules"
        return joules_text(cost.joules) if by_energy else seconds_text(cost.seconds)

    def _otherwise(
        self, name: str, how: How, recompute: Cost | None, paging: Cost | None, missing: tuple[str, ...]
    ) -> tuple[str, bool]:
        """The way not taken in words, and whether its price is lower on the face of it."""
        if how == "recomputed" and recompute is not None:
            if paging is None:
                return "none: no tier to page to", False
            return f"paging: {self._words(paging)}", self._price(paging) < self._price(recompute)
        if how == "recomputed and paged" and recompute is not None and paging is not None:
            return f"recomputing only: {self._words(recompute)}, paging only: {self._words(paging)}", False
        if recompute is None:
            op = self.graph.producer.get(name)
            why = "no op makes it" if op is None else f"{clipped(op.name)} must run only once"
            return f"none: {why}", False
        if missing:
            size = bytes_text(sum(self.graph.value[operand].bytes for operand in missing))
            return f"recomputing: {self._words(recompute)} and {size} of operands brought back", False
        dearer = paging is not None and self._price(recompute) < self._price(paging)
        return f"recomputing: {self._words(recompute)}", dearer
