"""From lowered ops to the Graph of a whole training step."""

from dataclasses import dataclass

from edgewise.capture.joint import JointGraph
from edgewise.capture.kernels import Program, Run
from edgewise.capture.lowering import Draft, Lowering
from edgewise.capture.optimizers import Optimizer
from edgewise.capture.updates import Updates
from edgewise.graph import Graph, Value, validate


@dataclass(frozen=True)
class Assembled:
    """The graph of a training step, a kernel for each op, and how the loss is read from its value."""

    graph: Graph
    kernels: dict[str, Run]
    loss: Program
    loss_slot: int
    states: dict[str, str]
    """Optimizer state -> the parameter it belongs to."""


def assemble(low: Lowering, joint: JointGraph, optimizer: Optimizer, name: str) -> Assembled:
    """The whole step: the ops of `low`, and what changes from this step to the next."""
    updates = Updates(low, optimizer, list(low.drafts))
    updates.place()
    loss, (loss_slot,) = low.program((joint.loss,))
    graph = _graph(low, updates.drafts, loss, name)
    kernels = {draft.op.name: draft.run for draft in updates.drafts}
    return Assembled(graph, kernels, loss, loss_slot.index, updates.states)


def _graph(low: Lowering, drafts: list[Draft], loss: Program, name: str) -> Graph:
    ops = tuple(draft.op for draft in drafts)
    used = {value for op in ops for value in (*op.reads, *op.writes)}
    values = []
    for value in low.values.values():
        if value.name in loss.operands:
            value = Value(value.name, value.bytes, "output", value.shape, value.dtype)  # noqa: PLW2901
        if value.name in used or value.kind in ("parameter", "state"):
            values.append(value)
    return validate(Graph(name, tuple(values), ops, loss.operands))
