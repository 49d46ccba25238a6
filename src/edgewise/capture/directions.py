"""Random directions of the size of a parameter, drawn where they are needed and never stored.

A zeroth-order step moves the weights along a direction z, and its gradient is a scalar times the same z. Here
z is a function of (seed, stream, training step), as everything random is (`philox`), so three ops need no z
in RAM: `perturbed` makes w + scale z piece by piece, `direction` makes z itself (for a tangent), and `along`
makes sum_i c_i z_i, which is handed to the optimizer's update piece by piece, so that it is never whole
either. A fourth, `nudged`, moves w itself, so that not even a layer of w + scale z stands beside w. This is
the seed trick of MeZO (arXiv 2305.17333, algorithm 1), without a generator whose state depends on what was
drawn before.

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
from edgewise.capture.updates import Nudge, Piecewise, flat
from edgewise.graph import Op, Option

FIRST_STREAM = 1 << 31
"""Streams of directions begin here; those of dropout and noise count from 0."""


@dataclass(frozen=True)
class Law:
    """How the elements of a direction are distributed: independent, of mean 0 and variance 1.

    `pieces(count, step, stream, seed, skip)` yields `(offset, flat piece)` but for the first `skip`;
    `scratch_bytes(count)` is its scratch.
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
def direction(like: Tensor, stream: int, law: str, threshold: Tensor | None = None) -> Tensor:
    """z, of the shape of `like`; zero where |like| is below `threshold`."""
    raise NotImplementedError("drawn only in a captured step")


@torch.library.custom_op("edgewise::perturbed", mutates_args=())
def perturbed(w: Tensor, stream: int, law: str, scale: float, threshold: Tensor | None = None) -> Tensor:
    """The sum w + scale z; as it is where |w| is below `threshold`."""
    raise NotImplementedError("drawn only in a captured step")


@torch.library.custom_op("edgewise::along", mutates_args=())
def along(
    coefficients: Tensor, like: Tensor, streams: list[int], law: str, threshold: Tensor | None = None
) -> Tensor:
    """sum_i coefficients[i] z_i, of the shape of `like`; zero where |like| is below `threshold`.

    z_i is drawn from `streams[i]`.
    """
    raise NotImplementedError("drawn only in a captured step")


@torch.library.custom_op("edgewise::along_at", mutates_args=())
def along_at(coefficients: Tensor, steps: Tensor, like: Tensor, streams: list[int], law: str) -> Tensor:
    """As `along`, where z_i is that of step `steps[i]`."""
    raise NotImplementedError("drawn only in a captured step")


@torch.library.custom_op("edgewise::nudged", mutates_args=())
def nudged(w: Tensor, streams: list[int], law: str, scales: list[float]) -> Tensor:
    """The sum w + sum_i scales[i] z_i in the place of w, which nothing may read afterwards."""
    raise NotImplementedError("drawn only in a captured step")


step_number.register_fake(lambda like: like.new_empty((), dtype=torch.int64))
direction.register_fake(lambda like, *_: torch.empty_like(like))
perturbed.register_fake(lambda w, *_: torch.empty_like(w))
along.register_fake(lambda _, like, *__: torch.empty_like(like))
along_at.register_fake(lambda _, __, like, *___: torch.empty_like(like))
nudged.register_fake(lambda w, *_: torch.empty_like(w))


@dataclass(frozen=True)
class Drawn:
    """sum_i coefficients[i] z_i, piece by piece: no more than two pieces are drawn at once."""

    streams: tuple[int, ...]
    law: str
    seed: int
    count: int

    def pieces(
        self, coefficients: Sequence[float] | Tensor, steps: Sequence[int]
    ) -> Iterator[tuple[int, Tensor]]:
        """`(offset, flat piece)` that cover the sum; z_i is that of `steps[i]`."""
        draw = LAWS[self.law].pieces
        for index, (offset, piece) in enumerate(draw(self.count, steps[0], self.streams[0], self.seed, 0)):
            total = piece.mul_(coefficients[0])
            for i, stream in enumerate(self.streams[1:], 1):
                if coefficients[i]:
                    _, part = next(draw(self.count, steps[i], stream, self.seed, index))
                    total.add_(part.mul_(coefficients[i]))
            yield offset, total

    @property
    def scratch_bytes(self) -> int:
        """RAM that `pieces` works in."""
        return min(len(self.streams), 2) * LAWS[self.law].scratch_bytes(self.count)

    @property
    def flops(self) -> int:
        """To draw, scale and add."""
        return 2 * len(self.streams) * self.count


@dataclass(frozen=True)
class AlongKernel(Piecewise):
    """sum_i c_i z_i, whole or piece by piece.

    `slots` are c, or c and steps (`earlier`), or c, parameter and threshold.
    """

    program: Program
    slots: tuple[Slot, ...]
    drawn: Drawn
    like: Tensor
    """A fake tensor of the parameter's layout."""
    earlier: bool

    def __call__(self, tensors: Tensors, option: str, first: bool, memory: Memory) -> tuple[Tensor, ...]:
        """The whole sum."""
        del option, first, memory
        out = torch.empty_strided(self.like.size(), self.like.stride(), dtype=self.like.dtype)
        for offset, piece in self.pieces(tensors):
            flat(out)[offset : offset + piece.numel()] = piece
        return (out,)

    def pieces(self, tensors: Tensors) -> Iterator[tuple[int, Tensor]]:
        """`(offset, flat piece)` that cover the sum."""
        filled = self.program.slots(tensors)
        coefficients, *rest = (filled[slot.index] for slot in self.slots)
        steps = rest[0].tolist() if self.earlier else [int(tensors[STEP])] * len(self.drawn.streams)
        for offset, total in self.drawn.pieces(coefficients, steps):
            if rest and not self.earlier:
                _keep_top(total, rest[0], offset, rest[1])
            yield offset, total.to(self.like.dtype)

    @property
    def scratch_bytes(self) -> int:
        """RAM that `pieces` works in, with a piece in the parameter's dtype."""
        return self.drawn.scratch_bytes + LAWS[self.drawn.law].scratch_bytes(self.drawn.count)


def _keep_top(piece: Tensor, w: Tensor, offset: int, threshold: Tensor) -> Tensor:
    """`piece`, that of `w` at `offset`, made zero where |w| is below `threshold`."""
    return piece.masked_fill_(flat(w)[offset : offset + piece.numel()].abs() < threshold, 0)


@dataclass(frozen=True)
class NudgeKernel(Nudge):
    """Adds sum_i scales[i] z_i to the parameter `old`, in place, piece by piece."""

    old: str
    scales: tuple[float, ...]
    drawn: Drawn

    def __call__(self, tensors: Tensors, option: str, first: bool, memory: Memory) -> tuple[Tensor, ...]:
        """Change the parameter; nothing is returned."""
        del option, first, memory
        parameter = flat(tensors[self.old])
        for offset, piece in self.pieces(tensors):
            parameter[offset : offset + piece.numel()] += piece
        return ()

    def pieces(self, tensors: Tensors) -> Iterator[tuple[int, Tensor]]:
        """`(offset, flat piece)` that cover what is added."""
        return self.drawn.pieces(self.scales, [int(tensors[STEP])] * len(self.scales))


def _step(low: Lowering, node: fx.Node) -> None:
    low.base[node, None] = STEP


def _direction(low: Lowering, node: fx.Node) -> None:
    stream: Any
    like, stream, law, threshold = (*node.args, None)[:4]
    if threshold is None:
        _drawn_alone(low, node, stream, str(law))
    else:
        _moved(low, node, (like, threshold), (stream, law, None))


def _drawn_alone(low: Lowering, node: fx.Node, stream: int, law: str) -> None:
    fake, seed = low.fake[node], low.seed
    size, stride, dtype = tuple(fake.shape), fake.stride(), fake.dtype

    def draw(step: int) -> Tensor:
        out = torch.empty_strided(size, stride, dtype=dtype)
        for offset, piece in LAWS[law].pieces(out.numel(), step, stream, seed, 0):
            flat(out)[offset : offset + piece.numel()] = piece
        return out

    output = low.new_value(node, fake)
    add_draw(low, output, output, fake, draw, layer=low.layer(node), backward=False)


def _perturbed(low: Lowering, node: fx.Node) -> None:
    w, stream, law, scale, threshold = (*node.args, None)[:5]
    _moved(low, node, (w,) if threshold is None else (w, threshold), (stream, law, scale))


def _moved(low: Lowering, node: fx.Node, args: tuple[Any, ...], settings: tuple[Any, ...]) -> None:
    program, slots = low.program(args)
    body = partial(_add_direction, positions=[slot.index for slot in slots], settings=settings, seed=low.seed)
    operands = Program((*program.operands, STEP), ())
    assert not program.views  # noqa: S101  # what is perturbed is a parameter, not a view of one
    fake = low.fake[node]
    output = low.new_value(node, fake)
    option = Option("whole", workspace_bytes=LAWS[str(settings[1])].scratch_bytes(fake.numel()))
    op = Op(output, operands.operands, (output,), 2 * fake.numel(), "random", options=(option,),
            layer=low.layer(node))  # fmt: skip
    low.add(op, FunctionKernel(operands, body), backward=False)


def _add_direction(
    slots: Sequence[Any], option: str, *, positions: Sequence[int], settings: Sequence[Any], seed: int
) -> Tensor:
    """The sum w + scale z, or z if there is no scale."""
    del option
    stream, law, scale = settings
    w, *threshold = (slots[position] for position in positions)
    out: Tensor = torch.zeros_like(w) if scale is None else w.clone(memory_format=torch.preserve_format)
    for offset, piece in LAWS[law].pieces(out.numel(), int(slots[-1]), stream, seed, 0):
        if threshold:
            _keep_top(piece, w, offset, threshold[0])
        flat(out)[offset : offset + piece.numel()] += piece.mul_(1.0 if scale is None else scale)
    return out


def _along(low: Lowering, node: fx.Node) -> None:
    coefficients, like, streams, law, threshold = (*node.args, None)[:5]
    read = (coefficients,) if threshold is None else (coefficients, like, threshold)
    _add_along(low, node, read, (streams, law), earlier=False)


def _along_at(low: Lowering, node: fx.Node) -> None:
    coefficients, steps, _, streams, law = node.args
    _add_along(low, node, (coefficients, steps), (streams, law), earlier=True)


def _add_along(
    low: Lowering, node: fx.Node, read: tuple[Any, ...], settings: tuple[Any, Any], *, earlier: bool
) -> None:
    program, slots = low.program(read)
    fake = low.fake[node]
    output = low.new_value(node, fake)
    drawn = Drawn(tuple(settings[0]), str(settings[1]), low.seed, fake.numel())
    kernel = AlongKernel(program, slots, drawn, fake, earlier)
    option = Option("whole", workspace_bytes=kernel.scratch_bytes)
    op = Op(output, (*program.operands, STEP), (output,), drawn.flops, "random", options=(option,))
    low.add(op, kernel, backward=node not in low.forward)


def _nudged(low: Lowering, node: fx.Node) -> None:
    w, streams, law, scales = node.args
    fake, old = low.fake[node], low.base[w, None]  # type: ignore[index]
    new = low.next_version(old)
    low.declare(new, fake, "parameter")
    low.base[node, None] = new
    drawn = Drawn(tuple(streams), str(law), low.seed, fake.numel())  # type: ignore[arg-type]
    option = Option("whole", workspace_bytes=drawn.scratch_bytes)
    op = Op(f"{new}:nudge", (STEP,), (), drawn.flops, "random", recomputable=False,
            updates=((old, new),), options=(option,), layer=old.rpartition(".")[0])  # fmt: skip
    low.add(op, NudgeKernel(old, tuple(scales), drawn), backward=False)  # type: ignore[arg-type]


REWRITES: dict[Any, Rewrite] = {
    torch.ops.edgewise.step.default: _step,
    torch.ops.edgewise.direction.default: _direction,
    torch.ops.edgewise.perturbed.default: _perturbed,
    torch.ops.edgewise.along.default: _along,
    torch.ops.edgewise.along_at.default: _along_at,
    torch.ops.edgewise.nudged.default: _nudged,
}
"""How each op of this file is lowered."""
