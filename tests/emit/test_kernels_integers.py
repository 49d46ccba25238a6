"""int8 kernels against `edgewise.capture`: products exact, roundings the same but at a tie or nearly."""

import ctypes
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from edgewise.capture import contrast, integer_layers, integers, labelled_layer
from edgewise.capture.optimizers import SGD, AdamW, zero_states
from tests.emit.layouts import assert_close, empty, layouts, normal, place, seeds
from tests.emit.native import Adamw, Convolution, Key, Native, Sgd, kernels, paired

shapes = st.lists(st.integers(1, 6), min_size=2, max_size=4).map(tuple)
sizes = st.integers(1, 9)
I8, I32 = torch.int8, torch.int32
both_ways = pytest.mark.parametrize("made_by", [kernels, paired])


def levels(shape: tuple[int, ...], seed: int, low: int = -127) -> Tensor:
    """Whole numbers from `low` to 127."""
    return torch.randint(low, 128, shape, generator=torch.Generator().manual_seed(seed)).to(I8)


def assert_rounded(made: Tensor, real: Tensor) -> None:
    """`made` is `real` rounded to nearest, but where that lies within 1e-4 of the middle of two numbers."""
    certain = (real - real.floor() - 0.5).abs() > 1e-4
    assert torch.equal(made[certain].float(), real.round()[certain].float())
    assert float((made.double() - real.double()).abs().max()) <= 0.5 + 1e-4


@given(shapes, seeds, layouts)
def test_round_nearest(shape: tuple[int, ...], seed: int, layout: int) -> None:
    x, out = normal(shape, seed), empty(shape, layout, I8)
    scale = x.abs().max() / 90

    kernels().ew_round_nearest(out, place(x, layout // 3), scale)

    assert torch.equal(out, integers.round_nearest(x, scale))


def test_ties_go_to_even_and_what_is_too_large_to_the_end() -> None:
    x, out = torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5, 200.0, -1e9, 3e38]), empty((10,), 0, I8)

    kernels().ew_round_nearest(out, x, torch.tensor(1.0))

    assert out.tolist() == [0, 2, 2, 0, -2, -2, 126, 127, -127, 127]


@given(shapes, st.integers(0, 2**40), seeds, layouts)
def test_round_stochastic(shape: tuple[int, ...], step: int, seed: int, layout: int) -> None:
    x, out = normal(shape, seed), empty(shape, layout, I8)
    scale = x.abs().max() / 100
    dither = integers.Dither(shape[0], x[0].numel(), step, 7, seed)
    u = dither.fill(torch.empty(shape[0], x[0].numel()), 0).view(shape)

    kernels().ew_round_stochastic(out, place(x, layout // 3), scale, Key(seed, step, 7))

    assert_rounded(out, x / scale + u - 0.5)


@both_ways
@given(sizes, sizes, sizes, seeds, layouts)
def test_matmul_i8(made_by: Callable[[], Native], m: int, k: int, n: int, seed: int, layout: int) -> None:
    a, b, out = levels((m, k), seed), levels((k, n), seed + 1), empty((m, n), layout, I32)

    made_by().ew_matmul_i8(out, place(a, layout // 3), place(b, layout // 5))

    assert torch.equal(out, (a.double() @ b.double()).to(I32))


@st.composite
def convolutions(draw: Any) -> tuple[tuple[int, ...], tuple[int, ...], Convolution, tuple[Any, ...]]:
    """Shapes of input and weight, and settings for C and for PyTorch."""
    groups = draw(st.integers(1, 3))
    batch, inputs, outputs = (draw(st.integers(1, 3)) for _ in range(3))
    kernel, stride, dilation = ([draw(st.integers(1, 3)) for _ in range(2)] for _ in range(3))
    padding = [draw(st.integers(0, 2)) for _ in range(2)]
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    space = [max(1, r - 2 * p) + draw(st.integers(0, 4)) for r, p in zip(reach, padding, strict=True)]
    x, w = (batch, groups * inputs, *space), (groups * outputs, inputs, *kernel)
    return x, w, Convolution.of(stride, padding, dilation, groups), (stride, padding, dilation, groups)


@both_ways
@given(convolutions(), seeds, layouts)
def test_convolutions_i8(made_by: Callable[[], Native], case: Any, seed: int, layout: int) -> None:
    x_shape, w_shape, c, settings = case
    x, w = levels(x_shape, seed), levels(w_shape, seed + 1)
    expected = F.conv2d(x.double(), w.double(), None, *settings)
    g = levels(tuple(expected.shape), seed + 2)
    call = (g.double(), x.double(), w.double(), None, *settings[:3], False, [0, 0], settings[3])
    of_x, of_w, _ = torch.ops.aten.convolution_backward(*call, (True, True, False))
    y, dx, dw = empty(expected.shape, layout, I32), empty(x_shape, layout, I32), empty(w_shape, layout, I32)
    placed = [place(t, layout // (3 + i)) for i, t in enumerate((x, w, g))]

    made_by().ew_convolution_i8(y, placed[0], placed[1], c)
    made_by().ew_convolution_input_gradient_i8(dx, placed[2], placed[1], c)
    made_by().ew_convolution_weight_gradient_i8(dw, placed[2], placed[0], c)

    assert torch.equal(y, expected.to(I32))
    assert torch.equal(dx, of_x.to(I32))
    assert torch.equal(dw, of_w.to(I32))


# -- layers ---------------------------------------------------------------------------------------------


@given(sizes, sizes, seeds, layouts)
def test_round_rows_and_mean_squares(rows: int, columns: int, seed: int, layout: int) -> None:
    x = normal((rows, columns), seed)
    x[0] = 0
    q, squares = empty((rows, columns), layout, I8), empty((rows,))

    kernels().ew_round_rows(q, place(x, layout // 3))
    kernels().ew_mean_squares(squares, q)

    assert_rounded(q, x / x.abs().amax(1, keepdim=True).clamp(min=1e-30) * 127)
    assert_close(squares, integer_layers.mean_squares(q.contiguous()), 1e-6)


cuts = st.integers(0, 9)


def slices(count: int, cut: int) -> list[slice]:
    """Two slices, or one."""
    return [slice(0, count)] if not 0 < cut < count else [slice(0, cut), slice(cut, count)]


@both_ways
@given(sizes, sizes, sizes, cuts, seeds, st.booleans())
def test_linear_relu(
    made_by: Callable[[], Native], rows: int, inputs: int, outputs: int, cut: int, seed: int, biased: bool
) -> None:
    q, w = levels((rows, inputs), seed), normal((outputs, inputs), seed)
    b, squares = normal((outputs,), seed + 1) if biased else None, integer_layers.mean_squares(q)
    y, of_y = empty((rows, outputs), 0, I8), empty((rows,))
    room = (ctypes.c_int8 * inputs)()

    whole, total = empty((rows, outputs), 0, I8), torch.zeros(rows, dtype=I32)
    kernels = made_by()

    kernels.ew_linear_relu_i8(whole, q, squares, w, b, 0.05, room)
    for part in slices(outputs, cut):
        own = None if b is None else b[part]
        kernels.ew_linear_relu_i8(y[:, part], q, squares, w[part], own, 0.05, room)
        kernels.ew_add_squares(total, y[:, part])
    kernels.ew_mean_of_squares(of_y, total, outputs)

    assert torch.equal(y, whole)
    expected, _ = integer_layers.apply_linear_relu(q, squares, w, b, 0.05)
    assert int((y.int() - expected.int()).abs().max()) <= 1
    assert int((y != expected).sum()) <= 1 + y.numel() // 50
    assert_close(of_y, integer_layers.mean_squares(y), 1e-6)


@given(st.integers(2, 6), st.integers(2, 5), st.integers(1, 6), cuts, st.integers(1, 4), seeds)
def test_first_layer(samples: int, classes: int, outputs: int, cut: int, wrong: int, seed: int) -> None:
    x = normal((samples, 3, classes), seed)
    w, b = normal((outputs, 3 * classes), seed), normal((outputs,), seed + 1)
    targets = torch.randint(classes, (samples,), generator=torch.Generator().manual_seed(seed))
    others = contrast.wrong_labels_of(targets, torch.tensor(3), classes, wrong, stream=1, seed=seed)
    labels = torch.cat([targets[None], others])
    expected = labelled_layer.apply_first_layer(x, labels, w, b, classes, 4.0, 0.05)
    made = [empty(t.shape, 0, t.dtype) for t in expected]
    room, goodness = (ctypes.c_int8 * (3 * classes))(), torch.zeros((wrong, samples), dtype=I32)
    half = samples
    (q, more), (of_q, of_more) = (made[i].split(half) for i in (0, 1))

    kernels().ew_labelled_rows(q, of_q, x, labels[:1], classes, 4.0)
    for part in slices(outputs, cut):
        kernels().ew_judge_labels(goodness, q, of_q, labels, w[part], b[part], 0.05, room)
    kernels().ew_best_rows(more, of_more, x, labels, goodness, classes, 4.0)
    kernels().ew_linear_relu_i8(made[2], made[0], made[1], w, b, 0.05, room)
    kernels().ew_mean_squares(made[3], made[2])

    assert int((made[0][:half].int() - expected[0][:half].int()).abs().max()) <= 1
    assert_close(made[1], expected[1], 1e-5)
    assert int((made[2][:half].int() - expected[2][:half].int()).abs().max()) <= 1
    assert_close(made[3], integer_layers.mean_squares(made[2]), 1e-6)
    # Of wrong labels as good, within a level of rounding, either may be taken.
    assert bool((made[3][half:] >= expected[3][half:] - 0.02 * expected[3][half:] - 4).all())
    q, squares = empty((wrong * samples + samples, 3 * classes), 0, I8), empty((labels.numel(),))
    kernels().ew_labelled_rows(q, squares, x, labels, classes, 4.0)
    exact, exact_squares = labelled_layer.label_rows(x, labels, classes, 4.0)
    assert int((q.int() - exact.int()).abs().max()) <= 1
    assert_close(squares, exact_squares, 1e-5)


@given(st.integers(1, 4), sizes, seeds, st.booleans(), st.booleans())
def test_relu_gradient(half: int, columns: int, seed: int, peers: bool, stochastic: bool) -> None:
    rows = 2 * half
    y, slope = levels((rows, columns), seed, 0), normal((rows,), seed)
    squares, p = integer_layers.mean_squares(y), normal((columns,), seed + 1) if peers else None
    g, scale, total = empty((rows, columns), 0, I8), torch.zeros(()), empty((columns,))
    key = Key(seed, 5, 2) if stochastic else None

    kernels().ew_relu_gradient_i8(g, scale, total, y, slope, p, squares, 0.06, key)

    given_ = (y, slope, p, squares, torch.tensor(5), 0.06, stochastic)
    exact, exact_scale, exact_total = integer_layers.drawn_gradient(*given_, stream=2, seed=seed)
    assert_close(scale, exact_scale, 1e-6)
    terms = (y.float() * (slope * (2 / (0.06 * columns)))[:, None]).abs().sum(0) + exact_total.abs()
    assert_close(total, exact_total, 1e-5, terms + (p.abs() * half if p is not None else 0))
    assert int((g.int() - exact.int()).abs().max()) <= 1
    assert int((g != exact).sum()) <= 1 + g.numel() // 20


@pytest.mark.parametrize("optimizer", [SGD(0.1, 0.9), AdamW(1e-2)], ids=str)
@given(sizes, sizes, sizes, seeds)
def test_weight_gradients(optimizer: Any, rows: int, inputs: int, outputs: int, seed: int) -> None:
    g, q, scale = levels((rows, outputs), seed), levels((rows, inputs), seed + 1), torch.tensor(0.003)
    gradient, out, w = 0.003 * (g.double().t() @ q.double()), empty((outputs * inputs,)), normal((9,), seed)
    w = normal((outputs * inputs,), seed)
    exact, states = w.double(), zero_states(optimizer, w)
    exact_states = zero_states(optimizer, exact)

    kernels().ew_weight_gradient_i8(out, g, q, scale)
    optimizer.update(exact, gradient.flatten(), exact_states, 2)
    if isinstance(optimizer, SGD):
        kernels().ew_sgd_i8(w, g, q, scale, states["momentum"], Sgd(0.1, 0.9, 0.0))
    else:
        settings = Adamw(optimizer.lr, *optimizer.betas, optimizer.eps, optimizer.weight_decay)
        kernels().ew_adamw_i8(w, g, q, scale, *states.values(), settings, 2)

    assert_close(out, gradient.flatten(), 1e-6)
    assert_close(w, exact, 1e-6, exact.abs() + gradient.flatten().abs())


@given(st.integers(1, 9), st.floats(0.1, 20), st.booleans(), seeds)
def test_contrast(half: int, sharpness: float, pairs: bool, seed: int) -> None:
    goodness, loss, slope = normal((2 * half,), seed), torch.zeros(()), empty((2 * half,))
    threshold = None if pairs else 0.25

    kernels().ew_contrast(loss, slope, goodness, sharpness, threshold or 0.0, int(pairs))

    exact, exact_slope = contrast.contrast_of(goodness.double(), sharpness, threshold)
    # A margin m is rounded, and so is what is left of e^-m: by as much more as m is large.
    margin = 1 + sharpness * (goodness.abs().max() + 0.25)
    assert_close(loss, exact, 1e-6, exact * margin)
    assert_close(slope, exact_slope, 1e-6, exact_slope * margin)
