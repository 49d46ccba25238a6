"""Softmax, its logarithm, and the losses, against float64."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import strategies as st

from tests.emit.layouts import assert_close, empty, given, layouts, normal, place, seeds
from tests.emit.native import kernels

aten = torch.ops.aten
REDUCTIONS = {"none": 0, "mean": 1, "sum": 2}
shapes = st.lists(st.integers(1, 7), min_size=1, max_size=4).map(tuple)


@given(shapes, st.data(), seeds, layouts)
def test_softmax(shape: tuple[int, ...], data: st.DataObject, seed: int, layout: int) -> None:
    dim, x, dy = data.draw(st.integers(0, len(shape) - 1)), 5 * normal(shape, seed), normal(shape, seed + 1)
    y, dx, inside = empty(shape, layout), empty(shape, layout // 7), place(x, layout)
    kernels().ew_softmax(y, place(x, layout // 3), dim)
    kernels().ew_softmax(inside, inside, dim)
    kernels().ew_softmax_backward(dx, place(dy, layout // 3), y, dim)

    exact = x.double().softmax(dim)
    assert_close(y, exact)
    assert torch.equal(inside, y)
    assert_close(dx, aten._softmax_backward_data(dy.double(), exact, dim, torch.float64), terms=dy * y)


@given(shapes, st.data(), seeds, layouts)
def test_log_softmax(shape: tuple[int, ...], data: st.DataObject, seed: int, layout: int) -> None:
    dim, x, dy = data.draw(st.integers(0, len(shape) - 1)), 5 * normal(shape, seed), normal(shape, seed + 1)
    y, dx, inside = empty(shape, layout), empty(shape, layout // 7), place(x, layout)
    kernels().ew_log_softmax(y, place(x, layout // 3), dim)
    kernels().ew_log_softmax(inside, inside, dim)
    kernels().ew_log_softmax_backward(dx, place(dy, layout // 3), y, dim)

    exact = x.double().log_softmax(dim)
    assert_close(y, exact, terms=x)
    assert torch.equal(inside, y)
    assert_close(dx, aten._log_softmax_backward_data(dy.double(), exact, dim, torch.float64), terms=dy)


@given(st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 100)), seeds, layouts)
def test_a_row_of_softmax_has_the_same_bits_alone(shape: tuple[int, ...], seed: int, layout: int) -> None:
    x, whole = normal(shape, seed), empty(shape)
    part = x[shape[0] // 2 :]
    kernels().ew_softmax(whole, x, 2)
    made = empty(part.shape, layout)

    kernels().ew_softmax(made, place(part, layout // 3), 2)

    assert torch.equal(made, whole[shape[0] // 2 :])


def test_rows_without_anything_and_with_infinities() -> None:
    x = torch.tensor([[-math.inf, -math.inf], [0.0, -math.inf], [3e38, -3e38]])
    y, log = empty(x.shape), empty(x.shape)

    kernels().ew_softmax(y, x, 1)
    kernels().ew_log_softmax(log, x, 1)

    assert torch.equal(y, aten._safe_softmax(x, 1))
    torch.testing.assert_close(log, x.log_softmax(1), equal_nan=True)


targets = st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 3), st.integers(1, 4))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@given(targets, st.booleans(), st.booleans(), st.sampled_from([-100, 0]), seeds, layouts)
def test_nll_loss(
    reduction: str, shape: tuple[int, ...], images: bool, weighted: bool, ignored: int, seed: int, layout: int
) -> None:
    shape = shape if images else shape[:2]
    logp, generator = normal(shape, seed).log_softmax(1), torch.Generator().manual_seed(seed)
    target = torch.randint(shape[1], (shape[0], *shape[2:]), generator=generator)
    w = normal((shape[1],), seed + 1).abs() if weighted else None
    number, double = REDUCTIONS[reduction], None if w is None else w.double()
    op = aten.nll_loss2d if images else aten.nll_loss
    reference = (aten.nll_loss2d_forward if images else aten.nll_loss_forward)(
        logp.double(), target, double, number, ignored
    )
    assert op is not None
    loss = empty(target.shape if reduction == "none" else (), layout)
    total, given = empty(()), place(target, layout // 5)
    kernels().ew_nll_loss(loss, total, place(logp, layout // 3), given, w, number, ignored)
    assert_close(loss, reference[0])
    if reduction != "none":
        assert_close(total, reference[1])

    slope, dx = normal(loss.shape, seed + 2), empty(shape, layout)
    backward = aten.nll_loss2d_backward if images else aten.nll_loss_backward
    exact = backward(slope.double(), logp.double(), target, double, number, ignored, reference[1])
    kernels().ew_nll_loss_backward(dx, place(slope, layout // 7), given, w, total, number, ignored)
    assert_close(dx, exact)


def test_a_class_that_is_not_there_makes_a_loss_that_is_not_a_number() -> None:
    logp, dx, loss = normal((3, 4), 1), empty((3, 4)), empty(())
    target = torch.tensor([0, 4, -1])

    kernels().ew_nll_loss(loss, None, logp, target, None, 1, -100)
    kernels().ew_nll_loss_backward(dx, torch.ones(()), target, None, torch.ones(()), 1, -100)

    assert math.isnan(loss)
    assert int((dx != 0).sum()) == 1


@pytest.mark.parametrize("reduction", REDUCTIONS)
@given(shapes, seeds, layouts)
def test_mse_loss(reduction: str, shape: tuple[int, ...], seed: int, layout: int) -> None:
    x, target, number = normal(shape, seed), normal(shape, seed + 1), REDUCTIONS[reduction]
    loss, dx = empty(shape if reduction == "none" else (), layout), empty(shape, layout)
    slope = normal(loss.shape, seed + 2)
    scattered = place(x, layout // 3), place(target, layout // 5)

    kernels().ew_mse_loss(loss, *scattered, number)
    kernels().ew_mse_loss_backward(dx, place(slope, layout // 7), *scattered, number)

    assert_close(loss, F.mse_loss(x.double(), target.double(), reduction=reduction))
    assert_close(dx, aten.mse_loss_backward(slope.double(), x.double(), target.double(), number))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@given(shapes, st.sampled_from([0.125, 0.7, 3.0]), seeds, layouts)
def test_huber_loss(reduction: str, shape: tuple[int, ...], delta: float, seed: int, layout: int) -> None:
    x, target, number = normal(shape, seed), normal(shape, seed + 1), REDUCTIONS[reduction]
    loss = empty(shape if reduction == "none" else (), layout)

    kernels().ew_huber_loss(loss, place(x, layout // 3), place(target, layout // 5), number, delta)

    assert_close(loss, F.huber_loss(x.double(), target.double(), reduction=reduction, delta=delta))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@given(shapes, st.booleans(), seeds, layouts)
def test_binary_cross_entropy(
    reduction: str, shape: tuple[int, ...], weighted: bool, seed: int, layout: int
) -> None:
    p, target, number = (
        normal(shape, seed).sigmoid(),
        normal(shape, seed + 1).sigmoid(),
        REDUCTIONS[reduction],
    )
    w = normal(shape, seed + 2).exp() if weighted else None
    loss, slope = empty(shape if reduction == "none" else (), layout), empty(shape, layout // 7)
    double = None if w is None else w.double()
    scattered = place(p, layout // 3), place(target, layout // 5)

    kernels().ew_binary_cross_entropy(loss, *scattered, w, number)
    kernels().ew_binary_cross_entropy_slope(slope, *scattered)

    assert_close(loss, F.binary_cross_entropy(p.double(), target.double(), double, reduction=reduction))
    one = torch.ones(shape, dtype=torch.float64)
    exact = aten.binary_cross_entropy_backward(one, p.double(), target.double(), None, 0)
    assert_close(slope, exact, terms=1 / (p * (1 - p)))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@given(shapes, st.booleans(), st.booleans(), seeds, layouts)
def test_binary_cross_entropy_of_logits(
    reduction: str, shape: tuple[int, ...], weighted: bool, positive: bool, seed: int, layout: int
) -> None:
    x, target, number = 4 * normal(shape, seed), normal(shape, seed + 1).sigmoid(), REDUCTIONS[reduction]
    w = normal(shape, seed + 2).exp() if weighted else None
    more = normal(shape, seed + 3).exp() if positive else None
    loss = empty(shape if reduction == "none" else (), layout)
    double = [None if each is None else each.double() for each in (w, more)]

    kernels().ew_binary_cross_entropy_of_logits(
        loss, place(x, layout // 3), place(target, layout // 5), w, more, number
    )

    exact = aten.binary_cross_entropy_with_logits(x.double(), target.double(), *double, number)
    assert_close(loss, exact)


def test_cross_entropy_of_certain_probabilities() -> None:
    p, target = torch.tensor([0.0, 0.0, 1.0, 1.0]), torch.tensor([0.0, 1.0, 0.0, 1.0])
    loss, slope, far = empty((4,)), empty((4,)), empty((2,))

    kernels().ew_binary_cross_entropy(loss, p, target, None, 0)
    kernels().ew_binary_cross_entropy_slope(slope, p, target)
    kernels().ew_binary_cross_entropy_of_logits(far, torch.tensor([-200.0, 200.0]), p[1:3], None, None, 0)

    assert torch.equal(loss, F.binary_cross_entropy(p, target, reduction="none"))
    assert torch.equal(slope, aten.binary_cross_entropy_backward(torch.ones(4), p, target, None, 0))
    assert far.tolist() == [0, 0]
