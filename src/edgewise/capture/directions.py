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

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx

from edgewise.capture import philox
from edgewise.capture.effects import FunctionKernel, add_draw
from edgewise.capture.kernels import Memory, Program, Slot, Tensors
from edgewise.capture.lowering import STEP, Lowering, Rewrite
from edgewise.capture.updates import Piecewise, flat
from edgewise.graph import Op, Option

FIRST_STREAM = 1 << 31
"""Streams of directions begin here; those of dropout and noise count from 0."""


@dataclass(frozen=True)
class Law:
    """How the elements of a direction are distributed: independent, of mean 0 and variance 1.

    `pieces(count, step, stream, seed)` yields `(offset, flat piece)`, `scratch_bytes(count)` is its scratch.
    """

    pieces: Callable[[int, int, int, int], Iterator[tuple[int, Tensor]]]
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
class AlongKernel(Piecewise):
    """sum_i c_i z_i, whole or piece by piece."""

    program: Program
    coefficients: Slot
    streams: tuple[int, ...]
    law: str
    seed: int
    like: Tensor
    """A fake tensor of the parameter's layout."""

    def __call__(self, tensors: Tensors, option: str, first: bool, memory: Memory) -> tuple[Tensor, ...]:
        """The whole sum."""
        del option, first, memory
        out = torch.empty_strided(self.like.size(), self.like.stride(), dtype=self.like.dtype)
        for offset, piece in self.pieces(tensors):
            flat(out)[offset : offset + piece.numel()] = piece
        return (out,)

    def pieces(self, tensors: Tensors) -> Iterator[tuple[int, Tensor]]:
        """`(offset, flat piece)` that cover the sum."""
        coefficients = self.program.slots(tensors)[self.coefficients.index]
        draw, step = LAWS[self.law].pieces, int(tensors[STEP])
        each = [draw(self.like.numel(), step, stream, self.seed) for stream in self.streams]
        for parts in zip(*each, strict=True):
            total = parts[0][1].mul_(coefficients[0])
            for index, (_, part) in enumerate(parts[1:], 1):
                total.add_(part.mul_(coefficients[index]))
            yield parts[0][0], total.to(self.like.dtype)

    @property
    def scratch_bytes(self) -> int:
        """RAM that `pieces` works in."""
        return (len(self.streams) + 1) * LAWS[self.law].scratch_bytes(self.like.numel())


def _step(low: Lowering, node: fx.Node) -> None:
    low.base[node, None] = STEP


def _direction(low: Lowering, node: fx.Node) -> None:
    _, stream, law = node.args
    fake, seed = low.fake[node], low.seed
    size, stride, dtype = tuple(fake.shape), fake.stride(), fake.dtype

    def draw(step: int) -> Tensor:
        out = torch.empty_strided(size, stride, dtype=dtype)
        for offset, piece in LAWS[str(law)].pieces(out.numel(), step, int(stream), seed):  # type: ignore[arg-type]
            flat(out)[offset : offset + piece.numel()] = piece
        return out

    output = low.new_value(node, fake)
    add_draw(low, output, output, fake, draw, layer=low.layer(node), backward=False)


def _perturbed(low: Lowering, node: fx.Node) -> None:
    w, *settings = node.args
    program, (slot,) = low.program((w,))
    operands = Program((*program.operands, STEP), ())
    assert not program.views  # noqa: S101  # what is perturbed is a parameter, not a view of one
    body = partial(_add_direction, position=slot.index, settings=settings, seed=low.seed)
    fake = low.fake[node]
    output = low.new_value(node, fake)
    option = Option("whole", workspace_bytes=LAWS[str(settings[1])].scratch_bytes(fake.numel()))
    op = Op(output, operands.operands, (output,), 2 * fake.numel(), "random", options=(option,),
            layer=low.layer(node))  # fmt: skip
    low.add(op, FunctionKernel(operands, body), backward=False)


def _add_direction(
    slots: Sequence[Any], option: str, *, position: int, settings: Sequence[Any], seed: int
) -> Tensor:
    del option
    stream, law, scale = settings
    out: Tensor = slots[position].clone(memory_format=torch.preserve_format)
    for offset, piece in LAWS[law].pieces(out.numel(), int(slots[-1]), stream, seed):
        flat(out)[offset : offset + piece.numel()] += piece.mul_(scale)
    return out


def _along(low: Lowering, node: fx.Node) -> None:
    coefficients, _, streams, law = node.args
    program, (slot,) = low.program((coefficients,))
    fake = low.fake[node]
    output = low.new_value(node, fake)
    kernel = AlongKernel(program, slot, tuple(streams), str(law), low.seed, fake)  # type: ignore[arg-type]
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
