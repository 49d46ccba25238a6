"""Compilers found, programs measured, and what is said where there is none or the program does not fit."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pytest

from edgewise.emit import BOARDS, HOST, build, find_compiler, toolchain
from edgewise.emit.elf import read_elf
from edgewise.errors import BudgetInfeasible, DeviceError, UsageError
from tests.emit.regression import RAM_BYTES, write_folder
from tests.emit.test_emulators import COMPILERS

M4 = BOARDS["stm32f405"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "regression")


@pytest.fixture
def nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No compiler at all."""
    monkeypatch.setattr(toolchain, "find_spec", lambda _: None)
    monkeypatch.setattr(shutil, "which", lambda _: None)


@pytest.mark.parametrize("compiler", COMPILERS)
def test_what_a_program_takes(compiler: str, folder: Path) -> None:
    built = build(folder, M4, ram_bytes=RAM_BYTES, compiler=compiler)
    assert built.compiler == compiler
    assert 3072 + 256 + 512 + 768 < built.ram_used_bytes < 5120, "stacks, arena, the store's bits and sector"
    assert 2000 < built.flash_used_bytes < 20_000
    assert built.stack_bytes == 3072
    assert built.elf == folder / "build" / "stm32f405" / "model.elf"


@pytest.mark.parametrize("compiler", COMPILERS)
def test_a_program_is_given_the_ram_that_it_needs_and_not_a_byte_less(compiler: str, folder: Path) -> None:
    with pytest.raises(BudgetInfeasible) as caught:
        build(folder, M4, ram_bytes=3000, compiler=compiler)
    least = caught.value.min_ram_bytes or 0
    missing = least - 3000
    assert str(caught.value) == (
        f"The program needs {missing:,} B more than its 3,000 B of RAM on board `stm32f405`. Give it "
        f"{least:,} B, or plan the model for {missing:,} B less."
    )
    assert build(folder, M4, ram_bytes=least, compiler=compiler).ram_used_bytes <= least
    with pytest.raises(BudgetInfeasible):
        build(folder, M4, ram_bytes=least - 1, compiler=compiler)


@pytest.mark.parametrize("compiler", COMPILERS)
def test_a_program_that_does_not_fit_in_flash(compiler: str, folder: Path) -> None:
    (folder / "kernels" / "big.c").write_text("const char big[1200000] = {1};")
    text = (folder / "model.c").read_text()
    (folder / "model.c").write_text(
        text.replace("int model_save(void)\n{", "extern const char big[];\nint model_save(void)\n{")
        .replace("SLOT_B, 0, AT(B), 4)", "SLOT_B, 0, big + *AT(B) > big ? AT(B) : (void *)big, 4)")
        .replace("big + *AT(B) > big", "*AT(B) > 0.0f")
    )
    with pytest.raises(BudgetInfeasible, match=r"more than the 1,048,576 B of flash of board `stm32f405`"):
        build(folder, M4, ram_bytes=RAM_BYTES, compiler=compiler)


def test_the_stack_is_as_large_as_the_model_says(folder: Path) -> None:
    before = build(folder, M4, ram_bytes=RAM_BYTES)
    (folder / "model.json").write_text(json.dumps({"stack_bytes": 4096}))
    after = build(folder, M4, ram_bytes=RAM_BYTES)
    assert (before.stack_bytes, after.stack_bytes) == (3072, 4096)
    assert after.ram_used_bytes - before.ram_used_bytes == 1024


def test_no_compiler(nothing: None) -> None:
    with pytest.raises(DeviceError) as caught:
        find_compiler(M4)
    assert str(caught.value) == (
        "No C compiler for board `stm32f405`: looked for the Python package `ziglang` and for "
        "`arm-none-eabi-gcc` on the path. Install one with `pip install edgewise[mcu]` (zig, for all "
        "boards), or `apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi`."
    )
    with pytest.raises(DeviceError, match=r"looked for the Python package `ziglang`\. Install one with `pip"):
        find_compiler(M4, "zig")
    with pytest.raises(DeviceError, match=r"for board `host`: looked for `cc` on the path\. Install"):
        find_compiler(HOST, "gcc")


def test_gcc_where_there_is_no_zig(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "find_spec", lambda _: None)
    monkeypatch.setattr(shutil, "which", lambda name: f"/opt/{name}")
    assert find_compiler(M4).words == ("arm-none-eabi-gcc",)
    assert find_compiler(HOST).words == ("cc",)


def test_zig_is_a_part_of_the_extra() -> None:
    assert importlib.util.find_spec("ziglang") is not None
    assert find_compiler(M4).name == "zig"


def test_an_unknown_compiler() -> None:
    with pytest.raises(UsageError, match=r"There is no compiler `tcc`. There are: zig, gcc."):
        find_compiler(M4, "tcc")


def test_sources_that_do_not_compile(folder: Path) -> None:
    (folder / "model.c").write_text("int model_init(void) { return nothing; }")
    with pytest.raises(DeviceError) as caught:
        build(folder, HOST, ram_bytes=0)
    assert "cannot build" in str(caught.value)
    assert "model.c:1:31: error: use of undeclared identifier 'nothing'" in str(caught.value)


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        build(tmp_path, M4, ram_bytes=RAM_BYTES)
    assert str(caught.value) == (
        f"{tmp_path} is no generated model: there is no model.c. Make one with `edgewise emit`."
    )


def test_more_ram_than_the_board_has(folder: Path) -> None:
    with pytest.raises(
        UsageError, match=r"131,072 B of RAM, not the 131,073 B asked for\. These have: an500, an547"
    ):
        build(folder, M4, ram_bytes=131_073)


def test_a_medium_that_the_board_has_not(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"Board `stm32f405` has no medium `sd`. It has: file."):
        build(folder, M4, ram_bytes=RAM_BYTES, medium="sd")


def test_without_what_reads_programs_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "elftools.elf.elffile", None)
    with pytest.raises(DeviceError, match=r"pip install edgewise\[mcu\]"), read_elf(tmp_path / "model.elf"):
        pass
