"""Page-out and page-in rates of a folder on this machine, with the page cache kept out of both."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from edgewise.devices.nouns import Tier
from edgewise.errors import DeviceError

SAMPLES = 5
SMALL_BYTES = 4096


def measure_disk(folder: Path, size: int = 32 * 2**20, *, samples: int = SAMPLES) -> Tier:
    """Tier figures of `folder`: fsync'ed writes, and reads after the file was dropped from the page cache.

    A transfer is modelled as latency + bytes / rate; both are solved from a small and a large transfer.

    Raises:
        DeviceError: the folder cannot be written, or is full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            descriptor = file.fileno()
            payload = os.urandom(size)  # zeros might be compressed or left out
            write = _medians(lambda n: _write(descriptor, payload, n), size, samples)
            read = _medians(lambda n: _read(descriptor, n), size, samples)
    except OSError as error:
        raise DeviceError(
            f"Cannot page to {folder}: {error.strerror}. "
            "Free some space, or name another folder with `--paging-dir`."
        ) from error
    (write_latency, write_rate), (read_latency, read_rate) = write, read
    return Tier(read_rate, write_rate, read_latency, write_latency, overlap=True)


def filesystem_of(folder: Path) -> str:
    """Type of the file system that holds `folder`, as in `ext4`; `tmpfs` is RAM and no place to page to."""
    best, kind = "", "unknown"
    try:
        mounts = Path("/proc/mounts").read_text().splitlines()
    except OSError:
        return kind
    target = str(folder.resolve())
    for line in mounts:
        _, mount, found, *_ = line.split(" ")
        inside = target == mount or target.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, found
    return kind


def _medians(transfer: Callable[[int], float], size: int, samples: int) -> tuple[float, float]:
    small_size = min(SMALL_BYTES, size // 2)
    small = statistics.median(transfer(small_size) for _ in range(samples))
    large = statistics.median(transfer(size) for _ in range(samples))
    rate = (size - small_size) / max(large - small, 1e-9)
    return max(0.0, small - small_size / rate), rate


def _write(descriptor: int, payload: bytes, size: int) -> float:
    view = memoryview(payload)[:size]
    started = time.perf_counter()
    done = 0
    while done < size:
        done += os.pwrite(descriptor, view[done:], done)
    os.fsync(descriptor)
    return time.perf_counter() - started


def _read(descriptor: int, size: int) -> float:
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    buffer = memoryview(bytearray(size))
    started = time.perf_counter()
    done = 0
    while done < size:
        got = os.preadv(descriptor, [buffer[done:]], done)
        if not got:
            raise OSError(5, "the file ended early")
        done += got
    return time.perf_counter() - started
