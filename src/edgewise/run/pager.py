"""The slower tier on this host: a file with a slot for each paged value, and a thread that moves bytes.

Transfers run one at a time, in the order they are asked for, while the step computes. The whole file is
reserved before the first step, so that a full disk is found before anything was changed.
"""

import mmap
import os
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from edgewise.errors import DeviceError

_ALIGNMENT = 4096


class Pager:
    """Moves the storages of tensors to and from a file.

    Args:
        sizes: bytes of each value that may be paged.
        directory: where the file is made; it is removed again on `close`.

    Raises:
        DeviceError: the directory is missing or not writable, or the disk cannot hold the file.
    """

    def __init__(self, sizes: dict[str, int], directory: Path | None = None) -> None:
        self._slots: dict[str, int] = {}
        end = 0
        for name, size in sizes.items():
            self._slots[name] = end
            end += -(-size // _ALIGNMENT) * _ALIGNMENT
        self._pending: dict[str, Future[None]] = {}
        self._unread: set[str] = set()
        self._sizes = dict(sizes)
        self._fd = _reserve(directory, end)
        self._maps: dict[str, mmap.mmap] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="edgewise-pager")
        self.bytes_written = self.bytes_read = 0

    def share_slot(self, old: str, new: str) -> None:
        """Let `new` be stored over `old`, which it replaces."""
        self._slots[new] = self._slots[old]
        self._sizes[new] = self._sizes[old]

    def write(self, name: str, tensor: Tensor) -> None:
        """Begin to copy the storage of `tensor` out; `wait(name)` says when its memory may be released."""
        self.wait(name)
        data = _bytes_of(tensor)
        self._pending[name] = self._thread.submit(self._write_all, name, data)
        self.bytes_written += data.numel()

    def read(self, name: str, storage: Tensor) -> None:
        """Begin to fill the uint8 tensor `storage`; it is good after `wait(name)`."""
        self.wait(name)
        self._pending[name] = self._thread.submit(self._read_all, name, storage)
        self.bytes_read += storage.numel()

    def map(self, name: str) -> Tensor:
        """The slot of `name` as flat bytes (uint8) that stand in the file, good until `unmap`.

        What is read and written through it is counted by whoever does so: `moved_in`, `moved_out`.
        """
        self.wait(name)
        size = self._sizes[name]
        self._maps[name] = mmap.mmap(self._fd, max(size, 1), offset=self._slots[name])
        return torch.frombuffer(self._maps[name], dtype=torch.uint8)[:size]

    def unmap(self, name: str) -> None:
        """End the use of a map; its pages leave the process when the last tensor over them is gone."""
        del self._maps[name]

    def moved_in(self, name: str, size: int) -> None:
        """`size` bytes of the mapped slot of `name` were read; its pages need not stay."""
        self.bytes_read += size
        self._maps[name].madvise(mmap.MADV_DONTNEED)

    def moved_out(self, name: str, size: int) -> None:
        """`size` bytes of the mapped slot of `name` were written; its pages stay in the file only."""
        self.bytes_written += size
        self._maps[name].madvise(mmap.MADV_DONTNEED)

    def wait(self, name: str) -> None:
        """Wait until the last transfer of `name` is over.

        Raises:
            DeviceError: the transfer failed.
        """
        pending = self._pending.get(name)
        if pending is not None:
            wait([pending])  # if interrupted here, the transfer is still known to be under way
            del self._pending[name]
            pending.result()

    def wait_all(self) -> None:
        """Wait until no transfer is under way."""
        for name in list(self._pending):
            self.wait(name)

    def settle(self) -> frozenset[str]:
        """Wait until no transfer is under way; names of values whose reading failed since the last time."""
        wait(self._pending.values())
        self._pending.clear()
        unread, self._unread = frozenset(self._unread), set()
        return unread

    def close(self) -> None:
        """Stop the thread and give the file's space back."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write_all(self, name: str, data: Tensor) -> None:
        view, offset = memoryview(data.numpy().data), self._slots[name]
        try:
            while view:
                count = os.pwrite(self._fd, view, offset)
                view, offset = view[count:], offset + count
        except OSError as error:
            raise _failure(f"write `{name}` to", error) from error

    def _read_all(self, name: str, data: Tensor) -> None:
        view, offset = memoryview(data.numpy().data), self._slots[name]
        try:
            while view:
                count = os.preadv(self._fd, [view], offset)
                if count == 0:
                    self._unread.add(name)
                    raise DeviceError(
                        f"The paging file ends before `{name}` does. Check the disk, then resume."
                    )
                view, offset = view[count:], offset + count
        except OSError as error:
            self._unread.add(name)
            raise _failure(f"read `{name}` from", error) from error


def _bytes_of(tensor: Tensor) -> Tensor:
    """The whole storage of `tensor` as a flat uint8 tensor that shares it."""
    return torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())


def _reserve(directory: Path | None, size: int) -> int:
    """A file of `size` bytes without a name: it vanishes with the process, however that ends."""
    where = directory or Path(tempfile.gettempdir())
    try:
        fd, path = tempfile.mkstemp(prefix="edgewise-pager-", dir=where)
    except OSError as error:
        raise DeviceError(
            f"Cannot page to {where}: {error.strerror}. Name a writable directory with `paging_dir`."
        ) from error
    Path(path).unlink()
    try:
        if size:
            os.posix_fallocate(fd, 0, size)
    except OSError as error:
        os.close(fd)
        raise DeviceError(
            f"Cannot reserve {size:,} B for paging in {where}: {error.strerror}. "
            "Nothing was changed. Free some space, or name another directory with `paging_dir`."
        ) from error
    return fd


def _failure(doing: str, error: OSError) -> DeviceError:
    return DeviceError(
        f"Cannot {doing} the paging file: {error.strerror}. This step was not finished; "
        "make room or name another `paging_dir`, then resume from the last checkpoint."
    )
