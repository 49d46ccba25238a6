"""What goes from int8 through floats back to int8 in a trace stays int8 (`requantized` has the ops).

- A layer reads the int8 of the layer before it, if all numbers that this one can make come to it as they are:
  clamps may stand between, if the first layer's own limits are as tight.
- The largest of a window of int8, clamped or not, is found in int8: neither changes the order of numbers.
- What is rounded of a sum of int8 is made from its terms at once.
- What is rounded of a function of each element of int8, or of bytes as a camera gives them, is read from a
  table of the function's 256 values.

All bits are those of the way through floats, as long as a function has one value for one argument. (Some of
PyTorch's have two that differ in the last bit, which shows only half way between two whole numbers.)
"""

import operator
from typing import Any

import torch
from torch import Tensor, fx

from edgewise.capture import integers
from edgewise.capture.channels import call_like, fake_of
from edgewise.capture.joint import JointGraph
from edgewise.capture.requantized import (
    CONVOLUTION,
    FLOATS,
    LINEAR,
    MAP,
    MAX_POOL,
    MOST_TERMS,
    SUM,
    floats_of,
)

aten = torch.ops.aten
_NEAREST = torch.ops.edgewise.int8_nearest.default
_VIEWS = {
    aten.view.default, aten.permute.default, aten.transpose.int, aten.t.default,
    aten.unsqueeze.default, aten.squeeze.dim, aten.detach.default, aten.alias.default,
}  # fmt: skip
_CLAMPS = {aten.relu.default, aten.hardtanh.default, aten.clamp.default, aten.clamp_min.default}
_POOL = ((), (), (0, 0), (1, 1), False)
"""What `max_pool2d_with_indices` takes for arguments that are not there."""

_LARGEST = torch.finfo(torch.float32).max


def stay_in_int8(joint: JointGraph) -> None:
    """Rewrite the graph of `joint`, in place, as the module says."""
    scales = {source.node: source.tensor for source in joint.sources}
    graph = joint.module.graph
    for node in graph.find_nodes(op="call_function", target=aten.max_pool2d_with_indices.default):
        _pool_int8(node)
    rounded: dict[tuple[fx.Node, float], fx.Node] = {}
    for node in graph.find_nodes(op="call_function", target=_NEAREST):
        x, scale = node.args
        if scale not in scales:
            continue
        before = rounded.setdefault((x, float(scales[scale])), node)
        with graph.inserting_before(node):
            if before is not node:
                node.replace_all_uses_with(before)
            elif (q := _function(joint, node, scales[scale]) or _sum(node)) is not None:
                node.replace_all_uses_with(q)
                rounded[x, float(scales[scale])] = q
    graph.eliminate_dead_code()


def _pool_int8(node: fx.Node) -> None:
    """Put the pooling `node` before what makes floats of int8, if only the largest numbers are read."""
    clamps: list[fx.Node] = []
    x: Any = node.args[0]
    while isinstance(x, fx.Node) and x.target in _CLAMPS:
        clamps.insert(0, x)
        x = x.args[0]
    read = all(user.target is operator.getitem and user.args[1] == 0 for user in node.users)
    if not isinstance(x, fx.Node) or x.target is not FLOATS or fake_of(x).dim() != 4 or not read:
        return
    settings: list[Any] = [*node.args[1:], *_POOL[len(node.args) - 1 :]]
    settings[1] = settings[1] or settings[0]  # a stride that is not given is the size of the window
    with node.graph.inserting_before(node):
        q = call_like(node, MAX_POOL, x.args[0], *settings)
        made = call_like(node, FLOATS, q, x.args[1])
        for clamp in clamps:
            made = call_like(clamp, clamp.target, made, *clamp.args[1:], **clamp.kwargs)
    for user in list(node.users):
        user.replace_all_uses_with(made)


def _function(joint: JointGraph, node: fx.Node, scale: Tensor) -> fx.Node | None:
    """What makes `node`, rounded at `scale`, of int8 or bytes of which it is a function, one by one."""
    steps: list[fx.Node] = []
    x: Any = node.args[0]
    while (begin := _levels(x)) is None:
        pointwise = isinstance(x, fx.Node) and torch.Tag.pointwise in getattr(x.target, "tags", ())
        if not isinstance(x, fx.Node) or not (pointwise or x.target in _VIEWS) or len(x.all_input_nodes) != 1:
            return None
        steps.insert(0, x)
        (x,) = x.all_input_nodes
    levels, value = begin
    for step in steps:
        if step.target not in _VIEWS:
            args, kwargs = fx.map_arg((step.args, step.kwargs), {step.all_input_nodes[0]: value}.__getitem__)
            value = step.target(*args, **kwargs)  # type: ignore[operator]
    made, q = integers.round_nearest(value, scale), x.args[0]
    for step in steps:
        if step.target in _VIEWS:
            q = call_like(step, step.target, q, *step.args[1:], **step.kwargs)
    if torch.equal(made, levels):
        return q  # type: ignore[no-any-return]
    table = torch.zeros(256, dtype=torch.int8)
    table[levels.view(torch.uint8).long()] = made
    return call_like(node, MAP, q, _constant(joint, table))


def _levels(x: Any) -> tuple[Tensor, Tensor] | None:
    """Of a node that makes floats of int8 or bytes: all that it can be given, and what it makes of each."""
    if not isinstance(x, fx.Node):
        return None
    if x.target is FLOATS:
        levels = _numbers(x.args[0])  # type: ignore[arg-type]
        return levels, floats_of(levels, x.args[1])  # type: ignore[arg-type]
    is_float = x.target is aten._to_copy.default and fake_of(x).dtype == torch.float32  # noqa: SLF001 (its name)
    if is_float and fake_of(x.args[0]).dtype == torch.uint8:
        levels = torch.arange(256).to(torch.uint8)
        return levels, levels.float()
    return None


def _numbers(q: fx.Node) -> Tensor:
    """All numbers that `q` can hold."""
    if q.target is MAX_POOL:
        return _numbers(q.args[0])  # type: ignore[arg-type]
    layer = q.target in (CONVOLUTION, LINEAR)
    limits: Any = q.args[-1] if layer else (-integers.LEVELS, integers.LEVELS)
    return torch.arange(limits[0], limits[1] + 1).to(torch.int8)


def _constant(joint: JointGraph, tensor: Tensor) -> fx.Node:
    """A node for a constant of the trace."""
    names = {str(node.target) for node in joint.module.graph.find_nodes(op="get_attr")}
    name = next(name for number in range(len(names) + 1) if (name := f"_table{number}") not in names)
    joint.module.register_buffer(name, tensor)
    node = joint.module.graph.get_attr(name)
    with fake_of(joint.loss).fake_mode:  # type: ignore[attr-defined]
        node.meta["val"] = torch.empty(tensor.shape, dtype=tensor.dtype)
    return node


def _sum(node: fx.Node) -> fx.Node | None:
    """The op that makes the rounded sum `node` from its int8 terms, or `None` if it is no such sum."""
    found: list[tuple[Any, ...]] = []
    x: Any = node.args[0]
    while isinstance(x, fx.Node) and len(found) < MOST_TERMS:
        limits = -_LARGEST, _LARGEST
        while x.target in _CLAMPS:
            limits, x = _both(_limits(x), limits), x.args[0]
        if x.target is FLOATS:
            terms = [(*x.args, *limits), *reversed(found)]
            if len(terms) == 1 or len({fake_of(term[0]).shape for term in terms}) > 1:
                return None
            return call_like(node, SUM, *map(list, zip(*terms, strict=True)), node.args[1])
        if x.target is not aten.add.Tensor or x.kwargs:
            return None
        terms = [arg for arg in x.args if isinstance(arg, fx.Node) and arg.target is FLOATS]
        if not terms:
            return None
        (*_, last) = terms
        found.append((*last.args, *limits))
        x = next((arg for arg in x.args if arg is not last), last)
    return None


def _limits(clamp: fx.Node) -> tuple[float, float]:
    """Between what `clamp` keeps its operand."""
    ends = clamp.target(torch.tensor([-_LARGEST, _LARGEST]), *clamp.args[1:], **clamp.kwargs)  # type: ignore[operator]
    return float(ends[0]), float(ends[1])


def _both(inner: tuple[float, float], outer: tuple[float, float]) -> tuple[float, float]:
    """The limits of one clamp after another."""
    low, high = (min(max(end, outer[0]), outer[1]) for end in inner)
    return low, high
