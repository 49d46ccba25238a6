"""What a step changes for the next: the optimizer's updates of parameters, and buffers carried over.

Where a parameter has a gradient for some of its rows only, these alone are updated, as views of it, and its
optimizer states have these rows only.

A large gradient that nobody but its parameter's update reads is made within the update: it dies there, and
where the update is tiled it is never whole.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from edgewise.capture.joint import Runs
from edgewise.capture.kernels import Memory, Program, Slot, Tensors
from edgewise.capture.lowering import STEP, Draft, Layout, Lowering
from edgewise.capture.optimizers import Optimizer
from edgewise.graph import Kind, Op, Option, Value

OUTWEIGHS = 4
"""How many times larger than what they are made of gradients are that are made within their update.

Smaller ones are better made before: what they are made of may leave RAM before the update comes in."""


@dataclass(frozen=True)
class Change:
    """What one parameter's update reads and changes: the gradient is a slot of a program of views.

    `parameter` is the value that holds the parameter `name` when its update comes.
    """

    program: Program
    gradient: Slot
    name: str
    parameter: str
    states: dict[str, str]
    rows: Runs | None = None
    """The rows that have a gradient; all if `None`."""

    def apply(self, optimizer: Optimizer, tensors: Tensors) -> None:
        """Change parameter and states in place."""
        gradient = self.program.slots(tensors)[self.gradient.index]
        states = {name: tensors[value] for name, value in self.states.items()}
        if self.rows is None:
            optimizer.update(tensors[self.parameter], gradient, states, int(tensors[STEP]))
            return
        begin = 0
        for start, stop in self.rows:
            part = slice(begin, begin + stop - start)
            own = {name: state[part] for name, state in states.items()}
            optimizer.update(tensors[self.parameter][start:stop], gradient[part], own, int(tensors[STEP]))
            begin = part.stop


class Piecewise(ABC):
    """What makes a gradient that need never be whole, because nothing is kept that it is made of."""

    like: Layout
    """Layout of the parameter."""

    def __call__(self, tensors: Tensors, option: str, first: bool, memory: Memory) -> tuple[Tensor, ...]:
        """The whole gradient."""
        del option, first, memory
        out = torch.empty_strided(self.like.size, self.like.stride, dtype=self.like.dtype)
        for offset, piece in self.pieces(tensors):
            flat(out)[offset : offset + piece.numel()] = piece
        return (out,)

    @abstractmethod
    def pieces(self, tensors: Tensors) -> Iterator[tuple[int, Tensor]]:
        """`(offset, flat piece)` that cover the gradient in the order of the parameter's storage."""

    @property
    @abstractmethod
    def scratch_bytes(self) -> int:
        """RAM that `pieces` works in."""


class Nudge(ABC):
    """What adds something to a parameter in place, piece by piece, without a result of its own."""

    @abstractmethod
    def __call__(self, tensors: Tensors, option: str, first: bool, memory: Memory) -> tuple[Tensor, ...]:
        """Change the parameter; nothing is returned."""

    @abstractmethod
    def pieces(self, tensors: Tensors) -> Iterator[tuple[int, Tensor]]:
        """`(offset, flat piece)` that cover what is added, cut as `Piecewise.pieces` of the same law are."""


@dataclass(frozen=True)
class UpdateKernel:
    """The optimizer's update of one parameter, or of all whose gradients `producer` makes, in place.

    `nudge` is added to the parameter before, in the same pass; only with a `producer` that makes pieces.
    """

    changes: tuple[Change, ...]
    optimizer: Optimizer
    producer: Draft | None = None
    nudge: Draft | None = None

    def __call__(self, tensors: Tensors, option: str, first: bool, memory: Memory) -> tuple[Tensor, ...]:
        """Change parameters and states; nothing is returned."""
        if self.producer is None:
            (change,) = self.changes
            change.apply(self.optimizer, tensors)
            return ()
        if isinstance(self.producer.run, Piecewise):
            self._apply_pieces(self.producer.run, tensors)
            return ()
        made = dict(
            zip(self.producer.op.outputs, self.producer.run(tensors, option, first, memory), strict=True)
        )
        for gradient in made.values():
            memory.add(gradient)
        for change in self.changes:
            change.apply(self.optimizer, {**tensors, **made})
            memory.drop(made.pop(change.program.operands[0]))
        return ()

    def _apply_pieces(self, producer: Piecewise, tensors: Tensors) -> None:
        (change,) = self.changes
        parameter = flat(tensors[change.parameter])
        states = {name: flat(tensors[value]) for name, value in change.states.items()}
        nudge = self.nudge.run.pieces(tensors) if self.nudge and isinstance(self.nudge.run, Nudge) else None
        for offset, piece in producer.pieces(tensors):
            part = slice(offset, offset + piece.numel())
            if nudge is not None:
                parameter[part] += next(nudge)[1]
            own = {name: state[part] for name, state in states.items()}
            self.optimizer.update(parameter[part], piece, own, int(tensors[STEP]))


def flat(tensor: Tensor) -> Tensor:
    """All elements of a dense tensor in the order of its storage, as a view."""
    return tensor.as_strided((tensor.numel(),), (1,), tensor.storage_offset())


@dataclass(frozen=True)
class CarryKernel:
    """Copies a buffer's new value over its old one."""

    program: Program
    new: Slot
    old: str

    def __call__(self, tensors: Tensors, option: str, first: bool, memory: Memory) -> tuple[Tensor, ...]:
        """Change the buffer; nothing is returned."""
        del option, first, memory
        tensors[self.old].copy_(self.program.slots(tensors)[self.new.index])
        return ()


@dataclass
class Updates:
    """Places what changes among the drafts of a step; `states` maps each optimizer state to its parameter."""

    low: Lowering
    optimizer: Optimizer
    drafts: list[Draft]
    states: dict[str, str] = field(default_factory=dict)
    _readers: Counter[str] = field(default_factory=Counter)

    def place(self) -> None:
        """Each parameter's update once its gradient is ready and its last reader ran; each buffer carried."""
        joint = self.low.joint
        changes = {name: self._change(name) for name in joint.gradients}
        ends = (*joint.gradients.values(), *joint.mutations.values(), *joint.notes.values(), joint.loss)
        self._readers = Counter(name for node in ends for name in self.low.program((node,))[0].operands)
        self._readers.update(name for draft in self.drafts for name in draft.op.reads)
        for producer in list(self.drafts):
            absorbed = self._absorbed(producer, changes)
            if absorbed:
                self.drafts.remove(producer)
                for change in absorbed:
                    del changes[change.name]
                nudge = self._last_nudge(absorbed, producer)
                if nudge is not None:
                    absorbed = (self._before(absorbed[0], nudge),)
                self._insert(self._update(absorbed, producer, nudge), producer.op.inputs)
        for change in changes.values():
            self._insert(self._update((change,)), change.program.operands)
        for buffer, node in joint.mutations.items():
            program, (slot,) = self.low.program((node,))
            if buffer not in self._updated():
                self._insert(_carry(self.low, program, slot, buffer), program.operands)

    def _change(self, parameter: str) -> Change:
        program, (slot,) = self.low.program((self.low.joint.gradients[parameter],))
        own = {state: f"{parameter}.{state}" for state in self.optimizer.state_names}
        self.states.update(dict.fromkeys(own.values(), parameter))
        follow = dict(pair for draft in self.drafts for pair in draft.op.updates)
        now = parameter
        while now in follow:
            now = follow[now]
        return Change(program, slot, parameter, now, own, self.low.joint.rows.get(parameter))

    def _last_nudge(self, changes: tuple[Change, ...], producer: Draft) -> Draft | None:
        """What made the parameter what its update finds, if nobody but the update reads that."""
        if not isinstance(producer.run, Piecewise) or self._readers[changes[0].parameter]:
            return None
        made = changes[0].parameter
        found = (d for d in self.drafts if isinstance(d.run, Nudge) and d.op.updates[0][1] == made)
        return next(found, None)

    def _before(self, change: Change, nudge: Draft) -> Change:
        """`change` with `nudge` taken into it: it finds the parameter as it was before."""
        self.drafts.remove(nudge)
        ((old, new),) = nudge.op.updates
        del self.low.values[new]
        return replace(change, parameter=old)

    def _updated(self) -> set[str]:
        return {old for draft in self.drafts for old, _ in draft.op.updates}

    def _absorbed(self, producer: Draft, changes: dict[str, Change]) -> tuple[Change, ...]:
        """The updates that are the only readers of what `producer` makes; none if others read any of it.

        It moves to where the updates stand, so it must read nothing that another update may change before.
        """
        made = producer.op.outputs
        if producer.op.updates or any(self._readers[name] != 1 for name in made):
            return ()
        outweighed = self._bytes(made) >= OUTWEIGHS * self._bytes(producer.op.inputs)
        if not outweighed and not isinstance(producer.run, Piecewise):
            return ()
        found = tuple(
            change for name in made for change in changes.values() if change.program.operands == (name,)
        )
        changed = {*self.low.joint.gradients, *self.low.joint.mutations, *self._updated()}
        own = {change.parameter for change in found}
        return found if len(found) == len(made) and not (changed - own) & set(producer.op.inputs) else ()

    def _bytes(self, names: Sequence[str]) -> int:
        return sum(self.low.values[name].bytes for name in names)

    def _insert(self, draft: Draft, operands: Sequence[str]) -> None:
        """Behind the last op that makes one of `operands`, or makes or reads what `draft` updates."""
        olds = {old for old, _ in draft.op.updates}
        after = [
            index
            for index, other in enumerate(self.drafts)
            if olds & set(other.op.reads) or (olds | set(operands)) & set(other.op.writes)
        ]
        self.drafts.insert(max(after, default=len(self.drafts) - 1) + 1, draft)

    def _update(
        self, changes: tuple[Change, ...], producer: Draft | None = None, nudge: Draft | None = None
    ) -> Draft:
        low = self.low
        names = [change.parameter for change in changes]
        updates = tuple(
            (old, _next(low, old, change))
            for change in changes
            for old in (change.parameter, *change.states.values())
        )
        operands, kind = changes[0].program.operands, "optimizer"
        flops = sum(low.fake[low.joint.gradients[change.name]].numel() for change in changes)
        if producer is not None:
            operands, kind = producer.op.inputs, producer.op.kind
            flops += producer.op.flops + (nudge.op.flops if nudge else 0)
        workspace = self._workspace_bytes(changes, producer)
        workspace += nudge.op.options[0].workspace_bytes if nudge else 0
        op = Op(
            f"{changes[0].name}:update",
            (*(name for name in operands if name not in names), STEP),
            (),
            flops,
            kind,
            recomputable=False,
            updates=updates,
            options=(Option("whole", workspace_bytes=workspace),),
            layer=changes[0].name.rpartition(".")[0],
        )
        return Draft(op, UpdateKernel(changes, self.optimizer, producer, nudge), backward=True)

    def _workspace_bytes(self, changes: tuple[Change, ...], producer: Draft | None) -> int:
        """Most that is held at once: all gradients while they are made, then one fewer after each update."""
        values, scratch = self.low.values, self.optimizer.scratch
        if producer is None:
            return scratch * self._updated_bytes(changes[0])
        if isinstance(producer.run, Piecewise):
            return (1 + scratch) * producer.run.scratch_bytes
        held = [values[change.program.operands[0]].bytes for change in changes]
        needs = [sum(held) + producer.op.options[0].workspace_bytes]
        needs += [sum(held[i:]) + scratch * self._updated_bytes(c) for i, c in enumerate(changes)]
        return max(needs)

    def _updated_bytes(self, change: Change) -> int:
        """Bytes of the part of a parameter that is updated."""
        if change.rows is None:
            return self.low.values[change.parameter].bytes
        gradient = self.low.fake[self.low.joint.gradients[change.parameter]]
        return int(gradient.numel() * gradient.element_size())


def _next(low: Lowering, old: str, change: Change) -> str:
    """Declare `old`, the parameter or a state of its, and what replaces it; the name of the latter."""
    value, layout = low.values[change.parameter], low.layouts[change.parameter]
    kind: Kind = "parameter" if old == change.parameter else "state"
    size, shape = value.bytes, value.shape
    if change.rows is not None and kind == "state":
        layout = _with_rows(layout, change.rows)
        size, shape = layout.storage_bytes, layout.size
    new = low.next_version(old)
    for made in (old, new):
        low.values[made] = Value(made, size, kind, shape, value.dtype)
        low.layouts[made] = layout
    return new


def _with_rows(layout: Layout, rows: Runs) -> Layout:
    """A dense layout of these rows of `layout`."""
    count = sum(stop - start for start, stop in rows)
    return Layout.of(torch.empty((count, *layout.size[1:]), dtype=layout.dtype, device="meta"))


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
