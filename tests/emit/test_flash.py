"""What training does not change is a constant of the program, as far as there is flash for it."""

from pathlib import Path

import pytest

from edgewise.capture import SGD, Captured, capture
from edgewise.emit import emit, find_board
from edgewise.plan import Budget
from edgewise.zoo import resolve_task
from tests.emit.trained import DEVICE, distance, in_pytorch, inferred_in_c, run_in_c, same_bits


@pytest.fixture(scope="module")
def head() -> tuple[Captured, list]:
    """The step that trains the head of a network alone."""
    task = resolve_task("digits-cnn", batch=4)
    for name, parameter in task.model.named_parameters():
        parameter.requires_grad_(name.startswith("head"))
    captured = capture(task.model, task.loss, SGD(lr=0.1, momentum=0.9), task.example_batch, name="head")
    return captured, [task.example_batch] * 3


@pytest.mark.parametrize("flash_bytes", [0, 20_000, 1 << 20])
def test_the_step_is_the_same_wherever_weights_lie(
    head: tuple[Captured, list], flash_bytes: int, tmp_path: Path
) -> None:
    captured, batches = head
    made = emit(
        captured, DEVICE, Budget(30 * 1024), tmp_path, model="x", time_limit=2, flash_bytes=flash_bytes
    )
    here, _ = run_in_c(made, tmp_path, batches)
    there, _ = run_in_c(made, tmp_path, batches, find_board("stm32f405"), ram_bytes=40 * 1024)
    expected = in_pytorch(captured, batches)
    assert made.emitted.flash_bytes <= flash_bytes
    assert here.losses == pytest.approx(expected.losses, rel=1e-5)
    assert (
        distance(here.state, {name: expected.state[name] for name in here.state if name in expected.state})
        < 1e-6
    )
    assert there.losses == here.losses
    assert same_bits(there.state, here.state)


def test_what_lies_in_flash_takes_neither_ram_nor_store(head: tuple[Captured, list], tmp_path: Path) -> None:
    captured, batches = head
    made = [
        emit(captured, DEVICE, Budget(60 * 1024), tmp_path / str(n), model="x", time_limit=2, flash_bytes=n)
        for n in (0, 1 << 20)
    ]
    frozen = sum(p.numel() * 4 for p in captured.model.parameters() if not p.requires_grad)
    assert made[1].emitted.flash_bytes >= frozen
    assert made[1].plan.peak_bytes <= made[0].plan.peak_bytes - frozen
    assert {value.name for value in made[1].emitted.values} & {"stem.0.weight", "fine.0.0.weight"} == set()
    assert "Everything that is trained lives in the store" in (tmp_path / "0" / "README.md").read_text()
    assert f"{made[1].emitted.flash_bytes:,} bytes of" in (tmp_path / str(1 << 20) / "README.md").read_text()
    outputs = [
        inferred_in_c(m, tmp_path / str(n), batches, batches[:1])[0]
        for m, n in zip(made, (0, 1 << 20), strict=True)
    ]
    assert outputs[0].equal(outputs[1])
