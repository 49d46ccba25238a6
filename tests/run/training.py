"""One way to train under a plan for all tests, with the assertion that every run of every test must pass."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from edgewise.capture import Captured
from edgewise.devices import Device
from edgewise.plan import Plan
from edgewise.run import Executor, StepResult
from tests.support import DEVICE, plain_order, plan_of


class Trained(NamedTuple):
    losses: list[float]
    state: dict[str, Tensor]
    results: list[StepResult]


def plain(captured: Captured) -> Plan:
    """Every op once, nothing paged."""
    return plan_of(plain_order(captured.graph), captured.graph)


def assert_within_budget(result: StepResult, plan: Plan) -> None:
    """Live bytes never above the budget; planned against measured within 1%, in total and nowhere above."""
    assert result.peak_bytes <= plan.budget.ram_bytes
    assert abs(result.peak_bytes - plan.peak_bytes) <= 0.01 * plan.peak_bytes
    assert len(result.live_bytes) == len(plan.steps)
    assert max(result.live_bytes) <= result.peak_bytes


def train(
    captured: Captured,
    plan: Plan,
    batches: Sequence[Any],
    *,
    start: dict[str, Tensor] | None = None,
    device: Device = DEVICE,
    paging_dir: Path | None = None,
) -> Trained:
    """Train on `batches`, from the model's own state or from `start`."""
    with Executor(captured, plan, device, paging_dir=paging_dir) as executor:
        if start is not None:
            executor.load_state(start)
        results = [executor.step(batch, step) for step, batch in enumerate(batches)]
        for result in results:
            assert_within_budget(result, plan)
        return Trained([result.loss for result in results], executor.state(), results)


def start_of(captured: Captured) -> dict[str, Tensor]:
    """The state before the first step."""
    with Executor(captured, plain(captured), DEVICE) as executor:
        return executor.state()


def assert_same_bits(ours: Trained, theirs: Trained) -> None:
    """Losses and states agree in every bit (a NaN agrees with the same NaN)."""
    assert [loss.hex() for loss in ours.losses] == [loss.hex() for loss in theirs.losses]
    assert ours.state.keys() == theirs.state.keys()
    differing = [name for name in ours.state if not _same_bits(ours.state[name], theirs.state[name])]
    assert differing == []


def _same_bits(a: Tensor, b: Tensor) -> bool:
    flat_a, flat_b = a.contiguous().flatten(), b.contiguous().flatten()
    return torch.equal(flat_a.view(torch.uint8), flat_b.view(torch.uint8))
