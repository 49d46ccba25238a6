"""What plain training holds at its peak, by kind of value, and which ops hold most."""

from typing import NamedTuple

from edgewise.devices import Cost, Device
from edgewise.graph import Graph, Op
from edgewise.plan import Compute, Free, Plan, replay
from edgewise.report.loops import least_bytes, whole_bytes

KINDS = {
    "parameter": "parameters",
    "state": "optimizer states and buffers",
    "activation": "activations",
    "gradient": "gradients",
    "input": "input batch",
    "output": "outputs",
}
"""Kinds of values, and what they are called."""


class Heavy(NamedTuple):
    """An op, the bytes that must be in RAM while it runs whole or as a loop, and what one execution costs.

    `working_bytes` is by its best option that is no loop, `least_bytes` by its best option of all, on a
    device that can or cannot stream.
    """

    op: Op
    working_bytes: int
    least_bytes: int
    cost: Cost


def peak_by_kind(plan: Plan, graph: Graph, device: Device) -> dict[str, int]:
    """Bytes by kind of value during the step of the plain `plan` that needs most; `workspace` is the rest."""
    certificate = replay(plan.steps, graph, device, cost_model=plan.cost_model)
    peak = max(certificate.ram_bytes, default=certificate.peak_bytes)
    at = certificate.ram_bytes.index(peak) if certificate.ram_bytes else -1
    held = {value.name for value in graph.sources()}
    for step in plan.steps[:at]:
        if isinstance(step, Free):
            held.discard(step.value)
        elif isinstance(step, Compute):
            op = graph.op[step.op]
            option = op.option(step.option)
            overwritten = {old for old, _ in (*op.updates, *(option.overwrites if option else ()))}
            held = (held - overwritten) | set(op.writes)
    sizes = dict.fromkeys(KINDS, 0)
    for name in held | _fresh(plan, graph, at):
        sizes[graph.value[name].kind] += graph.value[name].bytes
    return {**sizes, "workspace": peak - sum(sizes.values())}


def _fresh(plan: Plan, graph: Graph, at: int) -> set[str]:
    """What the step at the peak makes in storage of its own."""
    step = plan.steps[at] if plan.steps else None
    if not isinstance(step, Compute):
        return set()
    op = graph.op[step.op]
    option = op.option(step.option)
    in_place = {new for _, new in option.overwrites} if option else set()
    return set(op.outputs) - in_place


def heaviest(graph: Graph, device: Device, most: int) -> list[Heavy]:
    """The `most` ops that hold most while they run: no plan of whole ops fits less than the first one.

    A plan that runs ops as loops may fit less, but never less than the largest of their `least_bytes`.
    """
    found = [
        Heavy(op, whole_bytes(graph, op, op.reads), least_bytes(graph, op, device), device.op_cost(graph, op))
        for op in graph.ops
    ]
    return sorted(found, key=lambda heavy: -heavy.working_bytes)[:most]


def has_loops(graph: Graph) -> bool:
    """Whether some op may run as a loop over slices."""
    return any(option.is_tiled for op in graph.ops for option in op.options)
