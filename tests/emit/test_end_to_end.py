"""One training step of whole networks on emulated boards, each within its RAM: the benchmark's cases."""

import shutil
from pathlib import Path

import pytest

from edgewise.capture import capture
from edgewise.devices import load_device
from edgewise.emit import BOARDS, RESERVED_BYTES, emit, find_board
from edgewise.plan import Budget
from tests.emit.cases import CASES, sparse_mcunet
from tests.emit.trained import distance, in_pytorch, run_in_c, same_bits

SLOW = ("ResNet-18", "MiniLM", "ResNet-8, SGD", "ResNet-8, momentum")
"""Large ones, the one without a floating-point unit, and that on an M55, which takes QEMU longest."""


HERE = [name for name, case in CASES.items() if BOARDS[case.board].unicorn or shutil.which("qemu-system-arm")]
"""Those that this machine can run; `.ci/run` installs what all of them need."""


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n.startswith(SLOW) else n for n in HERE]
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


@pytest.mark.parametrize(
    ("size", "ram_bytes"), [(32, 80 * 1024), pytest.param(128, 256 * 1024, marks=pytest.mark.slow)]
)
def test_a_sparse_update_with_its_frozen_weights_in_flash(size: int, ram_bytes: int, tmp_path: Path) -> None:
    captured, batch = sparse_mcunet(size)
    start = {name: tensor.detach().clone() for name, tensor in captured.model.state_dict().items()}
    budget, device = Budget(ram_bytes - RESERVED_BYTES), load_device("stm32f7")
    made = emit(captured, device, budget, tmp_path, model="x", infer=False, flash_bytes=3 << 20, time_limit=4)
    here, _ = run_in_c(made, tmp_path, [batch])
    there, _ = run_in_c(made, tmp_path, [batch], find_board("an500"), ram_bytes=ram_bytes)
    expected = in_pytorch(captured, [batch])
    assert there.losses == here.losses
    assert same_bits(there.state, here.state)
    assert there.losses == pytest.approx(expected.losses, rel=1e-5)
    changed = {name: there.state[name] - start[name] for name in there.state if name in start}
    wanted = {name: expected.state[name] - start[name] for name in changed}
    assert distance(changed, wanted) < 1e-4
    trained = {
        name: int(change.flatten(1).any(1).sum()) for name, change in wanted.items() if change.dim() > 1
    }
    assert all(count <= most for count, most in zip(trained.values(), (36, 96, 120, 10), strict=True)), (
        trained
    )
