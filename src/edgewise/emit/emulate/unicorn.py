"""Unicorn as an emulated board: the processor, its flash, exactly the RAM of the budget, and semihosting.

Nothing else is mapped, so that every access elsewhere stops the program. RAM is mapped in whole KiB; what
is beyond the budget in the last one must be at the end as it was at the start.
"""

import struct
from importlib import import_module
from pathlib import Path
from typing import Any

from edgewise.emit.build import Built
from edgewise.emit.elf import read_elf
from edgewise.emit.emulate.counting import InstructionCounter
from edgewise.emit.emulate.nouns import Ending
from edgewise.emit.emulate.semihosting import Exit, Semihosting
from edgewise.emit.emulate.symbols import astray, function_at
from edgewise.errors import DeviceError

unicorn: Any = import_module("unicorn")  # whose annotations are too few for mypy --strict
arm: Any = import_module("unicorn.arm_const")

READ_WRITE = unicorn.UC_PROT_READ | unicorn.UC_PROT_WRITE
PAGE = 1024
SYSTEM_BYTES = 4096
SYSTEM = 0xE000E000  # SysTick, MPU and the like: what is written is forgotten, and read as zero
SYSTICK_NOW = 0x18
BKPT = 7
SLACK = 0x5A
ACCESS = {
    unicorn.UC_MEM_READ_UNMAPPED: "read",
    unicorn.UC_MEM_WRITE_UNMAPPED: "wrote",
    unicorn.UC_MEM_FETCH_UNMAPPED: "ran into",
    unicorn.UC_MEM_WRITE_PROT: "wrote",
    unicorn.UC_MEM_READ_PROT: "read",
    unicorn.UC_MEM_FETCH_PROT: "ran into",
}


class _Machine:
    """One program in its memories."""

    def __init__(self, built: Built, place: Path, power_off_at: int | None) -> None:
        board = built.board
        self.built = built
        self.uc = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS)
        self.uc.ctl_set_cpu_model(getattr(arm, f"UC_CPU_ARM_{board.unicorn}"))
        self.uc.mem_map(board.flash_start, board.flash_bytes, unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC)
        self.uc.mem_map(board.ram_start, -(-built.ram_bytes // PAGE) * PAGE, READ_WRITE)
        self.uc.mmio_map(SYSTEM, SYSTEM_BYTES, self._look, None, lambda *_: None, None)
        self.slack_start = board.ram_start + built.ram_bytes
        self.slack = bytes([SLACK]) * (-built.ram_bytes % PAGE)
        self.uc.mem_write(self.slack_start, self.slack)
        self._load()
        self.store = place / "store.bin"
        if built.medium == "memory":
            self.uc.mem_map(board.memory_start, board.memory_bytes, READ_WRITE)
            self.uc.mem_write(board.memory_start, self.store.read_bytes()[: board.memory_bytes])
        code = bytes(self.uc.mem_read(board.flash_start, -(-built.flash_used_bytes // 2) * 2))
        self.counter = InstructionCounter(self.uc, board.flash_start, code, built.elf.parents[1])
        self.host = Semihosting(place, power_off_at)
        self.looks: list[int] = []
        self.ending: Exit | None = None
        self.error: Exception | None = None
        self.uc.hook_add(unicorn.UC_HOOK_INTR, self._interrupt)
        self.uc.hook_add(unicorn.UC_HOOK_MEM_INVALID, self._invalid)

    def _load(self) -> None:
        with read_elf(self.built.elf) as program:
            for segment in program.iter_segments():
                if segment["p_type"] == "PT_LOAD" and segment["p_filesz"]:
                    self.uc.mem_write(segment["p_paddr"], segment.data())

    def _look(self, _uc: Any, offset: int, _size: int, _: Any) -> int:
        if offset == SYSTICK_NOW:
            self.looks.append(self.counter.instructions)
        return 0

    def _interrupt(self, uc: Any, number: int, _: Any) -> None:
        pc = uc.reg_read(arm.UC_ARM_REG_PC)
        if number != BKPT:
            self._stop(self._stopped(f"exception {number}"))
            return
        try:
            result = self.host.call(
                uc.reg_read(arm.UC_ARM_REG_R0), uc.reg_read(arm.UC_ARM_REG_R1), uc.mem_read, uc.mem_write
            )
        except Exit as ending:
            self.ending = ending
            uc.emu_stop()
            return
        except (OSError, unicorn.UcError) as error:
            self._stop(error)
            return
        uc.reg_write(arm.UC_ARM_REG_R0, result & 0xFFFFFFFF)
        uc.reg_write(arm.UC_ARM_REG_PC, (pc + 2) | 1)

    def _invalid(self, uc: Any, access: int, address: int, _size: int, _value: int, _: Any) -> bool:
        ran = access in (unicorn.UC_MEM_FETCH_UNMAPPED, unicorn.UC_MEM_FETCH_PROT)
        by = uc.reg_read(arm.UC_ARM_REG_LR if ran else arm.UC_ARM_REG_PC)
        self.error = astray(self.built, address, by, ACCESS.get(access, "touched"))
        return False

    def _stopped(self, how: object) -> DeviceError:
        pc = self.uc.reg_read(arm.UC_ARM_REG_PC)
        return DeviceError(
            f"On board `{self.built.board.name}` the program stopped ({how}) in "
            f"{function_at(self.built.elf, pc)}. Was it built for another core?"
        )

    def _stop(self, error: Exception) -> None:
        self.error = error
        self.uc.emu_stop()

    def run(self) -> Ending:
        board = self.built.board
        stack, reset = struct.unpack("<II", self.uc.mem_read(board.flash_start, 8))
        self.uc.reg_write(arm.UC_ARM_REG_SP, stack)
        try:
            self.uc.emu_start(reset | 1, 0xFFFFFFFE)
        except unicorn.UcError as error:
            self.error = self.error or self._stopped(error)
        finally:
            self.host.close()
        if self.error is not None:
            raise self.error
        if self.uc.mem_read(self.slack_start, len(self.slack)) != self.slack:
            raise astray(self.built, self.slack_start, 0, "wrote")
        if self.built.medium == "memory":
            size = self.store.stat().st_size
            self.store.write_bytes(bytes(self.uc.mem_read(board.memory_start, min(size, board.memory_bytes))))
        if self.ending is None:
            raise DeviceError(f"On board `{board.name}` the program stopped without an exit. Build it anew.")
        return Ending(self.ending.code, self.counter.instructions, tuple(self.looks))


def execute(built: Built, place: Path, *, power_off_at: int | None = None) -> Ending:
    """Run the program; its files are in `place`.

    Args:
        built: for a board that unicorn has a model of.
        place: a folder.
        power_off_at: number of the write to store.bin, from 0, during which power is lost.

    Raises:
        DeviceError: it touched what it must not, or unicorn has no such board.
    """
    if not built.board.unicorn:
        raise DeviceError(
            f"Unicorn cannot run board `{built.board.name}`. Use `--emulator qemu` (apt-get install "
            "qemu-system-arm)."
        )
    return _Machine(built, place, power_off_at).run()
