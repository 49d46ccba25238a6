"""From lowered ops to the Graph of a whole training step: updates, carried buffers, and their order."""

from dataclasses import dataclass

from torch import Tensor

from edgewise.capture.joint import JointGraph
from edgewise.capture.kernels import Program, Run, Slot, Tensors
from edgewise.capture.lowering import STEP, Draft, Lowering
from edgewise.capture.optimizers import Optimizer
from edgewise.graph import Graph, Kind, Op, Option, Value, validate


@dataclass(frozen=True)
class UpdateKernel:
    """One parameter's optimizer update, in place."""

    program: Program
    gradient: Slot
    parameter: str
    states: dict[str, str]
    optimizer: Optimizer

    def __call__(self, tensors: Tensors, option: str, first: bool) -> tuple[Tensor, ...]:
        """Change parameter and states; nothing is returned."""
        del option, first
        gradient = self.program.slots(tensors)[self.gradient.index]
        states = {name: tensors[value] for name, value in self.states.items()}
        self.optimizer.update(tensors[self.parameter], gradient, states, int(tensors[STEP]))
        return ()


@dataclass(frozen=True)
class CarryKernel:
    """Copies a buffer's new value over its old one."""

    program: Program
    new: Slot
    old: str

    def __call__(self, tensors: Tensors, option: str, first: bool) -> tuple[Tensor, ...]:
        """Change the buffer; nothing is returned."""
        del option, first
        tensors[self.old].copy_(self.program.slots(tensors)[self.new.index])
        return ()


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
    """The whole step: the ops of `low`, and what changes from this step to the next.

    A parameter is updated once its gradient is ready and its last reader ran; a mutated buffer is carried.
    """
    drafts = list(low.drafts)
    states: dict[str, str] = {}
    for parameter, node in joint.gradients.items():
        program, (slot,) = low.program((node,))
        draft = _update(low, program, slot, parameter, optimizer, states)
        drafts.insert(_after_last(drafts, {*program.operands, parameter}), draft)
    for buffer, node in joint.mutations.items():
        program, (slot,) = low.program((node,))
        if _is_updated(drafts, buffer):
            continue
        drafts.insert(_after_last(drafts, {*program.operands, buffer}), _carry(low, program, slot, buffer))
    loss, (loss_slot,) = low.program((joint.loss,))
    graph = _graph(low, drafts, loss, name)
    return Assembled(graph, {d.op.name: d.run for d in drafts}, loss, loss_slot.index, states)


def _is_updated(drafts: list[Draft], buffer: str) -> bool:
    return any(old == buffer for draft in drafts for old, _ in draft.op.updates)


def _after_last(drafts: list[Draft], names: set[str]) -> int:
    """Position behind the last op that makes or reads one of `names`."""
    touching = [i for i, d in enumerate(drafts) if names & {*d.op.reads, *d.op.writes}]
    return max(touching, default=len(drafts) - 1) + 1


def _update(
    low: Lowering, program: Program, slot: Slot, parameter: str, optimizer: Optimizer, states: dict[str, str]
) -> Draft:
    value = low.values[parameter]
    own = {state: f"{parameter}.{state}" for state in optimizer.state_names}
    updates = []
    for old in (parameter, *own.values()):
        kind: Kind = "parameter" if old == parameter else "state"
        new = low.next_version(old)
        for made in (old, new):
            low.values[made] = Value(made, value.bytes, kind, value.shape, value.dtype)
            low.layouts[made] = low.layouts[parameter]
        updates.append((old, new))
    states.update(dict.fromkeys(own.values(), parameter))
    op = Op(
        f"{parameter}:update",
        (*program.operands, STEP),
        (),
        low.layouts[parameter].count,
        "optimizer",
        recomputable=False,
        updates=tuple(updates),
        options=(Option("whole", workspace_bytes=optimizer.scratch * value.bytes),),
        layer=parameter.rpartition(".")[0],
    )
    return Draft(op, UpdateKernel(program, slot, parameter, own, optimizer), backward=True)


def _carry(low: Lowering, program: Program, slot: Slot, buffer: str) -> Draft:
    value, new = low.values[buffer], low.next_version(buffer)
    low.values[new] = Value(new, value.bytes, "state", value.shape, value.dtype)
    low.layouts[new] = low.layouts[buffer]
    op = Op(
        f"{buffer}:carry",
        program.operands,
        (),
        low.layouts[buffer].count,
        "copy",
        recomputable=False,
        updates=((buffer, new),),
        layer=buffer.rpartition(".")[0],
    )
    return Draft(op, CarryKernel(program, slot, buffer), backward=False)


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
