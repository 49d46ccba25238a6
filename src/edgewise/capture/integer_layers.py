"""A linear layer with ReLU whose input, output and gradient are int8, fused: what is float32 is a chunk.

A row of activations stands for numbers of root mean square 1, so that no scale has to be kept beside it:
x_ij = q_ij / rms(q_i), which is the normalization between the layers of forward-forward for nothing. With
w_nk = v_nk t_n (each output's weights at a scale of their own) and a fixed step s of the output,

    z_in = t_n / rms(q_i) sum_k q_ik v_nk + b_n       y_in = clamp(round(relu(z_in) / s), 0, 127) s

and the gradient of a loss that depends on y by c_i = dL/d(y_i . y_i / 2) and, in the first rows, by
p_n = dL/dy_in, is g_in = [y_in > 0] (c_i y_in + p_n). That of the weight is sum_i g_in / rms(q_i) q_ik: the
factor of row i goes into g before it is rounded, so that the sum over rows is a product of int8 with int8.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx

from edgewise.capture.integers import (
    LEVELS,
    Dither,
    add_op,
    chunk_bytes,
    chunks,
    dither_bytes,
    in_floats,
    multiply,
    operand,
    rows_at_once,
    rows_of_chunk,
)
from edgewise.capture.kernels import Program, Slot, Tensors
from edgewise.capture.lowering import Layout, Lowering, Rewrite
from edgewise.capture.traced import computed_op, traced_op
from edgewise.capture.updates import Piecewise
from edgewise.graph import Op, Option

_OUTPUTS, _ROWS = 384, 256
"""Of a product of int8 at most so many at once: far fewer, and packing costs more than multiplying."""

_LEAST = 1e-30
"""What zero is taken for where it divides."""

_ABOVE_ONE = 1 + 2.0**-18
"""Keeps gradients so far within `LEVELS` that no rounding error leads beyond: none has to be clamped."""


def round_rows(x: Tensor) -> Tensor:
    """Each row of `x`, [rows, ...], to nearest, at the scale where its largest element is 127."""
    flat = x.flatten(1)
    out = torch.empty(flat.shape, dtype=torch.int8)
    _round_rows(flat, out, torch.empty(min(flat.numel(), rows_at_once(flat) * flat.shape[1])))
    return out.view(x.shape)


def _round_rows(x: Tensor, out: Tensor, scratch: Tensor) -> Tensor:
    """Write rows of `x`, [rows, n], as int8 to `out`, as many at once as `scratch` holds; their scales."""
    scales = torch.maximum(x.amax(1), -x.amin(1)).clamp_(min=_LEAST).div_(LEVELS)
    inverse, at_once = (1 / scales)[:, None], len(scratch) // x.shape[1]
    for begin in range(0, len(x), at_once):
        some = slice(begin, min(begin + at_once, len(x)))
        room = scratch[: (some.stop - begin) * x.shape[1]].view(-1, x.shape[1])
        out[some] = torch.mul(x[some], inverse[some], out=room).round_()
    return scales


def mean_squares(q: Tensor) -> Tensor:
    """Mean square of each row of int8 `q`, [rows, ...]; float32 [rows]."""
    out = torch.empty(q.shape[0])
    for begin, part, scratch in chunks(q.flatten(1)):
        torch.mean(scratch.copy_(part).square_(), 1, out=out[begin : begin + len(part)])
    return out


def apply_linear_relu(
    q: Tensor, squares: Tensor, w: Tensor, b: Tensor | None, step: float
) -> tuple[Tensor, Tensor]:
    """Int8 y / step, [rows, outputs], and its mean squares, [rows].

    Of int8 `q` [rows, inputs] with these mean `squares`, and float32 w [outputs, inputs].
    """
    out, total = levels_and_squares(q, squares, w, b, step)
    return out, mean_of(total, len(w))


def levels_and_squares(
    q: Tensor, squares: Tensor, w: Tensor, b: Tensor | None, step: float
) -> tuple[Tensor, Tensor]:
    """As `apply_linear_relu`, with the sums of the squares: whole numbers in float64."""
    out, total = torch.empty(len(q), len(w), dtype=torch.int8), torch.zeros(len(q), dtype=torch.float64)
    for block in Blocks(len(q), w, b, squares, step):
        for part, z in block.products(q):
            out[part, block.columns] = block.levels(part, z)
            total[part] += z.square_().sum(1)
    return out, total


def mean_of(total: Tensor, count: int) -> Tensor:
    """A sum of whole numbers, exact in float64, over their count; in float32."""
    return total.float() / count


@dataclass(frozen=True)
class Block:
    """Some outputs of a layer: their weights in int8, and what turns sums of products into levels."""

    columns: slice
    v: Tensor
    scales: Tensor
    offset: Tensor
    factor: Tensor
    scratch: Tensor

    def products(self, q: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """`(rows, their sums of products in float32)` over int8 `q`, [rows, inputs]; all in one scratch."""
        for begin in range(0, len(q), _ROWS):
            part = slice(begin, min(begin + _ROWS, len(q)))
            shape = part.stop - begin, len(self.v)
            sums = self.scratch[: shape[0] * shape[1]].view(shape).view(torch.int32)
            yield part, in_floats(multiply(q[part], self.v.t(), sums))

    def levels(self, part: slice, z: Tensor) -> Tensor:
        """`z`, sums of products of these rows, as whole numbers of steps from 0 to 127, in its place."""
        return self.scaled(part, z).round_().clamp_(0, LEVELS)

    def scaled(self, part: slice, z: Tensor) -> Tensor:
        """The same before it is rounded."""
        # Not `addcmul`: it rounds once in full vectors and twice in what is left over; slices would differ.
        return z.mul_(self.factor[part]).mul_(self.scales).add_(self.offset)


class Blocks:
    """The outputs of a layer, `_OUTPUTS` or fewer at a time; each weight is read once."""

    def __init__(self, rows: int, w: Tensor, b: Tensor | None, squares: Tensor, step: float) -> None:
        self._w, self.size = w, _even(len(w), _OUTPUTS)
        self._factor = (squares.clamp(min=_LEAST).rsqrt() / step)[:, None]
        self._offset = torch.zeros(len(w)) if b is None else b / step
        self._v = torch.empty(self.size, w.shape[1], dtype=torch.int8)
        self._scratch = torch.empty(_scratch_of(rows, *w.shape))

    def __iter__(self) -> Iterator[Block]:
        for first in range(0, len(self._w), self.size):
            columns = slice(first, min(first + self.size, len(self._w)))
            v = self._v[: columns.stop - first]
            scales = _round_rows(self._w[columns], v, self._scratch)
            yield Block(columns, v, scales, self._offset[columns], self._factor, self._scratch)


def _even(count: int, most: int) -> int:
    """Size of equal parts, or nearly, of at most `most`, that cover `count`."""
    return -(-count // max(1, -(-count // most)))


def _scratch_of(rows: int, outputs: int, inputs: int) -> int:
    """Numbers in float32 that a block needs: weights that are rounded, and then sums."""
    weights = rows_of_chunk(inputs) * inputs
    return max(min(outputs * inputs, weights), product_bytes(rows, outputs) // 4)


def product_bytes(rows: int, outputs: int) -> int:
    """Sums of products of some rows with a block, in 32 bits."""
    return 4 * min(_ROWS, rows) * _even(outputs, _OUTPUTS)


def block_bytes(rows: int, outputs: int, inputs: int) -> int:
    """Scratch of `Blocks`."""
    return _even(outputs, _OUTPUTS) * inputs + 4 * _scratch_of(rows, outputs, inputs)


rows = computed_op("int8_rows", round_rows, lambda x: x.new_empty(x.shape, dtype=torch.int8))
squares = computed_op("int8_squares", mean_squares, lambda q: q.new_empty(q.shape[:1], dtype=torch.float32))
linear_relu = computed_op(
    "int8_linear_relu",
    apply_linear_relu,
    lambda q, squares, w, *_: (q.new_empty((q.shape[0], w.shape[0])), torch.empty_like(squares)),
)
relu_gradient = traced_op(
    "int8_relu_gradient",
    "(Tensor y, Tensor slope, Tensor? p, Tensor squares, Tensor step, float unit, bool stochastic)"
    " -> (Tensor, Tensor, Tensor)",
    lambda y, slope, *_: (y.new_empty(y.shape), slope.new_empty(()), slope.new_empty(y.shape[1])),
)
"""Int8 g / (rms scale), its scale, and the sum of g over rows.

`y` int8 [rows, n] counts steps of `unit`; `slope` [rows] is that of the loss in the mean squares; `p` [n]
counts in the first half of the rows; `squares` are those of the layer's input. `step` is the number of the
training step."""

weight_gradient = traced_op(
    "int8_weight_gradient",
    "(Tensor g, Tensor q, Tensor scale) -> Tensor",
    lambda g, q, scale: scale.new_empty((g.shape[1], q.shape[1])),
)
"""Float32 scale g^T q, of int8 `g` [rows, outputs] and `q` [rows, inputs]."""


def gradient_of(
    y: Tensor, c: Tensor, p: Tensor | None, squares: Tensor, dither: Dither | None
) -> tuple[Tensor, Tensor, Tensor]:
    """What `relu_gradient` makes of c = 2 slope / (unit n); rounded to nearest without a dither."""
    factor = squares.clamp(min=_LEAST).rsqrt()
    bound = c.abs() * y.amax(1) + (0 if p is None else p.abs().amax())
    largest = (bound * factor).amax()
    scale = torch.where(largest > 0, largest / LEVELS, torch.ones_like(largest))
    factor /= scale * _ABOVE_ONE
    out, total, half = torch.empty_like(y), torch.zeros(y.shape[1]), len(y) // 2
    u = torch.empty(min(rows_at_once(y), len(y)), y.shape[1])
    for begin, part, g in chunks(y):
        end = begin + len(part)
        g.copy_(part).mul_((c * factor)[begin:end, None])
        if p is not None and begin < half:
            positive = (part[: half - begin] > 0).float()
            g[: half - begin].addcmul_(positive.mul_(p), factor[begin : min(end, half), None])
        total.addmv_(g.t(), 1 / factor[begin:end])
        if dither is None:
            g.round_()
        else:
            g.add_(dither.fill(u[: len(part)], begin)).floor_()
        out[begin:end] = g
    return out, scale, total


def drawn_gradient(  # noqa: PLR0913  # those of `relu_gradient`
    y: Tensor,
    slope: Tensor,
    p: Tensor | None,
    squares: Tensor,
    step: Tensor,
    unit: float,
    stochastic: bool,
    *,
    stream: int,
    seed: int,
) -> tuple[Tensor, ...]:
    """What `relu_gradient` makes, with the u of this training step."""
    dither = Dither(y.shape[0], y.shape[1], int(step), stream, seed) if stochastic else None
    return gradient_of(y, slope * (2 / (unit * y.shape[1])), p, squares, dither)


@dataclass(frozen=True)
class WeightGradientKernel(Piecewise):
    """The weight's gradient, some of its rows at a time."""

    program: Program
    args: tuple[Slot, Slot, Slot]
    like: Layout

    def _operands(self, tensors: Tensors) -> tuple[Tensor, Tensor, Tensor]:
        slots = self.program.slots(tensors)
        g, q, scale = (slots[arg.index] for arg in self.args)
        return g, q, scale

    def of(self, g: Tensor, q: Tensor, scale: Tensor) -> Tensor:
        """The rows of the gradient for the columns of `g`."""
        return in_floats(multiply(g.t(), q)).mul_(scale)

    def pieces(self, tensors: Tensors) -> Iterator[tuple[int, Tensor]]:
        """`(offset, flat piece)` of whole rows."""
        g, q, scale = self._operands(tensors)
        outputs, inputs, chunk = g.shape[1], q.shape[1], _outputs_at_once(self.like)
        sums = torch.empty(chunk, inputs, dtype=torch.int32)
        for begin in range(0, outputs, chunk):
            count = min(chunk, outputs - begin)
            multiply(g[:, begin : begin + count].t(), q, sums[:count])
            yield begin * inputs, in_floats(sums[:count]).mul_(scale).view(-1)

    @property
    def scratch_bytes(self) -> int:
        """A piece."""
        return 4 * _outputs_at_once(self.like) * self.like.size[1]


def _outputs_at_once(w: Layout) -> int:
    """Rows of a weight, [outputs, inputs], that are worked on at once: parts of the same size, or nearly."""
    outputs, inputs = w.size
    return _even(outputs, max(32, (1 << 17) // inputs))


# -- how they are lowered ------------------------------------------------------------------------------------


def _rows(low: Lowering, node: fx.Node) -> None:
    x = operand(low, node, 0)
    add_op(low, node, round_rows, "elementwise", flops=3 * x.numel(), scratch_bytes=chunk_bytes(x))


def _squares(low: Lowering, node: fx.Node) -> None:
    q = operand(low, node, 0)
    add_op(low, node, mean_squares, "reduction", flops=2 * q.numel(), scratch_bytes=chunk_bytes(q))


def _linear_relu(low: Lowering, node: fx.Node) -> None:
    q, w = operand(low, node, 0), operand(low, node, 2)
    flops, scratch = 2 * q.shape[0] * w.numel(), block_bytes(q.shape[0], *w.shape)
    add_op(low, node, apply_linear_relu, "matmul", flops=flops, scratch_bytes=scratch)


def _relu_gradient(low: Lowering, node: fx.Node) -> None:
    y = operand(low, node, 0)
    function = partial(drawn_gradient, stream=low.next_stream(), seed=low.seed)
    scratch = chunk_bytes(y) + dither_bytes(*y.shape)
    add_op(low, node, function, "random", flops=5 * y.numel(), scratch_bytes=scratch)


def _weight_gradient(low: Lowering, node: fx.Node) -> None:
    program, args = low.program(tuple(node.args))
    q = operand(low, node, 1)
    output = low.new_value(node, low.fake[node])
    kernel = WeightGradientKernel(program, args, Layout.of(low.fake[node]))
    option = Option("whole", workspace_bytes=kernel.scratch_bytes)
    flops = 2 * q.shape[0] * low.fake[node].numel()
    op = Op(output, program.operands, (output,), flops, "matmul", options=(option,), layer=low.layer(node))
    low.add(op, kernel, backward=node not in low.forward)


REWRITES: dict[Any, Rewrite] = {
    torch.ops.edgewise.int8_rows.default: _rows,
    torch.ops.edgewise.int8_squares.default: _squares,
    torch.ops.edgewise.int8_linear_relu.default: _linear_relu,
    torch.ops.edgewise.int8_relu_gradient.default: _relu_gradient,
    torch.ops.edgewise.int8_weight_gradient.default: _weight_gradient,
}
"""How each op of this file is lowered."""
