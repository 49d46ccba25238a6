"""The bytes of a store (runtime/store.h, store.c): laid out, written before a device first runs, read back.

`lay_out` gives slots their places, `image` makes the first contents, `contents` finds those of the last
commit, also in the image of a device that lost its power in the middle of a step.
"""

import struct
import zlib
from collections.abc import Sequence
from typing import Literal, NamedTuple

from msgspec import Struct

from edgewise.errors import CorruptArtifact, UsageError

SECTOR = 512
RECORD_SLOTS = 3968
STORE_SLOTS = 1024
"""EW_STORE_SLOTS of store.h."""
RECORD_MAGIC, ENTRY_MAGIC = (int.from_bytes(magic, "little") for magic in (b"EWR1", b"EWJ1"))
NOWHERE = 0xFFFFFFFF
_HEAD = struct.Struct("<3I")
_ENTRY = struct.Struct("<7I")
_CHECK = struct.Struct("<I")

Kind = Literal["scratch", "double", "journal"]
KINDS: tuple[Kind, ...] = ("scratch", "double", "journal")


class Slot(Struct, frozen=True):
    """`bytes` of one value at `offset` in the medium; a second copy follows at the next sector."""

    offset: int
    bytes: int
    kind: Kind


class Store(Struct, frozen=True):
    """The slots, the journal, and the size of the whole, as `ew_store` has them."""

    slots: tuple[Slot, ...]
    journal_offset: int
    journal_bytes: int
    bytes: int


def whole_sectors(size: int) -> int:
    """`size`, rounded up to sectors."""
    return -(-size // SECTOR) * SECTOR


def journal_entry_bytes(first: int, size: int) -> int:
    """What a write of `size` bytes from byte `first` of a journal slot takes of the journal."""
    return SECTOR + whole_sectors(first + size) - first // SECTOR * SECTOR


def lay_out(slots: Sequence[tuple[int, Kind]], journal_bytes: int = 0) -> Store:
    """The store for `slots` (bytes and kind of each), one after the other.

    Raises:
        UsageError: a double slot behind those that the runtime has bits for.
    """
    if any(kind == "double" for _, kind in slots[STORE_SLOTS:]):
        raise UsageError(
            f"A store of {len(slots):,} slots: double slots must be among the first {STORE_SLOTS:,}. Put "
            "them before the others, or raise EW_STORE_SLOTS in runtime/store.h."
        )
    at = 2 * SECTOR + whole_sectors(journal_bytes)
    placed = []
    for size, kind in slots:
        placed.append(Slot(at, size, kind))
        at += whole_sectors(size) * (2 if kind == "double" else 1)
    return Store(tuple(placed), 2 * SECTOR, whole_sectors(journal_bytes), at)


def image(store: Store, values: Sequence[bytes]) -> bytes:
    """The bytes of `store` whose slots hold `values`, as if just committed.

    Raises:
        UsageError: not one value for each slot, or of another size.
    """
    sizes = [slot.bytes for slot in store.slots]
    if [len(value) for value in values] != sizes:
        wrong = next((i for i, (v, n) in enumerate(zip(values, sizes, strict=False)) if len(v) != n), None)
        where = "" if wrong is None else f"; slot {wrong} takes {sizes[wrong]} B, not {len(values[wrong])}"
        raise UsageError(f"A store of {len(sizes)} slots got {len(values)} values{where}.")
    data = bytearray(store.bytes)
    head = _HEAD.pack(RECORD_MAGIC, 0, _layout(store)) + bytes(RECORD_SLOTS // 8)
    data[:SECTOR] = head + _CHECK.pack(zlib.crc32(head))
    for slot, value in zip(store.slots, values, strict=True):
        data[slot.offset : slot.offset + slot.bytes] = value
    return bytes(data)


def contents(data: bytes, store: Store, name: str = "The store") -> list[bytes]:
    """What each slot of `store` holds by the last commit in the image `data`; `name` is for messages.

    Raises:
        CorruptArtifact: the image is too short, has no intact commit record, or belongs to other slots.
    """
    if len(data) < store.bytes:
        raise CorruptArtifact(
            f"{name} is cut short: {len(data):,} B of {store.bytes:,}. Read the medium again, all of it."
        )
    sequence, second = _last_commit(data, store, name)
    undone = _undo(data, store, sequence)
    held = []
    for i, slot in enumerate(store.slots):
        in_second = slot.kind == "double" and second[i // 8] >> i % 8 & 1
        at = slot.offset + (whole_sectors(slot.bytes) if in_second else 0)
        held.append(bytes(undone[at : at + slot.bytes]))
    return held


def _layout(store: Store) -> int:
    """Checksum of where the slots are, as in every record."""
    words = struct.pack("<2I", store.journal_offset, store.journal_bytes)
    return zlib.crc32(
        words + b"".join(struct.pack("<3I", s.offset, s.bytes, KINDS.index(s.kind)) for s in store.slots)
    )


class _Record(NamedTuple):
    sequence: int
    second: bytes


def _last_commit(data: bytes, store: Store, name: str) -> _Record:
    """The newer of the two records; the other may be torn."""
    found, faults = [], []
    for index in range(2):
        sector = data[index * SECTOR : (index + 1) * SECTOR]
        magic, sequence, layout = _HEAD.unpack_from(sector)
        if magic != RECORD_MAGIC:
            faults.append("is no commit record (bad magic number)")
        elif zlib.crc32(sector[:-4]) != _CHECK.unpack(sector[-4:])[0]:
            faults.append("is damaged (bad checksum)")
        elif layout != _layout(store):
            faults.append("belongs to a store with other slots")
        else:
            found.append(_Record(sequence, sector[_HEAD.size : -4]))
    if not found:
        raise CorruptArtifact(
            f"{name} has no intact commit record: sector 0 {faults[0]}, sector 1 {faults[1]}. "
            "Take the weights.bin that was emitted with this model, or a copy made earlier."
        )
    newest = found[0]
    for record in found[1:]:
        newest = record if (record.sequence - newest.sequence) % 2**32 < 2**31 else newest
    return newest


def _undo(data: bytes, store: Store, sequence: int) -> bytearray:
    """`data` with what the journal holds of an interrupted step put back, the last first."""
    at, last, entries = 0, NOWHERE, []
    while at + SECTOR <= store.journal_bytes:
        start = store.journal_offset + at
        head = data[start : start + _ENTRY.size]
        magic, number, previous, slot, first, size, check = _ENTRY.unpack(head)
        kept = data[start + SECTOR : start + SECTOR + size]
        fits = size % SECTOR == 0 and at + SECTOR + size <= store.journal_bytes
        if (magic, number, previous) != (ENTRY_MAGIC, sequence, last) or not fits:
            break
        if zlib.crc32(kept, zlib.crc32(head[:-4])) != check or slot >= len(store.slots):
            break
        entries.append((store.slots[slot].offset + first, kept))
        last, at = at, at + SECTOR + size
    undone = bytearray(data)
    for offset, kept in reversed(entries):
        undone[offset : offset + len(kept)] = kept
    return undone
