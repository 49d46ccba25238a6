"""Tensors that lie scattered in memory, and how close two results are."""

import os
import random
from collections.abc import Callable
from typing import Any

import hypothesis
import torch
from hypothesis import strategies as st

from tests.emit.native import LIBRARY

EXAMPLES = 6 if os.environ.get(LIBRARY) else hypothesis.settings().max_examples // 2
"""Of each case; a few where every access is watched."""

layouts = st.integers(0, 2**16)
"""A way to lie in memory; 0 is contiguous."""

seeds = st.integers(0, 2**16)


def given(*args: Any, **kwargs: Any) -> Callable[[Any], Any]:
    """`hypothesis.given`, with as many examples as kernels get."""
    return lambda test: hypothesis.settings(max_examples=EXAMPLES)(hypothesis.given(*args, **kwargs)(test))


def place(tensor: torch.Tensor, layout: int) -> torch.Tensor:
    """The same values, dims permuted in memory and with gaps of NaN (or of ones) between them."""
    if layout == 0 or tensor.dim() == 0:
        return tensor.clone(memory_format=torch.contiguous_format)
    rng = random.Random(layout)
    order = list(range(tensor.dim()))
    rng.shuffle(order)
    gaps = [rng.choice((0, 0, 1, 3)) for _ in order]
    room = torch.full([tensor.shape[d] + gap for d, gap in zip(order, gaps, strict=True)], 1.0)
    room = (room * float("nan")) if tensor.dtype.is_floating_point else room
    room = room.to(tensor.dtype)
    inner = room[
        tuple(slice(gap // 2, gap // 2 + tensor.shape[d]) for d, gap in zip(order, gaps, strict=True))
    ]
    placed = inner.permute([order.index(d) for d in range(tensor.dim())])
    placed.copy_(tensor)
    return placed


def empty(
    shape: tuple[int, ...] | torch.Size, layout: int = 0, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """Room for a result, filled with NaN (or ones)."""
    blank = torch.full(shape, float("nan") if dtype.is_floating_point else 1).to(dtype)
    return place(blank, layout)


def normal(shape: tuple[int, ...] | torch.Size, seed: int) -> torch.Tensor:
    """Standard normal numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def spilled(out: torch.Tensor) -> int:
    """How many elements between those of `out` a kernel has written to."""
    whole = torch.empty(0, dtype=out.dtype).set_(out.untyped_storage())
    return int((~whole.isnan()).sum()) - int((~out.isnan()).sum())


def assert_close(
    actual: torch.Tensor, expected: torch.Tensor, rtol: float = 1e-5, terms: torch.Tensor | None = None
) -> None:
    """Norm-wise close, relative to `terms` if the result is what is left of these; nothing written beside."""
    assert actual.shape == expected.shape
    if actual.dtype == torch.float32:
        assert spilled(actual) == 0
    if actual.numel() == 0:
        return
    got, want = actual.double(), expected.double()
    assert torch.equal(got.isfinite(), want.isfinite()), (actual, expected)
    finite = want.isfinite()
    assert torch.equal(got[~finite].nan_to_num(), want[~finite].nan_to_num())
    difference, scale = (got - want)[finite], want[finite] if terms is None else terms.double()
    tiny = 1e-30
    assert float(difference.norm()) <= rtol * float(scale.norm()) + tiny, (actual, expected)


__all__ = ["assert_close", "empty", "given", "layouts", "normal", "place", "seeds"]
