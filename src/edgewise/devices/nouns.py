"""Device, Compute and Tier: what an op and a transfer cost, in seconds and joules (DESIGN.md section 5)."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

import msgspec

from edgewise.errors import UsageError
from edgewise.graph import Graph, Op, Option

CostModel = Literal["full", "poet"]
"""`full`: transfers take time, and idle power is paid. `poet`: POET's published model, in which paging is
free in time (research code of arXiv 2207.07697, constraint 7) and only compute and transfers cost energy."""


class Cost(NamedTuple):
    """What one action costs."""

    seconds: float
    joules: float


class Compute(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How fast and at what energy the device computes.

    `flops_per_second` counts a multiply-add as two. `class_flops_per_second` replaces it for op kinds
    measured on their own. `bytes_per_second` is the rate at which operands stream through the processor;
    where it is given, an op takes the longer of its arithmetic and its traffic. `watts_idle` is paid for
    every second.

    The energy of an op is `joules_per_flop` of its arithmetic (how microcontrollers are published) plus
    `watts_busy`, drawn above idle, for as long as it runs (what can be measured on a computer).
    """

    flops_per_second: float
    joules_per_flop: float = 0.0
    watts_busy: float = 0.0
    class_flops_per_second: dict[str, float] = {}
    bytes_per_second: float | None = None
    seconds_per_op: float = 0.0
    watts_idle: float = 0.0


class Tier(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A memory that tensors can be paged to.

    `bytes` is its size, `None` where it does not bind. `watts` is drawn while a transfer runs. `overlap` says
    whether a transfer can run while the processor computes.
    """

    read_bytes_per_second: float
    write_bytes_per_second: float
    read_latency_seconds: float = 0.0
    write_latency_seconds: float = 0.0
    watts: float = 0.0
    bytes: int | None = None
    overlap: bool = False


class Ram(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The memory that ops work in. `bytes` is what the device has, and the default budget."""

    bytes: int


class Memory(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The tiers of a device. At most one of the slower ones is used for paging: the first that is there."""

    ram: Ram
    sd: Tier | None = None
    flash: Tier | None = None
    ssd: Tier | None = None
    host: Tier | None = None

    @property
    def paging(self) -> tuple[str, Tier] | None:
        """Name and figures of the tier that values are paged to, or `None` if the device cannot page."""
        tiers = (("sd", self.sd), ("flash", self.flash), ("ssd", self.ssd), ("host", self.host))
        return next(((name, tier) for name, tier in tiers if tier is not None), None)


class Device(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A device profile. Every number is named in `sources` or in `assumed`, as `section.key`."""

    name: str
    description: str
    compute: Compute
    memory: Memory
    sources: dict[str, str] = {}
    assumed: dict[str, str] = {}

    @property
    def overlaps(self) -> bool:
        """Whether transfers run beside compute."""
        paging = self.memory.paging
        return paging is not None and paging[1].overlap

    def op_cost(self, graph: Graph, op: Op, *, tiles: int = 1) -> Cost:
        """Seconds and joules of one execution of `op` in `tiles` iterations, without idle power."""
        compute = self.compute
        seconds = op.seconds
        if seconds is None:
            rate = compute.class_flops_per_second.get(op.kind, compute.flops_per_second)
            seconds = op.flops / rate
            if compute.bytes_per_second is not None:
                traffic = sum(graph.value[name].bytes for name in (*op.inputs, *op.outputs))
                seconds = max(seconds, traffic / compute.bytes_per_second)
            seconds += compute.seconds_per_op
        joules = op.joules
        if joules is None:
            joules = op.flops * compute.joules_per_flop + seconds * compute.watts_busy
        loop_seconds = (tiles - 1) * compute.seconds_per_op
        return Cost(seconds + loop_seconds, joules + loop_seconds * compute.watts_busy)

    def read_cost(self, size: int, *, transfers: int = 1) -> Cost:
        """Cost of paging `size` bytes in, in that many contiguous pieces."""
        tier = self._paging_tier()
        seconds = transfers * tier.read_latency_seconds + size / tier.read_bytes_per_second
        return Cost(seconds, seconds * tier.watts)

    def write_cost(self, size: int, *, transfers: int = 1) -> Cost:
        """Cost of paging `size` bytes out, in that many contiguous pieces."""
        tier = self._paging_tier()
        seconds = transfers * tier.write_latency_seconds + size / tier.write_bytes_per_second
        return Cost(seconds, seconds * tier.watts)

    def stream_cost(self, op: Op, option: Option, streamed: Iterable[str]) -> Cost:
        """Cost of moving the operands `streamed` of one execution of `op` by the tiled `option`."""
        costs = []
        olds = {old for old, _ in op.updates}
        for stream in (option.stream[name] for name in streamed):
            if stream.value not in op.outputs:
                costs.append(self.read_cost(stream.moved_bytes, transfers=stream.transfers))
            if stream.value in op.outputs or stream.value in olds:
                costs.append(self.write_cost(stream.moved_bytes, transfers=stream.transfers))
        return Cost(sum(cost.seconds for cost in costs), sum(cost.joules for cost in costs))

    def _paging_tier(self) -> Tier:
        paging = self.memory.paging
        if paging is None:
            raise UsageError(
                f"Device `{self.name}` has no tier to page to. "
                "Add `[memory.sd]` or `[memory.flash]` to its profile."
            )
        return paging[1]
