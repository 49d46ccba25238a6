"""The first layer of forward-forward on int8: samples that differ in their labels share all other products.

A label stands in a sample as a height in the place of one of the first numbers, where those of the other
classes are zero. So the products of the weights with the rest of a sample serve all its labels, and each
label adds one column of the weights. That makes it cheap to try several wrong labels, of which the layer
itself picks the one that it finds best: the most is learned from that one.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from edgewise.capture.integer_layers import Blocks, block_bytes, mean_of, product_bytes
from edgewise.capture.integers import LEVELS, add_op, chunk_bytes, chunks, operand
from edgewise.capture.lowering import Lowering, Rewrite
from edgewise.capture.traced import computed_op

_SAMPLES = 128
"""That are worked on at once: what they make with each of their labels is held."""


def rounded(x: Tensor, classes: int, height: float) -> tuple[Tensor, Tensor, Tensor]:
    """Int8 [B, n] of samples `x`, [B, ...], with no label; what a label stands as; mean squares with one.

    Where the label stands makes no difference to the scale of a sample, nor to its mean square.
    """
    flat = x.flatten(1)
    rest = flat[:, classes:]
    out = torch.empty(flat.shape, dtype=torch.int8)
    out[:, :classes] = 0
    largest = torch.maximum(rest.amax(1), -rest.amin(1)).clamp_(min=height)
    level = (height * LEVELS / largest).round_()
    squares = level.square()
    for begin, part, room in chunks(rest):
        end = begin + len(part)
        torch.mul(part, (LEVELS / largest[begin:end])[:, None], out=room)
        out[begin:end, classes:] = room.round_()
        squares[begin:end] += room.square_().sum(1)
    return out, level, squares / flat.shape[1]


def label_rows(x: Tensor, labels: Tensor, classes: int, height: float) -> tuple[Tensor, Tensor]:
    """Int8 samples [K B, n] of `x`, [B, ...], with `labels`, [K, B], and their mean squares."""
    q, level, squares = rounded(x, classes, height)
    out = torch.empty(*labels.shape, q.shape[1], dtype=torch.int8)
    return with_labels(q, level, labels, out).flatten(0, 1), squares.repeat(len(labels))


def with_labels(q: Tensor, level: Tensor, labels: Tensor, out: Tensor) -> Tensor:
    """Samples as `rounded` makes them with each of their `labels`, [K, B], in turn: int8 `out`, [K, B, n]."""
    heights = level.to(torch.int8)[:, None].expand(*labels.shape, 1)
    return out.copy_(q).scatter_(2, labels[:, :, None], heights)


def apply_first_layer(
    x: Tensor, labels: Tensor, w: Tensor, b: Tensor | None, classes: int, height: float, step: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The samples and their mean squares, as `label_rows`; y and its mean squares, as `linear_relu`.

    With the right `labels`, [0], and for each sample that of the wrong ones, [1:], whose y is largest.
    """
    samples = torch.empty(2, len(x), x[0].numel(), dtype=torch.int8)
    y = torch.empty(2, len(x), len(w), dtype=torch.int8)
    squares, squares_of_y = torch.empty(2, len(x)), torch.empty(2, len(x))
    for begin in range(0, len(x), _SAMPLES):
        some = slice(begin, min(begin + _SAMPLES, len(x)))
        q, level, squares[:, some] = rounded(x[some], classes, height)
        wrong = torch.empty(len(labels) - 1, len(q), len(w), dtype=torch.int8)
        blocks = Blocks(len(q), w, b, squares[0, some], step)
        made = (y[0, some], *wrong)
        goodness = mean_of(for_each_label(q, level, labels[:, some], classes, blocks, made), len(w))
        best, each = goodness[1:].argmax(0), torch.arange(len(q))
        chosen = torch.stack([torch.zeros_like(best), best + 1])
        with_labels(q, level, labels[:, some][chosen, each], samples[:, some])
        y[1, some], squares_of_y[:, some] = wrong[best, each], goodness[chosen, each]
    return samples.flatten(0, 1), squares.view(-1), y.flatten(0, 1), squares_of_y.view(-1)


def for_each_label(
    q: Tensor, level: Tensor, labels: Tensor, classes: int, blocks: Blocks, out: Sequence[Tensor]
) -> Tensor:
    """Write y to `out`, K of [B, outputs], of samples `q` with each of their `labels`, [K, B].

    Returns sums of its squares, [K, B], whole numbers in float64.
    """
    total, room = torch.zeros(labels.shape, dtype=torch.float64), torch.empty(len(q) * blocks.size)
    for block in blocks:
        of_labels = block.v[:, :classes].t().float()
        for part, sums in block.products(q):
            z = room[: sums.numel()].view(sums.shape)
            for k, some in enumerate(labels[:, part]):
                torch.index_select(of_labels, 0, some, out=z)
                torch.addcmul(sums, z, level[part, None], out=z)
                out[k][part, block.columns] = block.levels(part, z)
                total[k, part] += z.square_().sum(1)
    return total


labelled = computed_op(
    "int8_labelled",
    label_rows,
    lambda x, labels, *_: (
        x.new_empty((labels.numel(), x[0].numel()), dtype=torch.int8),
        x.new_empty(labels.numel(), dtype=torch.float32),
    ),
)
first_layer = computed_op(
    "int8_first_layer",
    apply_first_layer,
    lambda x, _, w, *__: (
        x.new_empty((2 * len(x), x[0].numel()), dtype=torch.int8),
        x.new_empty(2 * len(x), dtype=torch.float32),
        x.new_empty((2 * len(x), len(w)), dtype=torch.int8),
        x.new_empty(2 * len(x), dtype=torch.float32),
    ),
)


def _labelled(low: Lowering, node: fx.Node) -> None:
    x = operand(low, node, 0)
    scratch = x.numel() + chunk_bytes(x)
    add_op(low, node, label_rows, "elementwise", flops=5 * x.numel(), scratch_bytes=scratch)


def _first_layer(low: Lowering, node: fx.Node) -> None:
    x, labels, w = (operand(low, node, i) for i in range(3))
    rows, tried, inputs = min(_SAMPLES, len(x)), labels.shape[0], x[0].numel()
    chosen = rows * len(w) + 64 * rows * tried
    whole = rows * (inputs + (tried - 1) * len(w))
    scratch = whole + max(chosen, block_bytes(rows, *w.shape) + product_bytes(rows, len(w)))
    flops = 2 * len(x) * w.numel() + 8 * labels.numel() * len(w)
    add_op(low, node, apply_first_layer, "matmul", flops=flops, scratch_bytes=scratch)


REWRITES: dict[Any, Rewrite] = {
    torch.ops.edgewise.int8_labelled.default: _labelled,
    torch.ops.edgewise.int8_first_layer.default: _first_layer,
}
"""How each op of this file is lowered."""
