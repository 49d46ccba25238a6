"""Pooling and its gradients against float64."""

from typing import Any

import pytest
import torch
from hypothesis import assume
from hypothesis import strategies as st

from tests.emit.layouts import assert_close, empty, given, layouts, normal, place, seeds
from tests.emit.native import Pool, kernels

aten = torch.ops.aten
shapes = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9))
pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def windows(draw: st.DrawFn, *, dilated: bool = False) -> tuple[tuple[int, ...], tuple[Any, ...]]:
    """A shape, and kernel, stride, padding and dilation for it."""
    shape, kernel, stride = draw(shapes), draw(pairs), draw(pairs)
    dilation = draw(pairs) if dilated else (1, 1)
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    for size, k, p, d in zip(shape[2:], kernel, padding, dilation, strict=True):
        assume(size + 2 * p >= d * (k - 1) + 1)
    return shape, (kernel, stride, padding, dilation)


@given(windows(dilated=True), st.booleans(), seeds, layouts)
def test_max_pool(
    window: tuple[tuple[int, ...], tuple[Any, ...]], ceil: bool, seed: int, layout: int
) -> None:
    shape, settings = window
    x = normal(shape, seed).mul(2).round()  # with ties
    expected, where = aten.max_pool2d_with_indices(x, *settings, ceil)
    assume(bool(expected.isfinite().all()))  # of a window without elements ATen's index is elsewhere
    y, index = empty(expected.shape, layout), empty(expected.shape, layout // 3, torch.int64)
    kernels().ew_max_pool(y, index, place(x, layout // 5), Pool.of(*settings))
    assert torch.equal(y, expected)
    assert torch.equal(index, where)

    dy, dx = normal(expected.shape, seed + 1), empty(shape, layout // 7)
    exact = aten.max_pool2d_with_indices_backward(dy.double(), x.double(), *settings, ceil, where)
    kernels().ew_max_pool_backward(dx, place(dy, layout), index)
    assert_close(dx, exact)


@pytest.mark.parametrize("divisor", [0, 3])
@given(windows(), st.booleans(), st.booleans(), seeds, layouts)
def test_average_pool(
    divisor: int,
    window: tuple[tuple[int, ...], tuple[Any, ...]],
    ceil: bool,
    counted: bool,
    seed: int,
    layout: int,
) -> None:
    shape, settings = window
    x, rest = normal(shape, seed), (*settings[:3], ceil, counted, divisor or None)
    expected = aten.avg_pool2d(x.double(), *rest)
    y, dy, dx = empty(expected.shape, layout), normal(expected.shape, seed + 1), empty(shape, layout // 7)

    kernels().ew_average_pool(y, place(x, layout // 3), Pool.of(*settings), counted, divisor)
    kernels().ew_average_pool_backward(dx, place(dy, layout // 5), Pool.of(*settings), counted, divisor)

    assert_close(y, expected)
    assert_close(dx, aten.avg_pool2d_backward(dy.double(), x.double(), *rest))


@given(shapes, pairs, seeds, layouts)
def test_adaptive_average_pool(shape: tuple[int, ...], out: tuple[int, int], seed: int, layout: int) -> None:
    x = normal(shape, seed)
    expected = aten._adaptive_avg_pool2d(x.double(), out)
    y, dy, dx = empty(expected.shape, layout), normal(expected.shape, seed + 1), empty(shape, layout // 7)

    kernels().ew_adaptive_average_pool(y, place(x, layout // 3))
    kernels().ew_adaptive_average_pool_backward(dx, place(dy, layout // 5))

    assert_close(y, expected)
    assert_close(dx, aten._adaptive_avg_pool2d_backward(dy.double(), x.double()))


@given(shapes, pairs, seeds, layouts)
def test_adaptive_max_pool(shape: tuple[int, ...], out: tuple[int, int], seed: int, layout: int) -> None:
    x = normal(shape, seed).mul(2).round()  # with ties
    expected, where = aten.adaptive_max_pool2d(x, out)
    y, index = empty(expected.shape, layout), empty(expected.shape, layout // 3, torch.int64)

    kernels().ew_adaptive_max_pool(y, index, place(x, layout // 5))

    assert torch.equal(y, expected)
    assert torch.equal(index, where)


def test_what_is_not_a_number_is_the_greatest() -> None:
    x, y = torch.tensor([[[[1.0, float("nan")], [3.0, 2.0]]]]), empty((1, 1, 1, 1))

    kernels().ew_max_pool(y, None, x, Pool.of((2, 2), (2, 2), (0, 0)))

    assert bool(y.isnan().all())


@given(windows(dilated=True), st.data(), seeds)
def test_a_band_of_rows_has_the_same_bits(
    window: tuple[tuple[int, ...], tuple[Any, ...]], data: st.DataObject, seed: int
) -> None:
    shape, (kernel, stride, padding, dilation) = window
    x = normal(shape, seed)
    whole = empty(aten.max_pool2d(x, kernel, stride, padding, dilation).shape)
    kernels().ew_max_pool(whole, None, x, Pool.of(kernel, stride, padding, dilation))
    first = data.draw(st.integers(0, whole.shape[2] - 1))
    top = stride[0] * first - padding[0]
    band = empty(whole[:, :, first:].shape)

    moved = Pool.of(kernel, stride, (max(top, 0) - top, padding[1]), dilation)
    kernels().ew_max_pool(band, None, x[:, :, max(top, 0) :], moved)

    assert torch.equal(band, whole[:, :, first:])
