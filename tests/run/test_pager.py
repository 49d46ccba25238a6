"""The pager: bytes go out and come back, in the background, and a failing disk is told as what it is."""

import errno
import os
import threading
from pathlib import Path

import pytest
import torch

from edgewise.errors import DeviceError
from edgewise.run.pager import Pager


def flat(size: int, content: int = 0) -> torch.Tensor:
    return torch.full((size,), content, dtype=torch.uint8)


def no_space(*_: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    a, b = torch.arange(5000, dtype=torch.float32), torch.arange(7, dtype=torch.int64)
    with Pager({"a": 20000, "b": 56}, tmp_path) as pager:
        pager.write("a", a)
        pager.write("b", b)
        back_a, back_b = flat(20000), flat(56)
        pager.read("a", back_a)
        pager.read("b", back_b)
        pager.wait_all()
        assert torch.equal(back_a.view(torch.float32), a)
        assert torch.equal(back_b.view(torch.int64), b)
        assert (pager.bytes_written, pager.bytes_read) == (20056, 20056)


def test_the_whole_storage_of_a_view_is_written(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    with Pager({"a": 48}, tmp_path) as pager:
        pager.write("a", base.t())
        back = flat(48)
        pager.read("a", back)
        pager.wait("a")
        assert torch.equal(back.view(torch.float32), base.flatten())


def test_an_update_takes_the_slot_of_what_it_replaces(tmp_path: Path) -> None:
    with Pager({"old": 8}, tmp_path) as pager:
        pager.share_slot("old", "new")
        pager.write("new", flat(8, 7))
        pager.wait("new")
        back = flat(8)
        pager.read("old", back)
        pager.wait("old")
        assert torch.equal(back, flat(8, 7))


def test_the_file_is_reserved_at_once_and_has_no_name(tmp_path: Path) -> None:
    with Pager({"a": 10_000, "b": 1}, tmp_path) as pager:
        assert list(tmp_path.iterdir()) == []
        assert os.fstat(pager._fd).st_size == 4096 * 4


def test_values_of_no_bytes_can_be_paged(tmp_path: Path) -> None:
    with Pager({"empty": 0}, tmp_path) as pager:
        pager.write("empty", torch.empty(0))
        pager.read("empty", flat(0))
        pager.wait_all()


def test_transfers_run_while_the_caller_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    may_read, pread = threading.Event(), os.preadv

    def slow_disk(*arguments: object) -> int:
        assert threading.current_thread() is not threading.main_thread()
        assert may_read.wait(30)
        return pread(*arguments)

    monkeypatch.setattr(os, "preadv", slow_disk)
    with Pager({"a": 4}, tmp_path) as pager:
        pager.write("a", flat(4, 9))
        back = flat(4)
        pager.read("a", back)  # returns although the disk has not answered
        assert torch.equal(back, flat(4, 0))
        may_read.set()
        pager.wait("a")
        assert torch.equal(back, flat(4, 9))


def test_short_transfers_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite, preadv = os.pwrite, os.preadv
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, data[:3], at))
    monkeypatch.setattr(os, "preadv", lambda fd, views, at: preadv(fd, [views[0][:3]], at))
    with Pager({"a": 10}, tmp_path) as pager:
        pager.write("a", torch.arange(10, dtype=torch.uint8))
        back = flat(10)
        pager.read("a", back)
        pager.wait("a")
        assert torch.equal(back, torch.arange(10, dtype=torch.uint8))


def test_no_room_for_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "posix_fallocate", no_space)
    with pytest.raises(DeviceError) as caught:
        Pager({"a": 5000}, tmp_path)
    assert str(caught.value) == (
        f"Cannot reserve 8,192 B for paging in {tmp_path}: No space left on device. Nothing was changed. "
        "Free some space, or name another directory with `paging_dir`."
    )
    assert list(tmp_path.iterdir()) == []


def test_no_such_directory(tmp_path: Path) -> None:
    with pytest.raises(DeviceError) as caught:
        Pager({"a": 1}, tmp_path / "missing")
    assert str(caught.value) == (
        f"Cannot page to {tmp_path / 'missing'}: No such file or directory. "
        "Name a writable directory with `paging_dir`."
    )


def test_disk_full_while_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pwrite", no_space)
    with Pager({"a": 4}, tmp_path) as pager:
        pager.write("a", flat(4))
        with pytest.raises(DeviceError) as caught:
            pager.wait("a")
    assert str(caught.value) == (
        "Cannot write `a` to the paging file: No space left on device. This step was not finished; "
        "make room or name another `paging_dir`, then resume from the last checkpoint."
    )


def test_disk_fails_while_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "preadv", broken)
    with Pager({"a": 4}, tmp_path) as pager:
        pager.read("a", flat(4))
        with pytest.raises(DeviceError, match="Cannot read `a` from the paging file: Input/output error"):
            pager.wait("a")


def test_file_that_ends_too_early(tmp_path: Path) -> None:
    with Pager({"a": 4}, tmp_path) as pager:
        os.ftruncate(pager._fd, 2)
        pager.read("a", flat(4))
        with pytest.raises(DeviceError) as caught:
            pager.wait("a")
    assert str(caught.value) == "The paging file ends before `a` does. Check the disk, then resume."


def test_settling_forgets_failures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Pager({"a": 4}, tmp_path) as pager:
        with monkeypatch.context() as patched:
            patched.setattr(os, "pwrite", no_space)
            pager.write("a", flat(4))
            pager.settle()
        pager.wait("a")
        pager.write("a", flat(4, 1))
        pager.wait("a")


def test_closing_twice_is_closing(tmp_path: Path) -> None:
    pager = Pager({"a": 4}, tmp_path)
    pager.close()
    pager.close()


# -- maps ----------------------------------------------------------------------------------------------------


def test_a_map_is_the_slot_itself(tmp_path: Path) -> None:
    with Pager({"first": 5000, "a": 20000}, tmp_path) as pager:
        pager.write("a", torch.arange(5000, dtype=torch.float32))
        seen = pager.map("a").view(torch.float32)
        assert torch.equal(seen, torch.arange(5000, dtype=torch.float32)), "what was on its way is waited for"
        seen[7] = -1.0
        back = flat(20000)
        pager.read("a", back)
        pager.wait("a")
        assert back.view(torch.float32)[7] == -1.0
        pager.unmap("a")


def test_what_passes_through_a_map_is_counted_by_who_moves_it(tmp_path: Path) -> None:
    with Pager({"a": 20000}, tmp_path) as pager:
        seen = pager.map("a")
        assert (pager.bytes_written, pager.bytes_read) == (0, 0)
        seen[:10] = 3
        pager.moved_out("a", 10)
        pager.moved_in("a", 4)
        assert (pager.bytes_written, pager.bytes_read) == (10, 4)
        assert torch.equal(seen[:11], torch.tensor([3] * 10 + [0], dtype=torch.uint8)), "the pages come back"


def test_an_update_is_mapped_where_it_is_stored(tmp_path: Path) -> None:
    with Pager({"old": 8}, tmp_path) as pager:
        pager.share_slot("old", "new")
        pager.map("old").fill_(5)
        assert torch.equal(pager.map("new"), flat(8, 5))
