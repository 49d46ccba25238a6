"""Step, Budget, Plan and Certificate: a program over one Graph for one Device, and what it needs.

A plan starts with every source value of the graph in RAM, except the parameters and states in `homes`, which
start in the slower tier and end there. Steps then run one after another:

| step | effect |
|---|---|
| `["compute", op, option, [streamed, ...]]` | run the op; its first execution also makes its updates |
| `["page_out", value]` | copy the value to the slower tier; it stays in RAM until freed |
| `["page_in", value]`  | copy the value back to RAM; the copy in the tier stays good |
| `["free", value]`     | drop the value from RAM |

A tiled option reads its *streamed* operands from the slower tier, where they are stored, and leaves its
streamed outputs there; none of them is in RAM. An updated value that is streamed takes the place of the old
one in the tier.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import msgspec

from edgewise.devices import CostModel

Objective = Literal["joules", "seconds"]
Status = Literal["optimal", "feasible"]


class Compute(msgspec.Struct, frozen=True, array_like=True, tag="compute", forbid_unknown_fields=True):
    """Execute `op` by `option`; its operands `streamed` are in the slower tier, all others in RAM."""

    op: str
    option: str = "whole"
    streamed: tuple[str, ...] = ()


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
    """Limits of one training step. What counts as RAM: DESIGN.md section 4.

    `written_bytes` limits what is written to the slower tier: flash wears with every write.
    """

    ram_bytes: int
    seconds: float | None = None
    joules: float | None = None
    written_bytes: int | None = None


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A program of steps, and the claims about it that `check` verifies.

    `gap` bounds how much of the *overhead* (objective above that of the plan without a memory limit) a better
    plan could save that first runs the ops in the graph's order: 0.01 means at most 1%. `addresses` holds,
    for each value, the offset of each of its stays in RAM, in the order in which they begin; `workspaces`,
    for each op, that of the room it works in at each execution that needs some: workspace and tiles of what
    it streams.
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
    workspaces: dict[str, tuple[int, ...]] = {}
    homes: tuple[str, ...] = ()


class Certificate(msgspec.Struct, frozen=True):
    """What the independent check found a plan to need, and where.

    `ram_bytes[i]` is the peak while step i runs, `live_bytes[i]` what is held after it. `arena_bytes` is the
    end of the highest address. `streamed` names the ops that took operands from the slower tier slice by
    slice, once for each such execution; `exact` says that no option changes a bit of what the graph computes.
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
    streamed: tuple[str, ...] = ()
    exact: bool = True


class Progress(NamedTuple):
    """One word from a solver at work. `incumbent` and `bound` are overheads in the objective's unit."""

    elapsed_seconds: float
    incumbent: float | None
    bound: float | None
    phase: str


ProgressCallback = Callable[[Progress], None]
