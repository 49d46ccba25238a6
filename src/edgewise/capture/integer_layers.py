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
    dither_bytes,
    multiply,
    operand,
    round_nearest,
    rows_at_once,
    scale_of,
)
from edgewise.capture.kernels import Memory, Program, Slot, Tensors
from edgewise.capture.lowering import Lowering, Rewrite
from edgewise.capture.updates import Piecewise, flat
from edgewise.graph import Op, Option


@torch.library.custom_op("edgewise::int8_rows", mutates_args=())
def rows(x: Tensor) -> Tensor:
    """Each row of `x`, [rows, ...], to nearest, at the scale where its largest element is 127."""
    largest = x.flatten(1).abs().amax(1).clamp_(min=1e-30)
    return round_nearest(x, (largest / LEVELS).view(-1, *[1] * (x.dim() - 1)))


@torch.library.custom_op("edgewise::int8_squares", mutates_args=())
def squares(q: Tensor) -> Tensor:
    """Mean square of each row of int8 `q`, [rows, ...]; float32 [rows]."""
    out = torch.empty(q.shape[0])
    for begin in range(0, q.shape[0], rows_at_once(q)):
        part = q[begin : begin + rows_at_once(q)].flatten(1).float()
        torch.mean(part.square_(), 1, out=out[begin : begin + len(part)])
    return out


@torch.library.custom_op("edgewise::int8_linear_relu", mutates_args=())
def linear_relu(q: Tensor, squares: Tensor, w: Tensor, b: Tensor | None, step: float) -> Tensor:
    """y / step as int8 [rows, outputs], of int8 `q` [rows, inputs] with these mean `squares`, and float32 w."""
    scale = scale_of(w)
    v = round_nearest(w, scale).t()
    factor = (scale / step * squares.clamp(min=1e-30).rsqrt())[:, None]
    offset = None if b is None else b / step
    out = torch.empty(q.shape[0], w.shape[0], dtype=torch.int8)
    chunk = rows_at_once(out)
    for begin in range(0, len(out), chunk):
        z = multiply(q[begin : begin + chunk], v).float().mul_(factor[begin : begin + chunk])
        z = z if offset is None else z.add_(offset)
        out[begin : begin + chunk] = z.round_().clamp_(0, LEVELS)
    return out


@torch.library.custom_op("edgewise::int8_relu_gradient", mutates_args=())
def relu_gradient(
    y: Tensor, c: Tensor, p: Tensor | None, squares: Tensor, step: Tensor, stochastic: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """g / (rms scale) as int8, its scale, and the sum of g over rows.

    `y` int8 [rows, n], `c` [rows], `p` [n] counts in the first half of the rows; `squares` are those of the
    layer's input. `step` is the number of the training step.
    """
    raise NotImplementedError("drawn only in a captured step")


@torch.library.custom_op("edgewise::int8_weight_gradient", mutates_args=())
def weight_gradient(g: Tensor, q: Tensor, scale: Tensor) -> Tensor:
    """scale g^T q in float32, of int8 `g` [rows, outputs] and `q` [rows, inputs]."""
    raise NotImplementedError("made only in a captured step")


rows.register_fake(lambda x: x.new_empty(x.shape, dtype=torch.int8))
squares.register_fake(lambda q: q.new_empty(q.shape[:1], dtype=torch.float32))
linear_relu.register_fake(lambda q, _, w, *__: q.new_empty((q.shape[0], w.shape[0])))
relu_gradient.register_fake(lambda y, c, *_: (y.new_empty(y.shape), c.new_empty(()), c.new_empty(y.shape[1])))
weight_gradient.register_fake(lambda g, q, scale: scale.new_empty((g.shape[1], q.shape[1])))


def gradient_of(
    y: Tensor, c: Tensor, p: Tensor | None, squares: Tensor, dither: Dither | None
) -> tuple[Tensor, Tensor, Tensor]:
    """What `relu_gradient` makes; rounded to nearest without a dither."""
    factor = squares.clamp(min=1e-30).rsqrt()
    bound = c.abs() * y.amax(1) + (0 if p is None else p.abs().amax())
    scale = (bound * factor).amax().clamp_(min=1e-30) / LEVELS
    out, total, chunk = torch.empty_like(y), torch.zeros(y.shape[1]), rows_at_once(y)
    for begin in range(0, len(y), chunk):
        end = min(begin + chunk, len(y))
        part = y[begin:end].float().mul_(c[begin:end, None])
        if p is not None and begin < len(y) // 2:
            half = min(end, len(y) // 2)
            part[: half - begin] += p * (y[begin:half] > 0)
        total += part.sum(0)
        part.mul_((factor[begin:end] / scale)[:, None])
        part = part.round_() if dither is None else part.add_(dither.rows(begin, end)).floor_()
        out[begin:end] = part.clamp_(-LEVELS, LEVELS)
    return out, scale, total


@dataclass(frozen=True)
class WeightGradientKernel(Piecewise):
    """The weight's gradient, some of its rows at a time."""

    program: Program
    args: tuple[Slot, Slot, Slot]

    def __call__(self, tensors: Tensors, option: str, first: bool, memory: Memory) -> tuple[Tensor, ...]:
        """The whole gradient."""
        del option, first, memory
        g, q, _ = self._operands(tensors)
        out = torch.empty(g.shape[1], q.shape[1])
        for offset, piece in self.pieces(tensors):
            flat(out)[offset : offset + piece.numel()] = piece
        return (out,)

    def _operands(self, tensors: Tensors) -> tuple[Tensor, Tensor, Tensor]:
        slots = self.program.slots(tensors)
        g, q, scale = (slots[arg.index] for arg in self.args)
        return g, q, scale

    def pieces(self, tensors: Tensors) -> Iterator[tuple[int, Tensor]]:
        """`(offset, flat piece)` of whole rows."""
        g, q, scale = self._operands(tensors)
        inputs, chunk = q.shape[1], _outputs_at_once(g, q)
        for begin in range(0, g.shape[1], chunk):
            piece = multiply(g[:, begin : begin + chunk].t(), q).float().mul_(scale)
            yield begin * inputs, piece.view(-1)

    scratch_bytes: int = 0
    """A piece in int32 and in float32."""


def _outputs_at_once(g: Tensor, q: Tensor) -> int:
    return min(g.shape[1], max(64, (1 << 18) // q.shape[1]))


# -- how they are lowered ------------------------------------------------------------------------------------


def _rows(low: Lowering, node: fx.Node) -> None:
    x = operand(low, node, 0)
    scratch = chunk_bytes(x) + 4 * x.numel()
    add_op(low, node, node.target, "elementwise", flops=3 * x.numel(), scratch_bytes=scratch)  # type: ignore[arg-type]


def _squares(low: Lowering, node: fx.Node) -> None:
    q = operand(low, node, 0)
    add_op(low, node, node.target, "reduction", flops=2 * q.numel(), scratch_bytes=chunk_bytes(q))  # type: ignore[arg-type]


def _linear_relu(low: Lowering, node: fx.Node) -> None:
    q, w, y = operand(low, node, 0), operand(low, node, 2), low.fake[node]
    scratch = w.numel() + max(chunk_bytes(w), chunk_bytes(y))
    flops = 2 * q.shape[0] * w.numel()
    add_op(low, node, node.target, "matmul", flops=flops, scratch_bytes=scratch)  # type: ignore[arg-type]


def _relu_gradient(low: Lowering, node: fx.Node) -> None:
    y, stream, seed = operand(low, node, 0), low.next_stream(), low.seed

    def function(
        y: Tensor, c: Tensor, p: Tensor | None, squares: Tensor, step: Tensor, stochastic: bool
    ) -> tuple[Tensor, ...]:
        dither = Dither(*y.shape, int(step), stream, seed) if stochastic else None
        return gradient_of(y, c, p, squares, dither)

    scratch = chunk_bytes(y) + dither_bytes(*y.shape)
    add_op(low, node, function, "random", flops=5 * y.numel(), scratch_bytes=scratch)


def _weight_gradient(low: Lowering, node: fx.Node) -> None:
    program, args = low.program(tuple(node.args))
    g, q = operand(low, node, 0), operand(low, node, 1)
    output = low.new_value(node, low.fake[node])
    kernel = WeightGradientKernel(program, args, 8 * _outputs_at_once(g, q) * q.shape[1])
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
