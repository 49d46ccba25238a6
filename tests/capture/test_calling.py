"""A model and its loss are called with other tensors, and left as they were."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgewise.capture import SGD, capture
from edgewise.capture.forward import capture_forward
from tests.numerics.eager import train_eagerly
from tests.run.training import plain, train


class Weighed(nn.Module):
    """Two losses, weighed by parameters and a buffer of the model that only its loss reads."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.balance = nn.Linear(3, 4), nn.Parameter(torch.zeros(2))
        self.register_buffer("classes", torch.tensor([1.0, 2.0, 3.0]))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        out = self.layer(x)
        return out[:, :3], out[:, 3]

    def loss(self, outputs: tuple[Tensor, Tensor], targets: Tensor) -> Tensor:
        own = F.cross_entropy(outputs[0], targets, self.classes), F.mse_loss(outputs[1], targets.float())
        return (torch.exp(-self.balance) * torch.stack(own) + self.balance).sum()


def test_parameters_that_only_the_loss_reads_are_trained() -> None:
    torch.manual_seed(0)
    model, batch = Weighed(), (torch.randn(4, 3), torch.tensor([0, 1, 2, 1]))
    losses, state = train_eagerly(model, model.loss, SGD(0.1), [batch] * 3)
    captured = capture(model, model.loss, SGD(0.1), batch)
    trained = train(captured, plain(captured), [batch] * 3)
    assert trained.losses == pytest.approx(losses, rel=1e-6)
    assert trained.state["balance"].abs().min() > 0
    torch.testing.assert_close(trained.state["balance"], state["balance"])
    assert {op.name for op in captured.graph.ops if "classes" in op.inputs}  # a buffer, not a constant


class Twins(nn.Module):
    """One encoder under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
        self.right = self.left

    def forward(self, x: Tensor) -> Tensor:
        return self.left(x) - self.right(x + 1)


def test_a_module_of_two_names_is_left_as_it_was() -> None:
    model, x = Twins().eval(), torch.randn(2, 3)
    before = model(x)
    capture_forward(model, (x, x[:, :2]))
    assert torch.equal(model(x), before)
