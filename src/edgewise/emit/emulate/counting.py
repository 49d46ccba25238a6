"""How many instructions unicorn executes: exact, the same in every run, at about a tenth of its speed."""

import ctypes
from importlib import import_module
from pathlib import Path
from typing import Any

from edgewise.emit.boards import HOST
from edgewise.emit.toolchain import compile_program, find_compiler

SOURCE = Path(__file__).parent / "count.c"


class _Counter(ctypes.Structure):
    """`ew_counter` of count.c."""

    _fields_ = (
        ("code", ctypes.c_void_p),
        ("known", ctypes.c_void_p),
        ("start", ctypes.c_uint64),
        ("halfwords", ctypes.c_uint64),
        ("instructions", ctypes.c_uint64),
    )


class InstructionCounter:
    """Counts while it lives what `uc` executes of `code`, which begins at address `start`.

    The function that counts is compiled once, into the folder `place`.
    """

    def __init__(self, uc: Any, start: int, code: bytes, place: Path) -> None:
        library = place / "count.so"
        if not library.is_file():
            compile_program(find_compiler(HOST), HOST, ["-shared", "-fPIC", str(SOURCE)], library, 0)
        self._function = ctypes.CDLL(str(library.resolve())).ew_count
        self._code = ctypes.create_string_buffer(code, len(code) + 1)
        self._known = ctypes.create_string_buffer(len(code) + 1)
        self._counter = _Counter(
            ctypes.addressof(self._code), ctypes.addressof(self._known), start, len(code) // 2, 0
        )
        unicorn: Any = import_module("unicorn.unicorn_py3.unicorn")
        failed = unicorn.uclib.uc_hook_add(  # the binding's own `hook_add` takes functions of Python only
            uc._uch,  # noqa: SLF001
            ctypes.byref(ctypes.c_size_t()),
            import_module("unicorn").UC_HOOK_BLOCK,
            ctypes.cast(self._function, ctypes.c_void_p),
            ctypes.byref(self._counter),
            ctypes.c_uint64(1),
            ctypes.c_uint64(0),  # an end before the start: everywhere
        )
        if failed:
            raise unicorn.UcError(failed)

    @property
    def instructions(self) -> int:
        """Executed so far."""
        return int(self._counter.instructions)
