"""Frozen layers on int8: close to the float network, int8 from end to end, and the same bits by every way."""

import copy
from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from edgewise.capture import requantized
from edgewise.errors import UsageError
from edgewise.methods import SparseUpdate
from edgewise.methods.frozen_int8 import Int8Layer, Int8Weights, with_int8_layers
from tests.methods.steps import captured_by, gradients, network, states_under_random_plans


class Residual(nn.Module):
    """x + f(x), clamped or not; f is two convolutions with norms."""

    def __init__(self, channels: int, end: nn.Module) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.second, self.end = nn.Conv2d(channels, channels, 1, bias=False), end

    def reset_parameters(self) -> None:
        self.first.reset_parameters()
        self.second.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        inner: Tensor = F.relu(self.norm(self.first(x)))
        end: Tensor = self.end(self.second(inner) + x)
        return end


def chain() -> nn.Sequential:
    return network(
        nn.Conv2d(1, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), nn.ReLU6(inplace=True),
        nn.Conv2d(6, 6, 3, groups=6, dilation=2, padding=1, bias=False), nn.BatchNorm2d(6),
        nn.Hardtanh(-0.5, 1.5), nn.Conv2d(6, 8, 1), nn.ReLU(), nn.Flatten(), nn.Linear(72, 12), nn.ReLU(),
        nn.Linear(12, 3),
    )  # fmt: skip


def residual() -> nn.Sequential:
    return network(
        nn.Conv2d(1, 4, 3), nn.ReLU(), Residual(4, nn.ReLU()), Residual(4, nn.Identity()),
        Residual(4, nn.ReLU6()), nn.Conv2d(4, 4, 1), nn.Flatten(), nn.Linear(196, 3),
    )  # fmt: skip


def between() -> nn.Sequential:
    """What is no clamp lies between layers: an average, and functions of every element."""
    return network(
        nn.Conv2d(1, 4, 3), nn.AvgPool2d(2), nn.Conv2d(4, 4, 2), nn.GELU(), nn.Conv2d(4, 4, 1),
        nn.LeakyReLU(0.3), nn.Flatten(), nn.Linear(16, 8), nn.Hardswish(), nn.Linear(8, 3),
    )  # fmt: skip


class Function(nn.Module):
    """One of every element, which reads it in any place, also twice."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Odd(nn.Module):
    """Two convolutions share a norm, and a frozen weight is no layer's."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.norm = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.weight, self.head = nn.Parameter(torch.ones(5, 196)), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm(self.second(F.relu(self.norm(self.first(x))))))
        scores: Tensor = self.head(F.linear(y.flatten(1), weight=self.weight))
        return scores


class Camera(nn.Module):
    """A chain behind bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.network = chain()

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.network((x.float() - 128) / 64)
        return scores


def pooled() -> nn.Sequential:
    """The largest of windows, behind a clamp or none, and before the head; convolutions padded by a word."""
    return network(
        nn.Conv2d(1, 4, 3, padding="same"), nn.ReLU(), nn.MaxPool2d(3, 2, 1), Residual(4, nn.ReLU()),
        nn.Conv2d(4, 6, (1, 3), padding="same", dilation=2, groups=2), nn.BatchNorm2d(6),
        nn.MaxPool2d(2, ceil_mode=True), nn.Conv2d(6, 4, 2, padding="valid"), nn.ReLU6(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(4, 3),
    )  # fmt: skip


NETWORKS = {"chain": chain, "residual": residual, "between": between, "pooled": pooled}


def batch(seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(4, 1, 9, 9, generator=generator), torch.arange(4) % 3


def head(model: nn.Sequential) -> SparseUpdate:
    """The last layer is trained."""
    last = str(len(model) - 1)
    return SparseUpdate({last: 1.0}, (last,), "int8")


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_the_network_is_nearly_the_float_one(make) -> None:  # type: ignore[no-untyped-def]
    model = make()
    before = copy.deepcopy(model.state_dict())
    made, paths = with_int8_layers(model, [batch()[0], batch(2)[0]], {f"{len(model) - 1}.weight"})
    with torch.no_grad():
        expected, found = (each.eval()(batch(2)[0]) for each in (model, made))

    assert len(paths) == sum(isinstance(m, (nn.Conv2d, nn.Linear)) for m in model.modules()) - 1
    assert all(isinstance(made.get_submodule(path), Int8Layer) for path in paths)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in made.modules())
    assert float((found - expected).norm() / expected.norm()) < 0.03
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_a_step_is_that_of_the_module(make, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    """Also without the way through floats, and in slices, the bits are those of the layers one by one."""
    captured = captured_by(head(make()), make(), batch())
    (found,) = gradients(captured, batch(), 1)
    captured.model.eval()
    exact = F.cross_entropy(captured.model(batch()[0]), batch()[1])
    names, parameters = zip(
        *((n, p) for n, p in captured.model.named_parameters() if found[n].any()), strict=True
    )
    for name, gradient in zip(names, torch.autograd.grad(exact, parameters), strict=True):
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)
    monkeypatch.setattr("edgewise.capture.int8_chains.stay_in_int8", lambda joint: None)
    longer = captured_by(head(make()), make(), batch())
    assert len(longer.graph.ops) >= len(captured.graph.ops) + (8 if make is not between else 3)
    (through_floats,) = gradients(longer, batch(), 1)
    assert all(torch.equal(found[name], tensor) for name, tensor in through_floats.items())


def test_bytes_of_a_camera_are_never_floats() -> None:
    images = torch.randint(0, 256, (4, 1, 9, 9), dtype=torch.uint8)
    settings = SparseUpdate({"network.11": 1.0}, ("network.11",), "int8")
    captured = captured_by(settings, Camera(), (images, batch()[1]))
    first = captured.graph.ops[0]

    assert first.inputs == ("batch.0", "constant.0")
    assert captured.graph.value[first.outputs[0]].dtype == "int8"
    states = states_under_random_plans(captured, (images, batch()[1]))
    assert all(torch.equal(states[0][name], tensor) for state in states for name, tensor in state.items())


@pytest.mark.parametrize("make", [chain, residual, pooled], ids=["chain", "residual", "pooled"])
def test_between_layers_all_is_int8(make) -> None:  # type: ignore[no-untyped-def]
    captured = captured_by(head(make()), make(), batch())
    dtypes = [captured.graph.value[op.outputs[0]].dtype for op in captured.graph.ops if op.outputs]
    count = sum(isinstance(m, Int8Layer) for m in captured.model.modules())

    assert set(dtypes[: dtypes.index("float32")]) == {"int8"}
    assert dtypes.index("float32") > count


def test_random_plans_make_the_same_bits() -> None:
    states = states_under_random_plans(captured_by(head(residual()), residual(), batch()), batch())
    assert all(torch.equal(states[0][name], tensor) for state in states[1:] for name, tensor in state.items())


def test_what_gradients_pass_stays_in_floats_by_int8_weights() -> None:
    captured = captured_by(SparseUpdate({"3": 1.0}, ("6",), "int8"), chain(), batch())
    kinds = {path: type(m) for path, m in captured.model.named_modules()}

    assert kinds["0"] is Int8Layer
    assert [kinds[p] for p in ("3", "6", "9", "11")] == [nn.Conv2d, Int8Weights, nn.Linear, nn.Linear]
    assert kinds["4"] is nn.BatchNorm2d
    (found,) = gradients(captured, batch(), 1)
    model = captured.model
    loss = F.cross_entropy(model(batch()[0]), batch()[1])
    for name in ("3.weight", "6.bias"):
        (exact,) = torch.autograd.grad(loss, model.get_parameter(name), retain_graph=True)
        torch.testing.assert_close(found[name], exact, rtol=1e-4, atol=1e-7)
    states = states_under_random_plans(captured, batch())
    assert all(torch.equal(states[0][name], tensor) for state in states for name, tensor in state.items())


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_a_convolution_by_int8_weights_is_that_by_floats(groups: int) -> None:
    torch.manual_seed(groups)
    layer = nn.Conv2d(6, 12, 3, stride=2, padding=1, groups=groups)
    by_int8 = Int8Weights(layer)
    layer.weight.data = by_int8.weight * by_int8.factor.view(-1, 1, 1, 1)
    x = torch.randn(2, 6, 9, 9, requires_grad=True)
    made, exact = by_int8(x), layer(x)
    dy = torch.randn_like(exact)
    mine = (made, *torch.autograd.grad(made, (x, by_int8.bias), dy))
    theirs = (exact, *torch.autograd.grad(exact, (x, layer.bias), dy))
    for ours, other in zip(mine, theirs, strict=True):
        assert float(((ours - other).norm() / other.norm()).detach()) < 1e-6


def test_a_layer_that_is_called_twice_has_int8_weights_only() -> None:
    shared = nn.Conv2d(4, 4, 1)
    model = network(nn.Conv2d(1, 4, 3), shared, nn.ReLU(), shared, nn.Flatten(), nn.Linear(196, 3))
    made, paths = with_int8_layers(model, [batch()[0]], {"5.weight"})

    assert paths == ("0",)
    assert isinstance(made[1], Int8Weights)
    assert made(batch()[0]).shape == (4, 3)


def test_a_norm_that_is_called_twice_stays_and_weights_without_a_layer_too() -> None:
    torch.manual_seed(0)
    model = Odd()
    made, paths = with_int8_layers(model, [batch()[0]], {"head.weight"})

    assert paths == ("first", "second")
    assert isinstance(made.norm, nn.BatchNorm2d)
    with torch.no_grad():
        found, expected = made.eval()(batch()[0]), model.eval()(batch()[0])
    assert float((found - expected).norm() / expected.norm()) < 0.03


@pytest.mark.parametrize("function", [lambda x: x * x, lambda x: 2**x, lambda x: 1 - x, lambda x: x + x])
def test_any_function_of_one_element_is_a_table(function: Callable[[Tensor], Tensor]) -> None:
    def make() -> nn.Sequential:
        return network(
            nn.Conv2d(1, 4, 3), Function(function), nn.Conv2d(4, 4, 1), nn.Flatten(), nn.Linear(196, 3)
        )

    captured = captured_by(head(make()), make(), batch())
    dtypes = [captured.graph.value[op.outputs[0]].dtype for op in captured.graph.ops if op.outputs]
    assert dtypes.index("float32") >= 3
    (found,) = gradients(captured, batch(), 1)
    exact = F.cross_entropy(captured.model(batch()[0]), batch()[1])
    (gradient,) = torch.autograd.grad(exact, captured.model[4].weight)
    torch.testing.assert_close(found["4.weight"], gradient, rtol=1e-4, atol=1e-6)


def test_without_a_frozen_layer_it_is_refused() -> None:
    with pytest.raises(UsageError, match="There is no frozen layer to be rounded to int8"):
        captured_by(SparseUpdate({"": 1.0}, ("",), "int8"), chain(), batch())
    with pytest.raises(UsageError, match="at the scales of a batch"):
        with_int8_layers(chain(), [], {"11.weight"})


@given(st.integers(-(2**24), 2**24), st.integers(-(2**20), 2**20), st.floats(2.0**-20, 1.0, width=32))
@settings(max_examples=200)
def test_a_sum_is_rounded_once_to_a_float_and_once_to_a_whole_number(
    total: int, bias: int, factor: float
) -> None:
    """Against fractions: the float next to sum times factor, then half to even."""
    sums = torch.tensor([[total + bias]], dtype=torch.int32)
    made = requantized._rounded(sums, torch.tensor([factor]), -127, 127)
    single = float(torch.tensor(float(total + bias), dtype=torch.float32))
    product = Fraction(single) * Fraction(float(torch.tensor(factor)))
    exact = round(Fraction(float(torch.tensor(float(product), dtype=torch.float32))))

    assert int(made) == max(-127, min(127, exact))
