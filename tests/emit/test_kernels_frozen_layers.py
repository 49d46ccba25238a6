"""Kernels of frozen int8 layers against `edgewise.capture.requantized`: every bit."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import example
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from edgewise.capture import requantized
from tests.emit.layouts import assert_close, empty, given, layouts, normal, place, seeds
from tests.emit.native import Convolution, Native, Terms, kernels, paired
from tests.emit.test_kernels_integers import levels

sizes = st.integers(1, 9)
limits = st.sampled_from([(-127, 127), (0, 127), (-3, 90), (0, 0)])
I8 = torch.int8
both_ways = pytest.mark.parametrize("made_by", [kernels, paired])


@st.composite
def convolutions(draw: Any) -> Any:
    """Shapes of x and w, and settings; wide enough for columns that are made at once."""
    groups, each = draw(st.integers(1, 2)), draw(st.integers(1, 5))
    channels = draw(st.sampled_from([1, 1, 2, 4, 9]))
    stride, padding, dilation, kernel = (
        tuple(draw(st.integers(low, high)) for _ in range(2))
        for low, high in ((1, 3), (0, 2), (1, 2), (1, 7 if channels == 1 else 3))
    )
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    size = [draw(st.integers(max(1, r - 2 * p), 14)) for r, p in zip(reach, padding, strict=True)]
    x = draw(st.integers(1, 2)), groups * channels, *size
    return x, (groups * each, channels, *kernel), (stride, padding, dilation, groups)


def numbers(outputs: int, seed: int) -> tuple[Tensor, Tensor]:
    """Bias and factor of each output: sums of some ten thousands become levels."""
    b = torch.randint(
        -5000, 5000, (outputs,), generator=torch.Generator().manual_seed(seed), dtype=torch.int32
    )
    return b, (normal((outputs,), seed).abs() + 0.1) * 2e-3


@both_ways
@given(convolutions(), limits, seeds, layouts)
@example(((1, 1, 3, 1), (1, 1, 2, 1), ((1, 1), (0, 0), (1, 1), 1)), (-127, 127), 0, 0)
@example(((1, 1, 1, 2), (1, 1, 2, 1), ((1, 2), (1, 0), (1, 1), 1)), (-127, 127), 0, 0)
@example(((1, 30, 5, 7), (7, 30, 1, 1), ((1, 1), (0, 0), (1, 1), 1)), (-127, 127), 0, 0)  # one long row
@example(((1, 81, 1, 5), (7, 81, 1, 1), ((1, 1), (0, 0), (1, 1), 1)), (-127, 127), 0, 0)  # too much to gather
@example(((1, 6, 6, 9), (8, 3, 3, 3), ((2, 2), (1, 1), (1, 1), 2)), (0, 127), 0, 0)  # zeros beside x
@example(((2, 2, 9, 17), (2, 1, 7, 7), ((2, 2), (3, 3), (1, 1), 2)), (0, 127), 0, 0)  # a known width
def test_convolution_layer(
    made_by: Callable[[], Native], case: Any, limits: tuple[int, int], seed: int, layout: int
) -> None:
    x_shape, w_shape, settings = case
    x, w, (b, factor) = levels(x_shape, seed), levels(w_shape, seed + 1), numbers(w_shape[0], seed)
    pairs = [n for pair in settings[:3] for n in pair]
    expected = requantized.convolution_layer(x, w, b, factor, pairs, settings[3], limits)
    y = empty(expected.shape, layout, I8)
    placed = [place(t, layout // (3 + i)) for i, t in enumerate((x, w, b, factor))]

    made_by().ew_convolution_layer_i8(y, *placed, Convolution.of(*settings), *limits)

    assert torch.equal(y, expected)


@both_ways
@given(sizes, st.integers(1, 40), sizes, limits, seeds, layouts)
def test_linear_layer(
    made_by: Callable[[], Native],
    rows: int,
    inputs: int,
    outputs: int,
    limits: tuple[int, int],
    seed: int,
    layout: int,
) -> None:
    x, w, (b, factor) = (
        levels((rows, inputs), seed),
        levels((outputs, inputs), seed + 1),
        numbers(outputs, seed),
    )
    y = empty((rows, outputs), layout, I8)
    placed = [place(t, layout // (3 + i)) for i, t in enumerate((x, w, b, factor))]

    made_by().ew_linear_layer_i8(y, *placed, *limits)

    assert torch.equal(y, requantized.linear_layer(x, w, b, factor, limits))


@pytest.mark.parametrize("factor", [1e-9, 4e-3, 3e38], ids=str)
@both_ways
def test_the_largest_sums(made_by: Callable[[], Native], factor: float) -> None:
    """Of -128 alone, over more than one word; then results on both sides of their limits, and far beyond."""
    x, w = torch.full((1, 75, 4, 5), -128).to(I8), torch.full((5, 75, 1, 1), -128).to(I8)
    w[1::2] = 127
    b, factors = torch.tensor([0, 0, 5, -5, 1 << 30], dtype=torch.int32), torch.full((5,), factor)
    settings = (1, 1), (0, 0), (1, 1), 1
    pairs = [n for pair in settings[:3] for n in pair]
    expected = requantized.convolution_layer(x, w, b, factors, pairs, 1, (-127, 126))
    y, sums = empty(expected.shape, 0, I8), empty(expected.shape, 0, torch.int32)

    made_by().ew_convolution_layer_i8(y, x, w, b, factors, Convolution.of(*settings), -127, 126)
    made_by().ew_convolution_i8(sums, x, w, Convolution.of(*settings))

    assert torch.equal(y, expected)
    assert torch.equal(sums, F.conv2d(x.double(), w.double()).to(torch.int32))


@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), seeds, layouts)
def test_floats(shape: list[int], seed: int, layout: int) -> None:
    q, out = levels(tuple(shape), seed), empty(tuple(shape), layout)

    kernels().ew_floats_of_i8(out, place(q, layout // 3), 0.037)

    assert_close(out, requantized.floats_of(q, 0.037), 0)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.integers(1, 4), seeds, layouts)
def test_sum(shape: list[int], count: int, seed: int, layout: int) -> None:
    terms = [levels(tuple(shape), seed + i) for i in range(count)]
    scales, lows, highs = (
        [float(x) for x in normal((4,), seed + 9 + i) * spread] for i, spread in enumerate((0.05, 1.0, 0.0))
    )
    lows, highs = [-abs(low) for low in lows], [abs(low) + 2 for low in lows]
    out, scale = empty(tuple(shape), layout, I8), torch.tensor(0.04)
    given_ = Terms.of(count, scales, lows, highs)

    placed = [place(term, layout // (3 + i)) for i, term in enumerate(terms)]
    kernels().ew_sum_of_i8(out, *placed, *[None] * (4 - count), scale, given_)

    exact = [numbers[:count] for numbers in (scales, lows, highs)]
    assert torch.equal(out, requantized.sum_of(terms, *exact, scale))


@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.booleans(), seeds, layouts)
def test_map(shape: list[int], bytes_: bool, seed: int, layout: int) -> None:
    x, table = levels(tuple(shape), seed, -128), levels((256,), seed + 1)
    x = x.view(torch.uint8) if bytes_ else x
    out = empty(tuple(shape), layout, I8)

    kernels().ew_map_i8(out, place(x, layout // 3), table)

    assert torch.equal(out, requantized.map_of(x, table))
    assert torch.equal(out, table[x.view(torch.uint8).long()])


@given(convolutions(), seeds, layouts)
def test_convolutions_by_int8_weights(case: Any, seed: int, layout: int) -> None:
    """The bits of the same convolutions by floats, each channel scaled afterwards."""
    x_shape, w_shape, settings = case
    x, w, factor = normal(x_shape, seed), levels(w_shape, seed + 1), numbers(w_shape[0], seed)[1]
    shape = F.conv2d(x, w.float(), None, *settings).shape
    dy, c, weight = normal(shape, seed + 2), Convolution.of(*settings), place(w, layout // 3)
    y, dx, exact, exact_dx = empty(shape, layout), empty(x_shape, layout), empty(shape), empty(x_shape)

    kernels().ew_convolution_by_i8(y, x, weight, factor, c)
    kernels().ew_convolution_input_gradient_by_i8(dx, dy, weight, c)
    kernels().ew_convolution(exact, x, w.float(), None, c)
    kernels().ew_convolution_input_gradient(exact_dx, dy, w.float(), c)

    assert torch.equal(y, exact * factor[:, None, None])
    assert torch.equal(dx, exact_dx)
