"""Any budget between the least and the plain peak: a plan, the same bits, never more bytes than allowed."""

from functools import cache

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from edgewise.plan import Budget, Minimum, make_plan, minimum_ram, plain_plan
from tests.numerics.test_families import case_of
from tests.run.training import assert_same_bits, train
from tests.support import DEVICE

SMALL = ["mlp", "skip-sum", "norms", "layer-norm", "text-classifier", "tied-classifier", "masked-attention"]
LARGE = ["resnet8", "mobilenetv2", "unet", "transformer", "tied-lm", "digits-cnn", "upsampler"]
PUBLIC = ["BERT", "DistilBERT", "GPT-2", "Llama", "ViT", "MobileNetV2", "ConvNeXt"]


@cache
def bounds_of(name: str) -> tuple[Minimum, int]:
    """The least RAM of a family and what plain training needs."""
    graph = case_of(name, "adamw").captured.graph
    return minimum_ram(graph, DEVICE, time_limit=2), plain_plan(graph, DEVICE).peak_bytes


def assert_trains_within(name: str, share: float) -> None:
    """Plan and train with a budget `share` of the way from the least to the plain peak."""
    case, (least, plain_bytes) = case_of(name, "adamw"), bounds_of(name)
    budget = round(least.ram_bytes + share * (plain_bytes - least.ram_bytes))
    plan = make_plan(case.captured.graph, DEVICE, Budget(budget), time_limit=1, gap=0.5)
    assert plan.peak_bytes <= budget
    assert_same_bits(train(case.captured, plan, case.batches, start=case.start), case.unplanned)


@pytest.mark.parametrize("name", SMALL)
@settings(max_examples=3, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(share=st.floats(0, 1))
def test_every_budget_of_a_small_family(name: str, share: float) -> None:
    assert_trains_within(name, share)


@pytest.mark.parametrize("name", SMALL)
def test_least_budget_of_a_small_family(name: str) -> None:
    case, (least, plain_bytes) = case_of(name, "adamw"), bounds_of(name)
    assert least.ram_bytes <= plain_bytes
    assert_same_bits(train(case.captured, least.plan, case.batches, start=case.start), case.unplanned)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*LARGE, *PUBLIC])
@settings(max_examples=4, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(share=st.floats(0, 1))
def test_every_budget_of_a_large_family(name: str, share: float) -> None:
    assert_trains_within(name, share)


@pytest.mark.parametrize("name", ["resnet8", "transformer"])
def test_half_way_budget_of_a_large_family(name: str) -> None:
    assert_trains_within(name, 0.5)
