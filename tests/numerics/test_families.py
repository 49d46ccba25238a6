"""A planned step has the bits of an unplanned one, and what eager PyTorch computes to within 1e-6."""

import random
from functools import cache
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend

from edgewise.capture import SGD, AdamW, Captured, Optimizer, capture
from tests.numerics.eager import relative_difference, train_eagerly
from tests.numerics.families import FAMILIES, Family
from tests.run.training import Trained, assert_same_bits, plain, start_of, train
from tests.support import plan_of, random_order

STEPS = 3
TOLERANCE = 1e-6
OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": SGD(0.1),
    "momentum": SGD(0.05, momentum=0.9, weight_decay=1e-3),
    "adamw": AdamW(1e-3),
}


class Case(NamedTuple):
    captured: Captured
    batches: list
    start: dict[str, Tensor]
    eager: tuple[list[float], dict[str, Tensor]]
    unplanned: Trained


@cache
def case_of(name: str, optimizer_name: str) -> Case:
    """A family captured for one optimizer, and its training without a plan and in eager PyTorch."""
    model, loss, batch = FAMILIES[name].make()
    batches = [batch(step) for step in range(STEPS)]
    optimizer = OPTIMIZERS[optimizer_name]
    eager = train_eagerly(model, loss, optimizer, batches)
    captured = capture(model, loss, optimizer, batches[0], name=name)
    start = start_of(captured)
    return Case(captured, batches, start, eager, train(captured, plain(captured), batches, start=start))


ALL_OPTIMIZERS = ("mlp", "resnet8", "transformer", "text-classifier", "skip-sum", "norms")
EVERY = [
    pytest.param(family, kind, id=f"{family.name}-{kind}")
    for family in FAMILIES.values()
    for kind in OPTIMIZERS
    if family.name in ALL_OPTIMIZERS or kind == ("sgd" if family.name == "resnet18" else "adamw")
]


@pytest.mark.parametrize(("family", "kind"), EVERY)
def test_unplanned_step_is_what_eager_pytorch_computes(family: Family, kind: str) -> None:
    case = case_of(family.name, kind)
    losses, state = case.eager
    assert case.unplanned.losses == pytest.approx(losses, rel=TOLERANCE)
    assert case.unplanned.state.keys() == state.keys()
    differences = {name: relative_difference(case.unplanned.state[name], state[name]) for name in state}
    assert {name: d for name, d in differences.items() if not d <= TOLERANCE} == {}


@pytest.mark.parametrize(("family", "kind"), EVERY)
def test_planned_step_has_the_bits_of_the_unplanned_one(family: Family, kind: str) -> None:
    case = case_of(family.name, kind)
    order, homes = random_order(case.captured.graph, random.Random(kind), forget=0.3, page=0.5)
    plan = plan_of(order, case.captured.graph, homes=homes)
    assert_same_bits(train(case.captured, plan, case.batches, start=case.start), case.unplanned)


@pytest.mark.parametrize(("family", "kind"), EVERY)
def test_training_changes_nearly_every_parameter(family: Family, kind: str) -> None:
    case = case_of(family.name, kind)
    names = [name for name, _ in case.captured.model.named_parameters()]
    changed = [name for name in names if not torch.equal(case.start[name], case.unplanned.state[name])]
    # Batch norm over two numbers has no gradient: the last layers of the MobileNets stand still.
    assert len(changed) >= 0.95 * len(names)


@pytest.mark.parametrize("name", ["ViT", "Llama", "GPT-2"])
def test_eager_flash_attention_agrees_over_the_whole_model(name: str) -> None:
    model, loss, batch = FAMILIES[name].make()
    model.eval()  # flash attention takes no dropout
    batches = [batch(step) for step in range(STEPS)]
    every = [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]
    losses, state = train_eagerly(model, loss, OPTIMIZERS["momentum"], batches, backends=every)
    captured = capture(model, loss, OPTIMIZERS["momentum"], batches[0])
    trained = train(captured, plain(captured), batches)
    assert trained.losses == pytest.approx(losses, rel=TOLERANCE)
    names = [name for name, _ in model.named_parameters()]
    ours, theirs = (torch.cat([s[n].flatten() for n in names]) for s in (trained.state, state))
    assert relative_difference(ours, theirs) <= TOLERANCE
