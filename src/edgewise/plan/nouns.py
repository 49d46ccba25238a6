"""Step, Budget, Plan and Certificate: a program over one Graph for one Device, and what it needs.

A plan starts with every source value of the graph in RAM, except the parameters and states in `homes`, which
start in the slower tier and end there. Steps then run one after another:

| step | effect |
|---|---|
| `["compute", op, option, slice]` | run the op; the first execution of each op also makes its updates |
| `["page_out", value]` | copy the value to the slower tier; it stays in RAM until freed |
| `["page_in", value]`  | copy the value back to RAM; the copy in the tier stays good |
| `["free", value]`     | drop the value from RAM |
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import msgspec

from edgewise.devices import CostModel

Objective = Literal["joules", "seconds"]
Status = Literal["optimal", "feasible"]


class Compute(msgspec.Struct, frozen=True, array_like=True, tag="compute", forbid_unknown_fields=True):
    """Execute `op` by `option`; `slice` is for options that are loops."""

    op: str
    option: str = "whole"
    slice: int | None = None


class Free(msgspec.Struct, frozen=True, array_like=True, tag="free", forbid_unknown_fields=True):
    """Drop `value` from RAM."""

    value: str


class PageOut(msgspec.Struct, frozen=True, array_like=True, tag="page_out", forbid_unknown_fields=True):
    """Copy `value` from RAM to the slower tier."""

    value: str


class PageIn(msgspec.Struct, frozen=True, array_like=True, tag="page_in", forbid_unknown_fields=True):
    """Copy `value` from the slower tier to RAM."""

    value: str


Step = Compute | Free | PageOut | PageIn


class Budget(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Limits of one training step. What counts as RAM: DESIGN.md section 4."""

    ram_bytes: int
    seconds: float | None = None
    joules: float | None = None


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A program of steps, and the claims about it that `check` verifies.

    `gap` bounds how much of the *overhead* (objective above that of the plan without a memory limit) a better
    plan could save: 0.01 means at most 1%. `addresses` holds, for each value, the offset of each of its stays
    in RAM, in the order in which they begin.
    """

    graph: str
    graph_sha256: str
    device: str
    budget: Budget
    minimize: Objective
    cost_model: CostModel
    solver: str
    status: Status
    gap: float
    peak_bytes: int
    seconds: float
    joules: float
    steps: tuple[Step, ...]
    addresses: dict[str, tuple[int, ...]]
    homes: tuple[str, ...] = ()


class Certificate(msgspec.Struct, frozen=True):
    """What the independent check found a plan to need, and where.

    `ram_bytes[i]` is the peak while step i runs, `live_bytes[i]` what is held after it. `arena_bytes` is the
    end of the highest address. `plain` figures are those of the same graph with every value kept until its
    last use.
    """

    peak_bytes: int
    seconds: float
    joules: float
    arena_bytes: int
    ram_bytes: tuple[int, ...]
    live_bytes: tuple[int, ...]
    recomputed: tuple[str, ...]
    paged_out: tuple[str, ...]
    paged_in: tuple[str, ...]
    bytes_written: int
    bytes_read: int


class Progress(NamedTuple):
    """One word from a solver at work. `incumbent` and `bound` are overheads in the objective's unit."""

    elapsed_seconds: float
    incumbent: float | None
    bound: float | None
    phase: str


ProgressCallback = Callable[[Progress], None]
