"""A limit on what is written to the slower tier: kept by every plan, or said to be too little."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.devices import Device
from edgewise.errors import BudgetInfeasible, UsageError
from edgewise.graph import Graph
from edgewise.plan import Budget, check, make_plan, minimum_ram, plain_plan
from edgewise.train.recipe import DeviceConfig
from tests.plan.graphs import DISKLESS, OVERLAPPING, PAGING, chain, graphs
from tests.plan.streamers import tiled


@given(
    graphs,
    st.sampled_from([PAGING, OVERLAPPING]),
    st.randoms(use_true_random=False),
    st.floats(0, 1),
    st.floats(0, 1.2),
)
def test_kept_or_refused(graph: Graph, device: Device, dice, share: float, wear: float) -> None:
    loops = tiled(graph, dice)
    low, high = minimum_ram(loops, device, time_limit=2).ram_bytes, plain_plan(loops, device).peak_bytes
    ram_bytes = int(low + share * (high - low))
    free = check(make_plan(loops, device, Budget(ram_bytes), time_limit=2), loops, device)
    limit = int(wear * free.bytes_written)
    try:
        plan = make_plan(loops, device, Budget(ram_bytes, written_bytes=limit), time_limit=2)
    except BudgetInfeasible:
        assert limit < free.bytes_written
    else:
        found = check(plan, loops, device)
        assert found.bytes_written <= limit
        assert plan.gap >= 0


def test_nothing_may_be_written() -> None:
    """Then the step is planned as on a device without a tier; a chain of activations must recompute."""
    graph = chain(8)
    least = minimum_ram(graph, DISKLESS, time_limit=5).ram_bytes
    plan = make_plan(graph, PAGING, Budget(least, written_bytes=0), time_limit=10)
    found = check(plan, graph, PAGING)
    assert (found.bytes_written, found.paged_in) == (0, ())
    assert found.recomputed
    words = f"No plan fits {least // 2:,} B and writes at most 0 B to the slower tier. Least budget: "
    with pytest.raises(BudgetInfeasible, match=words):
        make_plan(graph, PAGING, Budget(least // 2, written_bytes=0), time_limit=5)


def test_a_negative_limit() -> None:
    with pytest.raises(UsageError, match="A limit of the budget is negative"):
        make_plan(chain(2), PAGING, Budget(1000, written_bytes=-1))


def test_in_a_recipe() -> None:
    assert DeviceConfig(written="2MiB").written_bytes == 2 * 2**20
    assert DeviceConfig().written_bytes is None
