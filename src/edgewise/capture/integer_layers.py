"""A linear layer with ReLU whose input, output and gradient are int8, fused: what is float32 is a chunk.

A row of activations stands for numbers of root mean square 1, so that no scale has to be kept beside it:
x_ij = q_ij / rms(q_i), which is the normalization between the layers of forward-forward for nothing. With
w_nk = v_nk t (t the weight's scale) and a fixed step s of the output,

    z_in = t / rms(q_i) sum_k q_ik v_nk + b_n       y_in = clamp(round(relu(z_in) / s), 0, 127) s

and the gradient of a loss that depends on y by c_i = dL/d(y_i . y_i / 2) and, in the first rows, by
p_n = dL/dy_in, is g_in = [y_in > 0] (c_i y_in + p_n). That of the weight is sum_i g_in / rms(q_i) q_ik: the
factor of row i goes into g before it is rounded, so that the sum over rows is a product of int8 with int8.
"""

from collections.abc import Iterator
from dataclasses import dataclass
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
    multiply,
    operand,
    round_nearest,
    rows_at_once,
    scale_of,
)
from edgewise.capture.kernels import Program, Slot, Tensors
from edgewise.capture.lowering import Layout, Lowering, Rewrite
from edgewise.capture.traced import traced_op
from edgewise.capture.updates import Piecewise
from edgewise.graph import Op, Option

_OUTPUTS, _ROWS = 384, 256
"""Of a product of int8 these many at once: fewer and packing operands costs more than multiplying them."""

_LEAST = 1e-30
"""What zero is taken for where it divides."""


@torch.library.custom_op("edgewise::int8_rows", mutates_args=())
def rows(x: Tensor) -> Tensor:
    """Each row of `x`, [rows, ...], to nearest, at the scale where its largest element is 127."""
    flat = x.flatten(1)
    out = torch.empty(flat.shape, dtype=torch.int8)
    for begin, part, scratch in chunks(flat):
        largest = torch.maximum(part.amax(1), -part.amin(1)).clamp_(min=_LEAST)
        torch.mul(part, (LEVELS / largest)[:, None], out=scratch)
        out[begin : begin + len(part)] = scratch.round_()
    return out.view(x.shape)


@torch.library.custom_op("edgewise::int8_squares", mutates_args=())
def squares(q: Tensor) -> Tensor:
    """Mean square of each row of int8 `q`, [rows, ...]; float32 [rows]."""
    out = torch.empty(q.shape[0])
    for begin, part, scratch in chunks(q.flatten(1)):
        torch.mean(scratch.copy_(part).square_(), 1, out=out[begin : begin + len(part)])
    return out


@torch.library.custom_op("edgewise::int8_linear_relu", mutates_args=())
def linear_relu(q: Tensor, squares: Tensor, w: Tensor, b: Tensor | None, step: float) -> Tensor:
    """Int8 y / step, [rows, outputs], of int8 `q` [rows, inputs] with these mean `squares`, and float32 w."""
    scale = scale_of(w)
    factor = (scale / step * squares.clamp(min=_LEAST).rsqrt())[:, None]
    offset = None if b is None else b / step
    out = torch.empty(q.shape[0], w.shape[0], dtype=torch.int8)
    for first in range(0, w.shape[0], _OUTPUTS):
        columns = slice(first, first + _OUTPUTS)
        v = round_nearest(w[columns], scale).t()
        for begin in range(0, q.shape[0], _ROWS):
            part = slice(begin, begin + _ROWS)
            sums, made, multiples = multiply(q[part], v), out[part, columns], factor[part]
            for start, some, z in chunks(sums):
                end = start + len(some)
                z.copy_(some).mul_(multiples[start:end])
                z = z if offset is None else z.add_(offset[columns])  # noqa: PLW2901
                made[start:end] = z.round_().clamp_(0, LEVELS)
    return out


rows.register_fake(lambda x: x.new_empty(x.shape, dtype=torch.int8))
squares.register_fake(lambda q: q.new_empty(q.shape[:1], dtype=torch.float32))
linear_relu.register_fake(lambda q, _, w, *__: q.new_empty((q.shape[0], w.shape[0])))
relu_gradient = traced_op(
    "int8_relu_gradient",
    "(Tensor y, Tensor c, Tensor? p, Tensor squares, Tensor step, bool stochastic)"
    " -> (Tensor, Tensor, Tensor)",
    lambda y, c, *_: (y.new_empty(y.shape), c.new_empty(()), c.new_empty(y.shape[1])),
)
"""Int8 g / (rms scale), its scale, and the sum of g over rows.

`y` int8 [rows, n], `c` [rows], `p` [n] counts in the first half of the rows; `squares` are those of the
layer's input. `step` is the number of the training step."""

weight_gradient = traced_op(
    "int8_weight_gradient",
    "(Tensor g, Tensor q, Tensor scale) -> Tensor",
    lambda g, q, scale: scale.new_empty((g.shape[1], q.shape[1])),
)
"""Float32 scale g^T q, of int8 `g` [rows, outputs] and `q` [rows, inputs]."""


def gradient_of(
    y: Tensor, c: Tensor, p: Tensor | None, squares: Tensor, dither: Dither | None
) -> tuple[Tensor, Tensor, Tensor]:
    """What `relu_gradient` makes; rounded to nearest without a dither."""
    factor = squares.clamp(min=_LEAST).rsqrt()
    bound = c.abs() * y.amax(1) + (0 if p is None else p.abs().amax())
    scale = (bound * factor).amax().clamp_(min=_LEAST) / LEVELS
    out, total, half = torch.empty_like(y), torch.zeros(y.shape[1]), len(y) // 2
    u = torch.empty(min(rows_at_once(y), len(y)), y.shape[1])
    for begin, part, g in chunks(y):
        end = begin + len(part)
        g.copy_(part).mul_(c[begin:end, None])
        if p is not None and begin < half:
            g[: half - begin].addcmul_(p, (part[: half - begin] > 0).float())
        total += g.sum(0)
        g.mul_((factor[begin:end] / scale)[:, None])
        if dither is None:
            g.round_()
        else:
            g.add_(dither.fill(u[: len(part)], begin)).floor_()
        out[begin:end] = g.clamp_(-LEVELS, LEVELS)
    return out, scale, total


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

    def pieces(self, tensors: Tensors) -> Iterator[tuple[int, Tensor]]:
        """`(offset, flat piece)` of whole rows."""
        g, q, scale = self._operands(tensors)
        outputs, inputs, chunk = g.shape[1], q.shape[1], _outputs_at_once(self.like)
        sums = torch.empty(chunk, inputs, dtype=torch.int32)
        piece = torch.empty(chunk, inputs)
        for begin in range(0, outputs, chunk):
            count = min(chunk, outputs - begin)
            multiply(g[:, begin : begin + count].t(), q, sums[:count])
            yield begin * inputs, piece[:count].copy_(sums[:count]).mul_(scale).view(-1)

    @property
    def scratch_bytes(self) -> int:
        """A piece in int32 and in float32."""
        return 8 * _outputs_at_once(self.like) * self.like.size[1]


def _outputs_at_once(w: Layout) -> int:
    """Rows of a weight, [outputs, inputs], that are worked on at once: parts of the same size, or nearly."""
    outputs, inputs = w.size
    parts = -(-outputs // max(32, (1 << 16) // inputs))
    return -(-outputs // parts)


# -- how they are lowered ------------------------------------------------------------------------------------


def _rows(low: Lowering, node: fx.Node) -> None:
    x = operand(low, node, 0)
    add_op(low, node, node.target, "elementwise", flops=3 * x.numel(), scratch_bytes=chunk_bytes(x))  # type: ignore[arg-type]


def _squares(low: Lowering, node: fx.Node) -> None:
    q = operand(low, node, 0)
    add_op(low, node, node.target, "reduction", flops=2 * q.numel(), scratch_bytes=chunk_bytes(q))  # type: ignore[arg-type]


def _linear_relu(low: Lowering, node: fx.Node) -> None:
    q, w, y = operand(low, node, 0), operand(low, node, 2), low.fake[node]
    outputs, samples = min(_OUTPUTS, w.shape[0]), min(_ROWS, q.shape[0])
    scratch = outputs * (w.shape[1] + 4 * samples) + max(chunk_bytes(w), chunk_bytes(y))
    flops = 2 * q.shape[0] * w.numel()
    add_op(low, node, node.target, "matmul", flops=flops, scratch_bytes=scratch)  # type: ignore[arg-type]


def _relu_gradient(low: Lowering, node: fx.Node) -> None:
    y, stream, seed = operand(low, node, 0), low.next_stream(), low.seed

    def function(
        y: Tensor, c: Tensor, p: Tensor | None, squares: Tensor, step: Tensor, stochastic: bool
    ) -> tuple[Tensor, ...]:
        dither = Dither(y.shape[0], y.shape[1], int(step), stream, seed) if stochastic else None
        return gradient_of(y, c, p, squares, dither)

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
