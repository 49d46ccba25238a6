"""From the nodes of the joint FX graph to ops, values and kernels.

Storage decides what a value is: every node is evaluated on fake tensors, and a result that shares the storage
of an operand is a view, folded into whoever reads it; a result with a storage of its own is a value. Ops that
change or draw something are rewritten by `effects`.
"""

import math
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx

from edgewise.capture.costs import cost_of, workspace_of
from edgewise.capture.joint import JointGraph
from edgewise.capture.kernels import AtenKernel, Instruction, Program, Run, Slot
from edgewise.graph import WHOLE, Kind, Op, Option, Value

aten = torch.ops.aten
STEP = "step"
"""Name of the source value that holds the number of the training step, the key of everything random."""


@dataclass(frozen=True)
class Layout:
    """How a value's storage is seen: what is needed to rebuild its tensor from bytes."""

    dtype: torch.dtype
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int

    @classmethod
    def of(cls, tensor: Tensor) -> "Layout":
        """The layout of `tensor`."""
        return cls(tensor.dtype, tuple(tensor.shape), tensor.stride(), int(tensor.storage_offset()))

    def is_of(self, tensor: Tensor) -> bool:
        """Whether the elements of `tensor` lie in its storage as this layout says."""
        sizes = zip(self.size, self.stride, tensor.stride(), strict=True)
        same = all(size <= 1 or here == there for size, here, there in sizes)
        return same and self.offset == tensor.storage_offset()

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.size)

    @property
    def storage_bytes(self) -> int:
        """Bytes from the first element to the last."""
        if not self.count:
            return 0
        last = sum((size - 1) * stride for size, stride in zip(self.size, self.stride, strict=True))
        return (last + 1) * self.dtype.itemsize


@dataclass(frozen=True)
class _View:
    """How a tensor is had from stored values: by a call on other tensors that makes a view."""

    node: fx.Node
    item: int | None = None


@dataclass
class Draft:
    """An op in the making."""

    op: Op
    run: Run
    backward: bool = False


Rewrite = Callable[["Lowering", fx.Node], None]
"""Lowers one node in its own way: declares its values and adds its ops."""


@dataclass
class Lowering:
    """State of the walk over the nodes. `run` fills `drafts`, `values`, `layouts` and `unsupported`."""

    joint: JointGraph
    seed: int
    rewrites: Mapping[Any, Rewrite]
    fake: dict[fx.Node, Any] = field(default_factory=dict)
    base: dict[tuple[fx.Node, int | None], str] = field(default_factory=dict)  # node (and item) -> value
    views: dict[fx.Node, _View] = field(default_factory=dict)
    owner: dict[int, str] = field(default_factory=dict)  # storage -> value
    values: dict[str, Value] = field(default_factory=dict)
    layouts: dict[str, Layout] = field(default_factory=dict)
    drafts: list[Draft] = field(default_factory=list)
    unsupported: list[str] = field(default_factory=list)
    alive: list[torch.UntypedStorage] = field(default_factory=list)
    streams: int = 0
    constants: dict[str, Tensor] = field(default_factory=dict)

    # -- the walk over the nodes -----------------------------------------------------------------------------

    def run(self) -> None:
        """Lower every node of the joint graph."""
        from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: PLC0415

        self.mode = FakeTensorMode()
        joint, graph = self.joint, self.joint.module.graph
        _forget_unread_statistics(graph)
        _forget_assertions(graph)
        graph.eliminate_dead_code()
        _draw_late(graph)
        self.forward = _ancestors([joint.loss, *joint.mutations.values(), *joint.notes.values()])
        self._source(STEP, torch.zeros((), dtype=torch.int64), "input")
        for source in self.joint.sources:
            kinds: dict[str, Kind] = {"parameter": "parameter", "frozen": "parameter", "input": "input"}
            kind = kinds.get(source.kind, "state")
            self.fake[source.node] = self._source(source.name, source.tensor, kind)
            self.base[source.node, None] = source.name
        for node in graph.nodes:
            if node.op == "get_attr":
                self._constant(node)
            elif node.op == "call_function":
                self._call(node)

    def _source(self, name: str, tensor: Tensor, kind: Kind) -> Any:
        with self.mode:
            fake = torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype)
        self.declare(name, fake, kind)
        return fake

    def _constant(self, node: fx.Node) -> None:
        tensor = getattr(self.joint.module, str(node.target))
        name = f"constant.{len(self.constants)}"
        self.constants[name] = tensor
        self.fake[node] = self._source(name, tensor, "state")
        self.base[node, None] = name

    def declare(self, name: str, fake: Tensor, kind: Kind) -> None:
        """Let `name` be the value that the storage of `fake` stands for."""
        storage = fake.untyped_storage()
        dtype = str(fake.dtype).removeprefix("torch.")
        self.owner[storage._cdata] = name  # noqa: SLF001 (the identity of a storage)
        self.alive.append(storage)  # an identity may be used again once its storage is gone
        self.values[name] = Value(name, storage.nbytes(), kind, tuple(fake.shape), dtype)
        self.layouts[name] = Layout.of(fake)

    def _call(self, node: fx.Node) -> None:
        if node.target is operator.getitem:
            self._getitem(node)
            return
        special = self.rewrites.get(node.target)
        args = self.fake_of(node.args)
        with self.mode, torch.no_grad():
            result = node.target(*args, **self.fake_of(node.kwargs))  # type: ignore[operator]
        if result is None:  # an assertion, true of these shapes
            return
        self.fake[node] = result
        tensors = [t for t in _flat(result) if isinstance(t, Tensor)]
        shared = [self._owner(t) is not None for t in tensors]
        problem = None if special else _problem(result, tensors, shared, node.target)
        if problem:
            self.unsupported.append(f"{self.layer(node) or 'the model itself'}: {node.target}: {problem}")
        elif all(shared) and special is None:
            self.views[node] = _View(node)
        elif special is not None:
            special(self, node)
        else:
            self.generic(node)
        if problem:
            self._stand_in(node, result)

    def _stand_in(self, node: fx.Node, result: Any) -> None:
        """Declare what a refused node makes, so that the walk goes on and finds every other problem too."""
        for index, tensor in enumerate(_flat(result)):
            if isinstance(tensor, Tensor):
                name = f"{node.name}.{index}"
                self.declare(name, tensor, "activation")
                self.base[node, None if tensor is result else index] = name

    def _getitem(self, node: fx.Node) -> None:
        source, index = node.args
        self.fake[node] = self.fake[source][index]  # type: ignore[index]
        if (source, index) in self.base:
            self.base[node, None] = self.base[source, index]  # type: ignore[index]
        elif source in self.views:
            self.views[node] = _View(source, index)  # type: ignore[arg-type]

    def _owner(self, fake: Tensor) -> str | None:
        return self.owner.get(fake.untyped_storage()._cdata)  # noqa: SLF001

    def fake_of(self, args: Any) -> Any:
        """`args` with the fake result in the place of every node."""
        return fx.map_arg(args, lambda node: self.fake[node])

    def layer(self, node: fx.Node) -> str:
        """Path of the module that a node belongs to; a backward node has that of its forward node."""
        return str((node.meta.get("custom") or {}).get("layer", ""))

    # -- building ops ----------------------------------------------------------------------------------------

    def new_value(self, node: fx.Node, fake: Tensor, *, suffix: str = "", item: int | None = None) -> str:
        """Declare the value that `node` (or its result `item`) makes."""
        layer = self.layer(node)
        name = f"{layer}:{node.name}{suffix}" if layer else f"{node.name}{suffix}"
        while name in self.values:  # a parameter of the model may be called like a node of the trace
            name += "_"
        self.declare(name, fake, "activation" if node in self.forward else "gradient")
        self.base[node, item] = name
        return name

    def program(self, args: Any) -> tuple[Program, Any]:
        """A program that makes all nodes in `args` available, and `args` with slots in their place."""
        operands: list[str] = []
        for node in _nodes_in(args):
            self._collect_operands(node, operands)
        views: list[Instruction] = []
        slot_of: dict[Any, Slot] = {name: Slot(i) for i, name in enumerate(operands)}

        def place(node: fx.Node) -> Any:
            if (node, None) in self.base:
                return slot_of[self.base[node, None]]
            if node not in slot_of:
                view = self.views[node]
                args, kwargs = _plain(fx.map_arg((view.node.args, view.node.kwargs), place))
                views.append(Instruction(view.node.target, args, kwargs, view.item))  # type: ignore[arg-type]
                slot_of[node] = Slot(len(operands) + len(views) - 1)
            return slot_of[node]

        filled = _plain(fx.map_arg(args, place))
        return Program(tuple(operands), tuple(views)), filled

    def _collect_operands(self, node: fx.Node, operands: list[str]) -> None:
        if (node, None) in self.base:
            name = self.base[node, None]
            if name not in operands:
                operands.append(name)
            return
        for inner in self.views[node].node.all_input_nodes:
            self._collect_operands(inner, operands)

    def next_stream(self) -> int:
        """A number for each op that draws, in the order of the forward pass."""
        self.streams += 1
        return self.streams - 1

    def next_version(self, old: str) -> str:
        """A name for what replaces the value `old`."""
        new = f"{old}.next" if not old.endswith(".next") else f"{old}'"
        while new in self.values:
            new += "'"
        return new

    def add(self, op: Op, run: Run, *, backward: bool) -> None:
        """Append an op and what executes it."""
        self.drafts.append(Draft(op, run, backward))

    def generic(self, node: fx.Node) -> None:
        """Lower a node to an op that makes the same ATen call."""
        result = self.fake[node]
        args = list(node.args)
        if node.target is aten.native_batch_norm_backward.default and args[7]:
            args[3] = args[4] = None  # running statistics, not read in training
        program, (slots, kwargs) = self.program((tuple(args), dict(node.kwargs)))
        if isinstance(result, Tensor):
            outputs, kept = [self.new_value(node, result)], None
        else:
            indices = tuple(i for i, t in enumerate(result) if isinstance(t, Tensor) and _is_made(node, i))
            outputs = [self.new_value(node, result[i], suffix=f".{i}", item=i) for i in indices]
            kept = indices
        in_place = self._in_place(node, tuple(slots), kwargs) if kept is None else {}
        workspace = workspace_of(node.target, self.fake_of(args))
        whole = Option("whole", workspace_bytes=workspace) if workspace else WHOLE
        options = [whole, *(Option(n, ((old, outputs[0]),)) for n, (old, _) in in_place.items())]
        kind, flops = cost_of(
            node.target, self.fake_of(args), [t for t in _flat(result) if isinstance(t, Tensor)]
        )
        op = Op(outputs[0] if kept is None else self.op_name(node), program.operands, tuple(outputs),
                flops, kind, options=tuple(options), layer=self.layer(node))  # fmt: skip
        calls = {name: instruction for name, (_, instruction) in in_place.items()}
        kernel = AtenKernel(program, Instruction(node.target, tuple(slots), kwargs), kept, calls)  # type: ignore[arg-type]
        self.add(op, kernel, backward=node not in self.forward)

    def op_name(self, node: fx.Node) -> str:
        """Name of an op that makes several values."""
        layer = self.layer(node)
        return f"{layer}:{node.name}" if layer else node.name

    # -- working in place ------------------------------------------------------------------------------------

    def _in_place(
        self, node: fx.Node, slots: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> dict[str, tuple[str, Instruction]]:
        """Options that overwrite an operand: name -> (value overwritten, call)."""
        found: dict[str, tuple[str, Instruction]] = {}
        target = node.target
        if torch.Tag.pointwise not in getattr(target, "tags", ()):
            return found
        packet = target.overloadpacket  # type: ignore[union-attr]
        if (old := self.overwritable(node, 0)) is not None:
            twin = getattr(aten, packet.__name__ + "_", None)
            if twin is not None and target._overloadname in twin.overloads():  # type: ignore[union-attr]  # noqa: SLF001
                call = getattr(twin, target._overloadname)  # type: ignore[union-attr]  # noqa: SLF001
                found["in_place"] = (old, Instruction(call, slots, kwargs))
            elif "grad_input" in packet.overloads():
                found["in_place"] = (
                    old,
                    Instruction(packet.grad_input, slots, {**kwargs, "grad_input": slots[0]}),
                )
        commutes = target in (aten.add.Tensor, aten.mul.Tensor) and not kwargs
        if commutes and len(slots) == 2 and (old := self.overwritable(node, 1)) is not None:
            call = aten.add_.Tensor if target is aten.add.Tensor else aten.mul_.Tensor
            found["in_place_second"] = (old, Instruction(call, (slots[1], slots[0]), {}))
        return found

    def overwritable(self, node: fx.Node, position: int, result: Tensor | None = None) -> str | None:
        """The value behind operand `position` if the result of `node` can take exactly its storage."""
        args = node.args
        if len(args) <= position or not isinstance(args[position], fx.Node):
            return None
        operand: fx.Node = args[position]  # type: ignore[assignment]
        fake = self.fake[operand]
        result = self.fake[node] if result is None else result
        name = self._owner(fake)
        if name is None or self.values[name].kind not in ("activation", "gradient"):
            return None
        same = (fake.dtype, fake.shape, fake.stride()) == (result.dtype, result.shape, result.stride())
        fills = fake.storage_offset() == 0 and fake.numel() * fake.element_size() == self.values[name].bytes
        others = [a for a in _nodes_in((args, node.kwargs)) if a is not operand]
        alone = all(self._owner(self.fake[other]) != name for other in others)
        return (
            name
            if same and fills and alone and result.untyped_storage().nbytes() == self.values[name].bytes
            else None
        )


def _is_made(node: fx.Node, item: int) -> bool:
    """Whether a result is really made: batch norm's fake ones are there too if its mask leaves them out."""
    return node.target is not aten.native_batch_norm_backward.default or bool(node.args[9][item])  # type: ignore[index]


def _problem(result: Any, tensors: list[Tensor], shared: list[bool], target: Any) -> str | None:
    """Why a node cannot be lowered, or `None`."""
    if not tensors:
        return f"it returns {type(result).__name__}, not a tensor; control flow on values cannot be planned"
    if any(t.layout != torch.strided for t in tensors):
        return f"layout {next(t.layout for t in tensors if t.layout != torch.strided)} is not dense"
    if any(t.is_complex() or t.is_quantized for t in tensors):
        return f"dtype {next(t.dtype for t in tensors if t.is_complex() or t.is_quantized)} is not supported"
    if any(shared) and not all(shared):
        return "some of its results share storage with an operand and some do not"
    if torch.Tag.nondeterministic_seeded in getattr(target, "tags", ()):
        return (
            "it draws random numbers in a way that cannot be repeated; use dropout, bernoulli, rand or randn"
        )
    return None


def _forget_unread_statistics(graph: fx.Graph) -> None:
    """Batch norms without running statistics where nobody reads the new ones."""
    for node in graph.find_nodes(op="call_function", target=aten._native_batch_norm_legit_functional.default):  # noqa: SLF001
        read = {user.args[1] for user in node.users if user.users or user.args[1] < 3}
        if node.args[5] and not read & {3, 4}:
            node.target = aten._native_batch_norm_legit.no_stats  # noqa: SLF001
            node.args = (*node.args[:3], *node.args[5:])


def _forget_assertions(graph: fx.Graph) -> None:
    """Assertions about the data (`one_hot` makes two), so that what they read is not computed for them."""
    for target in (aten._assert_async.default, aten._assert_async.msg):  # noqa: SLF001
        for node in graph.find_nodes(op="call_function", target=target):
            graph.erase_node(node)


def _draw_late(graph: fx.Graph) -> None:
    """Each draw right before what reads it first, so that the plain order does not hold all at once."""
    place = {node: index for index, node in enumerate(graph.nodes)}
    for node in [
        n for n in graph.nodes if str(n.target).startswith(("edgewise.direction", "edgewise.perturbed"))
    ]:
        min(node.users, key=place.__getitem__).prepend(node)


def _ancestors(nodes: Iterable[fx.Node]) -> set[fx.Node]:
    seen: set[fx.Node] = set()
    todo = list(nodes)
    while todo:
        node = todo.pop()
        if node not in seen:
            seen.add(node)
            todo.extend(node.all_input_nodes)
    return seen


def _flat(result: Any) -> list[Any]:
    return list(result) if isinstance(result, (tuple, list)) else [result]


def _nodes_in(args: Any) -> list[fx.Node]:
    found: list[fx.Node] = []
    fx.map_arg(args, found.append)
    return found


def _plain(args: Any) -> Any:
    """FX's immutable lists and dicts as ordinary ones."""
    if isinstance(args, dict):
        return {key: _plain(item) for key, item in args.items()}
    if isinstance(args, list):
        return [_plain(item) for item in args]
    if isinstance(args, tuple):
        return tuple(_plain(item) for item in args)
    return args
