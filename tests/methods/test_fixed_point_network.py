"""Integer kernels against float64, and integer networks against the float models that they are made of."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgewise.errors import ModelUnsupported
from edgewise.methods import FixedPoint
from edgewise.methods.fixed_point import operators as ops
from edgewise.methods.fixed_point import quantize
from edgewise.methods.fixed_point.arithmetic import Factor, factor_of, scaled
from edgewise.methods.fixed_point.loss import UNIT_BITS, cross_entropy, factor_of_logits
from edgewise.methods.fixed_point.network import moves
from tests.methods.steps import network

RAW = ops.Output(None)


def integers(shape: tuple[int, ...], largest: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-largest, largest + 1, shape, generator=generator)


@given(st.floats(1e-9, 1e3), st.integers(-(2**31), 2**31))
@settings(deadline=None, max_examples=100)
def test_a_factor_is_the_real_number_to_nine_digits(real: float, x: int) -> None:
    factor = factor_of(real)
    assert factor.m < 2**31
    assert factor.real == pytest.approx(real, rel=1e-9)
    assert int(scaled(torch.tensor([x]), factor)) == pytest.approx(x * real, abs=0.5 + abs(x * real) * 1e-9)


@given(
    samples=st.integers(1, 3),
    groups=st.integers(1, 3),
    channels=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 2),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    size=st.tuples(st.integers(5, 9), st.integers(5, 9)),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=60)
def test_a_convolution_is_exact(
    samples: int, groups: int, channels: tuple[int, int], kernel: tuple[int, int], stride: int,
    padding: int, dilation: int, size: tuple[int, int], seed: int,
) -> None:  # fmt: skip
    x = integers((samples, groups * channels[0], *size), 127, seed).to(torch.int8)
    w = integers((groups * channels[1], channels[0], *kernel), 32767, seed + 1).to(torch.int16)
    b = integers((groups * channels[1],), 32767, seed + 2).to(torch.int16)
    window = ops.Window(kernel, (stride,) * 2, (padding,) * 2, (dilation,) * 2)
    found = ops.Convolution(RAW, window, groups, Factor(1, 1))([x], [w, b])
    bias = (b.long() + 1) >> 1
    exact = nn.functional.conv2d(
        x.double(), w.double(), bias.double(), stride, padding, dilation, groups
    )  # float64 is exact far beyond these sums
    assert torch.equal(found.double(), exact)


@pytest.mark.parametrize("block", [1, 50, 10**6])
def test_blocks_make_no_difference(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgewise.methods.fixed_point import products  # noqa: PLC0415

    monkeypatch.setattr(products, "BLOCK", block)
    x = integers((3, 6, 8, 7), 127).to(torch.int8)
    w = integers((4, 3, 3, 3), 32767).to(torch.int16)
    found = ops.Convolution(RAW, ops.Window((3, 3), padding=(1, 1)), 2)([x], [w])
    exact = nn.functional.conv2d(x.double(), w.double(), padding=1, groups=2)
    assert torch.equal(found.double(), exact)


@given(st.integers(1, 5), st.integers(1, 600), st.integers(1, 7))
@settings(deadline=None, max_examples=30)
def test_a_linear_layer_is_exact_at_the_largest_integers(rows: int, fan_in: int, channels: int) -> None:
    limit = min(32767, (2**31 - 2) // (127 * fan_in))
    x = torch.full((rows, fan_in), -127, dtype=torch.int8)
    w = torch.full((channels, fan_in), limit, dtype=torch.int16)
    found = ops.Linear(RAW)([x], [w])
    assert found.dtype == torch.int32
    assert (found == -127 * limit * fan_in).all()


def test_accumulators_are_rounded_and_saturated() -> None:
    output = ops.Output(Factor(1, 1), 0, 100)
    assert output.of(torch.tensor([-5, 3, 4, 5, 1000])).tolist() == [0, 2, 2, 3, 100]


@given(st.integers(1, 4), st.integers(2, 12), st.floats(1e-6, 1e-2), st.integers(0, 99))
@settings(deadline=None, max_examples=50)
def test_the_cross_entropy_is_the_real_one(samples: int, classes: int, scale: float, seed: int) -> None:
    logits = integers((samples, classes), int(min(50 / scale, 2**30)), seed).to(torch.int32)
    targets = integers((samples,), 10**6, seed).abs() % classes
    exact = nn.functional.cross_entropy(logits.double() * scale, targets, reduction="sum") / math.log(2)
    found = int(cross_entropy(logits, targets, factor_of_logits(scale))) / 2**UNIT_BITS
    assert found == pytest.approx(float(exact), abs=1e-5 * samples)


def test_smaller_differences_of_losses_have_the_right_sign() -> None:
    """One logit moved by a thousandth moves the loss by far more than the tables err."""
    scale = 1e-5
    logits = integers((8, 10), 300_000).to(torch.int32)
    targets = torch.arange(8)
    more = logits.clone()
    more[torch.arange(8), targets] += 100
    factor = factor_of_logits(scale)
    assert int(cross_entropy(more, targets, factor)) < int(cross_entropy(logits, targets, factor))


def settled(model: nn.Module, x: Tensor) -> nn.Module:
    """With running statistics of `x`, in evaluation."""
    with torch.no_grad():
        for _ in range(30):
            model.train()(x)
    return model.eval()


class Residual(nn.Module):
    """A stem, a gated depthwise branch around which the input goes, all kinds of pooling, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.depthwise = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8), nn.ReLU6())
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Sigmoid())
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Linear(16, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(self.stem(x), 3, 2, 1)
        y = self.depthwise(x)
        y = nn.functional.hardswish(nn.functional.relu_(x + y * self.gate(y)))
        parts = [nn.functional.avg_pool2d(y, 4).flatten(1), 2 * y.mean((2, 3)) - 1]
        return self.head(torch.cat(parts, 1))


class Waves(nn.Sequential):
    """Convolutions over one axis."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv1d(2, 6, 5, stride=2, padding=2), nn.BatchNorm1d(6), nn.ReLU(), nn.MaxPool1d(2),
            nn.Conv1d(6, 6, 3, groups=6), nn.GELU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(6, 4),
        )  # fmt: skip


def example(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


MODELS = {
    "residual": (Residual, example(16, 3, 8, 8)),
    "waves": (Waves, example(16, 2, 40)),
    "mlp": (
        lambda: network(nn.Linear(6, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 3)),
        example(16, 6),
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_an_integer_network_has_the_scores_of_the_float_model(name: str) -> None:
    """To 8 bits of each activation; also for a batch of another size, and the model stays as it was."""
    make, x = MODELS[name]
    torch.manual_seed(0)
    model = settled(make(), x)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    integer = quantize(model, x)
    scores = model(x)
    assert (integer(x) - scores).abs().max() < 0.05 * scores.abs().max()
    assert torch.equal(integer(x[:3]), integer(x)[:3])
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())


def test_parameters_keep_their_names_and_norms_are_folded() -> None:
    integer = quantize(settled(Residual(), MODELS["residual"][1]), MODELS["residual"][1])
    held = dict(integer.named_parameters())
    assert set(held) == {
        f"{layer}.{kind}"
        for layer in ("stem.0", "depthwise.0", "gate.1", "head.1")
        for kind in ("weight", "bias")
    }
    assert all(tensor.dtype == torch.int16 for tensor in held.values())


def test_what_is_not_trained_in_the_model_is_not_trained_in_integers() -> None:
    model = network(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))
    model[0].requires_grad_(False)
    parameters = quantize(model, example(8, 4)).network.parameters
    assert [name for name, p in parameters.items() if p.trained] == ["2.weight", "2.bias"]


@pytest.mark.parametrize("fan_in", [10, 700, 20_000])
def test_no_accumulator_can_overflow(fan_in: int) -> None:
    """Whatever the activations are, and wherever the weights go: at `most`, perturbed at the same time."""
    network = quantize(nn.Sequential(nn.Linear(fan_in, 3)), example(4, fan_in)).network
    weight, bias = (network.parameters[name] for name in ("0.weight", "0.bias"))
    largest, offset = (p.most + moves(p.epsilon)[-1] for p in (weight, bias))
    assert fan_in * 127 * largest + offset * bias.scale / network.logit_scale < 2**31
    assert fan_in > 600 or weight.most > 30_000


def test_sums_that_overflow_are_refused_with_the_layer() -> None:
    model = nn.Sequential(nn.Conv2d(4, 2, 1), nn.Flatten(), nn.Linear(2 * 64, 3))
    with pytest.raises(
        ModelUnsupported, match=r"2: aten.linear.default: a sum of 128 products .* 16 bits even"
    ):
        quantize(model, example(2, 4, 8, 8), FixedPoint(accumulator_bits=16))


def test_all_that_has_no_operator_is_listed_with_its_path() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(6)
            self.body = nn.Sequential(nn.Linear(6, 6), nn.Softmax(1))
            self.two = nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            return self.two(self.two(self.body(self.norm(x))))

    with pytest.raises(ModelUnsupported) as caught:
        quantize(Odd(), example(4, 6))
    assert caught.value.parts == (
        "norm: aten.layer_norm.default: it has no integer operator",
        "body.1: aten.softmax.int: it has no integer operator",
        "two: aten.linear.default: its weight `two.weight` is used twice; shared weights are not supported",
    )


@pytest.mark.parametrize(
    ("model", "inputs", "text"),
    [
        (
            nn.Embedding(4, 3),
            torch.arange(4),
            "the model itself: input: fixed point takes one tensor of real",
        ),
        (nn.AdaptiveAvgPool2d(2), example(2, 3, 5, 5), "windows of unequal sizes, .5, 5. to .2, 2."),
        (nn.MaxPool2d(2, ceil_mode=True), example(2, 3, 5, 5), "ceil_mode"),
        (nn.Conv2d(3, 3, 3, padding="same"), example(2, 3, 5, 5), "has no integer operator|padding by name"),
        (nn.BatchNorm2d(3), example(2, 3, 5, 5), "aten.batch_norm.default: it has no integer operator"),
        (nn.Flatten(0), example(2, 3), "the first axis of .6. is not that of the samples"),
    ],
    ids=["input", "adaptive", "ceil", "same", "norm", "samples"],
)
def test_what_is_refused(model: nn.Module, inputs: Tensor, text: str) -> None:
    with pytest.raises(ModelUnsupported, match=text):
        quantize(nn.Sequential(model), inputs)
