"""Boards: what the table says of them agrees with itself, and with what is built."""

import shutil
import subprocess
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from edgewise.emit import BOARDS, Board, build, find_board
from edgewise.emit.boards import FAULT_STACK_BYTES, linker_script
from edgewise.errors import UsageError
from tests.emit.regression import RAM_BYTES, write_folder

EMULATED = [board for board in BOARDS.values() if not board.is_host]
KIB = 1024


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("boards") / "regression")


def symbols(elf: Path) -> dict[str, int]:
    with elf.open("rb") as file:
        table = ELFFile(file).get_section_by_name(".symtab")
        return {symbol.name: symbol["st_value"] for symbol in table.iter_symbols()}


@pytest.mark.parametrize("board", EMULATED, ids=lambda board: board.name)
def test_memories_are_in_whole_regions(board: Board) -> None:
    """As the MPU of the older cores has them: powers of two, at multiples of their size."""
    for start, size in (
        (board.flash_start, board.flash_bytes),
        (board.ram_start, board.ram_bytes),
        (board.memory_start, board.memory_bytes),
        (board.peripherals_start, board.peripherals_end - board.peripherals_start),
    ):
        assert size & (size - 1) == 0
        assert not size or start % size == 0
    assert board.qemu
    assert board.clock_hz
    assert board.media[0] == "file"
    assert not (board.peripherals_end and board.memory_bytes), "there are eight regions, six of them for RAM"


@pytest.mark.parametrize("board", EMULATED, ids=lambda board: board.name)
def test_the_stack_is_at_the_bottom_and_all_is_within_the_budget(board: Board, folder: Path) -> None:
    built = build(folder, board, ram_bytes=RAM_BYTES)
    at = symbols(built.elf)
    assert at["ew_stack_start"] == at["ew_ram_start"] == board.ram_start
    assert at["ew_stack_end"] == board.ram_start + built.stack_bytes
    assert at["ew_fault_stack_end"] == at["ew_stack_end"] + FAULT_STACK_BYTES
    assert at["ew_ram_end"] == board.ram_start + RAM_BYTES
    assert at["ew_fault_stack_end"] <= at["model_arena"] < at["ew_bss_end"] <= at["ew_ram_end"]
    assert at["model_arena"] % 8 == 0
    assert at["vectors"] == board.flash_start


def test_the_boards_are_those_that_were_promised() -> None:
    assert {name: board.ram_bytes // KIB for name, board in BOARDS.items()} == {
        "stm32f405": 128,
        "lm3s6965": 64,
        "an500": 4096,
        "an547": 512,
        "host": 0,
    }


def test_an_unknown_board() -> None:
    with pytest.raises(UsageError) as caught:
        find_board("esp32")
    assert str(caught.value) == (
        "There is no board `esp32`. There are: stm32f405, lm3s6965, an500, an547, host."
    )


def test_a_linker_script_says_what_it_is_for() -> None:
    text = linker_script(BOARDS["stm32f405"], 96 * KIB, 3000)
    assert text.startswith(
        "/* Memory of stm32f405, 98,304 B of its RAM: what does not fit in the budget does not link."
    )
    assert "RAM (rw)   : ORIGIN = 0x20000000, LENGTH = 0x18000" in text
    assert "$" not in text


def test_the_emulator_knows_the_machines() -> None:
    """Where it is installed; `.ci/run` installs it."""
    program = shutil.which("qemu-system-arm")
    if program is None:
        return
    listed = subprocess.run([program, "-M", "help"], capture_output=True, text=True, check=True).stdout
    assert [board.qemu for board in EMULATED if f"\n{board.qemu} " not in listed] == []
