"""The store in C, called from Python, on a medium in memory that can lose its power at any write."""

import ctypes
from collections.abc import Sequence
from pathlib import Path

import edgewise.emit
from edgewise.emit import HOST, Store, find_compiler
from edgewise.emit.image import KINDS
from edgewise.emit.toolchain import compile_program

OLD, NEW = 0, 1
OK, MEDIUM_FAILED, CORRUPT, JOURNAL_FULL, MISUSED = range(5)
RUNTIME = Path(edgewise.emit.__file__).parent / "runtime"
FAULTY = Path(__file__).parent / "faulty_medium.c"
STRICT = ("-Wconversion", "-Werror", "-fsanitize=undefined", "-fsanitize-trap=undefined")


class _Slot(ctypes.Structure):
    _fields_ = (("offset", ctypes.c_uint32), ("bytes", ctypes.c_uint32), ("kind", ctypes.c_int))


class _Store(ctypes.Structure):
    _fields_ = (
        ("slots", ctypes.POINTER(_Slot)),
        ("count", ctypes.c_uint32),
        ("journal_offset", ctypes.c_uint32),
        ("journal_bytes", ctypes.c_uint32),
        ("bytes", ctypes.c_uint32),
    )


class StoreInC:
    """store.c on a medium of the sources `medium`, whose bytes are where medium_memory.h says."""

    def __init__(self, folder: Path, medium: Sequence[Path]) -> None:
        library = folder / "store.so"
        files = [f"-I{RUNTIME}", str(RUNTIME / "store.c"), *map(str, medium)]
        compile_program(find_compiler(HOST), HOST, ["-shared", "-fPIC", *STRICT, *files], library, 0)
        self.c = ctypes.CDLL(str(library))
        size = ctypes.c_uint32()
        self.c.ew_medium_memory.restype = ctypes.c_void_p
        at = self.c.ew_medium_memory(ctypes.byref(size))
        self.medium = (ctypes.c_uint8 * size.value).from_address(at)

    @property
    def image(self) -> bytes:
        """What is on the medium."""
        return bytes(self.medium)

    def place(self, image: bytes) -> None:
        """Put `image` on the medium, and something else behind it."""
        ctypes.memset(self.medium, 0xEE, len(self.medium))
        ctypes.memmove(self.medium, image, len(image))

    def open(self, store: Store) -> int:
        slots = [_Slot(slot.offset, slot.bytes, KINDS.index(slot.kind)) for slot in store.slots]
        self._slots = (_Slot * len(slots))(*slots)
        head = (len(slots), store.journal_offset, store.journal_bytes, store.bytes)
        self._store = _Store(self._slots, *head)
        return int(self.c.ew_store_open(ctypes.byref(self._store)))

    def read(self, slot: int, first: int, size: int, version: int = OLD) -> bytes:
        data = ctypes.create_string_buffer(size)
        assert self.c.ew_slot_read(slot, version, first, data, size) == OK
        return data.raw

    def write(self, slot: int, first: int, data: bytes) -> int:
        return int(self.c.ew_slot_write(slot, first, data, len(data)))

    def commit(self) -> int:
        return int(self.c.ew_store_commit())


class FaultyStore(StoreInC):
    """store.c on a medium that can lose its power."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, [FAULTY])
        self._writes_left = ctypes.c_int32.in_dll(self.c, "faulty_writes_left")
        self._writes = ctypes.c_uint32.in_dll(self.c, "faulty_writes")
        self._seed = ctypes.c_uint64.in_dll(self.c, "faulty_seed")

    @property
    def writes(self) -> int:
        """Since the power came back."""
        return self._writes.value

    def power_on(self, image: bytes | None = None) -> None:
        """The power is back; with another medium, if an `image` is given."""
        if image is not None:
            self.place(image)
        self.c.faulty_reset()

    def fail_after(self, writes: int, seed: int = 0) -> None:
        """Lose the power at the write after so many."""
        self._writes_left.value, self._seed.value = writes, seed
