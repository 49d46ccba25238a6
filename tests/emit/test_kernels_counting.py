"""Whole numbers that count: the same as PyTorch and `edgewise.capture.contrast`, to the bit."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from edgewise.capture.contrast import wrong_labels_of
from tests.emit.layouts import empty, layouts, place, seeds
from tests.emit.native import Key, kernels

shapes = st.lists(st.integers(1, 5), max_size=4).map(tuple)
numbers = st.integers(-(2**40), 2**40)


def whole(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Numbers of both signs."""
    return torch.randint(-(2**40), 2**40, shape, generator=torch.Generator().manual_seed(seed))


@given(shapes, st.integers(-1000, 1000), seeds, layouts)
def test_add_i64(shape: tuple[int, ...], alpha: int, seed: int, layout: int) -> None:
    a, b, out = whole(shape, seed), whole(shape, seed + 1), empty(shape, layout, torch.int64)

    kernels().ew_add_i64(out, place(a, layout // 3), place(b, layout // 5), alpha)

    assert torch.equal(out, a.add(b, alpha=alpha))


@given(shapes, seeds, layouts)
def test_where_i64(shape: tuple[int, ...], seed: int, layout: int) -> None:
    a, b, out = whole(shape, seed), whole(shape, seed + 1), empty(shape, layout, torch.int64)
    chosen = whole(shape, seed + 2) > 0

    kernels().ew_where_i64(out, place(chosen, layout // 2), place(a, layout // 3), place(b, layout // 5))

    assert torch.equal(out, torch.where(chosen, a, b))


@given(shapes, numbers, numbers, seeds, layouts)
def test_clamp_i64(shape: tuple[int, ...], low: int, high: int, seed: int, layout: int) -> None:
    x, out = whole(shape, seed), empty(shape, layout, torch.int64)

    kernels().ew_clamp_i64(out, place(x, layout // 3), low, high)

    assert torch.equal(out, x.clamp(low, high))


@given(shapes, numbers.filter(bool), seeds, layouts)
def test_quotients(shape: tuple[int, ...], divisor: int, seed: int, layout: int) -> None:
    x, out, rest = whole(shape, seed), empty(shape, layout, torch.int64), empty(shape, layout, torch.int64)

    kernels().ew_floor_divide_i64(out, place(x, layout // 3), divisor)
    kernels().ew_remainder_i64(rest, place(x, layout // 5), divisor)

    assert torch.equal(out, x.div(divisor, rounding_mode="floor"))
    assert torch.equal(rest, x.remainder(divisor))


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple), st.data(), seeds, layouts)
def test_sum_i8(shape: tuple[int, ...], data: st.DataObject, seed: int, layout: int) -> None:
    over = data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1))
    x = torch.randint(-128, 128, shape, generator=torch.Generator().manual_seed(seed)).to(torch.int8)
    expected = x.sum(sorted(over), keepdim=True)
    out = empty(expected.shape, layout, torch.int64)

    kernels().ew_sum_i8(out, place(x, layout // 3))

    assert torch.equal(out, expected)


@given(st.integers(1, 40), st.integers(2, 12), st.data(), seeds)
def test_wrong_labels(samples: int, classes: int, data: st.DataObject, seed: int) -> None:
    count, step = data.draw(st.integers(1, classes + 2)), data.draw(st.integers(0, 2**63 - 1))
    targets = torch.randint(classes, (samples,), generator=torch.Generator().manual_seed(seed))
    out = empty((count, samples), 0, torch.int64)

    kernels().ew_wrong_labels(out, targets, classes, Key(seed, step, 5))

    expected = wrong_labels_of(targets, torch.tensor(step), classes, count, stream=5, seed=seed)
    assert torch.equal(out, expected)
    assert not (out == targets).any()
