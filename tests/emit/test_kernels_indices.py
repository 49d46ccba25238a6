"""Integers that count and index, and tables band by band: the same as PyTorch, to the bit."""

import torch
from hypothesis import strategies as st

from tests.emit.layouts import empty, given, layouts, normal, place, seeds
from tests.emit.native import TYPES, kernels

shapes = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)


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

    kernels().ew_gather(out, place(x, layout // 3), TYPES[dtype], dim, place(index, layout // 5))

    assert torch.equal(out, x.gather(dim, index))


def test_an_index_that_is_not_there() -> None:
    x, index = torch.tensor([1.0, 2.0]), torch.tensor([1, 2, -1])
    out, integers = empty((3,)), empty((3,), 0, torch.int64)

    kernels().ew_gather(out, x, TYPES[torch.float32], 0, index)
    kernels().ew_gather(integers, x.long(), TYPES[torch.int64], 0, index)

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
