"""Steps of methods whose ops run in slices: the bits of the whole ops, in the RAM that their options say."""

import random

import pytest
import torch
from torch import Tensor, nn

from edgewise.capture import SGD, AdamW, Captured, Optimizer
from edgewise.methods import capture_with
from edgewise.methods.fixed_point import operators as ops
from edgewise.methods.fixed_point.passes import NodeKernel
from edgewise.plan import check
from edgewise.train.method_names import parse_method
from edgewise.zoo import resolve_task
from tests.capture.test_tiling import assert_tiles_as_whole
from tests.capture.tiles import loops_of
from tests.methods.steps import network
from tests.run.streams import streaming_plan
from tests.run.training import assert_same_bits, plain, start_of, train
from tests.support import DEVICE

MOMENTUM = SGD(0.05, momentum=0.9)
METHODS: dict[str, Optimizer] = {
    "spsa:epsilon=0.05:in_place=true": MOMENTUM,
    "spsa:epsilon=0.05:directions=2:in_place=true": AdamW(),
    "forward-forward:precision=int8:candidates=2": MOMENTUM,
    "forward-forward:precision=int8:rounding=nearest:peer=0.1": AdamW(),
    "fixed-point:directions=2": SGD(0.05),
    "fixed-point:keep=0.5:mask=random:law=rademacher": SGD(0.05),
    "fixed-point:keep=0.5:beta=0.5:guided_after=0:sharpness=0.002": SGD(0.05),
}


def small_step(method: str) -> tuple[Captured, tuple[Tensor, Tensor]]:
    model = network(nn.Linear(12, 10), nn.ReLU(), nn.Linear(10, 9), nn.ReLU(), nn.Linear(9, 4))
    batch = torch.randn(6, 12, generator=torch.Generator().manual_seed(1)), torch.arange(6) % 4
    return capture_with(parse_method(method), model, "cross_entropy", METHODS[method], batch), batch


class Branches(nn.Module):
    """Convolutions, pools, and what is done element by element."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.pool, self.head = nn.MaxPool2d(2, padding=1), nn.Linear(6, 3)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x = torch.relu(self.first(x_BCHW))
        x = self.pool(nn.functional.gelu(x + self.second(x)) * x)
        scores: Tensor = self.head(x.mean((2, 3)))
        return scores


@pytest.mark.parametrize("method", METHODS)
def test_each_op_in_slices_is_the_whole_op(method: str) -> None:
    captured, batch = small_step(method)
    assert_tiles_as_whole(captured, batch, random.Random(0), most=3)


def test_all_operators_of_integers_in_slices_are_the_whole_ones() -> None:
    torch.manual_seed(0)
    batch = torch.randn(2, 2, 6, 5), torch.arange(2)
    captured = capture_with(parse_method("fixed-point"), Branches(), "cross_entropy", SGD(0.05), batch)
    assert_tiles_as_whole(captured, batch, random.Random(0), most=2)
    runs = [captured.kernels[op.name] for op in captured.graph.ops if loops_of(captured, op)]
    tiled = {type(run.node.operator) for run in runs if isinstance(run, NodeKernel)}
    assert tiled >= {ops.Quantize, ops.Convolution, ops.Linear, ops.Sum, ops.Times, ops.MaxPool, ops.MeanPool}


@pytest.mark.parametrize("method", METHODS)
def test_a_step_with_everything_streamed_is_the_plain_one(method: str) -> None:
    """Bit by bit, but for sums of floats in other parts."""
    task = resolve_task("mlp", batch=4)
    settings, batch = parse_method(method), task.example_batch
    captured = capture_with(settings, task.model, task.loss, METHODS[method], batch)
    plan, start = streaming_plan(captured.graph), start_of(captured)
    assert plan.peak_bytes < plain(captured).peak_bytes / 8
    theirs = train(captured, plain(captured), [batch], start=start)
    ours = train(captured, plan, [batch], start=start)
    if check(plan, captured.graph, DEVICE).exact:
        assert_same_bits(ours, theirs)
    for name, tensor in theirs.state.items():
        torch.testing.assert_close(ours.state[name], tensor, rtol=1e-4, atol=1e-6)
