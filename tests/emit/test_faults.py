"""A program that goes astray is stopped by what is not mapped, or by the MPU, and it is said where."""

from pathlib import Path
from typing import NamedTuple

import pytest
from elftools.elf.elffile import ELFFile

from edgewise.emit import BOARDS, Built, build, run
from edgewise.errors import DeviceError
from tests.emit.regression import SOURCE, batches, write_folder
from tests.emit.test_emulators import WAYS

RAM_BYTES = 7 * 1024
ENDS = "extern void ew_host_exit(int); ew_host_exit(0);"
PLACES: dict[str, list[str]] = {}
for _board, _compiler, _emulator in WAYS:
    if _compiler == "zig":
        PLACES.setdefault(_board, []).append(_emulator)


class Crime(NamedTuple):
    """C at the start of `model_step`, and what is said of it, with names for addresses."""

    code: str
    said: str


def poke(address: str) -> str:
    return f"*(volatile uint32_t *)({address}) = 1;"


def peek(address: str) -> str:
    return f"(void)*(volatile uint32_t *)({address});"


DEEPER = """
__attribute__((noinline)) static int deeper(volatile int *above)
{
    volatile int here[64];
    here[0] = *above + 1;
    return here[0] < 1000000 ? deeper(here) + here[0] : 0;
}
"""
CRIMES = {
    "writes behind its RAM": Crime(poke("RAM_END"), " RAM_END in `model_step` (0x"),
    "reads far behind its RAM": Crime(peek("RAM_END + 0x20000"), " RAM_FAR in `model_step` (0x"),
    "writes to flash": Crime(poke("FLASH"), " FLASH in `model_step` (0x"),
    "touches a peripheral": Crime(peek("0x50000000"), " 0x50000000 in `model_step` (0x"),
    "runs data": Crime(
        "((void (*)(void))(uintptr_t)(model_arena + 1))();", "the program ran into ARENA in `model_step` (0x"
    ),
    "runs an undefined instruction": Crime('__asm__ volatile("udf #1");', ") in `model_step` (0x"),
    "overflows its stack": Crime(
        "volatile int top = 0; *loss = (float)deeper(&top);",
        ": its stack of 3,072 B overflowed. Raise `stack_bytes` in model.json.",
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("faults") / "regression")


def commit(crime: str, folder: Path, addresses: dict[str, int]) -> None:
    """Put it into the folder's model.c."""
    code = CRIMES[crime].code
    for name, address in addresses.items():
        code = code.replace(name, hex(address))
    source = (SOURCE / "model.c").read_text(encoding="utf-8")
    source = source.replace("int model_step(", f"{DEEPER if 'deeper' in code else ''}int model_step(")
    (folder / "model.c").write_text(source.replace("    float db = 0", f"    {code}\n    float db = 0"))


@pytest.mark.parametrize("crime", CRIMES)
@pytest.mark.parametrize("board_name", PLACES)
def test_a_crime_is_stopped_and_named(crime: str, board_name: str, folder: Path) -> None:
    board = BOARDS[board_name]
    end = board.ram_start + RAM_BYTES
    addresses = {"RAM_END": end, "RAM_FAR": end + 0x20000, "FLASH": board.flash_start + 4096}
    commit(crime, folder, addresses)
    built = build(folder, board, ram_bytes=RAM_BYTES)
    said = CRIMES[crime].said
    for name, address in {**addresses, "ARENA": address_of(built, "model_arena")}.items():
        said = said.replace(name, hex(address))
    for emulator in PLACES[board_name]:
        with pytest.raises(DeviceError) as caught:
            run(built, batches(1), store=folder / "weights.bin", emulator=emulator)
        assert str(caught.value).startswith(f"On board `{board_name}` the program ")
        assert said in str(caught.value)


PROTECTED = [name for name in ("lm3s6965", "an500", "an547") if "qemu" in PLACES[name]]
MPU_OFF = '*(volatile uint32_t *)0xe000ed94 = 0; __asm__ volatile("dsb\\n isb");'


@pytest.mark.parametrize("crime", ["writes behind its RAM", "writes to flash"])
@pytest.mark.parametrize("board_name", PROTECTED)
def test_in_qemu_it_is_the_mpu_that_stops_a_write(crime: str, board_name: str, folder: Path) -> None:
    """QEMU's own memories let it pass: they have more RAM, and writes to flash go nowhere."""
    board = BOARDS[board_name]
    commit(crime, folder, {"RAM_END": board.ram_start + RAM_BYTES, "FLASH": board.flash_start + 0x10000})
    guarded, source = build(folder, board, ram_bytes=RAM_BYTES), (folder / "model.c").read_text()
    with pytest.raises(DeviceError, match=r": a memory fault outside of its RAM"):
        run(guarded, batches(1), store=folder / "weights.bin", emulator="qemu")
    code = source.split("    *(volatile", 1)
    (folder / "model.c").write_text(f"{code[0]}    {MPU_OFF}\n    *(volatile{code[1]}")
    free = run(
        build(folder, board, ram_bytes=RAM_BYTES), batches(1), store=folder / "weights.bin", emulator="qemu"
    )
    assert len(free.losses) == 1


def address_of(built: Built, name: str) -> int:
    with built.elf.open("rb") as file:
        table = ELFFile(file).get_section_by_name(".symtab")
        return int(table.get_symbol_by_name(name)[0]["st_value"])


def test_a_write_into_the_rest_of_the_last_kilobyte(folder: Path) -> None:
    """Unicorn maps whole KiB: that of a budget in between is looked at when the program has ended."""
    board = BOARDS["stm32f405"]
    commit("writes behind its RAM", folder, {"RAM_END": board.ram_start + 7500})
    built = build(folder, board, ram_bytes=7500)
    with pytest.raises(DeviceError, match=r"the program wrote 0x20001d4c in a function that is not known"):
        run(built, batches(1), store=folder / "weights.bin", emulator="unicorn")


def test_a_program_that_never_ends_its_report(folder: Path) -> None:
    commit("runs data", folder, {})
    text = (folder / "model.c").read_text().replace("((void (*)(void))(uintptr_t)(model_arena + 1))();", ENDS)
    (folder / "model.c").write_text(text)
    built = build(folder, BOARDS["stm32f405"], ram_bytes=RAM_BYTES)
    with pytest.raises(DeviceError, match="The program ended without a report"):
        run(built, batches(1), store=folder / "weights.bin", emulator="unicorn")
