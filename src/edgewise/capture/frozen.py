"""Backward passes through layers that are not trained: without what only a trained layer needs.

AOTAutograd writes the backward op of a layer as if all its gradients were wanted, with every operand. Where
only some are, an op that makes just these keeps less for the backward pass:

- the gradient of a convolution's bias alone is a sum, which does not read the layer's input;
- batch norm with given statistics is a product, whose gradient does not read its input unless its own scale
  is trained;
- ReLU and ReLU6 need to know where they let the input through, a byte an element, not what they made of it;
  this saves something only if nobody else keeps that for the backward pass.

The last two give the same bits as before, or those of the same factors multiplied in another order.
"""

import operator
from collections.abc import Iterable

import torch
from torch import fx

from edgewise.capture.channels import call_like, fake_of
from edgewise.capture.joint import JointGraph

aten = torch.ops.aten
_CLAMPS = (aten.threshold_backward.default, aten.hardtanh_backward.default)
_SAME = {
    aten.detach.default, aten.alias.default, aten.view.default, aten.t.default, aten.transpose.int,
    aten.permute.default, aten.unsqueeze.default, aten.squeeze.dim, aten.expand.default, aten.slice.Tensor,
    aten.select.int, operator.getitem,
}  # fmt: skip
"""Ops whose result is a view of their operand."""


def keep_less(joint: JointGraph) -> None:
    """Rewrite the backward ops of `joint`, in place, as the module says."""
    graph = joint.module.graph
    graph.eliminate_dead_code()
    for node in graph.find_nodes(op="call_function", target=aten.convolution_backward.default):
        _bias_alone(joint, node)
    for node in graph.find_nodes(op="call_function", target=aten.native_batch_norm_backward.default):
        _through_norm(joint, node)
    graph.eliminate_dead_code()
    backward = _descendants(s.node for s in joint.sources if s.name == "loss.gradient")
    for node in [n for target in _CLAMPS for n in graph.find_nodes(op="call_function", target=target)]:
        _by_mask(joint, node, backward)
    graph.eliminate_dead_code()


def _results(node: fx.Node) -> dict[int, fx.Node]:
    """The results of `node` that somebody reads."""
    return {user.args[1]: user for user in node.users if user.target is operator.getitem}  # type: ignore[misc]


def _replace(joint: JointGraph, old: fx.Node, new: fx.Node) -> None:
    old.replace_all_uses_with(new)
    for name, node in joint.gradients.items():
        if node is old:
            joint.gradients[name] = new


def _bias_alone(joint: JointGraph, node: fx.Node) -> None:
    wanted, gradient = _results(node), node.args[0]
    if 2 not in wanted or 1 in wanted:
        return
    dims = [dim for dim in range(fake_of(gradient).dim()) if dim != 1]
    with node.graph.inserting_before(wanted[2]):
        _replace(joint, wanted[2], call_like(node, aten.sum.dim_IntList, gradient, dims))


def _through_norm(joint: JointGraph, node: fx.Node) -> None:
    gradient, _, scale, _, variance, _, _, training, eps, _ = node.args
    wanted = _results(node)
    if training or set(wanted) != {0}:
        return
    shape = [-1 if dim == 1 else 1 for dim in range(fake_of(gradient).dim())]
    with node.graph.inserting_before(node):
        factor = call_like(node, aten.rsqrt.default, call_like(node, aten.add.Scalar, variance, eps))
        if scale is not None:
            factor = call_like(node, aten.mul.Tensor, factor, scale)
        factor = call_like(node, aten.view.default, factor, shape)
        _replace(joint, wanted[0], call_like(node, aten.mul.Tensor, gradient, factor))


def _by_mask(joint: JointGraph, node: fx.Node, backward: set[fx.Node]) -> None:
    """`gradient` where the input was inside, else 0; ATen's own condition, so that the bits are its own."""
    gradient, kept, *limits = node.args
    origin = _origin(kept)  # type: ignore[arg-type]
    if _readers(origin) & backward != {node}:
        return
    with node.graph.inserting_after(origin):
        mask = call_like(node, aten.le.Scalar, origin, limits[0])
    if len(limits) == 2:
        with node.graph.inserting_after(mask):
            above = call_like(node, aten.ge.Scalar, origin, limits[1])
        with node.graph.inserting_after(above):
            mask = call_like(node, aten.logical_or.default, mask, above)
    with node.graph.inserting_before(node):
        _replace(joint, node, call_like(node, aten.masked_fill.Scalar, gradient, mask, 0))


def _origin(node: fx.Node) -> fx.Node:
    """What `node` is the same tensor as."""
    while node.target in (aten.detach.default, aten.alias.default):
        node = node.args[0]  # type: ignore[assignment]
    return node


def _readers(node: fx.Node) -> set[fx.Node]:
    """Nodes that read the storage of `node`, views of it included."""
    found: set[fx.Node] = set()
    for user in node.users:
        if user.target in _SAME:
            found |= _readers(user)
        elif not _reads_layout_only(user, node):
            found.add(user)
    return found


def _reads_layout_only(user: fx.Node, node: fx.Node) -> bool:
    """Whether `node` is the input of a convolution of which only the gradient of the input is wanted."""
    is_backward = user.target is aten.convolution_backward.default
    return is_backward and user.args[1] is node and set(_results(user)) == {0}


def _descendants(nodes: Iterable[fx.Node]) -> set[fx.Node]:
    seen: set[fx.Node] = set()
    todo = list(nodes)
    while todo:
        for user in todo.pop().users:
            if user not in seen:
                seen.add(user)
                todo.append(user)
    return seen
