"""Gradients: one op for each that a backward convolution makes, and none that outlives its update."""

import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgewise.capture import SGD, AdamW, capture, updates
from edgewise.capture.gradients import blank, input_gradient, parameter_gradients
from edgewise.capture.lowering import Layout
from edgewise.graph import Graph
from tests.run.training import assert_same_bits, plain, start_of, train
from tests.support import plan_of, random_order


@pytest.fixture(scope="module", autouse=True)
def _all_gradients_are_absorbed() -> Iterator[None]:
    """These tests are about gradients made within updates, also small ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(updates, "OUTWEIGHS", 0)
        yield


aten = torch.ops.aten
X, Y = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([1, 0])


def network() -> nn.Module:
    layers = (nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=2), nn.BatchNorm2d(4), nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(64, 5))


def graph_of(optimizer: Any) -> Graph:
    return capture(network(), "cross_entropy", optimizer, (X, Y)).graph


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[Tensor, Tensor, tuple[Any, ...]]:
    """Input, weight and settings of a convolution of one, two or three dimensions."""
    dims = draw(st.integers(1, 3))

    def of_each(low: int, high: int) -> list[int]:
        return [draw(st.integers(low, high)) for _ in range(dims)]

    groups, transposed = draw(st.sampled_from([1, 1, 2, 4])), draw(st.booleans())
    channels, kernels = (groups * draw(st.sampled_from([1, 2, 8])) for _ in range(2))
    kernel, stride, dilation = of_each(1, 4), of_each(1, 2), of_each(1, 2)
    padding = [draw(st.integers(0, k - 1)) for k in kernel]
    pair = (channels, kernels // groups) if transposed else (kernels, channels // groups)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    x = torch.randn(draw(st.integers(1, 3)), channels, *of_each(8, 12), generator=generator)
    weight = torch.randn(*pair, *kernel, generator=generator)
    return x, weight, (stride, padding, dilation, transposed, [0] * dims, groups)


@settings(max_examples=150, deadline=None)
@given(case=convolutions())
def test_apart_the_gradients_have_the_bits_of_the_call_that_makes_all(case: tuple[Any, ...]) -> None:
    x, weight, given_settings = case
    gradient = torch.randn_like(aten.convolution(x, weight, None, *given_settings))
    of_x, of_weight, of_bias = aten.convolution_backward(
        gradient, x, weight, [gradient.shape[1]], *given_settings, [True, True, True]
    )
    assert torch.equal(input_gradient(gradient, weight, Layout.of(x), given_settings), of_x)
    for wanted in ((True, True), (True, False)):
        ours = parameter_gradients(gradient, x, Layout.of(weight), given_settings, wanted=wanted)
        assert torch.equal(ours[0], of_weight)
        assert ours[1] is None if not wanted[1] else torch.equal(ours[1], of_bias)


def test_a_blank_has_the_layout_asked_for_and_owns_its_pages() -> None:
    layout = Layout.of(torch.empty(2, 3, 4, 5).to(memory_format=torch.channels_last))
    made = blank(layout)
    assert Layout.of(made) == layout
    made.fill_(1.0)
    assert not blank(layout).any()


def test_each_gradient_of_a_convolution_reads_only_what_it_is_made_of() -> None:
    graph = graph_of(SGD(0.1))
    of_input = [op for op in graph.ops if op.name == "2:convolution_backward.input"]
    assert [op.inputs for op in of_input] == [("3:native_batch_norm_backward.0", "2.weight")]
    of_parameters = graph.op["2.weight:update"]
    assert of_parameters.inputs == ("3:native_batch_norm_backward.0", "1:relu", "step")
    assert [old for old, _ in of_parameters.updates] == ["2.weight", "2.bias"]
    product = 2 * (2 * 4 * 4) * (4 * 2 * 9)
    assert of_input[0].flops == product
    assert of_parameters.flops == product + 4 * 2 * 9 + 4
    assert of_input[0].kind == of_parameters.kind == "convolution"
    assert "0:convolution_backward_1.input" not in graph.op, "nobody wants the gradient of the batch"


def test_no_gradient_outlives_its_update() -> None:
    graph = graph_of(AdamW())
    names = [(op.name, op.kind) for op in graph.ops if op.name.endswith(":update")]
    alone = [name for name, kind in names if kind == "optimizer"]
    assert sorted(alone) == ["3.bias:update", "3.weight:update"], "made by one op with the gradient of x"
    absorbing = {name for name, kind in names if kind != "optimizer"}
    assert absorbing == {"0.weight:update", "2.weight:update", "5.weight:update", "5.bias:update"}
    shapes = {graph.value[old].shape for op in graph.ops for old, _ in op.updates}
    kept = [v.name for v in graph.values if v.kind == "gradient" and v.shape in shapes]
    assert all("batch_norm_backward" in name for name in kept)


HELD = [(SGD(0.1), 1), (SGD(0.1, weight_decay=0.1), 2), (AdamW(), 2)]


@pytest.mark.parametrize(("optimizer", "held"), HELD)
def test_an_update_holds_its_gradients_and_what_the_optimizer_needs(optimizer: Any, held: int) -> None:
    graph = graph_of(optimizer)
    weight, bias = graph.value["2.weight"].bytes, graph.value["2.bias"].bytes
    assert graph.op["2.weight:update"].option("whole").workspace_bytes == held * weight + bias
    assert graph.op["5.weight:update"].option("whole").workspace_bytes == held * graph.value["5.weight"].bytes


class Shared(nn.Module):
    """Gradients that an update must not absorb: of one weight used twice, and one read by two parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.left, self.right = (
            nn.Linear(6, 6),
            nn.Parameter(torch.ones(6)),
            nn.Parameter(torch.ones(6)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.twice(self.twice(x) * (self.left * self.right) + self.left + self.right)


def test_shared_gradients_are_kept_until_their_last_update() -> None:
    batch = (torch.randn(4, 6), torch.tensor([0, 1, 2, 3]))
    captured = capture(Shared(), "cross_entropy", AdamW(), batch)
    start = start_of(captured)
    theirs = train(captured, plain(captured), [batch] * 2, start=start)
    order, homes = random_order(captured.graph, random.Random(0), forget=0.5, page=0.5)
    assert_same_bits(
        train(captured, plan_of(order, captured.graph, homes=homes), [batch] * 2, start=start), theirs
    )


class Penalised(nn.Module):
    """The loss is the square of the weight: its gradient is made of the weight itself."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight.square().sum() + 0 * x.sum()


def test_an_update_may_read_the_parameter_that_it_changes() -> None:
    batch = (torch.zeros(2, 3), Y)
    captured = capture(Penalised(), lambda out, _: out, SGD(0.25), batch)
    assert "weight" not in captured.graph.op["weight:update"].inputs
    trained = train(captured, plain(captured), [batch])
    assert torch.equal(trained.state["weight"], torch.full((3, 3), 0.5))


@pytest.mark.parametrize(("inputs", "is_absorbed"), [(4, False), (256, True)])
def test_only_a_gradient_that_outweighs_what_it_is_made_of_is_absorbed(
    monkeypatch: pytest.MonkeyPatch, inputs: int, *, is_absorbed: bool
) -> None:
    """Of 32 samples 4 wide a gradient of 4 x 4 is made; of 256 wide ones, a gradient of 256 x 256."""
    monkeypatch.setattr(updates, "OUTWEIGHS", 4)
    batch = (torch.zeros(32, inputs), torch.zeros(32, inputs))
    model = nn.Sequential(nn.Linear(inputs, inputs), nn.ReLU(), nn.Linear(inputs, inputs))
    graph = capture(model, "mse", SGD(0.1), batch).graph
    assert (graph.op["2.weight:update"].kind == "matmul") == is_absorbed
