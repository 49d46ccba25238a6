"""Random directions of the size of a parameter, drawn where they are needed and never stored.

A zeroth-order step moves the weights along a direction z, and its gradient is a scalar times the same z. Here
z is a function of (seed, stream, training step), as everything random is (`philox`), so three ops need no z
in RAM: `perturbed` makes w + scale z piece by piece, `direction` makes z itself (for a tangent), and `along`
makes sum_i c_i z_i, which is handed to the optimizer's update piece by piece, so that it is never whole
either. This is the seed trick of MeZO (arXiv 2305.17333, algorithm 1), without a generator whose state
depends on what was drawn before.

The ops exist for tracing only: `REWRITES` says how they are lowered. Elements of z follow the parameter's
storage, from its first byte to its last.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from edgewise.capture import philox
from edgewise.capture.kernels import Memory, Program, Slot, Tensors
from edgewise.capture.lowering import STEP, Layout, Lowering, Rewrite
from edgewise.capture.updates import Piecewise, flat
from edgewise.graph import Op, Option

FIRST_STREAM = 1 << 31
"""Streams of directions begin here; those of dropout and noise count from 0."""


@dataclass(frozen=True)
class Law:
    """How the elements of a direction are distributed: independent, of mean 0 and variance 1.

    `pieces(count, step, stream, seed, first)` yields `(offset, flat piece)` of the elements from the `first`
    on; `scratch_bytes(count)` is its scratch.
    """

    pieces: Callable[[int, int, int, int, int], Iterator[tuple[int, Tensor]]]
    scratch_bytes: Callable[[int], int]


LAWS = {
    "rademacher": Law(philox.sign_pieces, philox.sign_scratch_bytes),
    "normal": Law(philox.normal_pieces, philox.scratch_bytes),
}


@torch.library.custom_op("edgewise::step", mutates_args=())
def step_number(like: Tensor) -> Tensor:
    """The number of the training step, int64; `like` is any tensor of the step."""
    raise NotImplementedError("known only to a captured step")


@torch.library.custom_op("edgewise::direction", mutates_args=())
def direction(like: Tensor, stream: int, law: str) -> Tensor:
    """z, of the shape of `like`."""
    raise NotImplementedError("drawn only in a captured step")


@torch.library.custom_op("edgewise::perturbed", mutates_args=())
def perturbed(w: Tensor, stream: int, law: str, scale: float) -> Tensor:
    """The sum w + scale z."""
    raise NotImplementedError("drawn only in a captured step")


@torch.library.custom_op("edgewise::along", mutates_args=())
def along(coefficients: Tensor, like: Tensor, streams: list[int], law: str) -> Tensor:
    """sum_i coefficients[i] z_i, of the shape of `like`; z_i is drawn from `streams[i]`."""
    raise NotImplementedError("drawn only in a captured step")


step_number.register_fake(lambda like: like.new_empty((), dtype=torch.int64))
direction.register_fake(lambda like, *_: torch.empty_like(like))
perturbed.register_fake(lambda w, *_: torch.empty_like(w))
along.register_fake(lambda _, like, *__: torch.empty_like(like))


@dataclass(frozen=True)
class DirectionKernel:
    """z, whole or a run of it."""

    stream: int
    law: str
    seed: int
    like: Layout
    """Layout of the parameter."""

    def __call__(self, tensors: Tensors, option: str, first: bool, memory: Memory) -> tuple[Tensor, ...]:
        """The whole direction."""
        del option, first, memory
        out = torch.empty_strided(self.like.size, self.like.stride, dtype=self.like.dtype)
        self.fill(out, int(tensors[STEP]), 0)
        return (out,)

    def fill(self, out: Tensor, step: int, begin: int) -> None:
        """Make `out` the part of z that begins at element `begin`."""
        for offset, piece in LAWS[self.law].pieces(out.numel(), step, self.stream, self.seed, begin):
            flat(out)[offset : offset + piece.numel()] = piece

    def scratch_bytes(self, count: int) -> int:
        """RAM that a run of `count` elements is made in."""
        return LAWS[self.law].scratch_bytes(count)


@dataclass(frozen=True)
class PerturbedKernel:
    """w + scale z, whole or a run of it; `program` has w in its first slot and the step in the last."""

    program: Program
    stream: int
    law: str
    scale: float
    seed: int

    def __call__(self, tensors: Tensors, option: str, first: bool, memory: Memory) -> tuple[Tensor, ...]:
        """The whole sum."""
        del option, first, memory
        w, step = self.program.slots(tensors)
        return (self.moved(w, int(step), 0),)

    def moved(self, w: Tensor, step: int, begin: int) -> Tensor:
        """The sum for the part `w` of the parameter that begins at element `begin` of its storage."""
        out: Tensor = w.clone(memory_format=torch.preserve_format)
        for offset, piece in LAWS[self.law].pieces(out.numel(), step, self.stream, self.seed, begin):
            flat(out)[offset : offset + piece.numel()] += piece.mul_(self.scale)
        return out

    def scratch_bytes(self, count: int) -> int:
        """RAM that a run of `count` elements is made in."""
        return LAWS[self.law].scratch_bytes(count)


@dataclass(frozen=True)
class AlongKernel(Piecewise):
    """sum_i c_i z_i, whole or piece by piece."""

    program: Program
    coefficients: Slot
    streams: tuple[int, ...]
    law: str
    seed: int
    like: Layout
    """Layout of the parameter."""

    def __call__(self, tensors: Tensors, option: str, first: bool, memory: Memory) -> tuple[Tensor, ...]:
        """The whole sum."""
        del option, first, memory
        out = torch.empty_strided(self.like.size, self.like.stride, dtype=self.like.dtype)
        for offset, piece in self.pieces(tensors):
            flat(out)[offset : offset + piece.numel()] = piece
        return (out,)

    def pieces(self, tensors: Tensors) -> Iterator[tuple[int, Tensor]]:
        """`(offset, flat piece)` that cover the sum."""
        coefficients = self.program.slots(tensors)[self.coefficients.index]
        yield from self.run(coefficients, int(tensors[STEP]), 0, self.like.count)

    def run(self, coefficients: Tensor, step: int, begin: int, count: int) -> Iterator[tuple[int, Tensor]]:
        """`(offset, flat piece)` that cover `count` elements of the sum from element `begin` on."""
        draw = LAWS[self.law].pieces
        each = [draw(count, step, stream, self.seed, begin) for stream in self.streams]
        for parts in zip(*each, strict=True):
            total = parts[0][1].mul_(coefficients[0])
            for index, (_, part) in enumerate(parts[1:], 1):
                total.add_(part.mul_(coefficients[index]))
            yield parts[0][0], total.to(self.like.dtype)

    def scratch_bytes_of(self, count: int) -> int:
        """RAM that a run of `count` elements is made in."""
        return (len(self.streams) + 1) * LAWS[self.law].scratch_bytes(count)

    @property
    def scratch_bytes(self) -> int:
        """RAM that `pieces` works in."""
        return self.scratch_bytes_of(self.like.count)


def _step(low: Lowering, node: fx.Node) -> None:
    low.base[node, None] = STEP


def _direction(low: Lowering, node: fx.Node) -> None:
    _, stream, law = node.args
    fake, output = low.fake[node], low.new_value(node, low.fake[node])
    kernel = DirectionKernel(stream, str(law), low.seed, Layout.of(fake))  # type: ignore[arg-type]
    option = Option("whole", workspace_bytes=kernel.scratch_bytes(fake.numel()))
    op = Op(output, (STEP,), (output,), fake.numel(), "random", options=(option,))
    low.add(op, kernel, backward=False)


def _perturbed(low: Lowering, node: fx.Node) -> None:
    args: Any = node.args
    w, stream, law, scale = args
    program, _ = low.program((w,))
    assert not program.views  # noqa: S101  # what is perturbed is a parameter, not a view of one
    fake, output = low.fake[node], low.new_value(node, low.fake[node])
    operands = Program((*program.operands, STEP), ())
    kernel = PerturbedKernel(operands, stream, law, scale, low.seed)
    option = Option("whole", workspace_bytes=kernel.scratch_bytes(fake.numel()))
    op = Op(output, kernel.program.operands, (output,), 2 * fake.numel(), "random", options=(option,))
    low.add(op, kernel, backward=False)


def _along(low: Lowering, node: fx.Node) -> None:
    coefficients, _, streams, law = node.args
    program, (slot,) = low.program((coefficients,))
    fake = low.fake[node]
    output = low.new_value(node, fake)
    kernel = AlongKernel(program, slot, tuple(streams), str(law), low.seed, Layout.of(fake))  # type: ignore[arg-type]
    option = Option("whole", workspace_bytes=kernel.scratch_bytes)
    flops = 2 * len(kernel.streams) * fake.numel()
    op = Op(output, (*program.operands, STEP), (output,), flops, "random", options=(option,))
    low.add(op, kernel, backward=node not in low.forward)


REWRITES: dict[Any, Rewrite] = {
    torch.ops.edgewise.step.default: _step,
    torch.ops.edgewise.direction.default: _direction,
    torch.ops.edgewise.perturbed.default: _perturbed,
    torch.ops.edgewise.along.default: _along,
}
"""How each op of this file is lowered."""
