"""Recurrent layers are traced with their dropout."""

import pytest
import torch
from torch import Tensor, nn

from edgewise.capture import SGD, capture
from tests.numerics.eager import relative_difference, train_eagerly
from tests.run.training import plain, train


class Recurrent(nn.Module):
    """Layers one above another and both ways, with dropout between them; B batch, T steps, D width."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(3, 4, num_layers=2, dropout=0.4, batch_first=True)
        self.lstm = nn.LSTM(4, 3, num_layers=3, dropout=0.2, bidirectional=True)
        self.rnn = nn.RNN(6, 2, num_layers=2, dropout=0.3, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        out, (hidden, cells) = self.lstm(self.gru(x_BTD)[0].transpose(0, 1))
        return self.rnn(out)[1].sum(dim=0) + hidden.mean() + cells.mean()


def test_layers_are_those_of_pytorch_with_dropout_between_them() -> None:
    torch.manual_seed(0)
    model, batch = Recurrent(), (torch.randn(3, 2, 3), torch.tensor([0, 1, 1]))
    losses, state = train_eagerly(model, "cross_entropy", SGD(0.1), [batch] * 2)
    captured = capture(model, "cross_entropy", SGD(0.1), batch)
    trained = train(captured, plain(captured), [batch] * 2)
    assert sum(op.kind == "random" for op in captured.graph.ops) == 4
    assert trained.losses == pytest.approx(losses, rel=1e-6)
    assert max(relative_difference(trained.state[name], state[name]) for name in state) < 1e-6
