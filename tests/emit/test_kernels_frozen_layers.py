"""Kernels of frozen int8 layers against `edgewise.capture.requantized`: every bit."""

from typing import Any

import torch
from hypothesis import example
from hypothesis import strategies as st
from torch import Tensor

from edgewise.capture import requantized
from tests.emit.layouts import assert_close, empty, given, layouts, normal, place, seeds
from tests.emit.native import Convolution, Terms, kernels
from tests.emit.test_kernels_integers import levels

sizes = st.integers(1, 9)
limits = st.sampled_from([(-127, 127), (0, 127), (-3, 90), (0, 0)])
I8 = torch.int8


@st.composite
def convolutions(draw: Any) -> Any:
    """Shapes of x and w, and settings; wide enough for columns that are made at once."""
    groups, each, channels = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    stride, padding, dilation, kernel = (
        tuple(draw(st.integers(low, high)) for _ in range(2))
        for low, high in ((1, 3), (0, 2), (1, 2), (1, 4))
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


@given(convolutions(), limits, seeds, layouts)
@example(((1, 1, 3, 1), (1, 1, 2, 1), ((1, 1), (0, 0), (1, 1), 1)), (-127, 127), 0, 0)
@example(((1, 1, 1, 2), (1, 1, 2, 1), ((1, 2), (1, 0), (1, 1), 1)), (-127, 127), 0, 0)
def test_convolution_layer(case: Any, limits: tuple[int, int], seed: int, layout: int) -> None:
    x_shape, w_shape, settings = case
    x, w, (b, factor) = levels(x_shape, seed), levels(w_shape, seed + 1), numbers(w_shape[0], seed)
    pairs = [n for pair in settings[:3] for n in pair]
    expected = requantized.convolution_layer(x, w, b, factor, pairs, settings[3], limits)
    y = empty(expected.shape, layout, I8)
    placed = [place(t, layout // (3 + i)) for i, t in enumerate((x, w, b, factor))]

    kernels().ew_convolution_layer_i8(y, *placed, Convolution.of(*settings), *limits)

    assert torch.equal(y, expected)


@given(sizes, st.integers(1, 40), sizes, limits, seeds, layouts)
def test_linear_layer(
    rows: int, inputs: int, outputs: int, limits: tuple[int, int], seed: int, layout: int
) -> None:
    x, w, (b, factor) = (
        levels((rows, inputs), seed),
        levels((outputs, inputs), seed + 1),
        numbers(outputs, seed),
    )
    y = empty((rows, outputs), layout, I8)
    placed = [place(t, layout // (3 + i)) for i, t in enumerate((x, w, b, factor))]

    kernels().ew_linear_layer_i8(y, *placed, *limits)

    assert torch.equal(y, requantized.linear_layer(x, w, b, factor, limits))


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
