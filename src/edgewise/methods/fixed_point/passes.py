"""Ops, values and kernels of integer passes: what the step and inference of a network are built from."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from edgewise.capture.kernels import Memory, Run, Tensors
from edgewise.capture.lowering import STEP, Draft, Layout
from edgewise.capture.tiling import Loop, offer_loops
from edgewise.capture.tiling.broadcast import along_dims, dim_axes
from edgewise.capture.tiling.drawn import NO_PROGRAM
from edgewise.capture.tiling.nest import Along, At, Axis, Nest, Result, Sliced, Window
from edgewise.capture.tiling.updating import stored
from edgewise.graph import Graph, Kind, Op, Option, Value, validate
from edgewise.methods.fixed_point.network import Network, Node
from edgewise.methods.fixed_point.operators import (
    Convolution,
    Linear,
    Lookup,
    MaxPool,
    MeanPool,
    Quantize,
    Shapes,
    Sum,
    Times,
)

Layouts = Mapping[str, Layout]


BATCH, CHANNELS = "batch", "channels"


@dataclass(frozen=True)
class NodeKernel(Sliced):
    """One operator of the network on stored values."""

    node: Node
    inputs: tuple[str, ...]
    weights: tuple[str, ...]

    def __call__(self, tensors: Tensors, option: str, first: bool, memory: Memory) -> tuple[Tensor, ...]:
        """What it makes."""
        del option, first, memory
        inputs, weights = ([tensors[name] for name in names] for names in (self.inputs, self.weights))
        return (self.node.run(inputs, weights),)

    @property
    def channel_dim(self) -> int | None:
        """The dim of the result that follows the outputs of a weight; none if there is no such dim."""
        match self.node.operator:
            case Linear():
                return len(self.node.shape) - 1
            case Convolution(groups=1):
                return 1
        return None

    @property
    def plane_dims(self) -> int:
        """How many dims of inputs and result go element by element; 0 if there are none."""
        match self.node.operator:
            case Quantize() | Sum() | Times() | Lookup():
                return len(self.node.shape)
            case MaxPool() | MeanPool():
                return 2
        return 0

    def nest(self, outputs: tuple[str, ...], layouts: Layouts) -> Nest | None:
        """By samples and outputs of a weight, or by elements, or by planes."""
        (out,) = outputs
        dim, dims = self.channel_dim, self.plane_dims
        if dim is not None and self.node.shape[dim] == layouts[self.weights[0]].size[0]:
            return self._by_outputs(dim, out, layouts)
        leading = {layouts[name].size[:dims] for name in (*self.inputs, out)}
        return self._by_planes(dims, out, layouts) if dims and len(leading) == 1 else None

    def _by_planes(self, dims: int, out: str, layouts: Layouts) -> Nest | None:
        """Slices of the first `dims` dims, which are the same of all that it reads and makes."""
        node, made = self.node, layouts[out]
        if any(layouts[n].size != o.shape for n, o in zip(self.inputs, node.inputs, strict=True)):
            return None

        def along(size: tuple[int, ...]) -> tuple[Along, ...]:
            return (*along_dims(size)[:dims], *(None,) * (len(size) - dims))

        def body(tiles: Sequence[Any], at: At, cut: frozenset[str]) -> tuple[Tensor, ...]:
            del at, cut
            return (node.operator(tiles, ()).reshape(*tiles[0].shape[:dims], *node.shape[dims:]),)

        def scratch(block: Mapping[str, int]) -> int:
            part = tuple(block.values())
            inputs = [(*part, *operand.shape[dims:]) for operand in node.inputs]
            return node.operator.scratch_bytes(Shapes(inputs, (), (*part, *node.shape[dims:])))

        axes = dim_axes(made.size)[:dims]
        operands = tuple(stored(name, layouts[name], along(layouts[name].size)) for name in self.inputs)
        result = Result(out, made.size, made.stride, made.dtype.itemsize, along(made.size))
        order = tuple(axis.name for axis in axes)
        return Nest(
            axes, NO_PROGRAM, operands, (result,), body, (order,), linear=True, exact=True, scratch=scratch
        )

    def _by_outputs(self, dim: int, out: str, layouts: Layouts) -> Nest:
        """Samples, and outputs of a weight, dim `dim` of the result: each sum is whole, for it is rounded."""
        node, (source,) = self.node, self.inputs
        made, axes = layouts[out], (Axis(BATCH, node.shape[0]), Axis(CHANNELS, node.shape[dim]))
        per_sample = (Window(BATCH), *(None,) * (len(layouts[source].size) - 1))
        along = tuple({0: Window(BATCH), dim: Window(CHANNELS)}.get(d) for d in range(len(made.size)))
        by_channel = (
            stored(name, layouts[name], (Window(CHANNELS), *(None,) * (len(layouts[name].size) - 1)))
            for name in self.weights
        )
        result = Result(out, made.size, made.stride, made.dtype.itemsize, along)

        def part(samples: int, channels: int) -> Node:
            shape = (samples, *node.shape[1:dim], channels, *node.shape[dim + 1 :])
            return replace(node, shape=shape)

        def body(tiles: Sequence[Any], at: At, cut: frozenset[str]) -> tuple[Tensor, ...]:
            del cut
            return (part(*(stop - start for start, stop in at.values())).run(tiles[:1], tiles[1:]),)

        def scratch(block: Mapping[str, int]) -> int:
            samples, channels = block[BATCH], block[CHANNELS]
            named = zip(node.weights, self.weights, strict=True)
            shapes = {name: (channels, *layouts[held].size[1:]) for name, held in named}
            return part(samples, channels).for_samples(samples).scratch_bytes(shapes)

        operands = (stored(source, layouts[source], per_sample), *by_channel)
        orders = ((BATCH, CHANNELS), (CHANNELS, BATCH))
        return Nest(axes, NO_PROGRAM, operands, (result,), body, orders, exact=True, scratch=scratch)


@dataclass(frozen=True)
class Cost:
    """What an op takes; `layer` is the module path."""

    flops: int = 1
    kind: str = "other"
    scratch_bytes: int = 0
    layer: str = ""


@dataclass
class Passes:
    """Ops in order. `versions` says under which name each parameter is to be found now."""

    network: Network
    values: dict[str, Value] = field(default_factory=dict)
    layouts: dict[str, Layout] = field(default_factory=dict)
    ops: list[Op] = field(default_factory=list)
    kernels: dict[str, Run] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    _moving: frozenset[str] = field(default_factory=frozenset)  # parameters that are perturbed
    _part: str = ""
    _fixed: dict[str, str] = field(default_factory=dict)  # node that nothing moving comes before -> value

    def __post_init__(self) -> None:
        self.declare(STEP, (), torch.int64, "input")
        for name, parameter in self.network.parameters.items():
            self.declare(name, tuple(parameter.values.shape), parameter.values.dtype, "parameter")
            self.versions[name] = name
        self.begin("", (name for name, p in self.network.parameters.items() if p.trained))

    def begin(self, part: str, moving: Iterable[str]) -> None:
        """From here on only `moving` are perturbed: what they do not reach is computed once."""
        self._part, self._moving = part, frozenset(moving)
        self._fixed = {node: value for node, value in self._fixed.items() if value == node}

    def declare(
        self, name: str, shape: tuple[int, ...], dtype: torch.dtype, kind: Kind = "activation"
    ) -> str:
        """Let `name` be a value."""
        size = math.prod(shape) * dtype.itemsize
        self.values[name] = Value(name, size, kind, shape, str(dtype).removeprefix("torch."))
        strides = tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))
        self.layouts[name] = Layout(dtype, shape, strides, 0)
        return name

    def add(
        self,
        name: str,
        run: Run,
        inputs: Iterable[str],
        outputs: tuple[str, ...] = (),
        *,
        updates: tuple[tuple[str, str], ...] = (),
        cost: Cost = Cost(),
    ) -> None:
        """Append an op; one that updates must run only once."""
        option = Option("whole", workspace_bytes=cost.scratch_bytes)
        read = tuple(dict.fromkeys(inputs))
        op = Op(
            name,
            read,
            outputs,
            cost.flops,
            cost.kind,
            recomputable=not updates,
            updates=updates,
            options=(option,),
            layer=cost.layer,
        )
        self.ops.append(op)
        self.kernels[name] = run

    def next_version(self, name: str, last: bool = False) -> tuple[str, str]:
        """What the parameter or state `name` is called now, and what replaces it."""
        old, value = self.versions.get(name, name), self.values[name]
        count = 0 if old == name else int(old.rpartition(".")[2])
        new = f"{name}.next" if last else f"{name}.moved.{count + 1}"
        self.values[new] = Value(new, value.bytes, value.kind, value.shape, value.dtype)
        self.layouts[new] = self.layouts[name]
        self.versions[name] = new
        return old, new

    def apply(self, node: Node, label: str) -> None:
        """The op of `node` in the pass `label`; once in a part if nothing that moves comes before it."""
        if node.name in self._fixed:
            return
        inputs = tuple(self.value_of(operand.value, label) for operand in node.inputs)
        fixed = self._moving.isdisjoint(node.weights)
        fixed = fixed and all(o.value in self._fixed or o.value == "batch.0" for o in node.inputs)
        made = f"{node.name} {self._part if fixed else label}".rstrip()
        if fixed:
            trained = any(self.network.parameters[name].trained for name in node.weights)
            before = (self._fixed.get(o.value, o.value) == o.value for o in node.inputs)
            made = node.name if not trained and all(before) else made
            self._fixed[node.name] = made
        self.declare(made, node.shape, node.dtype)
        weights = tuple(self.versions[name] for name in node.weights)
        shapes = {name: self.layouts[name].size for name in node.weights}
        self.add(
            made,
            NodeKernel(node, inputs, weights),
            (*inputs, *weights),
            (made,),
            cost=Cost(node.flops, node.operator.kind, node.scratch_bytes(shapes), node.layer),
        )

    def value_of(self, name: str, label: str) -> str:
        """The value of a node, or of the input, in the pass `label`."""
        return name if name == "batch.0" else self._fixed.get(name, f"{name} {label}".rstrip())

    def offer_loops(self) -> dict[str, dict[str, Loop]]:
        """Let all ops that can run in slices; the loops, by op and option."""
        drafts = [Draft(op, self.kernels[op.name]) for op in self.ops]
        loops = offer_loops(drafts, self.values, self.layouts)
        self.ops = [draft.op for draft in drafts]
        return loops

    def graph(self, name: str, outputs: tuple[str, ...]) -> Graph:
        """The graph of all ops."""
        used = {value for op in self.ops for value in (*op.reads, *op.writes)}
        values = []
        for value in self.values.values():
            kind = "output" if value.name in outputs else value.kind
            if value.name in used or kind in ("parameter", "state"):
                values.append(Value(value.name, value.bytes, kind, value.shape, value.dtype))
        return validate(Graph(name, tuple(values), tuple(self.ops), outputs))
