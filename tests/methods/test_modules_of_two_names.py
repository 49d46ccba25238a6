"""A module that stands in a model under two names: trained as one, and the model's own afterwards."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgewise.capture import SGD
from edgewise.errors import ModelUnsupported
from edgewise.methods import (
    ActivityPerturbation,
    Backprop,
    Elastic,
    Extrapolated,
    FixedPoint,
    ForwardForward,
    ForwardGradient,
    Method,
    SparseUpdate,
    Spsa,
    capture_with,
)
from edgewise.plan import plain_plan
from edgewise.run import Executor
from tests.support import DEVICE

RATE = 0.1


def twice() -> nn.Sequential:
    """One linear layer at both ends."""
    torch.manual_seed(0)
    layer = nn.Linear(6, 6)
    return nn.Sequential(layer, nn.Tanh(), layer).train()


def batch() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(4, 6), torch.randint(0, 6, (4,))


@pytest.mark.parametrize(
    "method",
    [
        Backprop(),
        Spsa(),
        Spsa(in_place=True),
        ForwardGradient(),
        Elastic(),
        ActivityPerturbation(),
        SparseUpdate({"": 1.0}, ("",)),
        Extrapolated(),
    ],
    ids=lambda method: type(method).__name__,
)
def test_the_model_holds_its_own_parameters_and_they_are_trained(method: Method) -> None:
    model = twice()
    own = [(name, parameter, parameter.detach().clone()) for name, parameter in model.named_parameters()]
    captured = capture_with(method, model, "cross_entropy", SGD(RATE), batch())
    assert [n for n in captured.layouts if n.endswith((".weight", ".bias"))] == ["0.weight", "0.bias"]
    with Executor(captured, plain_plan(captured.graph, DEVICE), DEVICE) as executor:
        executor.step(batch(), 0)
    for name, parameter, before in own:
        assert model.get_parameter(name) is model.get_parameter(name.replace("0", "2")) is parameter
        assert not torch.equal(parameter, before), name


def test_the_gradient_is_of_both_uses() -> None:
    model, eager = twice(), twice()
    captured = capture_with(Backprop(), model, "cross_entropy", SGD(RATE), batch())
    with Executor(captured, plain_plan(captured.graph, DEVICE), DEVICE) as executor:
        executor.step(batch(), 0)
    x, y = batch()
    nn.functional.cross_entropy(eager(x), y).backward()
    for ours, theirs in zip(model.parameters(), eager.parameters(), strict=True):
        assert theirs.grad is not None
        torch.testing.assert_close(ours, theirs - RATE * theirs.grad)


@pytest.mark.parametrize(
    ("method", "part"),
    [
        (ForwardForward(), "0: weights: they are used in two layers"),
        (
            FixedPoint(),
            "2: aten.linear.default: its weight `2.weight` is used twice; shared weights are not supported",
        ),
    ],
    ids=["forward-forward", "fixed point"],
)
def test_methods_that_train_a_layer_on_its_own_refuse_it_with_its_path(method: Any, part: str) -> None:
    with pytest.raises(ModelUnsupported) as caught:
        capture_with(method, twice(), "cross_entropy", SGD(RATE), batch())
    assert caught.value.parts == (part,)
