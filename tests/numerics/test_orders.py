"""Whatever a plan forgets, recomputes or pages, the bits are those of the plain plan."""

import random

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.numerics.test_families import case_of
from tests.run.training import assert_same_bits, train
from tests.support import plan_of, random_order

SMALL = ["mlp", "skip-sum", "norms", "layer-norm", "text-classifier", "tied-classifier", "masked-attention"]


@pytest.mark.parametrize("name", SMALL)
@settings(max_examples=12, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(seed=st.integers(0, 2**32), forget=st.floats(0, 0.9), page=st.floats(0, 1))
def test_any_order_gives_the_bits_of_the_plain_one(name: str, seed: int, forget: float, page: float) -> None:
    case = case_of(name, "momentum")
    order, homes = random_order(case.captured.graph, random.Random(seed), forget=forget, page=page)
    plan = plan_of(order, case.captured.graph, homes=homes)
    assert_same_bits(train(case.captured, plan, case.batches, start=case.start), case.unplanned)
