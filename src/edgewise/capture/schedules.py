"""States of a method that are made anew every so many steps, and stand as they are in between.

`snapshot` keeps a copy of a parameter; `threshold` keeps the magnitude above which the largest elements of a
parameter lie. Both are updates of the state in place, due in the steps whose number `every` divides, so that
a resumed run has the same ones; step 0 is always due, and a run should begin with it, for states begin at
zero. They stand here for tracing; `REWRITES` says how they are lowered. What they return is the state, to be
read in the step and copied back into it: that copy costs nothing.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from edgewise.capture.kernels import Memory, Tensors
from edgewise.capture.lowering import STEP, Lowering, Rewrite
from edgewise.capture.traced import traced_op
from edgewise.capture.updates import flat
from edgewise.graph import Op

PASSES = 31
"""Over a parameter, to find one threshold: one for each bit of a positive single-precision number."""
CHUNK = 1 << 14


snapshot = traced_op(
    "snapshot",
    "(Tensor state, Tensor w, int every) -> Tensor",
    lambda state, *_: torch.empty_like(state),
)
"""`w` as it was in the last step that is due, this one included."""

threshold = traced_op(
    "threshold",
    "(Tensor state, Tensor w, int count, int every) -> Tensor",
    lambda state, *_: torch.empty_like(state),
)
"""The `count`-th largest magnitude in `w`, one number, as of the last step that is due."""


@dataclass(frozen=True)
class RefreshKernel:
    """`state <- source` in the steps that `every` divides; or the `count`-th largest magnitude in it."""

    state: str
    source: str
    every: int
    count: int | None = None

    def __call__(self, tensors: Tensors, option: str, first: bool, memory: Memory) -> tuple[Tensor, ...]:
        """Change the state; nothing is returned."""
        del option, first, memory
        if int(tensors[STEP]) % self.every == 0:
            source = tensors[self.source]
            tensors[self.state].copy_(source if self.count is None else kth_magnitude(source, self.count))
        return ()


def kth_magnitude(w: Tensor, count: int) -> Tensor:
    """The `count`-th largest of |w|, exactly, in pieces of w: no copy of it is sorted.

    The bits of a positive number, read as an integer, are in the order of the numbers: so the answer is found
    bit by bit, from the highest, each time counting how many elements are at least so large.
    """
    elements = flat(w)
    found = 0
    for bit in reversed(range(PASSES)):
        tried = found | 1 << bit
        bound = torch.tensor(tried, dtype=torch.int32).view(torch.float32)
        if not bool(bound.isfinite()):
            continue
        pieces = (elements[start : start + CHUNK] for start in range(0, elements.numel(), CHUNK))
        above = sum(int(torch.count_nonzero(piece.abs() >= bound)) for piece in pieces)
        if above >= count:
            found = tried
    return torch.tensor(found, dtype=torch.int32).view(torch.float32)


def _snapshot(low: Lowering, node: fx.Node) -> None:
    every: Any = node.args[2]
    _refresh(low, node, every, None)


def _threshold(low: Lowering, node: fx.Node) -> None:
    count: Any
    every: Any
    _, _, count, every = node.args
    _refresh(low, node, every, count)


def _refresh(low: Lowering, node: fx.Node, every: int, count: int | None) -> None:
    """An update of the state; its cost is that of a step on average."""
    flops_per_element = 1 if count is None else 2 * PASSES
    arguments: Any = node.args[:2]
    state, source = (low.base[arg, None] for arg in arguments)
    new = low.next_version(state)
    low.declare(new, low.fake[node], "state")
    low.base[node, None] = new
    flops = -(-flops_per_element * low.layouts[source].count // every)
    op = Op(f"{new}:refresh", (source, STEP), (), flops, "copy", recomputable=False,
            updates=((state, new),), layer=source.rpartition(".")[0])  # fmt: skip
    low.add(op, RefreshKernel(state, source, every, count), backward=False)


def _copy(low: Lowering, node: fx.Node) -> None:
    """What a tensor becomes that another of its layout is copied over: that other."""
    old, new, *_ = node.args
    layouts = [(t.dtype, t.shape, t.stride()) for t in low.fake_of((old, new))]
    if layouts[0] == layouts[1] and (new, None) in low.base:
        low.fake[node] = low.fake[new]  # type: ignore[index]
        low.base[node, None] = low.base[new, None]  # type: ignore[index]
    else:
        low.generic(node)


REWRITES: dict[Any, Rewrite] = {
    torch.ops.aten.copy.default: _copy,
    torch.ops.edgewise.snapshot.default: _snapshot,
    torch.ops.edgewise.threshold.default: _threshold,
}
"""How each op of this file is lowered."""
