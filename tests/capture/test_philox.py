"""Philox against the published answers, and what is drawn from it against its distribution."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from edgewise.capture.philox import (
    bernoulli,
    normal,
    normal_pieces,
    philox,
    scratch_bytes,
    sign_pieces,
    sign_scratch_bytes,
    uniform,
)

Pieces = Callable[..., Iterator[tuple[int, Tensor]]]
ONES = 0xFFFFFFFF
# Random123 1.14, examples/kat_vectors, philox4x32 with 10 rounds
KNOWN = [
    ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ((ONES, ONES, ONES, ONES), (ONES, ONES), "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_known_answers(counter: tuple[int, ...], key: tuple[int, int], words: str) -> None:
    element, low, high, stream = counter
    drawn = philox(torch.tensor([element]), low | high << 32, stream, key[0] | key[1] << 32)
    assert " ".join(f"{word:08x}" for word in drawn[0].tolist()) == words


def test_a_key_of_64_bits_counts_as_that_and_negative_ones_too() -> None:
    few = torch.arange(3)
    assert torch.equal(philox(few, 5, 6, -1), philox(few, 5, 6, 2**64 - 1))
    assert torch.equal(philox(few, 2**32 + 5, 6, 7)[:, 0], philox(few, 2**32 + 5, 6, 2**64 + 7)[:, 0])


@pytest.mark.parametrize("count", [1, 3, 4, 255, 256, 257, 5000, 600_000])
def test_numbers_do_not_depend_on_how_many_are_drawn(count: int) -> None:
    few = uniform((count,), torch.float32, 7, 1, 2)
    more = uniform((count + 1000,), torch.float32, 7, 1, 2)
    assert torch.equal(few, more[:count])


@pytest.mark.parametrize("change", ["step", "stream", "seed"])
def test_every_part_of_the_key_counts(change: str) -> None:
    key = {"step": 3, "stream": 4, "seed": 5}
    ours = uniform((1000,), torch.float32, **key)
    for shift in (0, 31, 32, 40) if change != "stream" else (0, 31):
        other = uniform((1000,), torch.float32, **{**key, change: key[change] ^ (1 << shift)})
        assert (ours == other).float().mean() < 0.01
    assert torch.equal(ours, uniform((1000,), torch.float32, **key))


def test_uniform_numbers_are_uniform() -> None:
    drawn = uniform((200_000,), torch.float64, 0, 0, 0)
    assert 0 <= drawn.min() < 1e-4
    assert 1 - 1e-4 < drawn.max() < 1
    counts = torch.histc(drawn, 100, 0, 1)
    chi_squared = float(((counts - 2000) ** 2 / 2000).sum())
    assert 60 < chi_squared < 150  # 99 degrees of freedom: mean 99, deviation 14
    assert abs(float(torch.corrcoef(torch.stack((drawn[:-1], drawn[1:])))[0, 1])) < 0.01


def test_normal_numbers_are_normal() -> None:
    drawn = normal((100_001,), torch.float64, 0, 0, 0)
    assert abs(float(drawn.mean())) < 0.01
    assert abs(float(drawn.std()) - 1) < 0.01
    assert abs(float((drawn**3).mean())) < 0.05
    assert abs(float((drawn**4).mean()) - 3) < 0.1


@pytest.mark.parametrize("probability", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_bernoulli_share(probability: float) -> None:
    drawn = bernoulli((300, 400), probability, torch.bool, 0, 0, 0)
    assert drawn.dtype == torch.bool
    assert float(drawn.float().mean()) == pytest.approx(probability, abs=0.005)
    assert bool(drawn.any()) == (probability > 0)
    assert bool(drawn.all()) == (probability == 1)


@pytest.mark.parametrize("shape", [(), (0,), (5, 0), (1,), (2, 3, 4)])
def test_any_shape(shape: tuple[int, ...]) -> None:
    for fill in (uniform, normal):
        assert fill(shape, torch.bfloat16, 0, 0, 0).shape == shape
    assert bernoulli(shape, 0.5, torch.float32, 0, 0, 0).shape == shape


def test_scratch_stays_small_beside_the_tensor() -> None:
    assert scratch_bytes(10) < scratch_bytes(1000) == scratch_bytes(4096)
    assert all(scratch_bytes(count) <= count * 4 for count in (10_000, 100_000, 10_000_000))


@pytest.mark.parametrize("count", [1, 100, 5000, 50_000, 1_000_000])
def test_signs_come_in_few_pieces_within_their_scratch(count: int) -> None:
    pieces = [len(piece) for _, piece in sign_pieces(count, 0, 0, 0)]
    assert sum(pieces) == count
    assert len(pieces) <= 64 + count // 8192
    assert max(pieces) * 5 <= sign_scratch_bytes(count)  # a byte and a float32 for each
    assert sign_scratch_bytes(count) <= max(5000, count // 4)


@pytest.mark.parametrize("pieces", [sign_pieces, normal_pieces])
@pytest.mark.parametrize(("first", "count"), [(0, 1), (1, 5), (127, 2), (128, 300), (5000, 9000), (3, 0)])
def test_any_run_can_be_drawn_without_what_stands_before_it(
    pieces: Callable[..., Iterator[tuple[int, Tensor]]], first: int, count: int
) -> None:
    whole = torch.cat([piece.double() for _, piece in pieces(20_000, 7, 3, 11)])
    found = torch.full((count,), torch.nan, dtype=torch.float64)
    for offset, piece in pieces(count, 7, 3, 11, first):
        found[offset : offset + len(piece)] = piece.double()
    assert torch.equal(found, whole[first : first + count])


def test_signs_are_fair_and_independent_of_one_another() -> None:
    signs = torch.cat([piece for _, piece in sign_pieces(1 << 16, 0, 0, 0)])
    assert set(signs.tolist()) == {1.0, -1.0}
    for lag in (0, 1, 2, 31, 32, 127, 128):
        mean = signs.mean() if lag == 0 else (signs[lag:] * signs[:-lag]).mean()
        assert abs(float(mean)) < 4 / len(signs) ** 0.5
