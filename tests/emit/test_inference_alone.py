"""A program that infers and does not train: no step, no store where flash holds all, the same output."""

import shutil
from pathlib import Path

import pytest
import torch

from edgewise.capture import SGD
from edgewise.emit import HOST, Board, build, emit, find_board, run, toolchain
from edgewise.errors import DeviceError
from edgewise.plan import Budget
from edgewise.zoo.losses import logits_of
from tests.emit.trained import DEVICE, captured_zoo, inferred_in_c

PLENTY = 1 << 30


@pytest.mark.parametrize("board", [HOST, find_board("stm32f405")], ids=lambda board: board.name)
@pytest.mark.parametrize(
    ("name", "arena", "flash"),
    [
        ("digits-cnn", PLENTY, PLENTY),
        ("digits-cnn", 14 * 1024, PLENTY),
        ("digits-cnn", 14 * 1024, 0),
        ("mlp", PLENTY, 0),
    ],
)
def test_outputs_are_pytorchs(name: str, arena: int, flash: int, board: Board, tmp_path: Path) -> None:
    captured, batches = captured_zoo(name, 2, SGD(lr=0.05))
    made = emit(
        captured, DEVICE, Budget(arena), tmp_path, model=name, train=False, flash_bytes=flash, time_limit=2
    )
    assert made.emitted.arena_bytes <= arena
    assert made.emitted.inputs == ()
    assert all(value.inferred for value in made.emitted.values)
    with torch.no_grad():
        expected = logits_of(captured.model.eval()(batches[0][0]))
    given = [[batches[0][0]]] * 2
    inference = made.emitted.inference
    assert inference is not None
    built = build(tmp_path, board, ram_bytes=128 * 1024 if board.ram_bytes else 0)
    seen = run(built, [], store=tmp_path / "weights.bin", inputs=given)
    for raw in seen.outputs:
        found = torch.frombuffer(bytearray(raw), dtype=torch.float32).view(inference.output.shape)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_without_traffic_there_is_no_store(tmp_path: Path) -> None:
    captured, batches = captured_zoo("digits-cnn", 2, SGD(lr=0.05))
    made = emit(
        captured, DEVICE, Budget(PLENTY), tmp_path, model="x", train=False, flash_bytes=PLENTY, time_limit=2
    )
    text = (tmp_path / "model.c").read_text()
    assert made.emitted.values == ()
    assert "ew_store" not in text
    assert "model_step" not in text + (tmp_path / "model.h").read_text()
    assert "inference in" in (tmp_path / "README.md").read_text()
    assert "tensors that the model reads" in (tmp_path / "README.md").read_text()
    built = build(tmp_path, HOST, ram_bytes=0)
    with pytest.raises(DeviceError, match="a file of the host could not be read or written"):
        run(built, [[batches[0][0], batches[0][1]]], store=tmp_path / "weights.bin")


def test_gcc_takes_it_without_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    captured, _ = captured_zoo("digits-cnn", 2, SGD(lr=0.05))
    emit(captured, DEVICE, Budget(14 * 1024), tmp_path, model="x", train=False, time_limit=2)
    monkeypatch.setattr(toolchain, "FLAGS", (*toolchain.FLAGS, "-Wconversion", "-Werror"))
    for board in (HOST, find_board("stm32f405")):
        compiler = "gcc" if shutil.which("cc" if board.is_host else "arm-none-eabi-gcc") else None
        build(tmp_path, board, ram_bytes=64 * 1024 if board.ram_bytes else 0, compiler=compiler)


def test_it_is_the_inference_of_a_program_that_trains(tmp_path: Path) -> None:
    captured, batches = captured_zoo("digits-cnn", 2, SGD(lr=0.05))
    both, alone = (
        emit(captured, DEVICE, Budget(PLENTY), tmp_path / str(train), model="x", train=train, time_limit=2)
        for train in (True, False)
    )
    outputs = [
        inferred_in_c(made, tmp_path / str(train), [], batches[:1])[0]
        for made, train in ((both, True), (alone, False))
    ]
    assert outputs[0].equal(outputs[1])
