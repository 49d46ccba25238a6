"""Perturbations of 8 bits, drawn by integers alone and never stored.

z = Dz z_q with z_q in [-127, 127] and Dz = 3.5 / 127 (arXiv 2411.04036, appendix A). An element is a byte of
Philox looked up in a table of 256: the quantiles of the normal law, scaled to variance 1, or two signs. So
sixteen elements cost one call of the generator, and no logarithm or cosine is needed.

With *guidance* (section 3.4, momentum-guided sampling) z_{t+1} = beta z1 + (1 - beta) z2 for
z1 ~ N(0, sqrt(alpha) I), z2 ~ N(z_t, sqrt(1 - alpha) I): one draw of the sum's law, around (1 - beta) z_t.
A *mask* leaves only some weights with a perturbation: the same ones in every step, by a bit each or by bytes
drawn again.
"""

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
import torch
from torch import Tensor

from edgewise.capture import philox
from edgewise.capture.kernels import Tensors
from edgewise.capture.lowering import STEP
from edgewise.capture.updates import flat
from edgewise.methods.settings import Law

Z_MAX = 3.5
Z_SCALE = Z_MAX / 127
PIECE = 1024
"""Elements that are drawn at once: few, for the room that 64-bit scratch takes beside a small network."""
TOGETHER = 2048
"""Elements of several directions that are drawn at once for one sample, where one of them has fewer."""
_GUIDANCE_BITS = 14


def table(law: Law) -> tuple[int, ...]:
    """z_q for each byte; the byte 255 - b has the opposite of b."""
    if law == "rademacher":
        one = round(1 / Z_SCALE)
        return (-one,) * 128 + (one,) * 128
    upper = [NormalDist().inv_cdf((byte + 0.5) / 256) for byte in range(128, 256)]
    deviation = math.sqrt(sum(q * q for q in upper) / 128)
    positive = [round(q / deviation / Z_SCALE) for q in upper]
    return (*(-q for q in reversed(positive)), *positive)


@functools.cache
def _lookup(law: Law) -> np.ndarray:
    return np.array(table(law))


def numbers(  # what to draw, and the key
    count: int, bits: int, step: int, stream: int | Tensor, seed: int, first: int = 0
) -> Iterator[tuple[int, Tensor]]:
    """`(offset, piece)`: `count` uniform integers of 8 bits, uint8, or of 16, int32, from number `first` on.

    `PIECE` at a time; of several streams, `[k, 1]`, a piece is `[k, PIECE]`.
    """
    per_counter = 128 // bits
    kinds = ("<u1", np.uint8) if bits == 8 else ("<u2", np.int32)
    for offset in range(0, count, PIECE):
        begin, skipped = divmod(first + offset, per_counter)
        end = skipped + min(PIECE, count - offset)
        counters = torch.arange(begin, begin - (-end // per_counter))
        words = philox.philox(counters, step, stream, seed).flatten(-2)
        drawn = words.numpy().astype("<u4").view(kinds[0])[..., skipped:end]
        yield offset, torch.from_numpy(drawn.astype(kinds[1], copy=False))


def scratch_bytes(count: int, bits: int) -> int:
    """Bytes of scratch while `numbers` draws, and the piece."""
    size = min(count, PIECE)
    counters = -(-size * bits // 128) + 1
    return counters * 8 * 12 + (1 if bits == 8 else 4) * size


@dataclass(frozen=True)
class Guidance:
    """The last direction that was followed, in the state `state`, draws the next one to itself."""

    state: str
    alpha: float
    beta: float
    after: int
    """Steps that are drawn without it first."""

    @property
    def shares(self) -> tuple[int, int]:
        """Of a fresh z_q and of the last one, in units of 2^-14."""
        spread = math.hypot(self.beta * self.alpha**0.25, (1 - self.beta) * (1 - self.alpha) ** 0.25)
        one = 1 << _GUIDANCE_BITS
        return round(spread * one), round((1 - self.beta) * one)

    def apply(self, fresh: Tensor, last: Tensor) -> Tensor:
        """The guided z_q, from a fresh one (int64, changed in place) and the last."""
        spread, rest = self.shares
        fresh.mul_(spread).add_(last.to(torch.int64), alpha=rest)
        half = 1 << (_GUIDANCE_BITS - 1)
        return fresh.add_(half).bitwise_right_shift_(_GUIDANCE_BITS).clamp_(-127, 127)


@dataclass(frozen=True)
class Mask:
    """Which elements of a parameter are perturbed: bits of the constant `bits`, or bytes below `below`."""

    bits: str = ""
    below: int = 0
    stream: int = 0

    def pieces(self, count: int, tensors: Tensors, seed: int, first: int = 0) -> Iterator[Tensor]:
        """Int64 zeros and ones of `count` elements from the `first` on, piece by piece."""
        if not self.bits:
            for _, drawn in numbers(count, 8, 0, self.stream, seed, first):
                yield (drawn.to(torch.int64) < self.below).to(torch.int64)
            return
        packed, shifts = tensors[self.bits], torch.arange(8)
        for offset in range(0, count, PIECE):
            begin, skipped = divmod(first + offset, 8)
            end = skipped + min(PIECE, count - offset)
            part = packed[begin : begin - (-end // 8)].to(torch.int64).unsqueeze(1)
            yield ((part >> shifts) & 1).view(-1)[skipped:end]


def packed(mask: Tensor) -> Tensor:
    """A flat boolean tensor as bits, uint8; element 0 is the lowest bit of the first byte."""
    whole = torch.zeros(-(-mask.numel() // 8) * 8, dtype=torch.int64)
    whole[: mask.numel()] = mask.reshape(-1)
    return (whole.view(-1, 8) << torch.arange(8)).sum(1).to(torch.uint8)


def groups(directions: int, count: int, samples: int) -> list[range]:
    """So many directions of `count` elements, cut into those that are drawn together.

    They are the more, the larger the batch is: the room of its activations is beside theirs.
    """
    size = max(1, TOGETHER * -(-samples // 4) // count)
    return [range(i, min(i + size, directions)) for i in range(0, directions, size)]


@dataclass(frozen=True)
class Directions:
    """The directions of one parameter of `count` elements, one for each of `streams`."""

    count: int
    law: Law
    seed: int
    streams: tuple[int, ...]
    mask: Mask | None = None
    guidance: Guidance | None = None
    first: int = 0
    """The element of the parameter with which they begin, where they are those of a slice of it."""

    def of_slice(self, first: int, count: int) -> "Directions":
        """Those of `count` elements from the `first` on; the state of a guidance is that of the slice too."""
        return replace(self, first=self.first + first, count=count)

    def pieces(self, index: int, tensors: Tensors) -> Iterator[tuple[int, Tensor]]:
        """`(offset, z_q)` of direction `index`, int64."""
        return ((offset, z[0]) for offset, z in self.together((index,), tensors))

    def together(self, indices: Sequence[int], tensors: Tensors) -> Iterator[tuple[int, Tensor]]:
        """`(offset, z_q)` of several directions, int64 `[k, piece]`."""
        step, lookup = int(tensors[STEP]), _lookup(self.law)
        streams = torch.tensor([[self.streams[index]] for index in indices])
        masks = self.mask.pieces(self.count, tensors, self.seed, self.first) if self.mask else None
        for offset, drawn in numbers(self.count, 8, step, streams, self.seed, self.first):
            z = torch.from_numpy(lookup[drawn.numpy()])
            if self.guidance and step >= self.guidance.after:
                last = flat(tensors[self.guidance.state])[offset : offset + z.shape[1]]
                z = self.guidance.apply(z, last)
            yield offset, z if masks is None else z.mul_(next(masks))

    def scratch_bytes(self, directions: int) -> int:
        """Bytes of scratch while pieces of so many directions are drawn at once."""
        held = self.held_bytes * (directions + (1 if self.mask else 0))
        return directions * scratch_bytes(self.count, 8) + held

    @property
    def held_bytes(self) -> int:
        """Bytes of one piece."""
        return 8 * min(self.count, PIECE)

    @property
    def reads(self) -> tuple[str, ...]:
        """Values that it is drawn from."""
        return (STEP, *((self.mask.bits,) if self.mask and self.mask.bits else ()))
