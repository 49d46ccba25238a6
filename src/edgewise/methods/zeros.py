"""Work on tangents that are zero, taken out of a trace.

A layer whose input has a tangent and whose weight has none is traced as if the weight had one of zeros: a
tensor of the weight's size and a product with it, of which nothing is left in the sum that follows.
"""

from typing import Any

import torch
from torch import fx

from edgewise.capture import JointGraph

aten = torch.ops.aten
_MADE = {aten.zeros.default, aten.zeros_like.default, aten.new_zeros.default}
_KEPT = {
    aten.t.default, aten.transpose.int, aten.view.default, aten.permute.default, aten.expand.default,
    aten.unsqueeze.default, aten.clone.default, aten._to_copy.default, aten._unsafe_view.default,  # noqa: SLF001
}  # fmt: skip
"""Zero where their first operand is."""
_PRODUCTS = {aten.mm.default, aten.bmm.default, aten.mul.Tensor, aten.convolution.default}
"""Zero where one of their first two operands is."""
_SUMS = {aten.add.Tensor, aten.sub.Tensor}


def without_zeros(joint: JointGraph) -> JointGraph:
    """The same graph, changed in place: sums read no zeros, and copies that change nothing are left out."""
    results = {joint.loss, *joint.gradients.values(), *joint.mutations.values(), *joint.notes.values()}
    zeros: set[fx.Node] = set()
    for node in joint.module.graph.nodes:
        if node.op != "call_function" or node in results:
            continue
        if _is_zero(node, zeros):
            zeros.add(node)
        elif (same := _same(node, zeros)) is not None:
            node.replace_all_uses_with(same)
    joint.module.graph.eliminate_dead_code()
    return joint


def _is_zero(node: fx.Node, zeros: set[fx.Node]) -> bool:
    operands: tuple[Any, ...] = node.args[:2]
    if node.target is aten.convolution.default and node.args[2] is not None:
        return False
    return (
        node.target in _MADE
        or (node.target in _KEPT and operands[0] in zeros)
        or (node.target in _PRODUCTS and any(operand in zeros for operand in operands))
    )


def _same(node: fx.Node, zeros: set[fx.Node]) -> fx.Node | None:
    """The operand that `node` is nothing but."""
    candidates: list[Any] = []
    if node.target in _SUMS and not node.kwargs:
        first, second = node.args[:2]
        candidates = [first] if second in zeros else []
        candidates += [second] if first in zeros and node.target is aten.add.Tensor else []
    elif node.target is aten._to_copy.default:  # noqa: SLF001
        candidates = [node.args[0]]
    for candidate in candidates:
        if isinstance(candidate, fx.Node) and _looks(candidate) == _looks(node):
            return candidate
    return None


def _looks(node: fx.Node) -> tuple[Any, ...]:
    fake = node.meta["val"]
    return fake.shape, fake.dtype, fake.stride()
