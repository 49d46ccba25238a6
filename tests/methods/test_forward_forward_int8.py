"""Arithmetic on int8: exact products, unbiased rounding, and layers that do what their formulas say."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from edgewise.capture import integer_layers, integers, labelled_layer, philox
from edgewise.capture.integer_layers import Blocks
from edgewise.methods import ForwardForward
from edgewise.methods.int8_operands import Int8Operands
from tests.methods.steps import captured_by, gradients, network
from tests.methods.test_forward_forward import MILD, batch, written, wrong

aten = torch.ops.aten


def whole_numbers(*size: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-127, 128, size, dtype=torch.int8, generator=generator)


@pytest.mark.parametrize(
    "shape",
    [(64, 100, 20), (1, 1, 1), (3, 5, 7), (17, 1040, 33), (2, 2000, 3), (1, 1, 40), (1, 40, 1), (40, 1, 1)],
)
@pytest.mark.parametrize("transposed", [False, True])
def test_products_are_exact(shape: tuple[int, int, int], transposed: bool) -> None:
    rows, inner, columns = shape
    a, b = whole_numbers(rows, inner), whole_numbers(inner, columns, seed=1)
    a[0], b[:, 0] = 127, 127  # the largest sum there can be
    b = b.t().contiguous().t() if transposed else b
    assert torch.equal(integers.product(a, b).long(), a.long() @ b.long())
    assert torch.equal(integers.product(b.t(), a.t()).long(), b.t().long() @ a.t().long())


CONVOLUTIONS = [
    ((3, 4, 9, 8), (5, 4, 3, 3), ([1, 1], [1, 1], [1, 1], 1)),
    ((2, 6, 9, 8), (4, 3, 3, 2), ([2, 1], [0, 1], [1, 2], 2)),
    ((2, 5, 7, 7), (5, 1, 3, 3), ([1, 1], [1, 1], [1, 1], 5)),
    ((1, 150, 5, 5), (3, 150, 3, 3), ([1, 1], [1, 1], [1, 1], 1)),
]


@pytest.mark.parametrize(("size", "kernel", "settings"), CONVOLUTIONS)
def test_convolutions_are_exact(
    size: tuple[int, ...], kernel: tuple[int, ...], settings: tuple[list[int], list[int], list[int], int]
) -> None:
    """Against float64, which holds all sums exactly."""
    x, w = whole_numbers(*size), whole_numbers(*kernel, seed=1)
    y = integers.convolution(x, w, *settings)
    assert torch.equal(y.double(), nn.functional.conv2d(x.double(), w.double(), None, *settings))
    g = whole_numbers(*y.shape, seed=2)
    stride, padding, dilation, groups = settings
    rest = (stride, padding, dilation, False, [0, 0], groups, (True, True, False))
    of_x, of_w, _ = aten.convolution_backward(g.double(), x.double(), w.double(), None, *rest)
    assert torch.equal(integers.convolution_input(g, w, list(size), *settings).double(), of_x)
    assert torch.equal(integers.convolution_weight(g, x, list(kernel), *settings).double(), of_w)


def rounded(x: Tensor, scale: float, steps: int) -> Tensor:
    """Stochastically rounded in each of so many steps, as the real numbers that the whole ones stand for."""
    each = [
        integers.round_stochastic(x, torch.tensor(scale), integers.Dither(*x.shape, step, 3, 7))
        for step in range(steps)
    ]
    return torch.stack(each).double() * scale


def test_stochastic_rounding_is_unbiased() -> None:
    """The mean lies within four standard errors, element by element, and all together."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 7, generator=generator)
    found = rounded(x, 0.05, 500)
    share = (x.double() / 0.05) % 1
    deviation = 0.05 * (share * (1 - share) / len(found)).sqrt()
    error = found.mean(0) - x.double()
    assert (error.abs() <= 4.5 * deviation + 1e-6).all()
    assert (found - x.double()).abs().max() < 0.05 + 1e-6


def test_dithers_make_sums_vary_as_independent_ones_do() -> None:
    """Rounding errors of a column add up over rows with the variance of the parts: no two are correlated."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(20, 5, generator=generator)
    found = rounded(x, 0.05, 500) - x.double()
    share = (x.double() / 0.05) % 1
    expected = (0.05**2 * share * (1 - share)).sum(0)
    assert torch.allclose(found.sum(1).var(0), expected, rtol=0.35)
    flat = found.flatten(1)
    flat = flat[:, flat.std(0) > 1e-3]
    alike = torch.corrcoef(flat.t()) - torch.eye(flat.shape[1])
    assert alike.abs().max() < 5.5 / 500**0.5


def test_dithers_are_uniform_and_the_same_for_the_same_step() -> None:
    def draw(step: int) -> Tensor:
        return integers.Dither(64, 33, step, 0, 0).fill(torch.empty(64, 33), 0)

    u = draw(5)
    assert torch.equal(u, draw(5))
    assert not torch.equal(u, draw(6))
    counts = torch.histc(u, 8, 0, 1)
    assert float(u.min()) >= 0
    assert float(u.max()) < 1
    assert (counts - u.numel() / 8).abs().max() < 0.2 * u.numel() / 8


def test_sums_become_floats_where_they_are() -> None:
    sums = torch.randint(-(1 << 23), 1 << 23, (300, 77), dtype=torch.int32)
    wanted, at = sums.float(), sums.data_ptr()
    floats = integers.in_floats(sums)
    assert torch.equal(floats, wanted)
    assert floats.data_ptr() == at


@pytest.mark.parametrize("candidates", [1, 3])
def test_the_first_layer_picks_the_best_label(candidates: int) -> None:
    """As if each sample had been written, rounded and multiplied once for each of its labels."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(5, 30, generator=generator) - 0.3
    w, b = torch.randn(700, 30, generator=generator), torch.randn(700, generator=generator)
    labels = torch.stack([torch.randperm(6, generator=generator)[: 1 + candidates] for _ in x], 1)
    each = []
    for some in labels:
        q = integer_layers.rows(written(x, some, 0.9, classes=6))
        squares = integer_layers.squares(q)
        each.append((q, squares, *integer_layers.linear_relu(q, squares, w, b, 0.1)))
    best = torch.stack([squares for *_, squares in each[1:]]).argmax(0)
    ours = labelled_layer.first_layer(x, labels, w, b, 6, 0.9, 0.1)
    for i, found in enumerate(ours):
        wrong_ones = [each[1 + k][i][n] for n, k in enumerate(best.tolist())]
        wanted = torch.cat([each[0][i], torch.stack(wrong_ones)])
        assert torch.allclose(found.double(), wanted.double(), rtol=1e-6, atol=1e-6)
    for rows, labels_of in zip(
        ours[0].chunk(2), (labels[0], labels[1:].gather(0, best[None])[0]), strict=True
    ):
        assert torch.equal(rows, integer_layers.rows(written(x, labels_of, 0.9, classes=6)))
        again, _ = labelled_layer.labelled(x, labels_of[None], 6, 0.9)
        assert torch.equal(rows, again)


@given(
    rows=st.integers(1, 20),
    inputs=st.integers(1, 70),
    outputs=st.integers(1, 150),
    block=st.integers(1, 40),
    seed=st.integers(0, 99),
)
def test_slices_of_outputs_are_those_of_the_layer(
    rows: int, inputs: int, outputs: int, block: int, seed: int
) -> None:
    q, dice = whole_numbers(rows, inputs, seed=seed), torch.Generator().manual_seed(seed)
    squares = integer_layers.squares(q)
    w, b = torch.randn(outputs, inputs, generator=dice), torch.randn(outputs, generator=dice)
    y, total = integer_layers.levels_and_squares(q, squares, w, b, 0.02)
    more = torch.zeros_like(total)
    for at in range(0, outputs, block):
        part = slice(at, at + block)
        made, squares_of_part = integer_layers.levels_and_squares(q, squares, w[part], b[part], 0.02)
        assert torch.equal(made, y[:, part])
        more += squares_of_part
    assert torch.equal(more, total)


@given(outputs=st.integers(1, 100), block=st.integers(1, 20), seed=st.integers(0, 99))
def test_levels_are_rounded_alike_wherever_they_stand(outputs: int, block: int, seed: int) -> None:
    """Before they are whole: a difference in the last bit would show in few of them only."""
    dice = torch.Generator().manual_seed(seed)
    w, b = torch.randn(outputs, 8, generator=dice), torch.randn(outputs, generator=dice)
    z, squares = 1000 * torch.randn(3, outputs, generator=dice), torch.rand(3, generator=dice)
    (whole,) = Blocks(3, w, b, squares, 0.02)
    y = whole.scaled(slice(0, 3), z.clone())
    for at in range(0, outputs, block):
        part = slice(at, at + block)
        (some,) = Blocks(3, w[part], b[part], squares, 0.02)
        assert torch.equal(some.scaled(slice(0, 3), z[:, part].clone()), y[:, part])


@pytest.mark.parametrize("size", [(5, 3), (300, 700), (1, 1)])
def test_chunks_change_nothing(size: tuple[int, int]) -> None:
    """A tensor larger than a chunk is rounded as its parts are."""
    x = torch.randn(*size, generator=torch.Generator().manual_seed(0))
    scale = integers.scale_of(x)
    assert torch.equal(integers.nearest(x, scale).float(), (x / scale).round().clamp(-127, 127))
    assert int(integers.nearest(x, scale).abs().max()) == 127
    q = integer_layers.rows(x)
    largest = x.abs().amax(1, keepdim=True)
    assert (q.float() * largest / 127 - x).abs().max() <= 0.51 * float(largest.max()) / 127
    assert torch.allclose(integer_layers.squares(q), q.float().square().mean(1))
    w = torch.randn(40, size[1], generator=torch.Generator().manual_seed(1))
    b = w[:, 0].clone()
    y, squares = integer_layers.linear_relu(q, integer_layers.squares(q), w, b, 0.1)
    real = q.double() / q.double().square().mean(1, keepdim=True).sqrt()
    scales = w.abs().amax(1, keepdim=True).double() / 127
    wanted = ((real @ ((w / scales).round() * scales).t() + b).relu() / 0.1).clamp(max=127)
    assert (y.double() - wanted).abs().max() < 0.51
    assert torch.allclose(squares, integer_layers.squares(y))


def test_zeros_are_no_trouble() -> None:
    zeros = torch.zeros(4, 6)
    assert not integers.nearest(zeros, integers.scale_of(zeros)).any()
    q = integer_layers.rows(zeros)
    y, _ = integer_layers.linear_relu(q, integer_layers.squares(q), torch.zeros(3, 6), None, 0.1)
    assert not y.any()
    g, scale, total = integer_layers.gradient_of(y, torch.zeros(4), None, integer_layers.squares(q), None)
    assert not g.any()
    assert torch.isfinite(scale)
    assert not total.any()


def of_rounding(rounding: str, peer: float = 0.0, steps: int = 1) -> list[dict[str, Tensor]]:
    settings = ForwardForward(precision="int8", rounding=rounding, peer=peer, **MILD)  # type: ignore[arg-type]
    model = network(nn.Linear(12, 7), nn.ReLU(), nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 4))
    return list(gradients(captured_by(settings, model, batch()), batch(), steps))


def test_int8_layers_have_the_gradient_of_the_formula() -> None:
    """Bit for bit that of whole numbers multiplied as int64; without rounding, what the float layer has."""
    model = network(nn.Linear(12, 7), nn.ReLU(), nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 4))
    (ours,) = of_rounding("nearest")
    x, y = batch()
    s = ForwardForward(**MILD)
    q = integer_layers.rows(torch.cat([written(x, labels, s.label_value) for labels in (y, wrong(y))]))
    step = s.activation_range / 127
    for index in (0, 2):
        layer, squares = model[index], integer_layers.squares(q)
        weights = layer.weight.detach(), layer.bias.detach()
        out, squares_of_out = integer_layers.linear_relu(q, squares, *weights, step)
        goodness = (squares_of_out * step**2).requires_grad_()
        above = s.sharpness * (goodness - s.threshold)
        loss = nn.functional.softplus(-above[:6]).mean() + nn.functional.softplus(above[6:]).mean()
        (slope,) = torch.autograd.grad(loss, goodness)
        c = slope * 2 * step / out.shape[1]
        exact = c[:, None] * out
        real = q.float() / q.float().square().mean(1, keepdim=True).sqrt()
        g, scale, _ = integer_layers.gradient_of(out, c, None, squares, None)
        assert torch.allclose(
            ours[f"{index}.weight"], scale * (g.long().t() @ q.long()), rtol=1e-5, atol=1e-7
        )
        near = float(scale) * 0.51 * float(q.abs().float().sum(0).max())
        assert (ours[f"{index}.weight"] - exact.t() @ real).abs().max() < near
        assert torch.allclose(ours[f"{index}.bias"], exact.sum(0), rtol=1e-4, atol=1e-6)
        q = out


def test_stochastic_gradients_have_the_mean_of_the_formula() -> None:
    """Many roundings of the same gradient: what they make of it averages to the gradient."""
    y, c = whole_numbers(8, 5).clamp(min=0), torch.randn(8, generator=torch.Generator().manual_seed(2))
    p, squares = torch.randn(5, generator=torch.Generator().manual_seed(3)), torch.full((8,), 4.0)
    exact = c[:, None] * y
    exact[:4] += p * (y[:4] > 0)
    each = []
    for step in range(500):
        g, scale, total = integer_layers.gradient_of(y, c, p, squares, integers.Dither(8, 5, step, 0, 0))
        each.append(g.double() * float(scale) * 2)  # times the rms of the input's rows
        assert torch.allclose(total, exact.sum(0), rtol=1e-4, atol=1e-4)
    found = torch.stack(each)
    assert ((found.mean(0) - exact).abs() <= 4.5 * found.std(0) / 500**0.5 + 1e-3).all()


def test_peers_reach_int8_layers() -> None:
    (without,), (with_peers,) = of_rounding("nearest"), of_rounding("nearest", peer=5.0)
    assert not torch.allclose(without["0.weight"], with_peers["0.weight"], rtol=0.05)


@pytest.mark.parametrize(
    "make",
    [lambda: nn.Linear(12, 5), lambda: nn.Conv2d(3, 4, 3, stride=2, padding=1)],
    ids=["linear", "conv"],
)
def test_int8_operands_are_near_floats(make: Callable[[], nn.Module]) -> None:
    """Output and all gradients to within a few parts of 127."""
    torch.manual_seed(0)
    layer = make()
    x = torch.randn(6, 12) if isinstance(layer, nn.Linear) else torch.randn(2, 3, 9, 9)
    found = []
    for int8 in (False, True):
        data = x.clone().requires_grad_()
        if int8:
            with Int8Operands():
                y = layer(data)
        else:
            y = layer(data)
        found.append((y.detach(), *torch.autograd.grad(y.square().sum(), [data, *layer.parameters()])))
    for exact, near in zip(*found, strict=True):
        assert (exact - near).norm() < 0.03 * exact.norm()
        assert not torch.equal(exact, near)


def test_everything_random_is_of_the_step() -> None:
    """The same step gives the same gradient, another one another."""
    first, second = of_rounding("stochastic", steps=2)
    (again,) = of_rounding("stochastic")
    assert torch.equal(first["2.weight"], again["2.weight"])
    assert not torch.equal(first["2.weight"], second["2.weight"])
    assert philox.uniform((4,), torch.float32, 0, 0, 0).shape == (4,)
