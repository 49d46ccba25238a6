"""Activity perturbation: unbiased, of the variance that the paper gives, exact where it should be."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgewise.errors import ModelUnsupported, UsageError
from edgewise.methods import ActivityPerturbation, LocalLosses
from edgewise.methods.activity_perturbation import layers_of
from edgewise.methods.reach import Reach, reaches
from edgewise.methods.taps import Taps, survey
from tests.methods.steps import (
    Record,
    captured_by,
    exact_gradient,
    flattened,
    gradients,
    network,
    standard_errors,
)
from tests.methods.tapped import BLOCKS, gradients_at, images, mixer, mixer_by


def batch(samples: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(samples, 3, generator=generator), torch.arange(samples) % 3


def smooth() -> nn.Sequential:
    return network(nn.Linear(3, 4, bias=False), nn.Tanh(), nn.Linear(4, 3))


class Around(nn.Module):
    """A rectified layer that is used besides."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        z = self.layer(x)
        return F.relu(z) - z.sigmoid()


class Twice(nn.Module):
    """A layer that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.layer(x).tanh()).tanh()  # type: ignore[no-any-return]


def assert_unbiased(found: Tensor, exact: Tensor) -> float:
    """Within four and a half standard errors in every element, and in all; how many of them it is."""
    slack = 1e-5 * float(exact.norm())
    z = standard_errors(found, exact, slack)
    assert z <= 4.5
    deviation = found.double().std(0) / len(found) ** 0.5
    assert (found.double().mean(0) - exact).norm() <= 3 * deviation.norm() + slack
    return z


CASES: list[tuple[ActivityPerturbation, Any, Any]] = [
    (ActivityPerturbation(), smooth, batch),
    (ActivityPerturbation(law="rademacher", shared=True), smooth, batch),
    (ActivityPerturbation(directions=2), lambda: network(Around(), nn.Linear(4, 3)), batch),
    (
        ActivityPerturbation(),
        lambda: network(
            nn.Conv2d(1, 2, 3), nn.GroupNorm(1, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3, bias=False)
        ),
        images,
    ),
]


@pytest.mark.parametrize(
    ("method", "make", "samples"), CASES, ids=[str(number) for number in range(len(CASES))]
)
def test_estimates_are_unbiased(
    method: ActivityPerturbation, make: Any, samples: Any, record_property: Record
) -> None:
    model = make()
    exact = exact_gradient(model, samples())
    names = list(exact)
    found = [flattened(g, names) for g in gradients(captured_by(method, model, samples()), samples(), 300)]
    record_property("standard errors", assert_unbiased(torch.stack(found), flattened(exact, names)))


@pytest.mark.parametrize(
    "method",
    [ActivityPerturbation(BLOCKS), ActivityPerturbation(BLOCKS, patches=True, groups=2)],
    ids=["blocks", "patches and groups"],
)
def test_estimates_of_local_losses_are_unbiased(
    method: ActivityPerturbation, record_property: Record
) -> None:
    """Of exactly the gradients that local losses have by backprop."""
    exact_step, heads = mixer_by(LocalLosses(BLOCKS))
    (exact,) = gradients_at(exact_step, images(), heads)
    names = [name for name in exact if exact[name].is_floating_point()]
    captured, _ = mixer_by(method)
    found = [flattened(g, names) for g in gradients_at(captured, images(), heads, steps=100)]
    record_property("standard errors", assert_unbiased(torch.stack(found), flattened(exact, names)))


def test_positions_and_groups_lower_the_variance() -> None:
    """Less noise comes together in one slope: that is what they are for."""
    spread = {}
    for method in (ActivityPerturbation(BLOCKS), ActivityPerturbation(BLOCKS, patches=True, groups=2)):
        captured, heads = mixer_by(method)
        found = [
            g["blocks.1.within.weight"].flatten() for g in gradients_at(captured, images(), heads, steps=40)
        ]
        spread[method.patches] = float(torch.stack(found).var(0).sum())
    assert spread[True] < 0.25 * spread[False]


def gradients_apart(model: nn.Module) -> Tensor:
    """[N, elements]: of each sample's loss with respect to the first layer's weight."""
    x, targets = batch()
    losses = F.cross_entropy(model(x), targets, reduction="none")
    weight = next(model.parameters())
    return torch.stack([torch.autograd.grad(loss, weight, retain_graph=True)[0].flatten() for loss in losses])


@pytest.mark.parametrize("law", ["normal", "rademacher"])
@pytest.mark.parametrize("shared", [False, True])
def test_the_variance_is_that_of_the_theorem(law: Any, shared: bool) -> None:
    """(q+1)/N of the mean squared gradient of a sample, or (q+1) times that of the batch; q-1 for signs.

    That is the table's (q+2)/N V + (q+1)/N S, or (q+2)/N V + (q+1) S, less the V/N that comes with the choice
    of the batch, which stays the same here.
    """
    model = smooth()
    apart = gradients_apart(model)
    q, samples = 4, len(apart)
    factor = q + 1 if law == "normal" else q - 1
    squares = apart.mean(0).square().mean() if shared else apart.square().mean() / samples
    method = ActivityPerturbation(law=law, shared=shared)
    found = torch.stack(
        [g["0.weight"].flatten() for g in gradients(captured_by(method, model, batch()), batch(), 400)]
    )
    assert float(found.var(0).mean()) == pytest.approx(float(factor * squares), rel=0.2)


def test_the_last_layer_and_the_heads_have_their_exact_gradient() -> None:
    exact_step, heads = mixer_by(LocalLosses(BLOCKS))
    (exact,) = gradients_at(exact_step, images(), heads)
    (found,) = gradients_at(mixer_by(ActivityPerturbation(BLOCKS))[0], images(), heads)
    for name in (*heads, "head.weight", "head.bias"):
        assert torch.allclose(found[name], exact[name], atol=1e-6)
    assert not torch.allclose(found["blocks.1.within.weight"], exact["blocks.1.within.weight"], rtol=0.1)


@pytest.mark.parametrize("inplace", [False, True])
def test_units_that_are_cut_off_get_nothing(inplace: bool) -> None:
    model = network(nn.Linear(3, 4), nn.ReLU(inplace=inplace), nn.Linear(4, 3))
    with torch.no_grad():
        model[0].bias[1] = -100.0
    (found,) = gradients(captured_by(ActivityPerturbation(), model, batch()), batch(), 1)
    assert (found["0.weight"].abs().sum(1) > 0).tolist() == [True, False, True, True]


def test_a_layer_that_is_used_twice_learns_from_both() -> None:
    model = network(Twice(), nn.Linear(3, 3))
    exact = exact_gradient(model, batch())
    captured = captured_by(ActivityPerturbation(law="rademacher"), model, batch())
    found = [flattened(g, list(exact)) for g in gradients(captured, batch(), 300)]
    assert_unbiased(torch.stack(found), flattened(exact, list(exact)))


def test_no_work_is_done_on_tangents_of_zero() -> None:
    """Weights have none, and no product with it is left."""
    captured, _ = mixer_by(ActivityPerturbation(BLOCKS))
    assert not [op.name for op in captured.graph.ops if "zeros" in op.name]
    products = [op for op in captured.graph.ops if op.layer == "blocks.1.channels" and op.kind == "matmul"]
    assert len(products) == 2, "the value and its tangent"


# -- what reaches what -----------------------------------------------------------------------------------


def reach_of(model: nn.Module, method: ActivityPerturbation, inputs: Tensor) -> dict[str, Reach]:
    taps = Taps(model, method.blocks, tuple(layers_of(model, ())))
    with taps.open():
        found = survey(taps, inputs, "activity-perturbation")
        reached = reaches(taps, inputs, found, method)
    return {call.layer: reach for call, reach in zip(found.calls, reached, strict=True)}


def test_what_the_layers_of_a_mixer_reach() -> None:
    """Token mixing is followed by channel mixing; behind that, all stays within a position and group."""
    found = reach_of(mixer(), ActivityPerturbation(BLOCKS, patches=True, groups=2), images()[0])
    assert found["blocks.1.tokens"] == Reach(own_patch=True, own_group=False)
    assert found["blocks.1.channels"] == Reach(own_patch=True, own_group=True)
    assert found["blocks.1.within"] == Reach(own_patch=True, own_group=True)
    assert found["head"] == Reach()


def test_what_convolutions_reach() -> None:
    """Weights of zero hide nothing; another resolution is never the same positions."""
    model = network(
        nn.Conv2d(1, 4, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(),
        nn.Conv2d(4, 4, 1, groups=2), nn.Flatten(), nn.Linear(16, 3),
    )  # fmt: skip
    nn.init.zeros_(model[5].weight)
    found = reach_of(model, ActivityPerturbation(("5",), patches=True, groups=2), images()[0])
    assert found["0"] == Reach()
    assert found["3"] == found["5"] == Reach(own_patch=True, own_group=True)
    deeper = network(nn.Conv2d(1, 4, 1), nn.Conv2d(4, 4, 3, padding=1), nn.Flatten(), nn.Linear(64, 3))
    assert reach_of(deeper, ActivityPerturbation(("1",), patches=True), images()[0])["0"] == Reach()


# -- what is refused -------------------------------------------------------------------------------------


class Token(nn.Module):
    """A parameter of a module of modules."""

    def __init__(self) -> None:
        super().__init__()
        self.offset, self.layer = nn.Parameter(torch.zeros(3)), nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x + self.offset)
        return out


class Functional(nn.Module):
    """A layer that is not called."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(F.linear(x, self.first.weight))
        return out


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.lstm(x.unsqueeze(1))[0][:, 0])
        return out


class Flattened(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(1, 2), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.layer(x.reshape(-1, 1)).reshape(-1, 6))
        return out


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: network(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)),
            "1: BatchNorm1d: it mixes the samples of a batch",
        ),
        (
            lambda: network(Token(), nn.Linear(4, 3)),
            "0.offset: parameter: it belongs to no layer, but to a module of modules",
        ),
        (Functional, "first: layer: it is not called in a pass"),
        (Recurrent, "lstm: layer: it returns a tuple, not one tensor of numbers"),
        (Flattened, r"layer: layer: its output \[15, 2\] has no axis of 5 samples in front"),
    ],
)
def test_models_that_cannot_be_served(make: Any, text: str) -> None:
    with pytest.raises(ModelUnsupported, match=text) as caught:
        captured_by(ActivityPerturbation(), make(), batch())
    assert len(caught.value.parts) == 1


def test_modules_of_modules_may_be_named() -> None:
    """They count as one layer each, exact within, so that they can be served after all."""
    model = network(Token(), nn.Tanh(), nn.Linear(4, 3))
    with torch.no_grad():
        model[0].offset.zero_()
    exact = exact_gradient(model, batch())
    captured = captured_by(ActivityPerturbation(layers=("0",), law="rademacher"), model, batch())
    found = [flattened(g, list(exact)) for g in gradients(captured, batch(), 300)]
    assert_unbiased(torch.stack(found), flattened(exact, list(exact)))


def test_frozen_parameters_stay() -> None:
    model = network(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))
    model[0].weight.requires_grad_(requires_grad=False)
    (found,) = gradients(captured_by(ActivityPerturbation(), model, batch()), batch(), 1)
    assert not found["0.weight"].any()
    assert found["0.bias"].any()


def test_a_norm_over_the_batch_may_be_at_rest() -> None:
    model = network(nn.Linear(3, 4), nn.BatchNorm1d(4).eval(), nn.ReLU(), nn.Linear(4, 3))
    (found,) = gradients(captured_by(ActivityPerturbation(), model.eval(), batch()), batch(), 1)
    assert found["1.weight"].any()


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"directions": 0}, "`directions` is 0; it must be at least 1"),
        ({"groups": 0, "blocks": ("0",)}, "`groups` is 0; it must be at least 1"),
        ({"patches": True}, "`patches` and `groups` divide the losses of `blocks`; name some"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        ActivityPerturbation(**settings)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"patches": True}, r"the block `0` returns \[5, 4\], which has no positions. Leave out `patches`"),
        ({"groups": 3}, "the 4 channels of the block `0` cannot be divided into 3 `groups`"),
    ],
)
def test_blocks_that_cannot_be_divided(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        captured_by(ActivityPerturbation(("0",), **settings), smooth(), batch())
