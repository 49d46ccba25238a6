"""Batch, layer and group norm and their gradients against float64."""

import pytest
import torch
from hypothesis import strategies as st

from tests.emit.layouts import assert_close, empty, given, layouts, normal, place, seeds
from tests.emit.native import kernels

aten = torch.ops.aten
EPS = 1e-5
images = st.tuples(st.integers(2, 4), st.integers(1, 5), st.integers(1, 7), st.integers(6, 9))


def x_of(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Numbers whose mean is well away from zero."""
    return 2 * normal(shape, seed) + 3


@given(images, st.booleans(), seeds, layouts)
def test_batch_norm(shape: tuple[int, ...], affine: bool, seed: int, layout: int) -> None:
    x, channels = x_of(shape, seed), shape[1]
    w, b = (normal((channels,), seed + i) if affine else None for i in (1, 2))
    running = [normal((channels,), seed + 3), normal((channels,), seed + 4).abs()]
    expected_running = [r.double() for r in running]
    doubles = [None if t is None else t.double() for t in (w, b)]
    expected = aten.native_batch_norm(x.double(), *doubles, *expected_running, True, 0.1, EPS)
    y, mean, rstd = empty(shape, layout), empty((channels,), layout), empty((channels,))

    kernels().ew_batch_norm(y, mean, rstd, place(x, layout // 3), w, b, *running, 0.1, EPS)

    for made, exact in zip((y, mean, rstd, *running), (*expected, *expected_running), strict=True):
        assert_close(made, exact)


@given(images, st.booleans(), seeds, layouts)
def test_batch_norm_backward(shape: tuple[int, ...], affine: bool, seed: int, layout: int) -> None:
    x, dy, channels = x_of(shape, seed), normal(shape, seed + 9), shape[1]
    w = normal((channels,), seed + 1) if affine else None
    double = None if w is None else w.double()
    _, mean, rstd = aten.native_batch_norm(x.double(), double, None, None, None, True, 0.1, EPS)
    given = (dy.double(), x.double(), double, None, None, mean, rstd, True, EPS, [True, affine, affine])
    expected = aten.native_batch_norm_backward(*given)
    dx, dw, db = empty(shape, layout), *(empty((channels,), layout) if affine else None for _ in range(2))

    saved = (mean.float(), rstd.float())
    kernels().ew_batch_norm_backward(dx, dw, db, place(dy, layout // 3), place(x, layout // 5), w, *saved)

    scale = (rstd * (1 if double is None else double))[:, None, None]
    assert_close(dx, expected[0], terms=dy * scale)
    if affine:
        assert_close(dw, expected[1], terms=dy * (x - 3))
        assert_close(db, expected[2], terms=dy)


@given(images, st.booleans(), seeds, layouts)
def test_batch_norm_with_frozen_statistics(
    shape: tuple[int, ...], affine: bool, seed: int, layout: int
) -> None:
    x, dy, channels = x_of(shape, seed), normal(shape, seed + 9), shape[1]
    w, b = (normal((channels,), seed + i) if affine else None for i in (1, 2))
    running = [normal((channels,), seed + 3), normal((channels,), seed + 4).abs() + 0.1]
    doubles = [None if t is None else t.double() for t in (w, b)]
    doubled = [r.double() for r in running]
    expected = aten.native_batch_norm(x.double(), *doubles, *doubled, False, 0.1, EPS)[0]
    rest = (None, None, False, EPS, [True, affine, affine])
    gradients = aten.native_batch_norm_backward(dy.double(), x.double(), doubles[0], *doubled, *rest)
    y, dx = empty(shape, layout), empty(shape, layout)
    dw, db = (empty((channels,), layout) if affine else None for _ in range(2))

    kernels().ew_batch_norm_frozen(y, place(x, layout // 3), w, b, *running, EPS)
    scattered = place(dy, layout // 3), place(x, layout // 5)
    kernels().ew_batch_norm_frozen_backward(dx, dw, db, *scattered, w, *running, EPS)

    for made, exact in zip((y, dx, dw, db), (expected, *gradients), strict=True):
        if made is not None:
            assert_close(made, exact, terms=None if made.dim() > 1 else dy * x)


@given(images, seeds, layouts)
def test_a_channel_of_batch_norm_has_the_same_bits_alone(
    shape: tuple[int, ...], seed: int, layout: int
) -> None:
    x, channels = x_of(shape, seed), shape[1]
    whole, part = [empty(shape), *(empty((channels,)) for _ in range(2))], shape[1] // 2
    kernels().ew_batch_norm(*whole, x, *[None] * 4, 0.1, EPS)
    some = x[:, part:]
    made = [empty(some.shape, layout), *(empty((channels - part,)) for _ in range(2))]

    kernels().ew_batch_norm(*made, place(some, layout // 3), *[None] * 4, 0.1, EPS)

    assert torch.equal(made[0], whole[0][:, part:])
    assert torch.equal(made[2], whole[2][part:])


rows = st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(1, 9), st.integers(6, 12))


@given(rows, st.integers(1, 2), st.booleans(), seeds, layouts)
def test_layer_norm(shape: tuple[int, ...], dims: int, affine: bool, seed: int, layout: int) -> None:
    x, dy, inner = x_of(shape, seed), normal(shape, seed + 9), shape[-dims:]
    w, b = (normal(inner, seed + i) if affine else None for i in (1, 2))
    doubles = [None if t is None else t.double() for t in (w, b)]
    expected = aten.native_layer_norm(x.double(), list(inner), *doubles, EPS)
    outer = (*shape[:-dims], *[1] * dims)
    y, mean, rstd = empty(shape, layout), empty(outer, layout // 11), empty(outer, layout // 13)
    kernels().ew_layer_norm(y, mean, rstd, place(x, layout // 3), w, b, dims, EPS)
    for made, exact in zip((y, mean, rstd), expected, strict=True):
        assert_close(made, exact)

    wanted = [True, affine, affine]
    exact = aten.native_layer_norm_backward(
        dy.double(), x.double(), list(inner), *expected[1:], *doubles, wanted
    )
    dx, dw, db = empty(shape, layout), *(empty(inner, layout // 7) if affine else None for _ in range(2))
    given = place(dy, layout // 3), place(x, layout // 5), mean, rstd, w
    kernels().ew_layer_norm_backward(dx, dw, db, *given, dims)
    assert_close(dx, exact[0], terms=dy * expected[2] * (1 if w is None else w))
    if affine:
        assert_close(dw, exact[1], terms=dy * (x - 3))
        assert_close(db, exact[2], terms=dy)


@given(rows, seeds, layouts)
def test_a_row_of_layer_norm_has_the_same_bits_alone(shape: tuple[int, ...], seed: int, layout: int) -> None:
    x, part = x_of(shape, seed), shape[0] // 2
    whole, made = empty(shape), empty(x[part:].shape, layout)
    kernels().ew_layer_norm(whole, None, None, x, None, None, 1, EPS)

    kernels().ew_layer_norm(made, None, None, place(x[part:], layout // 3), None, None, 1, EPS)

    assert torch.equal(made, whole[part:])


@pytest.mark.parametrize("groups", [1, 2, 3])
@given(images, st.booleans(), seeds, layouts)
def test_group_norm(groups: int, shape: tuple[int, ...], affine: bool, seed: int, layout: int) -> None:
    shape = (shape[0], shape[1] * groups, *shape[2:])
    x, dy, (n, channels, height, width) = x_of(shape, seed), normal(shape, seed + 9), shape
    w, b = (normal((channels,), seed + i) if affine else None for i in (1, 2))
    doubles = [None if t is None else t.double() for t in (w, b)]
    sizes = (n, channels, height * width, groups)
    expected = aten.native_group_norm(x.double(), *doubles, *sizes, EPS)
    y, mean, rstd = empty(shape, layout), empty((n, groups), layout // 11), empty((n, groups), layout // 13)
    kernels().ew_group_norm(y, mean, rstd, place(x, layout // 3), w, b, groups, EPS)
    for made, exact in zip((y, mean, rstd), expected, strict=True):
        assert_close(made, exact)

    wanted = [True, affine, affine]
    saved = [t.contiguous() for t in expected[1:]]
    exact = aten.native_group_norm_backward(dy.double(), x.double(), *saved, doubles[0], *sizes, wanted)
    dx, dw, db = (
        empty(shape, layout),
        *(empty((channels,), layout // 7) if affine else None for _ in range(2)),
    )
    given = place(dy, layout // 3), place(x, layout // 5), mean, rstd, w
    kernels().ew_group_norm_backward(dx, dw, db, *given, groups)
    by_channel = expected[2].repeat_interleave(channels // groups, 1) * (1 if w is None else w)
    assert_close(dx, exact[0], terms=dy * by_channel[:, :, None, None])
    if affine:
        assert_close(dw, exact[1], terms=dy * (x - 3))
        assert_close(db, exact[2], terms=dy)
