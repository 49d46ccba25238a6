"""What of a captured step is kept for C."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from edgewise.capture import SGD, capture
from edgewise.emit.prepare import prepare


class _Ending(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.function = nn.Linear(8, 8), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.layer(x).tanh())


@pytest.mark.parametrize(
    ("kind", "function", "kept"),
    [
        ("add", lambda y: y + y.detach().exp(), True),
        ("add", lambda y: torch.arange(8) + y, False),  # integers are cast to where the result goes
        ("addcmul", lambda y: torch.addcmul(y, torch.ones(8), torch.ones(8)), False),
    ],
)
def test_a_result_takes_no_place_that_is_still_read(
    kind: str, function: Callable[[Tensor], Tensor], kept: bool
) -> None:
    captured = capture(_Ending(function), "cross_entropy", SGD(0.1), (torch.randn(4, 8), torch.arange(4)))
    before, after = (
        {op.name: [option for option in op.options if option.overwrites] for op in graph.ops}
        for graph in (captured.graph, prepare(captured).graph)
    )
    (name,) = [name for name in before if name.split(":")[-1].split(".")[0] == kind]
    assert before[name]
    assert bool(after[name]) is kept
