"""Every emulator and compiler that is there brings a program to the bits that this computer makes."""

import shutil
from pathlib import Path

import pytest

from edgewise.emit import HOST, Emulated, build, contents, find_board, run
from tests.emit.regression import BIAS, LOSSES, RAM_BYTES, STATE, STORE, batches, losses, write_folder

STEPS = 5
COMPILERS = ["zig", *(["gcc"] if shutil.which("arm-none-eabi-gcc") else [])]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("emulators") / "regression")


def train(folder: Path, board: str, compiler: str | None = None, emulator: str | None = None) -> Emulated:
    built = build(folder, find_board(board), ram_bytes=RAM_BYTES, compiler=compiler)
    return run(built, batches(STEPS), store=folder / "weights.bin", emulator=emulator, read_back=[STATE])


@pytest.fixture(scope="module")
def at_home(folder: Path) -> Emulated:
    return train(folder, HOST.name)


def test_it_learns_as_it_should(at_home: Emulated) -> None:
    assert at_home.losses == pytest.approx(losses(STEPS), rel=1e-5)
    assert at_home.read_bytes > 0
    assert at_home.written_bytes > 0


@pytest.mark.parametrize("compiler", COMPILERS)
def test_a_board_makes_the_same_bits(compiler: str, folder: Path, at_home: Emulated) -> None:
    seen = train(folder, "stm32f405", compiler, "unicorn")
    assert seen.losses == at_home.losses
    assert seen.store == at_home.store
    assert seen.read_back == at_home.read_back
    assert (seen.read_bytes, seen.written_bytes) == (at_home.read_bytes, at_home.written_bytes)
    assert 0 < (seen.stack_bytes or 0) < 1024


def test_the_store_holds_what_was_saved(at_home: Emulated) -> None:
    held = contents(at_home.store, STORE)
    assert held[BIAS] == at_home.read_back[0][32:36]
    assert len(held[LOSSES]) == 400
