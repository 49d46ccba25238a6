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
from typing import Any

import torch
from torch import Tensor, fx

from edgewise.capture import philox
from edgewise.capture.kernels import Memory, Program, Slot, Tensors
from edgewise.capture.lowering import STEP, Layout, Lowering, Rewrite
from edgewise.capture.traced import traced_op
from edgewise.capture.updates import Nudge, Piecewise, flat
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


def _like_first(like: Tensor, *_: object) -> Tensor:
    return torch.empty_like(like)


step_number = traced_op("step", "(Tensor like) -> Tensor", lambda like: like.new_empty((), dtype=torch.int64))
"""The number of the training step, int64; `like` is any tensor of the step."""

direction = traced_op(
    "direction", "(Tensor like, int stream, str law, Tensor? threshold=None) -> Tensor", _like_first
)
"""z, of the shape of `like`; zero where |like| is below `threshold`."""

perturbed = traced_op(
    "perturbed",
    "(Tensor w, int stream, str law, float scale, Tensor? threshold=None) -> Tensor",
    _like_first,
)
"""The sum w + scale z; as it is where |w| is below `threshold`."""

along = traced_op(
    "along",
    "(Tensor coefficients, Tensor like, int[] streams, str law, Tensor? threshold=None) -> Tensor",
    lambda _, like, *__: torch.empty_like(like),
)
"""sum_i coefficients[i] z_i, of the shape of `like`; zero where |like| is below `threshold`.

z_i is drawn from `streams[i]`."""

along_at = traced_op(
    "along_at",
    "(Tensor coefficients, Tensor steps, Tensor like, int[] streams, str law) -> Tensor",
    lambda _, __, like, *___: torch.empty_like(like),
)
"""As `along`, where z_i is that of step `steps[i]`."""

nudged = traced_op("nudged", "(Tensor w, int[] streams, str law, float[] scales) -> Tensor", _like_first)
"""The sum w + sum_i scales[i] z_i in the place of w, which nothing may read afterwards."""


@dataclass(frozen=True)
class Drawn:
    """sum_i coefficients[i] z_i, piece by piece: no more than two pieces are drawn at once."""

    streams: tuple[int, ...]
    law: str
    seed: int

    def pieces(
        self, coefficients: Sequence[float] | Tensor, steps: Sequence[int], begin: int, count: int
    ) -> Iterator[tuple[int, Tensor]]:
        """`(offset, flat piece)` that cover `count` elements from `begin` on; z_i is that of `steps[i]`."""
        draw = LAWS[self.law].pieces
        for offset, piece in draw(count, steps[0], self.streams[0], self.seed, begin):
            total = piece.mul_(coefficients[0])
            for i, stream in enumerate(self.streams[1:], 1):
                if coefficients[i]:
                    others = draw(total.numel(), steps[i], stream, self.seed, begin + offset)
                    for at, part in others:
                        total[at : at + part.numel()].add_(part.mul_(coefficients[i]))
            yield offset, total

    def scratch_bytes(self, count: int) -> int:
        """RAM that `pieces` works in."""
        return min(len(self.streams), 2) * LAWS[self.law].scratch_bytes(count)

    def flops(self, count: int) -> int:
        """To draw, scale and add."""
        return 2 * len(self.streams) * count


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
    """w + scale z, or z where there is no scale, whole or a run of it; zero where |w| is below a threshold.

    `operands` are w, and the threshold if there is one.
    """

    operands: tuple[str, ...]
    stream: int
    law: str
    scale: float | None
    seed: int
    like: Layout
    """Layout of the parameter."""

    def __call__(self, tensors: Tensors, option: str, first: bool, memory: Memory) -> tuple[Tensor, ...]:
        """The whole sum."""
        del option, first, memory
        w, *threshold = (tensors[name] for name in self.operands)
        return (self.moved(w, int(tensors[STEP]), 0, *threshold),)

    def moved(self, w: Tensor, step: int, begin: int, threshold: Tensor | None = None) -> Tensor:
        """The sum for the part `w` of the parameter that begins at element `begin` of its storage."""
        out = w.clone(memory_format=torch.preserve_format) if self.scale is not None else torch.zeros_like(w)
        scale = 1.0 if self.scale is None else self.scale
        for offset, piece in LAWS[self.law].pieces(out.numel(), step, self.stream, self.seed, begin):
            if threshold is not None:
                _keep_top(piece, w, offset, threshold)
            flat(out)[offset : offset + piece.numel()] += piece.mul_(scale)
        return out

    def scratch_bytes(self, count: int) -> int:
        """RAM that a run of `count` elements is made in."""
        return LAWS[self.law].scratch_bytes(count)


@dataclass(frozen=True)
class AlongKernel(Piecewise):
    """sum_i c_i z_i, whole or piece by piece.

    `slots` are c, or c and steps (`earlier`), or c, parameter and threshold.
    """

    program: Program
    slots: tuple[Slot, ...]
    drawn: Drawn
    like: Layout
    earlier: bool

    def pieces(self, tensors: Tensors) -> Iterator[tuple[int, Tensor]]:
        """`(offset, flat piece)` that cover the sum."""
        filled = self.program.slots(tensors)
        read = [filled[slot.index] for slot in self.slots]
        for offset, total in self.run(
            read[:2] if self.earlier else read[:1], int(tensors[STEP]), 0, self.like.count
        ):
            if self.keeps_top:
                _keep_top(total, read[1], offset, read[2])
            yield offset, total

    def run(self, read: Sequence[Tensor], step: int, begin: int, count: int) -> Iterator[tuple[int, Tensor]]:
        """`(offset, flat piece)` that cover `count` elements of the sum from element `begin` on.

        `read` are the tensors of `slots`; no threshold is looked at.
        """
        steps = read[1].tolist() if self.earlier else [step] * len(self.drawn.streams)
        for offset, total in self.drawn.pieces(read[0], steps, begin, count):
            yield offset, total.to(self.like.dtype)

    @property
    def keeps_top(self) -> bool:
        """Whether elements of small weights are left out."""
        return len(self.slots) == 3

    def scratch_bytes_of(self, count: int) -> int:
        """RAM that a run of `count` elements is made in, with a piece in the parameter's dtype."""
        return self.drawn.scratch_bytes(count) + LAWS[self.drawn.law].scratch_bytes(count)

    @property
    def scratch_bytes(self) -> int:
        """RAM that `pieces` works in."""
        return self.scratch_bytes_of(self.like.count)


def _keep_top(piece: Tensor, w: Tensor, offset: int, threshold: Tensor) -> Tensor:
    """`piece`, that of `w` at `offset`, made zero where |w| is below `threshold`."""
    return piece.masked_fill_(flat(w)[offset : offset + piece.numel()].abs() < threshold, 0)


@dataclass(frozen=True)
class NudgeKernel(Nudge):
    """Adds sum_i scales[i] z_i to the parameter `old`, in place, piece by piece."""

    old: str
    scales: tuple[float, ...]
    drawn: Drawn
    like: Layout
    """Layout of the parameter."""

    def __call__(self, tensors: Tensors, option: str, first: bool, memory: Memory) -> tuple[Tensor, ...]:
        """Change the parameter; nothing is returned."""
        del option, first, memory
        self.move(tensors[self.old], int(tensors[STEP]), 0)
        return ()

    def move(self, w: Tensor, step: int, begin: int) -> None:
        """Change the part `w` of the parameter that begins at element `begin` of its storage."""
        for offset, piece in self.run(step, begin, w.numel()):
            flat(w)[offset : offset + piece.numel()] += piece

    def run(self, step: int, begin: int, count: int) -> Iterator[tuple[int, Tensor]]:
        """`(offset, flat piece)` that cover what is added to `count` elements from `begin` on."""
        return self.drawn.pieces(self.scales, [step] * len(self.scales), begin, count)

    def pieces(self, tensors: Tensors) -> Iterator[tuple[int, Tensor]]:
        """`(offset, flat piece)` that cover what is added."""
        return self.run(int(tensors[STEP]), 0, self.like.count)


def _step(low: Lowering, node: fx.Node) -> None:
    low.base[node, None] = STEP


def _direction(low: Lowering, node: fx.Node) -> None:
    args: Any = (*node.args, None)
    like, stream, law, threshold = args[:4]
    if threshold is not None:
        _moved(low, node, (like, threshold), (stream, law, None))
        return
    fake, output = low.fake[node], low.new_value(node, low.fake[node])
    kernel = DirectionKernel(stream, law, low.seed, Layout.of(fake))
    option = Option("whole", workspace_bytes=kernel.scratch_bytes(fake.numel()))
    op = Op(output, (STEP,), (output,), fake.numel(), "random", options=(option,))
    low.add(op, kernel, backward=False)


def _perturbed(low: Lowering, node: fx.Node) -> None:
    args: Any = (*node.args, None)
    w, stream, law, scale, threshold = args[:5]
    _moved(low, node, (w,) if threshold is None else (w, threshold), (stream, law, scale))


def _moved(low: Lowering, node: fx.Node, read: tuple[fx.Node, ...], settings: tuple[Any, Any, Any]) -> None:
    program, _ = low.program(read)
    assert not program.views  # noqa: S101  # what is perturbed is a parameter, not a view of one
    fake, output = low.fake[node], low.new_value(node, low.fake[node])
    kernel = PerturbedKernel(program.operands, *settings, low.seed, Layout.of(fake))
    option = Option("whole", workspace_bytes=kernel.scratch_bytes(fake.numel()))
    inputs = (*program.operands, STEP)
    op = Op(output, inputs, (output,), 2 * fake.numel(), "random", options=(option,))
    low.add(op, kernel, backward=False)


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
    drawn = Drawn(tuple(settings[0]), str(settings[1]), low.seed)
    kernel = AlongKernel(program, slots, drawn, Layout.of(fake), earlier)
    option = Option("whole", workspace_bytes=kernel.scratch_bytes)
    op = Op(
        output, (*program.operands, STEP), (output,), drawn.flops(fake.numel()), "random", options=(option,)
    )
    low.add(op, kernel, backward=node not in low.forward)


def _nudged(low: Lowering, node: fx.Node) -> None:
    w, streams, law, scales = node.args
    fake, old = low.fake[node], low.base[w, None]  # type: ignore[index]
    new = low.next_version(old)
    low.declare(new, fake, "parameter")
    low.base[node, None] = new
    drawn = Drawn(tuple(streams), str(law), low.seed)  # type: ignore[arg-type]
    option = Option("whole", workspace_bytes=drawn.scratch_bytes(fake.numel()))
    op = Op(f"{new}:nudge", (STEP,), (), drawn.flops(fake.numel()), "random", recomputable=False,
            updates=((old, new),), options=(option,), layer=old.rpartition(".")[0])  # fmt: skip
    kernel = NudgeKernel(old, tuple(scales), drawn, low.layouts[old])  # type: ignore[arg-type]
    low.add(op, kernel, backward=False)


REWRITES: dict[Any, Rewrite] = {
    torch.ops.edgewise.step.default: _step,
    torch.ops.edgewise.direction.default: _direction,
    torch.ops.edgewise.perturbed.default: _perturbed,
    torch.ops.edgewise.along.default: _along,
    torch.ops.edgewise.along_at.default: _along_at,
    torch.ops.edgewise.nudged.default: _nudged,
}
"""How each op of this file is lowered."""
