"""Any budget between the least and the plain peak: a plan, the same numbers, never more bytes than allowed.

The same bits, unless the plan takes a tiled option that adds up in another order or hands a kernel fewer
rows: then the same to within 1e-6 over the whole model. Not with AdamW, which makes steps of full size of
gradients that are nothing but rounding, as those of the biases of keys are.
"""

from functools import cache

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from edgewise.plan import Budget, Minimum, Plan, check, make_plan, minimum_ram, plain_plan
from tests.numerics.eager import relative_difference
from tests.numerics.test_families import TOLERANCE, Case, case_of
from tests.run.training import assert_same_bits, train
from tests.support import DEVICE

KIND = "momentum"
SMALL = ["mlp", "skip-sum", "norms", "layer-norm", "text-classifier", "tied-classifier", "masked-attention"]
LARGE = ["resnet8", "mobilenetv2", "unet", "transformer", "tied-lm", "digits-cnn", "upsampler"]
PUBLIC = ["BERT", "DistilBERT", "GPT-2", "Llama", "ViT", "MobileNetV2", "ConvNeXt"]


@cache
def bounds_of(name: str) -> tuple[Minimum, int]:
    """The least RAM of a family and what plain training needs."""
    graph = case_of(name, KIND).captured.graph
    return minimum_ram(graph, DEVICE, time_limit=2), plain_plan(graph, DEVICE).peak_bytes


def assert_trains_within(name: str, share: float) -> None:
    """Plan and train with a budget `share` of the way from the least to the plain peak."""
    case, (least, plain_bytes) = case_of(name, KIND), bounds_of(name)
    budget = round(least.ram_bytes + share * (plain_bytes - least.ram_bytes))
    plan = make_plan(case.captured.graph, DEVICE, Budget(budget), time_limit=1, gap=0.5)
    assert plan.peak_bytes <= budget
    assert_trains_as_unplanned(case, plan)


def assert_trains_as_unplanned(case: Case, plan: Plan) -> None:
    """The same bits, or where the check says that they may differ, the same to within the tolerance."""
    trained = train(case.captured, plan, case.batches, start=case.start)
    if check(plan, case.captured.graph, DEVICE).exact:
        assert_same_bits(trained, case.unplanned)
        return
    assert trained.losses == pytest.approx(case.unplanned.losses, rel=TOLERANCE)
    ours, theirs = (
        torch.cat([tensor.double().flatten() for tensor in state.values()])
        for state in (trained.state, case.unplanned.state)
    )
    assert relative_difference(ours, theirs) <= TOLERANCE


@pytest.mark.parametrize("name", SMALL)
@settings(max_examples=3, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(share=st.floats(0, 1))
def test_every_budget_of_a_small_family(name: str, share: float) -> None:
    assert_trains_within(name, share)


@pytest.mark.parametrize("name", SMALL)
def test_least_budget_of_a_small_family(name: str) -> None:
    case, (least, plain_bytes) = case_of(name, KIND), bounds_of(name)
    assert least.ram_bytes <= plain_bytes
    assert_trains_as_unplanned(case, least.plan)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*LARGE, *PUBLIC])
@settings(max_examples=4, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(share=st.floats(0, 1))
def test_every_budget_of_a_large_family(name: str, share: float) -> None:
    assert_trains_within(name, share)


@pytest.mark.parametrize("name", ["resnet8", "transformer"])
def test_half_way_budget_of_a_large_family(name: str) -> None:
    assert_trains_within(name, 0.5)
