"""From lowered ops to the Graph of a whole training step."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, fx

from edgewise.capture.joint import JointGraph
from edgewise.capture.kernels import Program, Run, Tensors
from edgewise.capture.lowering import Draft, Lowering
from edgewise.capture.optimizers import Optimizer
from edgewise.capture.tiling import Loop, offer_loops
from edgewise.capture.updates import Updates
from edgewise.graph import Graph, Value, validate


@dataclass(frozen=True)
class Reading:
    """How a result of a step is read from the values at its end."""

    program: Program
    slot: int

    def of(self, tensors: Tensors) -> Tensor:
        """The result, which may be a view of a stored value."""
        return self.program.slots(tensors)[self.slot]  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Assembled:
    """The graph of a training step, a kernel for each op, and how the loss is read from its value."""

    graph: Graph
    kernels: dict[str, Run]
    loops: dict[str, dict[str, Loop]]
    """The tiled options of each op, by name."""
    loss: Reading
    notes: dict[str, Reading]
    """How other small results of the step are read."""
    states: dict[str, str]
    """Optimizer state -> the parameter it belongs to."""


def assemble(low: Lowering, joint: JointGraph, optimizer: Optimizer, name: str) -> Assembled:
    """The whole step: the ops of `low`, and what changes from this step to the next."""
    updates = Updates(low, optimizer, list(low.drafts))
    updates.place()
    loss = _reading(low, joint.loss)
    notes = {note: _reading(low, node) for note, node in joint.notes.items()}
    loops = offer_loops(updates.drafts, low.values, low.layouts)
    graph = _graph(low, updates.drafts, (loss, *notes.values()), name)
    kernels = {draft.op.name: draft.run for draft in updates.drafts}
    return Assembled(graph, kernels, loops, loss, notes, updates.states)


def _reading(low: Lowering, node: fx.Node) -> Reading:
    program, (slot,) = low.program((node,))
    return Reading(program, slot.index)


def _graph(low: Lowering, drafts: list[Draft], readings: Sequence[Reading], name: str) -> Graph:
    ops = tuple(draft.op for draft in drafts)
    outputs = tuple(dict.fromkeys(value for reading in readings for value in reading.program.operands))
    used = {value for op in ops for value in (*op.reads, *op.writes)}
    values = []
    for value in low.values.values():
        if value.name in outputs:
            value = Value(value.name, value.bytes, "output", value.shape, value.dtype)  # noqa: PLW2901
        if value.name in used or value.kind in ("parameter", "state"):
            values.append(value)
    return validate(Graph(name, tuple(values), ops, outputs))
