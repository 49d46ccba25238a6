"""Layers of forward-forward on int8, by their outputs: no weight of theirs is ever whole."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from edgewise.capture.integer_layers import (
    Blocks,
    WeightGradientKernel,
    block_bytes,
    levels_and_squares,
    mean_of,
    product_bytes,
)
from edgewise.capture.kernels import Slot
from edgewise.capture.labelled_layer import for_each_label, rounded, with_labels
from edgewise.capture.tiling.calls import Call
from edgewise.capture.tiling.nest import At, Axis, Held, Nest, Operand, Window

OUTPUTS, ROWS, PASS = "outputs", "rows", "pass"


def _weights(call: Call, w: Slot, b: Slot | None) -> list[Operand]:
    """Rows of the weight, and of the bias if there is one."""
    of_b = [] if b is None else [call.operand(b, (Window(OUTPUTS),))]
    return [call.operand(w, (Window(OUTPUTS), None)), *of_b]


def linear_relu(call: Call) -> Nest:
    """`apply_linear_relu(q, squares, w, b, step)`: by rows and outputs.

    The squares of a row are added up over tiles, and the mean is made by the last.
    """
    q, squares, w, b, step = call.args
    rows, (outputs, inputs) = call.meta(q).shape[0], call.meta(w).shape
    operands = (
        call.operand(q, (Window(ROWS), None)),
        call.operand(squares, (Window(ROWS),)),
        *_weights(call, w, b),
    )

    def body(tiles: Sequence[Any], at: At, cut: frozenset[str]) -> tuple[Tensor | None, ...]:
        del cut
        q, squares, w, *bias, total = tiles
        y, more = levels_and_squares(q, squares, w, bias[0] if bias else None, step)
        part = total[slice(*at[ROWS])]
        part += more
        return y, mean_of(part, outputs) if at[OUTPUTS][1] == outputs else None

    def scratch(block: Mapping[str, int]) -> int:
        return block_bytes(block[ROWS], block[OUTPUTS], inputs)

    results = (
        call.output(0, (Window(ROWS), Window(OUTPUTS))),
        call.output(1, (Window(ROWS),), once=True),
    )
    axes, orders = (Axis(ROWS, rows), Axis(OUTPUTS, outputs)), ((ROWS, OUTPUTS), (OUTPUTS, ROWS))
    return Nest(axes, call.program, operands, results, body, orders, exact=True, scratch=scratch,
                held=(Held((rows,), torch.float64),))  # fmt: skip


def first_layer(call: Call) -> Nest:
    """`apply_first_layer(x, labels, w, b, classes, height, step)`: twice through the outputs.

    The first pass finds sums of squares with all labels, the second makes y of the right labels, and of the
    best of the wrong.
    """
    x, labels, w, b, classes, height, step = call.args
    (tried, samples), (outputs, inputs) = call.meta(labels).shape, call.meta(w).shape
    operands = (
        call.operand(x, (None,) * call.meta(x).dim()),
        call.operand(labels, (None, None)),
        *_weights(call, w, b),
    )

    def body(tiles: Sequence[Any], at: At, cut: frozenset[str]) -> tuple[Tensor | None, ...]:
        del cut
        x, labels, w, *bias, total = tiles
        q, level, squares = rounded(x, classes, height)
        goodness = mean_of(total, outputs)
        if at[PASS][0] > 0:
            best = goodness[1:].argmax(0, keepdim=True)
            labels, goodness = (torch.cat([t[:1], t[1:].gather(0, best)]) for t in (labels, goodness))
        blocks = Blocks(samples, w, bias[0] if bias else None, squares, step)
        y = torch.empty(len(labels), samples, len(w), dtype=torch.int8)
        more = for_each_label(q, level, labels, classes, blocks, tuple(y))
        if at[PASS][0] == 0:
            total += more
            return None, None, None, None
        if at[OUTPUTS][1] < outputs:
            return None, None, y.flatten(0, 1), None
        chosen = with_labels(q, level, labels, torch.empty(*labels.shape, inputs, dtype=torch.int8))
        return chosen.flatten(0, 1), squares.repeat(2), y.flatten(0, 1), goodness.view(-1)

    def scratch(block: Mapping[str, int]) -> int:
        own = block_bytes(samples, block[OUTPUTS], inputs) + product_bytes(samples, block[OUTPUTS])
        return samples * (5 * inputs + tried * block[OUTPUTS]) + own

    whole = (call.output(i, (None,) * dims, once=True) for i, dims in ((0, 2), (1, 1), (3, 1)))
    samples_made, squares_made, squares_of_y = whole
    y = call.output(2, (None, Window(OUTPUTS)), once=True)
    axes = (Axis(PASS, 2, passes=True), Axis(OUTPUTS, outputs))
    results = (samples_made, squares_made, y, squares_of_y)
    return Nest(axes, call.program, operands, results, body, ((PASS, OUTPUTS),), exact=True, scratch=scratch,
                held=(Held((tried, samples), torch.float64),))  # fmt: skip


def weight_gradient(kernel: WeightGradientKernel, call: Call) -> Nest | None:
    """`scale g^T q`: rows of it, by columns of g."""
    g, q, scale = call.args
    views = [call.meta(slot) for slot in (g, q)]
    if any(view.dim() != 2 for view in views):
        return None
    rows, outputs = views[0].shape
    operands = (
        call.operand(g, (None, Window(OUTPUTS))),
        call.operand(q, (None, None)),
        call.operand(scale, (None,) * call.meta(scale).dim()),
    )

    def body(tiles: Sequence[Any], at: At, cut: frozenset[str]) -> tuple[Tensor, ...]:
        del at, cut
        return (kernel.of(*tiles),)

    axes, result = (Axis(OUTPUTS, outputs),), call.output(0, (Window(OUTPUTS), None))
    return Nest(axes, call.program, operands, (result,), body, ((OUTPUTS,),), exact=True,
                scratch=lambda block: rows * block[OUTPUTS])  # fmt: skip
