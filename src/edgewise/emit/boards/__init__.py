"""Boards that a model can be built and emulated for: cores, memories, and what emulators call them."""

from pathlib import Path
from string import Template

from msgspec import Struct

from edgewise.errors import UsageError

HERE = Path(__file__).parent
FAULT_STACK_BYTES = 256
STACK_BYTES = 3072
"""Of the program, unless model.json says another: a convolutional net, built by zig, takes 2,388."""


class Board(Struct, frozen=True):
    """A board as an emulator knows it.

    Attributes:
        name: what it is called here.
        description: the same for people.
        zig: target and CPU, as `zig cc` takes them.
        gcc: CPU and FPU, as `arm-none-eabi-gcc` takes them.
        unicorn: CPU model of unicorn, or "" if it has none that runs this core's code.
        qemu: machine of `qemu-system-arm`.
        clock_hz: of the processor, as QEMU clocks its SysTick.
        flash_start, flash_bytes: where code and constants go.
        ram_start, ram_bytes: the RAM in one piece; budgets are cut from it.
        peripherals_start, peripherals_end: what a driver on this board may touch.
        memory_start, memory_bytes: slower memory on its bus, for a store on the medium `memory`.
        media: what the store may be on, the default first: `file` of the host, `sd` card, or `memory`.
    """

    name: str
    description: str
    zig: tuple[str, ...] = ()
    gcc: tuple[str, ...] = ()
    unicorn: str = ""
    qemu: str = ""
    clock_hz: int = 0
    flash_start: int = 0
    flash_bytes: int = 0
    ram_start: int = 0
    ram_bytes: int = 0
    peripherals_start: int = 0
    peripherals_end: int = 0
    memory_start: int = 0
    memory_bytes: int = 0
    media: tuple[str, ...] = ("file",)

    @property
    def is_host(self) -> bool:
        """Whether it is this computer, where nothing is emulated and RAM is not limited."""
        return not self.ram_bytes


STM32F405 = Board(
    name="stm32f405",
    description="Cortex-M4F, 128 KiB of RAM in one piece",  # QEMU 7.2 shows 192 KiB, which the chip has not
    zig=("-target", "thumb-freestanding-eabihf", "-mcpu=cortex_m4+vfp4d16sp"),
    gcc=("-mcpu=cortex-m4", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard"),
    unicorn="CORTEX_M4",
    qemu="netduinoplus2",
    clock_hz=168_000_000,
    flash_start=0x08000000,
    flash_bytes=1024 * 1024,
    ram_start=0x20000000,
    ram_bytes=128 * 1024,
)
LM3S6965 = Board(
    name="lm3s6965",
    description="Cortex-M3 without FPU, 64 KiB of RAM, SD card over SPI",
    zig=("-target", "thumb-freestanding-eabi", "-mcpu=cortex_m3"),
    gcc=("-mcpu=cortex-m3", "-mfloat-abi=soft"),
    unicorn="CORTEX_M3",
    qemu="lm3s6965evb",
    clock_hz=12_500_000,
    flash_start=0,
    flash_bytes=256 * 1024,
    ram_start=0x20000000,
    ram_bytes=64 * 1024,
    peripherals_start=0x40000000,
    peripherals_end=0x40100000,
    media=("file", "sd"),
)
AN500 = Board(
    name="an500",
    description="Cortex-M7 with FPU, 4 MiB of RAM, 16 MiB of PSRAM",
    # Single precision, as an STM32F746 has it: unicorn's M7 knows no other.
    zig=("-target", "thumb-freestanding-eabihf", "-mcpu=cortex_m7+fp_armv8d16sp"),
    gcc=("-mcpu=cortex-m7", "-mfpu=fpv5-sp-d16", "-mfloat-abi=hard"),
    unicorn="CORTEX_M7",
    qemu="mps2-an500",
    clock_hz=25_000_000,
    flash_start=0,
    flash_bytes=4 * 1024 * 1024,
    ram_start=0x20000000,
    ram_bytes=4 * 1024 * 1024,
    memory_start=0x60000000,
    memory_bytes=16 * 1024 * 1024,
    media=("file", "memory"),
)
AN547 = Board(
    name="an547",
    description="Cortex-M55 with FPU, 512 KiB of RAM",
    # Vectors of integers only: those of floats take numbers below 1.2e-38 for zero, and so make other bits.
    zig=("-target", "thumb-freestanding-eabihf", "-mcpu=cortex_m55+fp_armv8d16+mve"),
    gcc=("-mcpu=cortex-m55+nomve.fp", "-mfloat-abi=hard"),
    qemu="mps3-an547",
    clock_hz=32_000_000,
    flash_start=0x10000000,  # the memory at 0, where secure code runs from
    flash_bytes=512 * 1024,
    ram_start=0x30000000,
    ram_bytes=512 * 1024,
)
HOST = Board(name="host", description="this computer, without any limit")

BOARDS = {board.name: board for board in (STM32F405, LM3S6965, AN500, AN547, HOST)}


def find_board(name: str) -> Board:
    """The board called `name`.

    Raises:
        UsageError: there is none.
    """
    if name not in BOARDS:
        raise UsageError(f"There is no board `{name}`. There are: {', '.join(BOARDS)}.")
    return BOARDS[name]


def linker_script(board: Board, ram_bytes: int, stack_bytes: int = STACK_BYTES) -> str:
    """The script by which a program gets `ram_bytes` of RAM, `stack_bytes` of them for its stack."""
    numbers = {
        "flash_start": board.flash_start,
        "flash_bytes": board.flash_bytes,
        "ram_start": board.ram_start,
        "ram_bytes": ram_bytes,
        "stack_bytes": stack_bytes,
        "fault_stack_bytes": FAULT_STACK_BYTES,
        "peripherals_start": board.peripherals_start,
        "peripherals_end": board.peripherals_end,
        "memory_start": board.memory_start,
        "memory_end": board.memory_start + board.memory_bytes,
    }
    template = Template((HERE / "board.ld").read_text(encoding="utf-8"))
    return template.substitute(
        name=f"{board.name}, {ram_bytes:,} B of its RAM", **{key: hex(n) for key, n in numbers.items()}
    )
