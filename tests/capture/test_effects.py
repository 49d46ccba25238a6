"""Ops that draw or change something: the same numbers when repeated, and a change only once."""

import random

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgewise.capture import SGD, Captured, capture, philox
from edgewise.plan import Compute, Plan
from edgewise.plan.schedule import Action
from edgewise.run import Executor
from tests.numerics.eager import relative_difference, train_eagerly
from tests.run.training import assert_same_bits, plain, start_of, train
from tests.support import DEVICE, plain_order, plan_of, random_order

X = torch.randn(4, 12, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 2, 1])


def twice(captured: Captured, op: str) -> Plan:
    """The plain plan, but `op` is forgotten at once and computed again before its last reader."""
    graph = captured.graph
    made = set(graph.op[op].outputs)
    last = max(i for i, other in enumerate(graph.ops) if made & set(other.inputs))
    order = list(plain_order(graph))
    order.insert(last, Action("compute", op))
    plan = plan_of(tuple(order), graph)
    assert [s.op for s in plan.steps if isinstance(s, Compute)].count(op) == 2
    return plan


def small(*layers: nn.Module) -> Captured:
    model = nn.Sequential(nn.Linear(12, 8), *layers, nn.Linear(8, 3))
    return capture(model, "cross_entropy", SGD(0.1), (X, Y))


def only(captured: Captured, kind: str) -> str:
    (name,) = [op.name for op in captured.graph.ops if op.kind == kind]
    return name


def test_a_recomputed_dropout_draws_the_same_numbers() -> None:
    captured = small(nn.Dropout(0.5))
    start = start_of(captured)
    ours = train(captured, twice(captured, only(captured, "random")), [(X, Y)] * 3, start=start)
    assert_same_bits(ours, train(captured, plain(captured), [(X, Y)] * 3, start=start))


def test_each_step_and_each_layer_draws_other_numbers() -> None:
    class Masks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4, 1000))

        def forward(self, x: Tensor) -> Tensor:
            return F.dropout(self.weight, 0.5) * F.dropout(torch.ones_like(self.weight), 0.5) * x

    captured = capture(Masks(), lambda out, _: out.sum(), SGD(0.0), (torch.ones(()), Y))
    losses = train(captured, plain(captured), [(torch.ones(()), Y)] * 3).losses
    assert len(set(losses)) == 3
    # Two independent masks of one half, each scaled by two: the mean is that of the numbers themselves.
    assert all(loss == pytest.approx(4000, rel=0.1) for loss in losses)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.9, 1.0])
def test_dropout_keeps_the_mean(share: float) -> None:
    model = nn.Sequential(nn.Dropout(share), nn.Linear(20_000, 1, bias=False))
    nn.init.ones_(model[1].weight)
    x = torch.ones(1, 20_000)
    captured = capture(model, lambda out, _: out.mean(), SGD(0.0), (x, Y))
    loss = train(captured, plain(captured), [(x, Y)]).losses[0]
    assert loss == pytest.approx(0.0 if share == 1 else 20_000, rel=0.1)


def test_the_seed_decides_what_is_drawn() -> None:
    model = nn.Sequential(nn.Linear(12, 64), nn.Dropout(0.5), nn.Linear(64, 3))
    found = []
    for seed in (0, 0, 1):
        captured = capture(model, "cross_entropy", SGD(0.0), (X, Y), seed=seed)
        found.append(train(captured, plain(captured), [(X, Y)]).losses[0])
    assert found[0] == found[1] != found[2]


def test_the_global_generator_is_left_alone() -> None:
    captured = small(nn.Dropout(0.5))
    before = torch.random.get_rng_state()
    train(captured, plain(captured), [(X, Y)])
    assert torch.equal(torch.random.get_rng_state(), before)


class Noise(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand_like(x) + torch.randn(x.shape) * torch.bernoulli(torch.full_like(x, 0.5), 0.5)


def test_noise_is_keyed_too() -> None:
    captured = small(Noise())
    assert sum(op.kind == "random" for op in captured.graph.ops) == 3
    start = start_of(captured)
    order, homes = random_order(captured.graph, random.Random(0), forget=0.6, page=0.2)
    ours = train(captured, plan_of(order, captured.graph, homes=homes), [(X, Y)] * 2, start=start)
    assert_same_bits(ours, train(captured, plain(captured), [(X, Y)] * 2, start=start))


@pytest.mark.parametrize("norm", [nn.BatchNorm1d(8), nn.BatchNorm1d(8, affine=False, momentum=0.5)])
def test_running_statistics_change_once_also_when_the_norm_is_recomputed(norm: nn.Module) -> None:
    captured = small(norm, nn.ReLU())
    (name,) = [op.name for op in captured.graph.ops if len(op.updates) == 2 and op.kind == "normalization"]
    start = start_of(captured)
    ours = train(captured, twice(captured, name), [(X, Y)] * 3, start=start)
    assert_same_bits(ours, train(captured, plain(captured), [(X, Y)] * 3, start=start))
    assert int(ours.state["1.num_batches_tracked"]) == 3
    assert not torch.equal(ours.state["1.running_mean"], start["1.running_mean"])


@pytest.mark.parametrize("norm", [nn.BatchNorm1d(8).eval(), nn.BatchNorm1d(8, track_running_stats=False)])
def test_norms_without_running_statistics_change_nothing(norm: nn.Module) -> None:
    captured = small(norm)
    assert not [op for op in captured.graph.ops if op.updates and not op.name.endswith(":update")]
    train(captured, plain(captured), [(X, Y)])


def test_a_norm_used_twice_changes_its_statistics_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.norm, self.head = nn.Linear(12, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.norm(self.norm(self.layer(x)).exp()))

    model = Twice()
    theirs = train_eagerly(model, "cross_entropy", SGD(0.1), [(X, Y)] * 2)[1]
    captured = capture(model, "cross_entropy", SGD(0.1), (X, Y))
    start = start_of(captured)
    ours = train(captured, plain(captured), [(X, Y)] * 2, start=start)
    assert int(ours.state["norm.num_batches_tracked"]) == 4
    assert all(relative_difference(ours.state[n], theirs[n]) < 1e-6 for n in ours.state)
    order, homes = random_order(captured.graph, random.Random(1), forget=0.6, page=0.4)
    assert_same_bits(
        train(captured, plan_of(order, captured.graph, homes=homes), [(X, Y)] * 2, start=start), ours
    )


class Attention(nn.Module):
    def __init__(self, **settings: object) -> None:
        super().__init__()
        self.layer, self.settings = nn.Linear(12, 12), settings

    def forward(self, x: Tensor) -> Tensor:
        heads = self.layer(x).view(1, 4, 2, 6).transpose(1, 2)
        return (
            F.scaled_dot_product_attention(heads, heads, heads, **self.settings).transpose(1, 2).flatten(2)[0]
        )


MASK = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [1, 1, 1, 1]]).bool()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"is_causal": True},
        {"attn_mask": MASK},
        {"attn_mask": MASK.float()},
        {"dropout_p": 0.3},
        {"scale": 0.1},
    ],
    ids=str,
)
def test_attention_is_captured_by_its_parts(settings: dict) -> None:
    captured = capture(Attention(**settings), "cross_entropy", SGD(0.1), (X, Y))
    kinds = [op.kind for op in captured.graph.ops]
    assert kinds.count("matmul") >= 8  # the layer's 2 and the attention's 2 forward and 4 backward
    assert "softmax" in kinds
    assert ("random" in kinds) == ("dropout_p" in settings)
    start = start_of(captured)
    order, homes = random_order(captured.graph, random.Random(0), forget=0.6, page=0.3)
    ours = train(captured, plan_of(order, captured.graph, homes=homes), [(X, Y)] * 2, start=start)
    assert_same_bits(ours, train(captured, plain(captured), [(X, Y)] * 2, start=start))


def test_the_draws_of_a_step_are_those_of_philox() -> None:
    captured = capture(
        nn.Sequential(nn.Dropout(0.25), nn.Linear(12, 1, bias=False)),
        lambda out, _: out.sum(),
        SGD(0.0),
        (X, Y),
    )
    mask = philox.bernoulli((4, 12), 0.75, torch.bool, 5, 0, 0)
    with Executor(captured, plain(captured), DEVICE) as executor:
        loss = executor.step((X, Y), 5).loss
    weight = captured.model[1].weight.detach()
    assert loss == pytest.approx(float((X * mask / 0.75 @ weight.t()).sum()), rel=1e-5)
