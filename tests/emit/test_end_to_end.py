"""One training step of whole networks on emulated boards, each within its RAM: the benchmark's cases."""

from pathlib import Path

import pytest

from edgewise.capture import capture
from edgewise.devices import load_device
from edgewise.emit import RESERVED_BYTES, emit, find_board
from edgewise.plan import Budget
from tests.emit.cases import CASES
from tests.emit.trained import in_pytorch, run_in_c, same_bits

SLOW = ("ResNet-18", "MiniLM", "ResNet-8, SGD")
"""Large ones, and the one without a floating-point unit."""


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n.startswith(SLOW) else n for n in CASES]
)
def test_one_step_of(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    model, loss, batch = case.make()
    captured = capture(model.train(), loss, case.optimizer, batch, name=name)
    budget = Budget(case.ram_bytes - RESERVED_BYTES)
    made = emit(captured, load_device(case.device), budget, tmp_path, model=name, time_limit=4)
    here, _ = run_in_c(made, tmp_path, [batch])
    there, emulated = run_in_c(made, tmp_path, [batch], find_board(case.board), ram_bytes=case.ram_bytes)
    assert there.losses == here.losses
    assert same_bits(there.state, here.state)
    assert emulated.stack_bytes is not None
    assert made.emitted.arena_bytes + emulated.stack_bytes <= case.ram_bytes
    # Where a batch of one is normalized over few elements, rounding alone moves the loss by this much.
    assert there.losses == pytest.approx(in_pytorch(captured, [batch]).losses, rel=1e-4)
