"""Ops that run as loops: what each execution by a tiled option streams, needs and costs; RAM by any option.

RAM of an execution is that of the op alone, as if nothing else were held: its operands, its results, its
workspace, and a tile of each operand that it streams.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from edgewise.devices import Cost, CostModel, Device
from edgewise.graph import Graph, Op, Option
from edgewise.plan import Certificate, Compute, Plan
from edgewise.report.units import bytes_text, percent, plural

NOTHING = Cost(0.0, 0.0)

ROUNDING = "1e-6"
"""Most that another order of a sum may change what an op makes, relative to its size."""


class Loop(NamedTuple):
    """One execution of `op` by the tiled `option`, in step `step` of the plan.

    `ram_bytes` is what the op needs so, `whole_bytes` what it would need by its best option without a loop.
    `compute` is the cost of all iterations, `moved` that of the transfers between them; one waits for the
    other. Bytes are those that the streams move.
    """

    step: int
    op: Op
    option: Option
    streamed: tuple[str, ...]
    ram_bytes: int
    whole_bytes: int
    bytes_read: int
    bytes_written: int
    compute: Cost
    moved: Cost

    @property
    def seconds(self) -> float:
        """Time of the execution."""
        return self.compute.seconds + self.moved.seconds

    @property
    def joules(self) -> float:
        """Energy of the execution, without idle power."""
        return self.compute.joules + self.moved.joules


def loops(plan: Plan, graph: Graph, device: Device) -> tuple[Loop, ...]:
    """Every execution by a tiled option, in the order of `plan`, which `check` has certified."""
    found: list[Loop] = []
    done: set[str] = set()
    for index, step in enumerate(plan.steps):
        if not isinstance(step, Compute):
            continue
        op = graph.op[step.op]
        reads = op.inputs if step.op in done else op.reads
        done.add(step.op)
        option = op.option(step.option)
        if option is None or not option.is_tiled:
            continue
        loop = Loop(
            index,
            op,
            option,
            step.streamed,
            working_bytes(graph, op, option, reads, step.streamed),
            whole_bytes(graph, op, reads),
            *stream_bytes(op, option, step.streamed),
            device.op_cost(graph, op, tiles=option.tiles),
            stream_cost(device, op, option, step.streamed, plan.cost_model),
        )
        found.append(loop)
    return tuple(found)


def stream_cost(
    device: Device, op: Op, option: Option, streamed: Sequence[str], cost_model: CostModel
) -> Cost:
    """What moving `streamed` costs in one execution of `op` by `option`."""
    if not streamed:
        return NOTHING
    cost = device.stream_cost(op, option, streamed)
    return cost if cost_model == "full" else Cost(0.0, cost.joules)


def stream_bytes(op: Op, option: Option, streamed: Iterable[str]) -> tuple[int, int]:
    """Bytes that one execution of `op` by `option` reads from the slower tier, and writes there."""
    olds = {old for old, _ in op.updates}
    read = written = 0
    for name in streamed:
        moved = option.stream[name].moved_bytes
        read += 0 if name in op.outputs else moved
        written += moved if name in op.outputs or name in olds else 0
    return read, written


def working_bytes(
    graph: Graph, op: Op, option: Option, reads: Sequence[str], streamed: Iterable[str] = ()
) -> int:
    """RAM that `op` needs by `option` with `streamed` in the slower tier, and nothing else held."""
    away = frozenset(streamed)
    fresh = set(op.outputs) - {new for _, new in option.overwrites}
    held = sum(graph.value[name].bytes for name in (set(reads) | fresh) - away)
    return held + option.room_bytes(away)


def whole_bytes(graph: Graph, op: Op, reads: Sequence[str]) -> int:
    """RAM that `op` needs by its best option that is no loop."""
    return min(working_bytes(graph, op, option, reads) for option in op.options if not option.is_tiled)


def least_bytes(graph: Graph, op: Op, device: Device) -> int:
    """RAM that `op` needs by its best option of all, with all in the slower tier that helps there."""
    return min(_least_by(graph, op, option, device) for option in op.options)


def _least_by(graph: Graph, op: Op, option: Option, device: Device) -> int:
    streams = option.streams if device.memory.paging is not None else ()
    away = [stream.value for stream in streams if stream.tile_bytes < graph.value[stream.value].bytes]
    return working_bytes(graph, op, option, op.reads, away)


def reordered(plan: Plan, graph: Graph) -> tuple[str, ...]:
    """Ops that `plan` executes by an option that may take a sum in another order, each once."""
    names = []
    for step in plan.steps:
        if isinstance(step, Compute):
            option = graph.op[step.op].option(step.option)
            if option is not None and not option.exact:
                names.append(step.op)
    return tuple(dict.fromkeys(names))


def exact_words(plan: Plan, graph: Graph) -> str:
    """Whether the step computes the same bits as without a plan, or how far it may be from them."""
    names = reordered(plan, graph)
    if not names:
        return "bit for bit that of the unplanned step"
    sums = f"the sums of {plural(len(names), 'op')} may be taken in another order"
    return f"that of the unplanned step, but {sums}, each within {ROUNDING} relative"


def traffic_words(certificate: Certificate, found: Sequence[Loop], device: Device) -> str:
    """What a step writes to the slower tier and reads there, and how much of that moves slice by slice."""
    together = certificate.bytes_written + certificate.bytes_read
    paging = device.memory.paging
    if not together or paging is None:
        return ""
    words = (
        f"{bytes_text(certificate.bytes_written)} written to {paging[0]} in a step, "
        f"{bytes_text(certificate.bytes_read)} read"
    )
    sliced = sum(loop.bytes_read + loop.bytes_written for loop in found)
    return f"{words}; {percent(sliced / together)} of it in slices" if sliced else words
