"""Reductions and tables of rows against float64."""

import math

import pytest
import torch
from hypothesis import assume
from hypothesis import strategies as st

from tests.emit.layouts import assert_close, empty, given, layouts, normal, place, seeds
from tests.emit.native import TYPES, kernels

shapes = st.lists(st.integers(1, 9), max_size=4).map(tuple)


@given(shapes, st.data(), seeds, layouts)
def test_reductions(shape: tuple[int, ...], data: st.DataObject, seed: int, layout: int) -> None:
    x = normal(shape, seed)
    summed = [d for d in range(len(shape)) if data.draw(st.booleans())]
    size = [1 if d in summed else n for d, n in enumerate(shape)]
    dims = summed or [d for d, n in enumerate(shape) if n == 1 and d < 0]
    scattered = place(x, layout // 3)
    functions = {"sum": torch.sum, "mean": torch.mean, "amax": torch.amax, "amin": torch.amin}
    for name, reference in functions.items():
        out = empty(tuple(size), layout)

        getattr(kernels(), f"ew_{name}")(out, scattered)

        expected = reference(x.double(), dims, keepdim=True) if dims else x.double()
        assert_close(
            out,
            expected,
            terms=None if name in ("amax", "amin") else x.abs().sum(dims, keepdim=True) if dims else x,
        )


@given(shapes.filter(bool), st.data(), st.sampled_from([0, 1, 2]), seeds, layouts)
def test_norm_and_variance(
    shape: tuple[int, ...], data: st.DataObject, correction: int, seed: int, layout: int
) -> None:
    x, over = normal(shape, seed), sorted(data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1)))
    size = [1 if d in over else n for d, n in enumerate(shape)]
    assume(math.prod(shape) > correction * math.prod(size))
    norm, variance, scattered = empty(size, layout), empty(size, layout // 5), place(x, layout // 3)

    kernels().ew_norm(norm, scattered)
    kernels().ew_variance(variance, scattered, correction)

    assert_close(norm, torch.linalg.vector_norm(x.double(), dim=over, keepdim=True))
    assert_close(variance, x.double().var(over, correction=correction, keepdim=True))


@given(shapes.filter(bool), st.data(), seeds, layouts)
def test_argmax_and_argmin(shape: tuple[int, ...], data: st.DataObject, seed: int, layout: int) -> None:
    x, dim = normal(shape, seed).round(), data.draw(st.integers(0, len(shape) - 1))
    size = [1 if d == dim else n for d, n in enumerate(shape)]
    most, least = empty(size, layout, torch.int64), empty(size, layout // 5, torch.int64)

    kernels().ew_argmax(most, place(x, layout // 3))
    kernels().ew_argmin(least, place(x, layout // 3))

    assert torch.equal(most, x.argmax(dim, keepdim=True))
    assert torch.equal(least, x.argmin(dim, keepdim=True))


@given(shapes.filter(bool), st.data(), st.sampled_from([1.0, 100.0]), seeds, layouts)
def test_log_sum_exp(
    shape: tuple[int, ...], data: st.DataObject, scale: float, seed: int, layout: int
) -> None:
    x, dim = scale * normal(shape, seed), data.draw(st.integers(0, len(shape) - 1))
    out = empty([1 if d == dim else n for d, n in enumerate(shape)], layout)

    kernels().ew_log_sum_exp(out, place(x, layout // 3))

    assert_close(out, x.double().logsumexp(dim, keepdim=True), terms=x)


def test_log_sum_exp_of_infinities() -> None:
    x, out = torch.tensor([[math.inf, 1.0], [-math.inf, 1.0], [-math.inf, -math.inf]]), empty((3, 1))

    kernels().ew_log_sum_exp(out, x)

    assert torch.equal(out, x.logsumexp(1, keepdim=True))


@given(shapes.filter(bool), st.data(), st.booleans(), seeds, layouts)
def test_cumsum(shape: tuple[int, ...], data: st.DataObject, whole: bool, seed: int, layout: int) -> None:
    x, dim = normal(shape, seed) * 3, data.draw(st.integers(0, len(shape) - 1))
    x = x.long() if whole else x
    out, inside = empty(shape, layout, x.dtype), place(x, layout)

    kernels().ew_cumsum(out, place(x, layout // 3), TYPES[x.dtype], dim)
    kernels().ew_cumsum(inside, inside, TYPES[x.dtype], dim)

    if whole:
        assert torch.equal(out, x.cumsum(dim))
    else:
        assert_close(out, x.double().cumsum(dim), terms=x)
    assert torch.equal(inside, out)


@given(shapes, seeds, layouts)
def test_a_sum_has_the_same_bits_in_any_layout(shape: tuple[int, ...], seed: int, layout: int) -> None:
    x, (one, other) = normal(shape, seed), (empty([1] * len(shape)) for _ in range(2))

    kernels().ew_sum(one, x)
    kernels().ew_sum(other, place(x, layout))

    assert torch.equal(one, other)


@pytest.mark.parametrize("count", [1, 63, 64, 65, 1_000_000])
def test_long_sums_stay_exact(count: int) -> None:
    x, out = torch.full((count,), 0.1), empty((1,))

    kernels().ew_sum(out, x)

    assert_close(out, x.double().sum(0, keepdim=True), rtol=1e-6)


def test_sums_with_infinities() -> None:
    out = empty((3, 1))

    kernels().ew_sum(out, torch.tensor([[1.0, math.inf], [math.nan, 1.0], [math.inf, -math.inf]]))

    assert out[0, 0] == math.inf
    assert bool(out[1:].isnan().all())


def test_the_greatest_of_what_is_not_a_number() -> None:
    x, most, where = torch.tensor([[1.0, math.nan, 2.0]]), empty((1, 1)), empty((1, 1), 0, torch.int64)

    kernels().ew_amax(most, x)
    kernels().ew_argmax(where, x)

    assert math.isnan(most[0, 0])
    assert where[0, 0] == x.argmax(1)


tables = st.tuples(st.integers(1, 7), st.integers(1, 9), st.integers(1, 5), st.integers(1, 4))


@given(tables, st.sampled_from([-1, 0]), seeds, layouts)
def test_embedding(sizes: tuple[int, ...], padding: int, seed: int, layout: int) -> None:
    rows, width, *shape = sizes
    w, generator = normal((rows, width), seed), torch.Generator().manual_seed(seed)
    index = torch.randint(rows, shape, generator=generator)
    out, dw, dy = empty((*shape, width), layout), empty((rows, width), layout), normal((*shape, width), seed)
    scattered = place(index, layout // 3)

    kernels().ew_embedding(out, place(w, layout // 5), scattered)
    kernels().ew_embedding_backward(dw, place(dy, layout // 7), scattered, padding)

    assert torch.equal(out, w[index])
    exact = torch.ops.aten.embedding_dense_backward(dy.double(), index, rows, padding, False)
    assert_close(dw, exact)


def test_a_row_that_is_not_there_is_not_a_number() -> None:
    out, dw = empty((3, 2)), empty((4, 2))
    index = torch.tensor([0, 4, -1])

    kernels().ew_embedding(out, torch.ones(4, 2), index)
    kernels().ew_embedding_backward(dw, torch.ones(3, 2), index, -1)

    assert out.isnan().any(1).tolist() == [False, True, True]
    assert float(dw.sum()) == 2
