"""Random directions and schedules against those of `edgewise.capture`."""

import ctypes
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from edgewise.capture.directions import LAWS, Drawn
from edgewise.capture.optimizers import SGD, AdamW, Optimizer, zero_states
from edgewise.capture.schedules import kth_magnitude
from tests.emit.layouts import assert_close, empty, layouts, normal, place, seeds
from tests.emit.native import Adamw, Directions, Sgd, kernels

laws = st.sampled_from(sorted(LAWS))
counts, firsts = st.integers(1, 300), st.integers(0, 1000)
keys = st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 5), st.integers(0, 2**63 - 1))
"""Step, first stream, seed."""


def directions(law: str, key: tuple[int, int, int], count: int) -> tuple[Directions, Drawn]:
    """Some directions of streams one after another, for C and for PyTorch."""
    step, stream, seed = key
    streams = tuple(range(stream, stream + count))
    return Directions.of(seed, step, law, streams), Drawn(streams, law, seed)


def exact(
    drawn: Drawn, coefficients: Sequence[float], steps: Sequence[int], begin: int, count: int
) -> tuple[Tensor, Tensor]:
    """The sum in PyTorch, in float64, and the magnitudes of its terms."""
    terms = []
    for c, step, stream in zip(coefficients, steps, drawn.streams, strict=True):
        one = Drawn((stream,), drawn.law, drawn.seed)
        pieces = one.pieces(torch.tensor([c], dtype=torch.float64), [step], begin, count)
        terms.append(torch.cat([piece.double() for _, piece in pieces]))
    return torch.stack(terms).sum(0), torch.stack(terms).abs().sum(0)


@given(laws, keys, counts, firsts)
def test_direction(law: str, key: tuple[int, int, int], count: int, first: int) -> None:
    c, drawn = directions(law, key, 1)
    out = empty((count,))

    kernels().ew_direction(out, None, None, first, c)

    z, _ = exact(drawn, [1.0], [key[0]], first, count)
    assert torch.equal(out, z.float()) if law == "rademacher" else bool(((out - z) / z).abs().max() <= 1e-6)


@given(laws, keys, counts, firsts, seeds)
def test_direction_of_large_elements(
    law: str, key: tuple[int, int, int], count: int, first: int, seed: int
) -> None:
    c, drawn = directions(law, key, 1)
    w, out = normal((count,), seed), empty((count,))
    threshold = w.abs().median()

    kernels().ew_direction(out, w, threshold, first, c)

    z, _ = exact(drawn, [1.0], [key[0]], first, count)
    assert_close(out, z.masked_fill(w.abs() < threshold, 0), 1e-6)


@given(laws, keys, counts, firsts, seeds, st.booleans())
def test_perturbed(
    law: str, key: tuple[int, int, int], count: int, first: int, seed: int, keeps_top: bool
) -> None:
    c, drawn = directions(law, key, 1)
    w, out = normal((count,), seed), empty((count,))
    threshold = w.abs().median() if keeps_top else None
    z, _ = exact(drawn, [1.0], [key[0]], first, count)
    before = w.double().abs()
    expected = w.double() - 0.25 * (z if threshold is None else z.masked_fill(w.abs() < threshold, 0))

    kernels().ew_perturbed(out, w, threshold, -0.25, first, c)
    kernels().ew_perturbed(w, w, threshold, -0.25, first, c)

    assert_close(out, expected, 1e-6, before + 0.25 * z.abs())
    assert torch.equal(w, out)


@given(laws, keys, counts, firsts, seeds)
def test_nudge(law: str, key: tuple[int, int, int], count: int, first: int, seed: int) -> None:
    c, drawn = directions(law, key, 2)
    w = normal((count,), seed)
    expected = w.double()
    change, terms = exact(drawn, [0.5, -1.25], [key[0]] * 2, first, count)

    kernels().ew_nudge(w, (ctypes.c_float * 2)(0.5, -1.25), first, c)

    assert_close(w, expected + change, 1e-6, terms + expected.abs())


@given(laws, keys, counts, firsts, st.booleans(), layouts)
def test_along(
    law: str, key: tuple[int, int, int], count: int, first: int, earlier: bool, layout: int
) -> None:
    c, drawn = directions(law, key, 3)
    scales, steps = torch.tensor([0.5, 0.0, -1.25]), torch.tensor([7, key[0] // 4, 2**40])
    out = empty((count,))

    kernels().ew_along(out, place(scales, layout), steps if earlier else None, None, None, first, c)

    at = steps.tolist() if earlier else [key[0]] * 3
    expected, terms = exact(drawn, scales.tolist(), at, first, count)
    assert_close(out, expected, 1e-6, terms)


@pytest.mark.parametrize("optimizer", [SGD(0.1), SGD(0.1, 0.9, 1e-3), AdamW(1e-2)], ids=str)
@given(laws, keys, counts, firsts, seeds, st.booleans())
def test_updates(
    optimizer: Optimizer,
    law: str,
    key: tuple[int, int, int],
    count: int,
    first: int,
    seed: int,
    keeps_top: bool,
) -> None:
    c, drawn = directions(law, key, 2)
    w, scales = normal((count,), seed), torch.tensor([0.5, -1.25])
    expected = w.double()
    states, exact_states = zero_states(optimizer, w), zero_states(optimizer, expected)
    threshold = w.abs().median() if keeps_top else None
    gradient, terms = exact(drawn, scales.tolist(), [key[0]] * 2, first, count)
    if threshold is not None:
        gradient.masked_fill_(w.abs() < threshold, 0)

    optimizer.update(expected, gradient, exact_states, 3)
    held = list(states.values())
    if isinstance(optimizer, SGD):
        settings = Sgd(optimizer.lr, optimizer.momentum, optimizer.weight_decay)
        kernels().ew_sgd_along(w, scales, None, threshold, first, c, held[0] if held else None, settings)
    else:
        settings = Adamw(optimizer.lr, *optimizer.betas, optimizer.eps, optimizer.weight_decay)
        kernels().ew_adamw_along(w, scales, None, threshold, first, c, *held, settings, 3)

    assert_close(w, expected, 1e-6, terms + expected.abs())
    for name, state in states.items():
        assert_close(state, exact_states[name], 1e-6, terms + terms.square())


@given(st.integers(0, 20), seeds, layouts)
def test_snapshot(step: int, seed: int, layout: int) -> None:
    state, w = place(torch.zeros(3, 4), layout), place(normal((3, 4), seed), layout)

    kernels().ew_snapshot(state, w, step, 4)

    assert torch.equal(state, torch.zeros(3, 4) if step % 4 else w)


@given(counts, st.data(), seeds)
def test_threshold(count: int, data: st.DataObject, seed: int) -> None:
    w, state = normal((count,), seed), torch.zeros(())
    w[: count // 3] = 0.5  # many of one magnitude
    kept = data.draw(st.integers(1, count))

    kernels().ew_threshold(state, w, kept, 6, 3)
    assert state.equal(kth_magnitude(w, kept))

    kernels().ew_threshold(state, w * 2, kept, 7, 3)
    assert state.equal(kth_magnitude(w, kept))
