"""Philox4x32-10, the counter-based generator: random numbers as a pure function of a key and a counter.

Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011, section 4.3. A recomputed
op that draws random numbers must draw the same ones, so Edgewise keeps no generator state at all: element `i`
of stream `s` in training step `t` under seed `k` is word `i mod 4` of

    philox(counter = (i div 4, low(t), high(t), s), key = (low(k), high(k)))

Only 32-bit multiplies, adds and xors are used, so that a microcontroller computes the same bits. (Here by
numpy, whose calls on few numbers cost a quarter of PyTorch's.) Words are drawn in chunks, so that the 64-bit
scratch stays small beside the tensor that is filled (`scratch_bytes`).
"""

import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

_MULTIPLIERS = np.array([0xD2511F53, 0xCD9E8D57], dtype=np.uint64)  # of words 0 and 2 of the counter
_WEYL = 0x9E3779B9, 0xBB67AE85  # increments of the key
_MASK = 0xFFFFFFFF
_LOW, _HALF = np.uint64(_MASK), np.uint64(32)
_ROUNDS = 10
_MAX_CHUNK = 8192
_SCRATCH_TENSORS = 8

Shape = tuple[int, ...]


def philox(counters: torch.Tensor, step: int, stream: int | torch.Tensor, seed: int) -> torch.Tensor:
    """Four 32-bit words for each counter.

    Args:
        counters: int64 `[n]`, each in [0, 2**32).
        step: training step, in [0, 2**64).
        stream: which drawing op of the step, in [0, 2**32); or several, int64 `[k, 1]`.
        seed: 64-bit seed of the run.

    Returns:
        int64 `[n, 4]`, or `[k, n, 4]` of several streams; each word in [0, 2**32).
    """
    size = counters.shape if isinstance(stream, int) else (len(stream), *counters.shape)
    shape = (2, *[1] * len(size))
    multipliers = _MULTIPLIERS.reshape(shape)
    even, odd = (np.empty((2, *size), dtype=np.uint64) for _ in range(2))  # words 0 and 2, words 1 and 3
    even[0], odd[0], even[1], odd[1] = counters, step & _MASK, step >> 32 & _MASK, stream
    for key in _keys(seed):
        products = (even * multipliers)[::-1]
        odd ^= products >> _HALF
        odd ^= key.reshape(shape)
        products &= _LOW
        even, odd = odd, products
    return torch.from_numpy(np.stack((even[0], odd[0], even[1], odd[1]), axis=-1).view(np.int64))


@lru_cache(maxsize=16)
def _keys(seed: int) -> tuple[NDArray[np.uint64], ...]:
    """The key of each round, two words."""
    both = seed & _MASK, (seed >> 32) & _MASK
    return tuple(
        np.array([(word + i * weyl) & _MASK for word, weyl in zip(both, _WEYL, strict=True)], np.uint64)
        for i in range(_ROUNDS)
    )


def _chunk(count: int) -> int:
    return min(_MAX_CHUNK, max(64, count // 64))


def scratch_bytes(count: int) -> int:
    """Bytes of scratch needed while `count` numbers are drawn."""
    return min(_chunk(count), -(-count // 4) + 1) * 8 * _SCRATCH_TENSORS


def _sign_chunks(count: int) -> tuple[int, int]:
    """Counters, of 128 signs each, whose words are drawn at once, and of these, made signs at once."""
    whole = -(-count // 128) + 1
    return min(whole, 64, max(6, count // 1024)), min(whole, 64, max(6, count // 8192))


def sign_scratch_bytes(count: int) -> int:
    """Bytes of scratch needed while `count` signs are drawn: words, and of some the bits and the signs."""
    drawn, made = _sign_chunks(count)
    return drawn * 8 * _SCRATCH_TENSORS + made * (16 + 128 * (1 + 4))


def _words(
    count: int, step: int, stream: int, seed: int, *, first: int = 0, chunk: int | None = None
) -> Iterator[tuple[int, torch.Tensor]]:
    """`(offset, words)` in chunks that cover `count` words from counter `first` on, the last maybe more."""
    chunk, counters = chunk or _chunk(count), -(-count // 4)
    for begin in range(0, counters, chunk):
        some = torch.arange(first + begin, first + min(begin + chunk, counters), dtype=torch.int64)
        yield begin * 4, philox(some, step, stream, seed).view(-1)


def bernoulli(
    shape: Shape, probability: float, dtype: torch.dtype, step: int, stream: int, seed: int
) -> torch.Tensor:
    """Ones with `probability`, else zeros; `[*shape]` of `dtype`. The probability is rounded to 2**-32."""
    out = torch.empty(shape, dtype=dtype)
    flat = out.view(-1)
    threshold = round(probability * 2**32)
    for offset, words in _words(flat.numel(), step, stream, seed):
        part = flat[offset : offset + words.numel()]
        part.copy_(words[: part.numel()] < threshold)
    return out


def uniform(shape: Shape, dtype: torch.dtype, step: int, stream: int, seed: int) -> torch.Tensor:
    """Uniform numbers in [0, 1), multiples of 2**-24; `[*shape]` of `dtype`."""
    out = torch.empty(shape, dtype=dtype)
    flat = out.view(-1)
    for offset, words in _words(flat.numel(), step, stream, seed):
        part = flat[offset : offset + words.numel()]
        part.copy_((words[: part.numel()] >> 8).to(torch.float64).mul_(2.0**-24))
    return out


def normal_pieces(
    count: int, step: int, stream: int, seed: int, first: int = 0
) -> Iterator[tuple[int, torch.Tensor]]:
    """`(offset, flat float64 piece)` that together hold `count` standard normal numbers from the `first` on.

    Box-Muller: two from each pair of words.
    """
    skipped = first % 4
    for offset, words in _words(count + skipped, step, stream, seed, first=first // 4):
        pairs = words.view(-1, 2).to(torch.float64).add_(0.5).mul_(2.0**-32)
        radius = pairs[:, 0].log().mul_(-2).sqrt_()
        angle = pairs[:, 1].mul(2 * math.pi)
        both = torch.stack((radius * angle.cos(), radius * angle.sin()), dim=1).view(-1)
        yield _within(both, offset - skipped, count)


def normal(shape: Shape, dtype: torch.dtype, step: int, stream: int, seed: int) -> torch.Tensor:
    """Standard normal numbers, `[*shape]` of `dtype`."""
    out = torch.empty(shape, dtype=dtype)
    flat = out.view(-1)
    for offset, piece in normal_pieces(flat.numel(), step, stream, seed):
        flat[offset : offset + piece.numel()].copy_(piece)
    return out


def sign_pieces(
    count: int, step: int, stream: int, seed: int, first: int = 0
) -> Iterator[tuple[int, torch.Tensor]]:
    """`(offset, flat float32 piece)` that together hold `count` numbers, 1 or -1 with equal chances.

    They are those from the `first` on. A word makes 32 of them, its lowest bit first: one call of the
    generator in 128 elements.
    """
    skipped, (drawn, made) = first % 128, _sign_chunks(count)
    words_needed = -(-(count + skipped) // 32)
    for offset, words in _words(words_needed, step, stream, seed, first=first // 128, chunk=drawn):
        for begin in range(0, len(words), 4 * made):
            some = words[begin : begin + 4 * made].numpy().astype("<u4")
            bits = np.unpackbits(some.view(np.uint8), bitorder="little")
            signs = torch.from_numpy(bits).to(torch.float32).mul_(2).sub_(1)
            yield _within(signs, 32 * (offset + begin) - skipped, count)


def _within(piece: torch.Tensor, offset: int, count: int) -> tuple[int, torch.Tensor]:
    """What of `piece`, which begins at `offset`, lies in [0, count), and where it begins there."""
    start = max(offset, 0)
    return start, piece[start - offset : count - offset]
