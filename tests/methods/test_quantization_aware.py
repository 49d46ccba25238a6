"""Int8 training: whole numbers in the forward pass, and gradients in the float network's proportion."""

import pytest
import torch
from torch import Tensor, nn

from edgewise.capture import SGD
from edgewise.errors import ModelUnsupported, UsageError
from edgewise.methods import Backprop, QuantizedLayer, SparseUpdate, fold_norms, quantize
from tests.methods.steps import captured_by, exact_gradient, network, run, states_under_random_plans


def batch(samples: int = 16) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(samples, 1, 8, 8, generator=generator), torch.arange(samples) % 3


def floats() -> nn.Sequential:
    """Layers whose weights differ in size by orders of magnitude, as they do after training."""
    model = network(
        nn.Conv2d(1, 6, 3),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, bias=False),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(128, 3),
    )
    with torch.no_grad():
        model[0].weight.mul_(torch.logspace(-2, 0, 6)[:, None, None, None])
        model[2].weight.mul_(3)
        model[5].weight.mul_(0.3)
    return model


def int8(*, scaled: bool = True) -> nn.Sequential:
    model = floats()
    assert quantize(model, [batch()[0]], scaled=scaled) == ("0", "2", "5")
    return model


def test_parameters_are_whole_numbers_of_eight_bits() -> None:
    for layer in (m for m in int8().modules() if isinstance(m, QuantizedLayer)):
        assert torch.equal(layer.weight, layer.weight.round())
        assert float(layer.weight.detach().abs().amax()) == 127


def test_the_sums_are_those_of_integers() -> None:
    """Bit for bit what an int8 convolution with an int64 sum makes."""
    layer = int8()[2]
    x_q = torch.randint(-128, 128, (2, 6, 5, 5), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        layer.weight += 0.3  # fractions are kept between steps, and rounded away here
        found = layer.accumulated(x_q.float())
    whole = layer.weight.detach().round().clamp(-127, 127).long()
    patches = nn.functional.unfold(x_q.double(), 3).long()
    expected = (whole.flatten(1) @ patches).reshape(2, 8, 3, 3)
    assert torch.equal(found.long(), expected)
    assert torch.equal(found, found.round())


def test_outputs_are_eight_bits_and_near_the_float_network() -> None:
    model = int8()
    with torch.no_grad():
        out, expected = model(batch()[0]), floats()(batch()[0])
        steps = model[:3](batch()[0]) / model[2].output_scale
    assert torch.allclose(steps, steps.round(), atol=1e-3)
    assert float(steps.abs().max()) == pytest.approx(127)
    assert model[5].output_scale is None
    assert float((out - expected).norm() / expected.norm()) < 0.1


def ratios(model: nn.Module, found: dict[str, Tensor]) -> dict[str, Tensor]:
    """||W|| / ||G|| of each output channel of a weight."""
    weights = {name: p.detach() for name, p in model.named_parameters() if p.dim() > 1}
    return {n: w.flatten(1).norm(dim=1) / found[n].flatten(1).norm(dim=1) for n, w in weights.items()}


def test_scaling_gives_the_ratio_of_the_float_network() -> None:
    """Without it, the ratio is off by s_w^-2: ten thousand times and more."""
    exact = ratios(floats(), exact_gradient(floats(), batch()))
    for scaled in (True, False):
        model = int8(scaled=scaled)
        for name, ratio in ratios(model, exact_gradient(model, batch())).items():
            alive = exact[name].isfinite()  # a channel that ReLU shuts off has no gradient at all
            assert int(alive.sum()) >= len(alive) - 1
            off = (ratio / exact[name])[alive]
            s_w = model.get_submodule(name.rpartition(".")[0]).weight_scale[alive]
            assert torch.allclose(off if scaled else off * s_w.square(), torch.ones_like(off), rtol=0.3)
            assert scaled or float(off.min()) > 1e3


def test_the_gradient_of_a_bias_is_scaled_too() -> None:
    plain, scaled = (exact_gradient(int8(scaled=s), batch())["0.bias"] for s in (False, True))
    layer = int8()[0]
    divisor = (layer.input_scale * layer.weight_scale).square()
    assert torch.allclose(scaled * divisor, plain, rtol=1e-5)


def test_gradients_stop_where_the_output_is_out_of_range() -> None:
    layer = nn.Linear(1, 2, bias=False)
    nn.init.constant_(layer.weight, 1.0)
    made = QuantizedLayer(layer, input_scale=1.0, output_scale=0.5, scaled=False)
    x = torch.tensor([[10.0], [100.0]], requires_grad=True)  # the second needs 200 steps of 0.5
    (found,) = torch.autograd.grad(made(x)[:, 0].sum(), x)
    assert made(x)[1, 0] == 127 * 0.5
    assert torch.equal(found, torch.tensor([[1.0], [0.0]]))


def test_it_learns_as_the_float_network_with_scaling_and_not_without() -> None:
    """By how much the loss falls, at the same learning rate; no activation or weight leaves its range yet."""
    falls = []
    for model in (floats(), int8(scaled=True), int8(scaled=False)):
        results = run(captured_by(Backprop(), model, batch(), optimizer=SGD(lr=0.02)), batch(), 10)
        falls.append(results[0].loss - results[-1].loss)
    assert falls[0] > 0.015
    assert falls[1] == pytest.approx(falls[0], rel=0.15)
    assert falls[2] < 0.01 * falls[0]


def test_a_sparse_step_of_int8_layers_planned_has_the_bits_of_the_plain_one() -> None:
    """Channels of an int8 weight stand alone, scaling and all."""
    settings = SparseUpdate({"2": (1, 4), "5": 1.0}, ("5",))
    captured = captured_by(settings, int8(), batch(), optimizer=SGD(lr=0.1))
    plain, *others = states_under_random_plans(captured, batch())
    assert all(torch.equal(plain[name], other[name]) for other in others for name in plain)
    moved = (plain["2.weight"] != int8()[2].weight).flatten(1).any(1)
    assert moved.nonzero().flatten().tolist() == [1, 4]


def test_norms_are_folded_into_the_same_function() -> None:
    model = network(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
    )
    model[1].running_mean.fill_(0.3)
    model[3][1].running_var.fill_(2.0)
    before = model.eval()(batch()[0])
    assert fold_norms(model) == ("1", "3.1")
    assert torch.allclose(model(batch()[0]), before, atol=1e-5)
    assert all(p.requires_grad for p in model.parameters())
    assert model[0].bias is not None


def test_what_cannot_be_quantized_is_named() -> None:
    model = network(nn.Conv2d(1, 4, 3, padding=1, padding_mode="reflect"), nn.ReLU(), nn.BatchNorm2d(4))
    with pytest.raises(ModelUnsupported, match="because of 2 part") as caught:
        quantize(model, [batch()[0]])
    assert [part.partition(";")[0] for part in caught.value.parts] == [
        "2: BatchNorm2d: it works in floats",
        "0: Conv2d: it pads with `reflect`",
    ]


@pytest.mark.parametrize("model", [network(nn.ReLU()), floats()])
def test_nothing_to_quantize(model: nn.Sequential) -> None:
    with pytest.raises(UsageError, match="Quantization takes a batch, and a convolution or linear layer"):
        quantize(model, [batch()[0]] if len(model) == 1 else [])
