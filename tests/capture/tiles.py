"""Single ops of a captured step, executed whole and slice by slice on the same operands."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from edgewise.capture import Captured
from edgewise.capture.lowering import STEP
from edgewise.capture.tiling import Loop, Turn
from edgewise.capture.tiling.options import cuttings
from edgewise.capture.tiling.rules import nests_of
from edgewise.graph import Op
from edgewise.run.counter import Counter


class Traffic:
    """A tier that is just tensors, and counts what passes."""

    def __init__(self) -> None:
        self.read: dict[str, int] = {}
        self.written: dict[str, int] = {}

    def moved_in(self, name: str, size: int) -> None:
        self.read[name] = self.read.get(name, 0) + size

    def moved_out(self, name: str, size: int) -> None:
        self.written[name] = self.written.get(name, 0) + size


class Execution(NamedTuple):
    """One op as it ran whole: what it read, and what it made or changed.

    `scale` is the norm of that, or of the same made of absolute values: rounding is measured by what was
    added up, not by what was left of it.
    """

    op: Op
    before: dict[str, Tensor]
    after: dict[str, Tensor]
    scale: dict[str, float]


def copy_of(captured: Captured, name: str, tensor: Tensor) -> Tensor:
    """A copy in a storage of its own, laid out as the value is."""
    made, _ = captured.empty(name)
    return made.copy_(tensor)


def whole(captured: Captured, op: Op, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """What `op` makes and changes, executed whole; what it changes is changed."""
    given = {name: copy_of(captured, name, tensors[name]) for name in op.reads}
    made = captured.kernels[op.name](given, "whole", True, Counter())
    return {**dict(zip(op.outputs, made, strict=True)), **{new: given[old] for old, new in op.updates}}


def executions(captured: Captured, batch: tuple[Tensor, ...], step: int = 1) -> Iterator[Execution]:
    """Every op of a step, executed whole in the order of the graph."""
    model = {**dict(captured.model.named_parameters()), **dict(captured.model.named_buffers())}
    tensors: dict[str, Tensor] = {STEP: torch.tensor(step)}
    for value in captured.graph.sources():
        name = value.name
        if name in captured.states:
            made = captured.empty(name)[0]
            tensors[name] = made.uniform_(0, 0.1) if made.is_floating_point() else made.random_(0, 99)
        elif name in model or name in captured.constants:
            tensors[name] = copy_of(captured, name, model.get(name, captured.constants.get(name)).detach())
    tensors.update(zip(captured.batch, batch, strict=True))
    with torch.no_grad():
        for op in captured.graph.ops:
            before = {name: copy_of(captured, name, tensors[name]) for name in op.reads}
            above = {n: t.abs() if t.is_floating_point() else t for n, t in before.items()}
            absolute = whole(captured, op, above)
            after = whole(captured, op, tensors)
            tensors.update({name: copy_of(captured, name, tensor) for name, tensor in after.items()})
            scale = {
                name: max(float(t.double().norm()) for t in (after[name], absolute[name])) for name in after
            }
            yield Execution(op, before, after, scale)


class Tiled(NamedTuple):
    """What a tiled execution made, the most it held beside operands and outputs, and what it moved."""

    after: dict[str, Tensor]
    held_bytes: int
    traffic: Traffic


def loops_of(captured: Captured, op: Op) -> list[Loop]:
    """Every way in which `op` can be cut, whether it is offered to planners or not."""
    nests = nests_of(captured.kernels[op.name], op.outputs, captured.layouts)
    return [loop for nest in nests for loop in cuttings(nest)]


def execute(captured: Captured, run: Execution, loop: Loop, streamed: Sequence[str]) -> Tiled:
    """Execute an op slice by slice, with the operands `streamed` in a tier."""
    op = run.op
    tensors = {name: copy_of(captured, name, tensor) for name, tensor in run.before.items()}
    made = {name: captured.empty(name)[0] for name in op.outputs}
    for tensor in made.values():
        tensor.fill_(float("nan") if tensor.is_floating_point() else 77)
    counter, traffic = Counter(), Traffic()
    everything = {**tensors, **made}
    counter.start(tensor for name, tensor in everything.items() if name not in streamed)
    counter.mark()
    floor = counter.live_bytes
    with torch.no_grad():
        Turn(loop, everything, frozenset(streamed), True, counter, traffic).run()
    assert counter.live_bytes == floor, "every slice is given back"
    after = {**made, **{new: tensors[old] for old, new in op.updates}}
    return Tiled(after, counter.peak_bytes - floor, traffic)
