"""Arithmetic on int8 operands with sums in int32, as ops of a step: rounding, products, convolutions.

A real tensor x is stood for by q = round(x / scale), clamped to [-127, 127] (symmetric, uniform; arXiv
2506.22771, section III). Rounding is to the nearest, or stochastic: floor(x / scale + u), whose mean is
x / scale if u is uniform in [0, 1). Drawing a u for every element costs more than the product that follows,
so element (i, j) of rows and columns takes u = frac(a_i + b_j), with a_i and b_j drawn from Philox. Each u is
uniform and any two are independent, so every sum of products has the mean and the variance it has under
independent draws; only moments of third order and above differ.

Products are exact: whatever adds them up, int32, or floats where no sum can leave their whole numbers.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional as F  # noqa: N812 (its common name)

from edgewise.capture import philox
from edgewise.capture.kernels import AtenKernel, Instruction, Memory, Program, Run, Tensors, resolve
from edgewise.capture.lowering import Lowering, Rewrite
from edgewise.capture.traced import traced_op
from edgewise.graph import Op, Option

aten = torch.ops.aten

LEVELS = 127
"""Largest whole number that stands for anything; -128 is left out, so that zero is in the middle."""

_CHUNK = 1 << 15
"""Elements that are worked on at once in float32: 128 KiB, which a core's own cache holds."""

_EXACT_FLOAT32 = (1 << 24) // LEVELS**2
"""Products of two int8 that float32 adds up exactly."""


def scale_of(x: Tensor) -> Tensor:
    """The scale, one number, at which the largest element of `x` is `LEVELS`; 1 where all are zero."""
    largest = torch.maximum(x.amax(), -x.amin())
    return torch.where(largest > 0, largest / LEVELS, torch.ones_like(largest))


# -- rounding ------------------------------------------------------------------------------------------------


def rows_at_once(x: Tensor) -> int:
    """Rows of a chunk of `x`, [rows, ...]."""
    return rows_of_chunk(x.numel() // max(1, x.shape[0]))


def rows_of_chunk(length: int) -> int:
    """Rows of a chunk, of so many elements each."""
    return max(1, _CHUNK // max(1, length))


def round_nearest(x: Tensor, scale: Tensor) -> Tensor:
    """round(x / scale) as int8, half to even, chunk by chunk."""
    out, inverse = torch.empty(x.shape, dtype=torch.int8), 1 / scale
    for begin, part, scratch in chunks(x, 2):
        torch.mul(part, inverse, out=scratch)
        out[begin : begin + len(part)] = scratch.round_().clamp_(-LEVELS, LEVELS)
    return out


def chunks(x: Tensor, times: int = 1) -> Iterator[tuple[int, Tensor, Tensor]]:
    """`(first row, rows, float32 scratch of their shape)` over `x`, [rows, ...]; so many `times` the usual.

    All chunks share one scratch: where each large tensor has pages of its own, new ones cost more than the
    arithmetic.
    """
    at_once = times * rows_at_once(x)
    scratch = torch.empty(min(at_once, x.shape[0]), *x.shape[1:])
    for begin in range(0, x.shape[0], at_once):
        part = x[begin : begin + at_once]
        yield begin, part, scratch[: len(part)]


def in_floats(sums: Tensor) -> Tensor:
    """Int32 `sums` as float32 in the memory where they were: a second tensor would cost its pages."""
    return sums.view(torch.float32).copy_(sums)


class Dither:
    """The u of a tensor of these rows and columns in one step: `fill` writes those of some rows."""

    def __init__(self, rows: int, columns: int, step: int, stream: int, seed: int) -> None:
        # Multiples of 2^-23: float32 holds them and the sum of two exactly.
        counters = torch.arange(-(-(rows + columns) // 4))
        words = philox.philox(counters, step, stream, seed).view(-1)[: rows + columns]
        parts = (words >> 9).to(torch.float32).mul_(2.0**-23)
        self._rows, self._columns = parts[:rows, None], parts[None, rows:]

    def fill(self, out: Tensor, begin: int) -> Tensor:
        """The u of rows from `begin` on in `out`, float32 [rows, columns], in [0, 1)."""
        return torch.add(self._rows[begin : begin + len(out)], self._columns, out=out).frac_()


def round_stochastic(x: Tensor, scale: Tensor, dither: Dither) -> Tensor:
    """floor(x / scale + u) as int8, chunk by chunk; `x` is [rows, ...]."""
    flat, inverse = x.flatten(1), float(1 / scale)
    out = torch.empty(flat.shape, dtype=torch.int8)
    for begin, part, scratch in chunks(flat):
        dither.fill(scratch, begin).add_(part, alpha=inverse)
        out[begin : begin + len(part)] = scratch.floor_().clamp_(-LEVELS, LEVELS)
    return out.view(x.shape)


def round_drawn(x: Tensor, scale: Tensor, step: Tensor, *, stream: int, seed: int) -> Tensor:
    """As `round_stochastic`, with the u of this training step."""
    return round_stochastic(x, scale, Dither(x.shape[0], x[0].numel(), int(step), stream, seed))


@torch.library.custom_op("edgewise::int8_nearest", mutates_args=())
def nearest(x: Tensor, scale: Tensor) -> Tensor:
    """round(x / scale), int8."""
    return round_nearest(x, scale)


nearest.register_fake(lambda x, _: x.new_empty(x.shape, dtype=torch.int8))
stochastic = traced_op(
    "int8_stochastic",
    "(Tensor x, Tensor scale, Tensor step) -> Tensor",
    lambda x, *_: x.new_empty(x.shape, dtype=torch.int8),
)
"""floor(x / scale + u), int8, [rows, ...], with the u of this step."""


# -- products ------------------------------------------------------------------------------------------------


@torch.library.custom_op("edgewise::int8_product", mutates_args=())
def product(a: Tensor, b: Tensor) -> Tensor:
    """Int32 a @ b, of int8 [M, K] and [K, N]; fastest where `b` is a transposed tensor."""
    return multiply(a, b)


product.register_fake(lambda a, b: a.new_empty((a.shape[0], b.shape[1]), dtype=torch.int32))


def multiply(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    """The product, into `out` if given; by PyTorch's kernel, or by float64 where that refuses the shape."""
    out = torch.empty(a.shape[0], b.shape[1], dtype=torch.int32) if out is None else out
    try:
        torch._int_mm(_unambiguous(a), _unambiguous(b), out=out)  # noqa: SLF001 (its only name)
    except RuntimeError:
        out.copy_(a.double() @ b.double())
    return out


def _unambiguous(x: Tensor) -> Tensor:
    """`x` as dense rows or columns, one behind the other; what lies otherwise the kernel may misread.

    (Seen in PyTorch 2.13.0: [1, 1] times [1, 40] with strides (1, 1) is wrong, and so is [2, 2] whose rows
    overlap, with these strides.)
    """
    if 1 in x.shape:
        return x.reshape(-1).view(x.shape)
    return x if x.stride() in ((x.shape[1], 1), (1, x.shape[0])) else x.contiguous()


# -- convolutions --------------------------------------------------------------------------------------------


@torch.library.custom_op("edgewise::int8_convolution", mutates_args=())
def convolution(
    x: Tensor, w: Tensor, stride: list[int], padding: list[int], dilation: list[int], groups: int
) -> Tensor:
    """The convolution of int8 [B, C, H, W] with int8 [outputs, C / groups, height, width], in int32."""
    size = output_size(x.shape[2:], w.shape[2:], stride, padding, dilation)
    out = torch.empty(x.shape[0], w.shape[0], *size, dtype=torch.int32)
    for index, sample in enumerate(x):
        if groups == 1:
            columns = _columns(sample, w.shape[2:], stride, padding, dilation)
            out[index] = multiply(w.flatten(1), columns.t()).view(out.shape[1:])
        else:
            dtype = _exact(w[0].numel())
            call = (sample[None].to(dtype), w.to(dtype), None, stride, padding, dilation, groups)
            out[index] = F.conv2d(*call)[0]
    return out


@torch.library.custom_op("edgewise::int8_convolution_weight", mutates_args=())
def convolution_weight(
    g: Tensor,
    x: Tensor,
    size: list[int],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> Tensor:
    """Gradient of the weight, which is of this size, in int32."""
    total = torch.zeros(size, dtype=torch.int32)
    for gradient, sample in zip(g, x, strict=True):
        if groups == 1:
            columns = _columns(sample, size[2:], stride, padding, dilation)
            total += multiply(gradient.flatten(1), columns).view(size)
        else:
            dtype = _exact(gradient[0].numel())
            blank, mask = torch.zeros(size, dtype=dtype), (False, True, False)
            call = (gradient[None].to(dtype), sample[None].to(dtype), blank, None, stride, padding, dilation)
            total += aten.convolution_backward(*call, False, [0, 0], groups, mask)[1].to(torch.int32)
    return total


@torch.library.custom_op("edgewise::int8_convolution_input", mutates_args=())
def convolution_input(
    g: Tensor,
    w: Tensor,
    size: list[int],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> Tensor:
    """Gradient of the input, which is of this size, in int32: sums of whole numbers in a float."""
    dtype = _exact(w.shape[0] // groups * w[0, 0].numel())
    out, whole = torch.empty(size, dtype=torch.int32), w.to(dtype)
    blank, mask = torch.zeros(1, *size[1:], dtype=dtype), (True, False, False)
    for index, gradient in enumerate(g):
        call = (gradient[None].to(dtype), blank, whole, None, stride, padding, dilation)
        out[index] = aten.convolution_backward(*call, False, [0, 0], groups, mask)[0][0]
    return out


def _exact(products: int) -> torch.dtype:
    """The float in which so many products of two int8 add up without an error."""
    return torch.float32 if products <= _EXACT_FLOAT32 else torch.float64


def _columns(
    sample: Tensor, kernel: Sequence[int], stride: list[int], padding: list[int], dilation: list[int]
) -> Tensor:
    """What the kernel sees at each position: int8 [positions, channels x kernel], of a sample [C, H, W]."""
    padded = F.pad(sample, (padding[1], padding[1], padding[0], padding[0]))
    height, width = output_size(sample.shape[1:], kernel, stride, padding, dilation)
    c, h, w = padded.stride()
    size = (height, width, sample.shape[0], kernel[0], kernel[1])
    strides = (h * stride[0], w * stride[1], c, h * dilation[0], w * dilation[1])
    return padded.as_strided(size, strides).reshape(height * width, -1)


def three_pairs(numbers: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
    """Stride, padding and dilation, each along H and W, of a convolution whose settings are one list."""
    return list(numbers[:2]), list(numbers[2:4]), list(numbers[4:])


def output_size(
    size: Sequence[int], kernel: Sequence[int], stride: list[int], padding: list[int], dilation: list[int]
) -> list[int]:
    """Size of what a convolution makes, dim by dim of space."""
    each = zip(size, kernel, stride, padding, dilation, strict=True)
    return [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in each]


@convolution.register_fake
def _(x: Tensor, w: Tensor, stride: Any, padding: Any, dilation: Any, groups: int) -> Tensor:
    del groups
    size = output_size(x.shape[2:], w.shape[2:], stride, padding, dilation)
    return x.new_empty((x.shape[0], w.shape[0], *size), dtype=torch.int32)


convolution_weight.register_fake(lambda g, _, size, *__: g.new_empty(size, dtype=torch.int32))
convolution_input.register_fake(lambda g, _, size, *__: g.new_empty(size, dtype=torch.int32))


# -- how they are lowered ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class IntegerKernel:
    """`function(*args)` with slots filled: the results of an op of this file, one or several."""

    program: Program
    args: tuple[Any, ...]
    function: Callable[..., Any]

    def __call__(self, tensors: Tensors, option: str, first: bool, memory: Memory) -> tuple[Tensor, ...]:
        """What the function makes."""
        del option, first, memory
        made = self.function(*resolve(self.args, self.program.slots(tensors)))
        return made if isinstance(made, tuple) else (made,)


def add_op(
    low: Lowering,
    node: fx.Node,
    function: Callable[..., Any],
    kind: str,
    *,
    flops: int,
    scratch_bytes: int = 0,
    in_slices: bool = False,
) -> None:
    """An op that makes what `node` makes, one tensor or several, by `function` of the same arguments.

    One `in_slices` makes one tensor, by a call like those of ATen, for which `tiling` has a nest.
    """
    program, args = low.program(tuple(node.args))
    result = low.fake[node]
    outputs: tuple[str, ...]
    if isinstance(result, Tensor):
        outputs = (low.new_value(node, result),)
        name = outputs[0]
    else:
        outputs = tuple(low.new_value(node, t, suffix=f".{i}", item=i) for i, t in enumerate(result))
        name = low.op_name(node)
    option = Option("whole", workspace_bytes=scratch_bytes)
    op = Op(name, program.operands, outputs, flops, kind, options=(option,), layer=low.layer(node))
    run: Run = (
        AtenKernel(program, Instruction(function, args, {}), None, {})
        if in_slices
        else IntegerKernel(program, tuple(args), function)
    )
    low.add(op, run, backward=node not in low.forward)


def chunk_bytes(x: Tensor) -> int:
    """Scratch of a loop over chunks of `x`: up to three tensors of 32 bits of a chunk's size."""
    return 12 * min(x.numel(), rows_at_once(x) * max(1, x.numel() // max(1, x.shape[0])))


def dither_bytes(rows: int, columns: int) -> int:
    """Scratch of a `Dither` while it is made: some tensors of 64-bit words."""
    return 64 * (rows + columns)


def operand(low: Lowering, node: fx.Node, index: int) -> Tensor:
    """The fake tensor of an argument."""
    return low.fake[node.args[index]]  # type: ignore[index,no-any-return]


def _nearest(low: Lowering, node: fx.Node) -> None:
    x = operand(low, node, 0)
    scratch = chunk_bytes(x)
    add_op(
        low, node, round_nearest, "elementwise", flops=2 * x.numel(), scratch_bytes=scratch, in_slices=True
    )


def _stochastic(low: Lowering, node: fx.Node) -> None:
    x = operand(low, node, 0)
    rows, columns = x.shape[0], x.numel() // max(1, x.shape[0])
    function = partial(round_drawn, stream=low.next_stream(), seed=low.seed)
    scratch = chunk_bytes(x) + dither_bytes(rows, columns)
    add_op(low, node, function, "random", flops=3 * x.numel(), scratch_bytes=scratch)


def _product(low: Lowering, node: fx.Node) -> None:
    a, b = operand(low, node, 0), operand(low, node, 1)
    flops = 2 * a.shape[0] * a.shape[1] * b.shape[1]
    add_op(low, node, multiply, "matmul", flops=flops)


def _convolutions(low: Lowering, node: fx.Node) -> None:
    """One of the three; its scratch is that of one sample, whose patches lie side by side."""
    positions = low.fake[node] if node.target is _CONVOLUTION else operand(low, node, 0)
    kernel = low.fake[node] if node.target is _CONVOLUTION_WEIGHT else operand(low, node, 1)
    spots = math.prod(positions.shape[2:])
    flops = 2 * positions.shape[0] * spots * kernel.numel()
    patches = spots * kernel[0].numel()
    add_op(low, node, node.target, "convolution", flops=flops, scratch_bytes=8 * patches)  # type: ignore[arg-type]


_CONVOLUTION = torch.ops.edgewise.int8_convolution.default
_CONVOLUTION_WEIGHT = torch.ops.edgewise.int8_convolution_weight.default

REWRITES: dict[Any, Rewrite] = {
    torch.ops.edgewise.int8_nearest.default: _nearest,
    torch.ops.edgewise.int8_stochastic.default: _stochastic,
    torch.ops.edgewise.int8_product.default: _product,
    _CONVOLUTION: _convolutions,
    _CONVOLUTION_WEIGHT: _convolutions,
    torch.ops.edgewise.int8_convolution_input.default: _convolutions,
}
"""How each op of this file is lowered."""
