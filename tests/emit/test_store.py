"""The store keeps its promise: whatever write is the last before the power goes, all slots are old or new."""

import itertools
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.emit import Store, contents, image, journal_entry_bytes, lay_out
from edgewise.emit.image import RECORD_SLOTS, SECTOR, STORE_SLOTS
from edgewise.errors import CorruptArtifact, UsageError
from tests.emit.store_library import (
    CORRUPT,
    JOURNAL_FULL,
    MEDIUM_FAILED,
    MISUSED,
    NEW,
    OK,
    OLD,
    RUNTIME,
    FaultyStore,
    StoreInC,
)


@pytest.fixture(scope="module")
def c(tmp_path_factory: pytest.TempPathFactory) -> FaultyStore:
    return FaultyStore(tmp_path_factory.mktemp("store"))


class Write(NamedTuple):
    slot: int
    first: int
    data: bytes


class Session(NamedTuple):
    """A store, what it holds at the start, and what each step writes."""

    store: Store
    start: list[bytes]
    steps: list[list[Write]]

    def after(self, commits: int) -> list[bytes]:
        """What the slots hold after so many commits; nothing is said of scratch slots."""
        held = [bytearray(value) for value in self.start]
        for write in itertools.chain(*self.steps[:commits]):
            held[write.slot][write.first : write.first + len(write.data)] = write.data
        return self.kept(held)

    def kept(self, values: Sequence[bytes | bytearray]) -> list[bytes]:
        return [
            b"" if slot.kind == "scratch" else bytes(value)
            for slot, value in zip(self.store.slots, values, strict=True)
        ]


@st.composite
def sessions(draw: st.DrawFn) -> Session:
    """Doubles are written whole, in pieces; parts of journal slots also twice in a step."""
    kinds = draw(st.lists(st.sampled_from(["double", "journal", "scratch"]), min_size=1, max_size=5))
    sizes = [draw(st.integers(1, 1600)) for _ in kinds]
    random = draw(st.randoms(use_true_random=False))
    steps = []
    for _ in range(draw(st.integers(1, 3))):
        step = []
        for slot, (kind, size) in enumerate(zip(kinds, sizes, strict=True)):
            if random.random() < 0.3:
                continue
            if kind == "double":
                cut = random.randint(0, size)
                step += [
                    Write(slot, cut, random.randbytes(size - cut)),
                    Write(slot, 0, random.randbytes(cut)),
                ]
                continue
            for _ in range(random.randint(1, 3)):
                first = random.randint(0, size - 1)
                step.append(Write(slot, first, random.randbytes(random.randint(1, size - first))))
        random.shuffle(step)
        steps.append(step)
    journal = max(
        sum(journal_entry_bytes(at, len(data)) for slot, at, data in step if kinds[slot] == "journal")
        for step in steps
    )
    store = lay_out(list(zip(sizes, kinds, strict=True)), journal)
    return Session(store, [random.randbytes(size) for size in sizes], steps)


def play(c: FaultyStore, session: Session, first: int = 0) -> tuple[int, bool]:
    """Do the steps from `first` on, until the power goes: commits done, and if one more may be."""
    for number, step in enumerate(session.steps[first:], first):
        if any(c.write(*write) for write in step):
            return number, False
        if c.commit():
            return number, True
    return len(session.steps), False


def held(c: FaultyStore, session: Session) -> list[bytes]:
    """What a program finds, which is also what `contents` finds in the image."""
    found = [c.read(i, 0, slot.bytes) for i, slot in enumerate(session.store.slots)]
    assert session.kept(contents(c.image, session.store)) == session.kept(found)
    return session.kept(found)


def recovered(c: FaultyStore, session: Session, commits: int, unsure: bool) -> int:
    """Restart; the commits that are found, which must be one of those that may be."""
    image_left = c.image
    assert session.kept(contents(image_left, session.store)) in possible(session, commits, unsure)
    c.power_on()
    assert c.open(session.store) == OK
    now = held(c, session)
    assert now in possible(session, commits, unsure)
    return commits if now == session.after(commits) else commits + 1


def possible(session: Session, commits: int, unsure: bool) -> list[list[bytes]]:
    return [session.after(commits), *([session.after(commits + 1)] if unsure else [])]


def started(c: FaultyStore, session: Session) -> None:
    c.power_on(image(session.store, session.start))
    assert c.open(session.store) == OK


def writes_of(c: FaultyStore, session: Session) -> int:
    started(c, session)
    assert play(c, session) == (len(session.steps), False)
    assert held(c, session) == session.after(len(session.steps))
    return c.writes


@given(session=sessions(), seed=st.integers(0, 2**32))
@settings(max_examples=100)
def test_power_lost_at_any_write(c: FaultyStore, session: Session, seed: int) -> None:
    """And then the program goes on from where it is, to where it would have been."""
    for last in range(writes_of(c, session)):
        started(c, session)
        c.fail_after(last, seed + last)
        commits = recovered(c, session, *play(c, session))
        assert play(c, session, commits) == (len(session.steps), False)
        assert held(c, session) == session.after(len(session.steps))


@given(session=sessions(), seed=st.integers(0, 2**32))
@settings(max_examples=40)
def test_power_lost_again_during_recovery(c: FaultyStore, session: Session, seed: int) -> None:
    for last in range(0, writes_of(c, session), 3):
        started(c, session)
        c.fail_after(last, seed + last)
        commits, unsure = play(c, session)
        left = c.image
        for again in itertools.count():
            c.power_on(left)
            c.fail_after(again, seed - again)
            if c.open(session.store) == OK:
                break
            recovered(c, session, commits, unsure)


@given(session=sessions(), random=st.randoms(use_true_random=False))
@settings(max_examples=100)
def test_power_lost_again_and_again(c: FaultyStore, session: Session, random) -> None:
    """Tries that fail leave traces in the journal, which must not be taken for those of the next."""
    started(c, session)
    commits = 0
    for _ in range(12):
        c.fail_after(random.randint(0, 8), random.getrandbits(32))
        commits = recovered(c, session, *play(c, session, commits))


def small() -> Session:
    store = lay_out([(600, "double"), (1500, "journal"), (40, "scratch")], 4 * SECTOR)
    return Session(store, [bytes([i]) * slot.bytes for i, slot in enumerate(store.slots, 1)], [])


def test_old_and_new_versions(c: FaultyStore) -> None:
    session = small()
    started(c, session)
    for slot in range(3):
        assert c.write(slot, 0, b"new") == OK
    assert [c.read(slot, 0, 3, OLD) for slot in range(3)] == [b"\1\1\1", b"new", b"new"]
    assert [c.read(slot, 0, 3, NEW) for slot in range(3)] == [b"new"] * 3
    assert c.commit() == OK
    assert [c.read(slot, 0, 3, OLD) for slot in range(3)] == [b"new"] * 3


def test_a_commit_without_writes_writes_nothing(c: FaultyStore) -> None:
    started(c, small())
    assert c.commit() == OK
    assert c.writes == 0
    c.write(2, 0, b"scratch")
    assert c.commit() == OK
    assert c.writes == 1


def test_the_journal_says_when_it_is_full(c: FaultyStore) -> None:
    session = small()
    started(c, session)
    assert journal_entry_bytes(510, 4) == 3 * SECTOR
    assert c.write(1, 510, b"four") == OK
    assert c.write(1, 0, b"one") == JOURNAL_FULL
    assert c.open(session.store) == OK
    assert c.read(1, 0, 1500) == session.start[1], "what had been written is undone"


def test_misuse_is_refused(c: FaultyStore) -> None:
    session = small()
    started(c, session)
    assert c.write(3, 0, b"x") == MISUSED
    assert c.write(0, 598, b"abc") == MISUSED
    assert c.write(0, 601, b"") == MISUSED
    assert c.write(0, 2**32 - 1, b"ab") == MISUSED
    many = lay_out([*[(1, "double")] * 1024, *[(1, "scratch")] * 200])
    assert c.open(many) == MEDIUM_FAILED, "it is larger than the medium, but not of too many slots"
    late = Store((*many.slots, many.slots[0]), many.journal_offset, many.journal_bytes, many.bytes)
    assert c.open(late) == MISUSED


def test_a_medium_that_fails(c: FaultyStore) -> None:
    session = small()
    started(c, session)
    c.fail_after(0)
    assert c.write(0, 0, b"x") == MEDIUM_FAILED
    assert c.commit() == MEDIUM_FAILED
    assert c.open(session.store) == MEDIUM_FAILED


def damaged(session: Session) -> Iterator[tuple[bytes, str]]:
    whole = image(session.store, session.start)
    yield bytes(len(whole)), "no commit record (bad magic number)"
    for at in (5, 11, 12, 400, SECTOR - 1):
        flipped = bytearray(whole)
        flipped[at] ^= 4
        yield bytes(flipped), "sector 0 is damaged (bad checksum)"
    other = lay_out([(slot.bytes, slot.kind) for slot in session.store.slots], 5 * SECTOR)
    yield image(other, session.start), "belongs to a store with other slots"


@pytest.mark.parametrize("number", range(7))
def test_a_damaged_store_is_refused_in_c_and_here(number: int, c: FaultyStore) -> None:
    session = small()
    data, words = list(damaged(session))[number]
    c.power_on(data)
    assert c.open(session.store) == CORRUPT
    with pytest.raises(CorruptArtifact) as caught:
        contents(data, session.store, "card.img")
    assert words in str(caught.value)
    assert str(caught.value).startswith("card.img has no intact commit record: sector 0 ")
    assert "Take the weights.bin that was emitted with this model, or a copy made earlier." in str(
        caught.value
    )


def test_a_store_that_is_cut_short() -> None:
    session = small()
    data = image(session.store, session.start)
    with pytest.raises(
        CorruptArtifact, match=r"The store is cut short: 7,167 B of 7,168. Read the medium again"
    ):
        contents(data[:-1], session.store)
    assert contents(data + b"more", session.store) == session.start


def test_a_sequence_that_comes_to_its_end(c: FaultyStore) -> None:
    """After 2^32 commits the count begins anew."""
    session = small()
    data = bytearray(image(session.store, session.start))
    data[4:8] = (2**32 - 1).to_bytes(4, "little")
    data[508:512] = zlib.crc32(data[:508]).to_bytes(4, "little")
    data[SECTOR : 2 * SECTOR] = data[:SECTOR]
    c.power_on(bytes(data))
    assert c.open(session.store) == OK
    for text in (b"a", b"b", b"c"):
        assert c.write(0, 0, text * 600) == OK
        assert c.commit() == OK
        assert contents(c.image, session.store)[0] == text * 600
    c.power_on()
    assert c.open(session.store) == OK
    assert c.read(0, 0, 600) == b"c" * 600


def test_values_that_do_not_fit() -> None:
    session = small()
    with pytest.raises(UsageError, match="A store of 3 slots got 2 values"):
        image(session.store, session.start[:2])
    with pytest.raises(UsageError, match=r"got 3 values; slot 1 takes 1500 B, not 600."):
        image(session.store, [session.start[0]] * 3)
    with pytest.raises(UsageError, match=r"double slots must be among the first 1,024. Put them before"):
        lay_out([(1, "double")] * (STORE_SLOTS + 1))


def test_the_header_has_the_same_numbers() -> None:
    text = (RUNTIME / "store.h").read_text(encoding="utf-8")
    assert f"EW_SECTOR_BYTES = {SECTOR}," in text
    assert f"EW_RECORD_SLOTS = {RECORD_SLOTS} " in text
    assert f"#define EW_STORE_SLOTS {STORE_SLOTS} " in text


ON_MEMORY = """
#include "medium_memory.h"
#include "store.h"

static uint8_t memory[8192];
uint8_t *ew_medium_memory(uint32_t *bytes)
{
    *bytes = sizeof memory;
    return memory;
}
"""


def test_a_medium_that_is_memory(tmp_path: Path) -> None:
    """PSRAM on a bus: a program that links medium_memory.c names the place."""
    (tmp_path / "memory.c").write_text(ON_MEMORY)
    on_memory = StoreInC(tmp_path, [RUNTIME / "medium_memory.c", tmp_path / "memory.c"])
    session = small()
    on_memory.place(image(session.store, session.start))
    assert on_memory.open(session.store) == OK
    assert on_memory.write(0, 0, b"new" * 200) == OK
    assert on_memory.write(1, 500, b"new") == OK
    assert on_memory.read(0, 0, 600, OLD) == session.start[0]
    assert on_memory.commit() == OK
    assert on_memory.open(session.store) == OK
    held = contents(on_memory.image, session.store)
    assert held[0] == b"new" * 200
    assert held[1][500:503] == b"new"
    too_large = lay_out([(9000, "double")])
    assert on_memory.open(too_large) == MEDIUM_FAILED
