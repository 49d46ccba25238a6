"""Random numbers: those of `edgewise.capture.philox`."""

import ctypes

import pytest
import torch
from hypothesis import strategies as st

from edgewise.capture import philox
from tests.emit.layouts import assert_close, empty, given, layouts
from tests.emit.native import TYPES, Key, kernels

shapes = st.lists(st.integers(1, 7), max_size=4).map(tuple)
keys = st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1))


@given(st.integers(0, 2**32 - 1), keys)
def test_philox(counter: int, key: tuple[int, int, int]) -> None:
    step, stream, seed = key
    words = (ctypes.c_uint32 * 4)()

    kernels().ew_philox(words, counter, Key(seed, step, stream))

    assert list(words) == philox.philox(torch.tensor([counter]), step, stream, seed)[0].tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.int64, torch.int32], ids=str)
@given(shapes, st.floats(0, 1), keys, layouts)
def test_bernoulli(
    dtype: torch.dtype, shape: tuple[int, ...], probability: float, key: tuple[int, int, int], layout: int
) -> None:
    step, stream, seed = key
    out = empty(shape, layout, dtype)

    kernels().ew_bernoulli(out, TYPES[dtype], round(probability * 2**32), Key(seed, step, stream))

    assert torch.equal(out, philox.bernoulli(shape, probability, dtype, *key))


@given(shapes, keys, layouts)
def test_uniform(shape: tuple[int, ...], key: tuple[int, int, int], layout: int) -> None:
    step, stream, seed = key
    out = empty(shape, layout)

    kernels().ew_uniform(out, Key(seed, step, stream))

    assert torch.equal(out, philox.uniform(shape, torch.float32, *key))


@given(shapes, keys, layouts)
def test_normal(shape: tuple[int, ...], key: tuple[int, int, int], layout: int) -> None:
    step, stream, seed = key
    out = empty(shape, layout)

    kernels().ew_normal(out, Key(seed, step, stream))

    assert_close(out, philox.normal(shape, torch.float64, *key), rtol=1e-6)


def test_each_of_many_normal_numbers_is_close() -> None:
    out = empty((200_000,))

    kernels().ew_normal(out, Key(3, 0, 1))

    exact = philox.normal((200_000,), torch.float64, 0, 1, 3)
    assert float(((out - exact) / exact).abs().max()) <= 1e-6
