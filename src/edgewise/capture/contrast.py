"""Ops of forward-forward: wrong labels that are drawn, and the loss that tells them from right ones."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional as F  # noqa: N812 (its common name)

from edgewise.capture import philox
from edgewise.capture.integers import add_op, operand
from edgewise.capture.lowering import Lowering, Rewrite
from edgewise.capture.traced import computed_op, traced_op

wrong_labels = traced_op(
    "wrong_labels",
    "(Tensor targets, Tensor step, int classes, int count) -> Tensor",
    lambda targets, _, __, count: targets.new_empty((count, targets.shape[0])),
)
"""For each of the `targets`, [B], `count` other labels, [count, B]; all others have the same chance.

They are spread evenly, so that no two of a sample are the same (with at most `classes - 1` of them)."""


def wrong_labels_of(
    targets: Tensor, step: Tensor, classes: int, count: int, *, stream: int, seed: int
) -> Tensor:
    """What `wrong_labels` makes."""
    u = philox.uniform((len(targets),), torch.float32, int(step), stream, seed)
    shift = u.mul_(classes - 1).to(torch.int64) + torch.arange(count)[:, None] * (classes - 1) // count
    return (targets + 1 + shift % (classes - 1)) % classes


def contrast_of(goodness: Tensor, sharpness: float, threshold: float | None) -> tuple[Tensor, Tensor]:
    """The loss, and its slope in the `goodness` of each sample; right labels first, then wrong ones.

    Of a = sharpness (goodness - threshold), mean softplus(-a) over right labels plus mean softplus(a) over
    wrong ones. Without a threshold, of a = sharpness (wrong - right) of each pair, mean softplus(a).
    """
    half = len(goodness) // 2
    if threshold is None:
        above = (goodness[half:] - goodness[:half]).mul_(sharpness)
        loss, wrong = F.softplus(above).sum() / half, above.sigmoid_()
        slope = torch.cat([-wrong, wrong])
    else:
        above = (goodness - threshold).mul_(sharpness)
        # Not softplus(a) - a for right labels: what is left of it is rounding where a is large.
        loss = (F.softplus(-above[:half]).sum() + F.softplus(above[half:]).sum()) / half
        slope = above.sigmoid_()
        slope[:half] -= 1
    return loss, slope.mul_(sharpness / half)


contrast = computed_op(
    "contrast", contrast_of, lambda goodness, *_: (goodness.new_empty(()), torch.empty_like(goodness))
)


def _wrong_labels(low: Lowering, node: fx.Node) -> None:
    drawn = low.fake[node]
    function = partial(wrong_labels_of, stream=low.next_stream(), seed=low.seed)
    scratch = philox.scratch_bytes(drawn.shape[1]) + 16 * drawn.numel()
    add_op(low, node, function, "random", flops=4 * drawn.numel(), scratch_bytes=scratch)


def _contrast(low: Lowering, node: fx.Node) -> None:
    goodness = operand(low, node, 0)
    scratch = 4 * goodness.numel()
    add_op(low, node, contrast_of, "elementwise", flops=8 * goodness.numel(), scratch_bytes=scratch)


REWRITES: dict[Any, Rewrite] = {
    torch.ops.edgewise.wrong_labels.default: _wrong_labels,
    torch.ops.edgewise.contrast.default: _contrast,
}
"""How each op of this file is lowered."""
