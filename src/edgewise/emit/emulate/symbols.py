"""Names for addresses, from an ELF file's symbols, and what a program that went astray did, in words."""

import bisect
from pathlib import Path

from edgewise.emit.build import Built
from edgewise.emit.elf import read_elf
from edgewise.emit.emulate.files import Fault
from edgewise.errors import DeviceError

EXCEPTIONS = {3: "hard fault", 4: "memory fault", 5: "bus fault", 6: "usage fault"}
STACKING = 0x10 | 0x20 | 0x1000 | 0x2000  # MSTKERR, MLSPERR, STKERR, LSPERR of CFSR
FETCHING = 0x1  # IACCVIOL


def _functions(elf: Path) -> list[tuple[int, int, str]]:
    """Start, bytes and name of each function, by address."""
    found = set()
    with read_elf(elf) as program:
        for section in program.iter_sections():
            if section["sh_type"] == "SHT_SYMTAB":
                found |= {
                    (symbol["st_value"] & ~1, symbol["st_size"], symbol.name)
                    for symbol in section.iter_symbols()
                    if symbol["st_info"]["type"] == "STT_FUNC"
                }
    return sorted(found)


def function_at(elf: Path, address: int) -> str:
    """`ew_matmul` (0x8000123), or the address alone; 0 is one that nobody knows."""
    if not address:
        return "a function that is not known"
    functions = _functions(elf)
    at = bisect.bisect(functions, (address & ~1, 1 << 62, "")) - 1
    if at >= 0 and functions[at][0] <= address < functions[at][0] + functions[at][1]:
        return f"`{functions[at][2]}` ({address:#x})"
    return f"{address:#x}"


def astray(built: Built, address: int, pc: int, how: str = "touched", stopped: str = "") -> DeviceError:
    """The error for a program that touched what it must not; `stopped` names the fault that it made."""
    start = built.board.ram_start
    end = start + built.ram_bytes
    words = f"On board `{built.board.name}` the program {how} {address:#x} in {function_at(built.elf, pc)}"
    if start - built.board.ram_bytes <= address < start:
        words += f": its stack of {built.stack_bytes:,} B overflowed. Raise `stack_bytes` in model.json."
    else:
        fault = f": a {stopped}" if stopped else ","
        words += (
            f"{fault} outside of its RAM ({start:#x} to {end:#x}) and flash. This is a bug of the generated "
            "code: please report it with the model and the plan."
        )
    return DeviceError(words)


def faulted(built: Built, fault: Fault) -> DeviceError:
    """The error for a fault that the processor's handlers saw."""
    name = EXCEPTIONS.get(fault.exception, f"exception {fault.exception}")
    if fault.status & STACKING or fault.sp < built.board.ram_start:
        return astray(built, min(fault.sp, built.board.ram_start - 1), fault.pc, "pushed to", name)
    if fault.status & FETCHING:
        return astray(built, fault.pc, fault.lr, "ran into", name)
    if fault.address:
        return astray(built, fault.address, fault.pc, stopped=name)
    return DeviceError(
        f"On board `{built.board.name}` the program stopped with a {name} (CFSR {fault.status:#x}) in "
        f"{function_at(built.elf, fault.pc)}. This is a bug of the generated code or of its compiler: "
        "please report it with the model and the plan."
    )
