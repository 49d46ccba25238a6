"""Functions of one number: at most two units in the last place from float64, for numbers of all sizes."""

import math
import struct
from collections.abc import Callable

import numpy as np
import pytest
import torch

from tests.emit.layouts import empty
from tests.emit.native import kernels


def spread(low: float, high: float, count: int = 8000, seed: int = 3) -> torch.Tensor:
    """Float32 numbers, half of them even over the range, half of any magnitude in it; and both ends."""
    rng = np.random.default_rng(seed)
    even = rng.uniform(low, high, count // 2)
    sizes = np.exp(rng.uniform(-80, math.log(max(abs(low), abs(high))), count // 2))
    signs = rng.choice([-1, 1], count // 2) if low < 0 else np.ones(count // 2)
    all_sizes = (signs * sizes).clip(low, high)
    return torch.from_numpy(np.concatenate([even, all_sizes, [low, high]]).astype(np.float32))


def units(actual: torch.Tensor, exact: torch.Tensor) -> float:
    """The greatest distance, in units of the last place of the exact result as float32."""
    last = np.spacing(np.abs(exact.numpy().astype(np.float32))).astype(np.float64)
    return float(np.max(np.abs(actual.double().numpy() - exact.numpy()) / last))


CASES: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], float, float]] = {
    "expf": (torch.exp, -87.0, 88.7),
    "logf": (torch.log, 1e-38, 3e38),
    "erff": (torch.erf, -5.0, 5.0),
    "tanhf": (torch.tanh, -12.0, 12.0),
    "sinf": (torch.sin, -6000.0, 6000.0),
    "cosf": (torch.cos, -6000.0, 6000.0),
}


@pytest.mark.parametrize("name", CASES)
def test_within_two_units_in_the_last_place(name: str) -> None:
    exact, low, high = CASES[name]
    function = getattr(kernels(), f"ew_{name}")
    x = spread(low, high)

    made = torch.tensor([function(each) for each in x.tolist()])

    assert units(made, exact(x.double())) <= 2


def test_logarithms_near_one() -> None:
    x = spread(0.7, 1.42)

    made = torch.tensor([kernels().ew_logf(each) for each in x.tolist()])

    assert units(made, x.double().log()) <= 2


def test_powers() -> None:
    rng = np.random.default_rng(5)
    x = torch.from_numpy(np.exp(rng.uniform(-30, 30, 8000)).astype(np.float32))
    y = torch.from_numpy(
        (rng.uniform(-86, 86, 8000) / np.maximum(np.abs(np.log(x.numpy())), 0.1)).astype(np.float32)
    )
    close = torch.from_numpy(rng.uniform(0.7, 1.42, 8000).astype(np.float32))
    far = torch.from_numpy(
        (rng.uniform(-86, 86, 8000) / np.maximum(np.abs(np.log(close.numpy())), 0.01)).astype("f")
    )

    for base, exponent in ((x, y), (close, far)):
        exact = base.double() ** exponent.double()
        pairs = zip(base.tolist(), exponent.tolist(), strict=True)
        made = torch.tensor([kernels().ew_powf(a, b) for a, b in pairs])
        assert units(made, exact) <= 2


def test_powers_of_special_numbers() -> None:
    numbers = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        2.0,
        -2.0,
        3.0,
        -3.0,
        0.5,
        -0.5,
        math.inf,
        -math.inf,
        math.nan,
        1e9,
        5e-324,
    ]
    a, b = torch.meshgrid(torch.tensor(numbers), torch.tensor(numbers), indexing="ij")
    flat = zip(a.flatten().tolist(), b.flatten().tolist(), strict=True)

    made = torch.tensor([kernels().ew_powf(x, y) for x, y in flat])

    torch.testing.assert_close(made, (a**b).flatten(), equal_nan=True)


@pytest.mark.parametrize("name", CASES)
def test_the_ends(name: str) -> None:
    exact = CASES[name][0]
    function = getattr(kernels(), f"ew_{name}")
    numbers = (
        [0.0, -0.0, math.nan]
        if name in ("sinf", "cosf")
        else [0.0, -0.0, math.inf, -math.inf, math.nan, 1e30]
    )

    for number in numbers:
        expected = float(exact(torch.tensor(number)))
        assert struct.pack("f", function(number)) == struct.pack("f", expected) or math.isnan(expected)


@pytest.mark.parametrize("name", ["sqrtf", "sqrtf_by_bits"])
def test_square_roots_are_correctly_rounded(name: str) -> None:
    bits = np.random.default_rng(1).integers(0, 0x7F800000, 8000, dtype=np.uint32)
    x = torch.from_numpy(
        np.concatenate([bits.view(np.float32), np.float32([0, 1, 4, np.inf, 1e-45, 3.4028235e38])])
    )
    function = getattr(kernels(), f"ew_{name}")

    made = torch.tensor([function(each) for each in x.tolist()])

    assert torch.equal(made, torch.from_numpy(np.sqrt(x.numpy())))
    assert math.isnan(function(-1.0))
    assert math.isnan(function(math.nan))


def test_exponentials_of_small_results_are_subnormal() -> None:
    x, out = torch.linspace(-105, -87, 2000), empty((2000,))

    kernels().ew_exp(out, x)

    assert float((out.double() - x.double().exp()).abs().max()) <= 2**-149
