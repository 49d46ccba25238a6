"""Value, Option, Op and Graph: what one training step computes, independent of any framework or device.

A graph is in static single assignment form: a value is produced once, by one op or from outside. What a step
changes (parameters, optimizer states, running statistics) is an *update* `(old, new)`: the op that makes it
overwrites the storage of `old` with `new`, exactly once, and the next step starts with `new` in the place of
`old`. So "an effect is never repeated" and "nothing reads a weight after its update" are not extra rules:
after the update, `old` is simply not there any more.
"""

import hashlib
from collections.abc import Iterator
from functools import cached_property
from typing import Literal

import msgspec

from edgewise.errors import CorruptArtifact

LIMIT = 1 << 63
"""Sizes and costs are below this: larger ones are a mistake, and would overflow somewhere."""

Kind = Literal["input", "parameter", "state", "activation", "gradient", "output"]


class Value(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One stored tensor. Views are not values; they are folded into the ops that look through them.

    `bytes` is the size of the storage. `shape` and `dtype` (as in `float32`) are for people.
    """

    name: str
    bytes: int
    kind: Kind = "activation"
    shape: tuple[int, ...] | None = None
    dtype: str | None = None


class Stream(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a tiled option moves one operand that is not in RAM but in the slower tier.

    `value` is an input, an output, or the `old` of an update of the op. `tile_bytes` of RAM hold its largest
    slice (0 for an output, whose tiles are part of the option's workspace). `moved_bytes` pass between RAM
    and tier in all, as `transfers` contiguous pieces: slices may overlap, or be read again. An `old` is moved
    as much in each direction.
    """

    value: str
    tile_bytes: int
    moved_bytes: int
    transfers: int


class Option(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, dict=True):
    """One way to execute an op.

    `overwrites` pairs an input with the output that takes its storage, so that both are never held at once;
    the input is gone afterwards. `workspace_bytes` are needed while the op runs, besides its operands.

    A *tiled* option is a loop of `tiles` iterations over slices. The operands in `streams` need not be in
    RAM: each of them that is not is read from the slower tier, or written there, slice by slice. `exact` says
    that the bits are those of `whole`: no sum is taken in another order.
    """

    name: str
    overwrites: tuple[tuple[str, str], ...] = ()
    workspace_bytes: int = 0
    streams: tuple[Stream, ...] = ()
    tiles: int = 1
    exact: bool = True

    @property
    def is_tiled(self) -> bool:
        """Whether this is a loop over slices."""
        return bool(self.streams) or self.tiles > 1

    @cached_property
    def stream(self) -> dict[str, Stream]:
        """Streams by the name of their value."""
        return {stream.value: stream for stream in self.streams}


WHOLE = Option("whole")
"""All operands in RAM, every output in fresh storage."""


class Op(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A pure function of `inputs`, plus the `updates` that its first execution makes.

    The first execution reads `inputs` and every `old` of `updates`, makes `outputs`, and overwrites each
    `old` by its `new`. A later one (only if `recomputable`) reads `inputs`, makes `outputs`, and touches
    nothing else.
    `flops` counts a multiply-add as two. `seconds` and `joules` replace the device's figures where given.
    `kind` is the class that the device's rates are given for; `layer` is the module path, for people.
    """

    name: str
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    flops: int = 0
    kind: str = "other"
    seconds: float | None = None
    joules: float | None = None
    recomputable: bool = True
    updates: tuple[tuple[str, str], ...] = ()
    options: tuple[Option, ...] = (WHOLE,)
    layer: str = ""

    def option(self, name: str) -> Option | None:
        """The option of that name, or `None`."""
        return next((option for option in self.options if option.name == name), None)

    @property
    def reads(self) -> tuple[str, ...]:
        """Values that the first execution needs in RAM."""
        return self.inputs + tuple(old for old, _ in self.updates)

    @property
    def writes(self) -> tuple[str, ...]:
        """Values that the first execution makes."""
        return self.outputs + tuple(new for _, new in self.updates)


class Graph(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, dict=True):
    """Ops in a valid order, the values they read and make, and which values must be there at the end.

    The `new` of every update is required at the end too; `outputs` need not repeat it.
    Construction does not validate; `validate` does, and every reader of files calls it.
    """

    name: str
    values: tuple[Value, ...]
    ops: tuple[Op, ...]
    outputs: tuple[str, ...]

    @cached_property
    def value(self) -> dict[str, Value]:
        """Values by name."""
        return {value.name: value for value in self.values}

    @cached_property
    def op(self) -> dict[str, Op]:
        """Ops by name."""
        return {op.name: op for op in self.ops}

    @cached_property
    def producer(self) -> dict[str, Op]:
        """The op that makes a value; values from outside have none."""
        return {name: op for op in self.ops for name in op.writes}

    @cached_property
    def carries(self) -> dict[str, str]:
        """`old -> new`, followed through chains of updates: what the next step finds in the place of what."""
        follow = {old: new for op in self.ops for old, new in op.updates}
        heads = [old for old in follow if old not in self.producer]
        carried: dict[str, str] = {}
        for head in heads:
            last = head
            while last in follow:
                last = follow[last]
            carried[head] = last
        return carried

    @cached_property
    def required(self) -> frozenset[str]:
        """Values that must exist when the step is over: outputs, updated values, and state left as it was."""
        sources = (v for v in self.values if v.name not in self.producer)
        kept = [v.name for v in sources if v.kind in ("parameter", "state")]
        return frozenset((*self.outputs, *self.carries.values(), *(k for k in kept if k not in self.carries)))

    def sources(self) -> Iterator[Value]:
        """Values that no op makes: they exist before the step."""
        return (value for value in self.values if value.name not in self.producer)

    @cached_property
    def sha256(self) -> str:
        """Digest of the canonical JSON encoding; ties a plan to its graph."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()


def validate(graph: Graph) -> Graph:
    """Return `graph` if it keeps every rule of this module.

    Raises:
        CorruptArtifact: a name is used twice or not declared, a value is made twice or read before it is made
            or after it was overwritten, a size is negative, or an option does not fit its op.
    """
    problem = next(_problems(graph), None)
    if problem:
        raise CorruptArtifact(f"Graph `{graph.name}`: {problem}. Capture the model again, or mend the file.")
    return graph


def _problems(graph: Graph) -> Iterator[str]:
    yield from _bad_declarations(graph)
    declared = set(graph.value)
    present = declared - set(graph.producer)
    made: set[str] = set()
    for op in graph.ops:
        yield from _bad_operands(op, declared, present)
        for name in op.writes:
            if name in made:
                yield f"value `{name}` is made twice, the second time by op `{op.name}`"
            made.add(name)
        for old, new in op.updates:
            present.discard(old)
            if graph.value[old].bytes != graph.value[new].bytes:
                yield f"op `{op.name}` updates `{old}` to `{new}`, which has another size"
        present.update(op.writes)
        yield from _bad_options(graph, op)
    for name in graph.outputs:
        if name not in present:
            yield f"output `{name}` is not there at the end"


def _bad_operands(op: Op, declared: set[str], present: set[str]) -> Iterator[str]:
    for name in (*op.reads, *op.writes):
        if name not in declared:
            yield f"op `{op.name}` names `{name}`, which is not in its values"
    for name in op.reads:
        if name not in present:
            yield f"op `{op.name}` reads `{name}` before it is made or after it was overwritten"


def _bad_declarations(graph: Graph) -> Iterator[str]:
    for what, names in (("value", [v.name for v in graph.values]), ("op", [o.name for o in graph.ops])):
        seen: set[str] = set()
        for name in names:
            if name in seen:
                yield f"{what} `{name}` is declared twice"
            seen.add(name)
    for value in graph.values:
        if not 0 <= value.bytes < LIMIT:
            yield f"value `{value.name}` has {value.bytes} bytes"
    for op in graph.ops:
        figures = (op.flops, op.seconds or 0, op.joules or 0)
        if not all(0 <= figure < LIMIT for figure in figures):  # false of what is no number, too
            yield f"op `{op.name}` has a negative or endless cost"


def _bad_options(graph: Graph, op: Op) -> Iterator[str]:
    names = [option.name for option in op.options]
    if "whole" not in names or len(set(names)) != len(names):
        yield f"op `{op.name}` must have the option `whole`, and each option once"
    for option in op.options:
        what = f"option `{option.name}` of op `{op.name}`"
        if option.workspace_bytes < 0:
            yield f"{what} has a negative workspace"
        olds = [old for old, _ in option.overwrites]
        news = [new for _, new in option.overwrites]
        if len(set(olds)) != len(olds) or len(set(news)) != len(news):
            yield f"{what} overwrites a value twice"
        yield from _bad_streams(op, option, what)
        for old, new in option.overwrites:
            if old not in op.inputs or new not in op.outputs:
                yield f"{what} overwrites `{old}` by `{new}`, not its operands"
            elif graph.value[old].bytes != graph.value[new].bytes:
                yield f"{what} overwrites `{old}` by `{new}` of another size"
            elif graph.value[old].kind in ("parameter", "state"):
                yield f"{what} would destroy the {graph.value[old].kind} `{old}`"


def _bad_streams(op: Op, option: Option, what: str) -> Iterator[str]:
    offered = [stream.value for stream in option.streams]
    if option.tiles < 1:
        yield f"{what} has {option.tiles} tiles"
    if option.is_tiled and (option.name == "whole" or option.overwrites):
        yield f"{what} is tiled, and may be neither `whole` nor overwrite an operand"
    if len(set(offered)) != len(offered):
        yield f"{what} streams a value twice"
    for stream in option.streams:
        if stream.value not in op.reads and stream.value not in op.outputs:
            yield f"{what} streams `{stream.value}`, not its operand"
        if not all(0 <= n < LIMIT for n in (stream.tile_bytes, stream.moved_bytes, stream.transfers)):
            yield f"{what} streams `{stream.value}` with negative or endless figures"
