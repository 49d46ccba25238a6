"""Matrix products against float64."""

import torch
from hypothesis import strategies as st

from tests.emit.layouts import assert_close, empty, given, layouts, normal, place, seeds
from tests.emit.native import kernels

sizes = st.integers(1, 11)


@given(sizes, sizes, st.integers(0, 300), st.none() | st.integers(0, 3), seeds, layouts)
def test_matmul(m: int, n: int, k: int, batches: int | None, seed: int, layout: int) -> None:
    batch = () if batches is None else (batches,)
    a, b = normal((*batch, m, k), seed), normal((*batch, k, n), seed + 1)
    out = empty((*batch, m, n), layout)

    kernels().ew_matmul(out, place(a, layout // 3), place(b, layout // 5))

    assert_close(out, a.double() @ b.double(), terms=(a.square() @ b.square()).sqrt())


@given(sizes, sizes, st.integers(1, 200), st.booleans(), seeds, layouts, st.sampled_from([0.0, 1.0, -0.5]))
def test_matmul_add(m: int, n: int, k: int, inside: bool, seed: int, layout: int, beta: float) -> None:
    a, b, c = normal((m, k), seed), normal((k, n), seed + 1), normal((n,), seed + 2).expand(m, n)
    out = place(c, layout) if inside else empty((m, n), layout)
    given = out if inside else c

    kernels().ew_matmul_add(out, given, place(a, layout // 3), place(b, layout // 5), beta, 2.0)

    exact = beta * c.double() + 2 * (a.double() @ b.double())
    assert_close(out, exact, terms=2 * (a.square() @ b.square()).sqrt())


@given(sizes, sizes, st.integers(1, 300), seeds, layouts)
def test_an_element_of_a_product_has_the_same_bits_in_any_tile_and_layout(
    m: int, n: int, k: int, seed: int, layout: int
) -> None:
    a, b = normal((m, k), seed), normal((k, n), seed + 1)
    whole, part = empty((m, n)), empty((m - m // 2, n - n // 3), layout)
    kernels().ew_matmul(whole, a, b)

    kernels().ew_matmul(part, place(a[m // 2 :], layout // 3), place(b[:, n // 3 :], layout // 5))

    assert torch.equal(part, whole[m // 2 :, n // 3 :])


def test_long_products_stay_exact() -> None:
    k = 100_000
    a, b = torch.full((1, k), 0.1), torch.full((k, 1), 0.1)
    out = empty((1, 1))

    kernels().ew_matmul(out, a, b)

    assert_close(out, a.double() @ b.double(), rtol=1e-6)
