"""What plain training holds at its peak, by kind of value, and which ops hold most."""

from typing import NamedTuple

from edgewise.devices import Cost, Device
from edgewise.graph import Graph, Op
from edgewise.plan import Compute, Free, Plan, replay

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
    """An op, the bytes that must be in RAM while it runs, and what one execution costs."""

    op: Op
    working_bytes: int
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
    """The `most` ops that hold most while they run: no plan of whole ops fits less than the first one."""
    found = [Heavy(op, _working_bytes(graph, op), device.op_cost(graph, op)) for op in graph.ops]
    return sorted(found, key=lambda heavy: -heavy.working_bytes)[:most]


def _working_bytes(graph: Graph, op: Op) -> int:
    """Operands, results and workspace of `op`, by the option that needs least."""
    reads = sum(graph.value[name].bytes for name in set(op.reads))
    sizes = []
    for option in op.options:
        in_place = {new for _, new in option.overwrites}
        fresh = sum(graph.value[name].bytes for name in op.outputs if name not in in_place)
        sizes.append(reads + fresh + option.workspace_bytes)
    return min(sizes)
