"""Integers that count and index, and tables band by band: the same as PyTorch, to the bit."""

import pytest
import torch
from hypothesis import strategies as st

from tests.emit.layouts import assert_close, empty, given, layouts, normal, place, seeds
from tests.emit.native import TYPES, kernels

shapes = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)
tables = st.tuples(*[st.integers(1, 5)] * 5)


def test_arange() -> None:
    out = empty((7,), 2, torch.int64)

    kernels().ew_arange(out, -3, 2**33)

    assert torch.equal(out, torch.arange(-3, -3 + 7 * 2**33, 2**33))


@given(shapes, layouts)
def test_add_scalar_i64(shape: tuple[int, ...], layout: int) -> None:
    x = torch.arange(torch.Size(shape).numel()).reshape(shape)
    out, inside = empty(shape, layout, torch.int64), place(x, layout)

    kernels().ew_add_scalar_i64(out, place(x, layout // 3), -(2**40))
    kernels().ew_add_scalar_i64(inside, inside, -(2**40))

    assert torch.equal(out, x - 2**40)
    assert torch.equal(inside, out)


@given(shapes, st.data(), st.sampled_from([torch.float32, torch.int64]), seeds, layouts)
def test_gather(
    shape: tuple[int, ...], data: st.DataObject, dtype: torch.dtype, seed: int, layout: int
) -> None:
    dim, generator = data.draw(st.integers(0, len(shape) - 1)), torch.Generator().manual_seed(seed)
    x = (100 * normal(shape, seed)).to(dtype)
    size = [data.draw(st.integers(1, 4)) if d == dim else n for d, n in enumerate(shape)]
    index, out = torch.randint(shape[dim], size, generator=generator), empty(tuple(size), layout, dtype)

    kernels().ew_gather(out, place(x, layout // 3), TYPES[dtype], dim, place(index, layout // 5), None)

    assert torch.equal(out, x.gather(dim, index))


@given(tables, seeds, layouts)
def test_gather_by_two_indices(sizes: tuple[int, ...], seed: int, layout: int) -> None:
    before, rows, columns, height, width = sizes
    x, generator = normal((before, rows, columns), seed), torch.Generator().manual_seed(seed)
    i = torch.randint(rows, (height, 1), generator=generator)
    j = torch.randint(columns, (width,), generator=generator)
    shape = (before, height, width)
    out, spread = empty(shape, layout), (place(i.expand(shape), layout // 5), j.expand(shape))

    kernels().ew_gather(out, place(x, layout // 3), TYPES[torch.float32], 1, *spread)

    assert torch.equal(out, x[:, i, j])


@pytest.mark.parametrize("add", [False, True])
@given(shapes, st.data(), seeds, layouts)
def test_scatter(add: bool, shape: tuple[int, ...], data: st.DataObject, seed: int, layout: int) -> None:
    dim, generator = data.draw(st.integers(0, len(shape) - 1)), torch.Generator().manual_seed(seed)
    size = [data.draw(st.integers(1, n)) for n in shape]
    size[dim] = data.draw(st.integers(1, 2 * shape[dim] if add else shape[dim]))
    if add:
        index = torch.randint(shape[dim], size, generator=generator)
    else:  # where an element is named twice, PyTorch does not say which is meant
        index = torch.rand(size, generator=generator).argsort(dim)
    x, source = normal(shape, seed), normal(size, seed + 1)
    out = place(x, layout)

    kernels().ew_scatter(out, dim, place(index, layout // 3), None, place(source, layout // 5), add)

    expected = (x.double().scatter_add if add else x.double().scatter)(dim, index, source.double())
    assert_close(out, expected, terms=torch.cat([x.flatten(), source.flatten()]))


@given(tables, seeds, layouts)
def test_scatter_by_two_indices(sizes: tuple[int, ...], seed: int, layout: int) -> None:
    before, rows, columns, height, width = sizes
    generator = torch.Generator().manual_seed(seed)
    i = torch.randint(rows, (height, 1), generator=generator)
    j = torch.randint(columns, (width,), generator=generator)
    shape = (before, height, width)
    out, source = place(torch.zeros(before, rows, columns), layout), normal(shape, seed)

    kernels().ew_scatter(out, 1, place(i.expand(shape), layout // 3), j.expand(shape), source, 1)

    expected = torch.zeros(before, rows, columns, dtype=torch.float64)
    expected = expected.index_put((torch.arange(before)[:, None, None], i, j), source.double(), True)
    assert_close(out, expected, terms=source)


def test_ramp() -> None:
    out = empty((5,), 3)

    kernels().ew_ramp(out, -1.5, 0.25)

    assert torch.equal(out, torch.arange(-1.5, -0.25, 0.25))


def test_an_index_that_is_not_there() -> None:
    x, index = torch.tensor([1.0, 2.0]), torch.tensor([1, 2, -1])
    out, integers, summed = empty((3,)), empty((3,), 0, torch.int64), torch.zeros(2)

    kernels().ew_gather(out, x, TYPES[torch.float32], 0, index, None)
    kernels().ew_gather(integers, x.long(), TYPES[torch.int64], 0, index, None)
    kernels().ew_scatter(summed, 0, index, None, torch.ones(3), 1)

    assert summed.tolist() == [0, 1]

    assert out.isnan().tolist() == [False, True, True]
    assert integers.tolist() == [2, -1, -1]


@given(st.integers(1, 9), st.integers(0, 8), st.integers(1, 40), seeds, layouts)
def test_a_band_of_a_table_has_the_bits_of_the_whole(
    rows: int, first: int, count: int, seed: int, layout: int
) -> None:
    first = min(first, rows - 1)
    index = torch.randint(rows, (count,), generator=torch.Generator().manual_seed(seed))
    dy, whole, band = normal((count, 3), seed), empty((rows, 3)), empty((rows - first, 3), layout)
    kernels().ew_embedding_backward(whole, dy, index, 1)

    kernels().ew_embedding_backward_rows(band, place(dy, layout // 3), place(index, layout // 5), 1, first)

    assert torch.equal(band, whole[first:])
