"""What the kernel knows of this process's memory, and making the allocator give memory back.

glibc keeps freed blocks for later; a step that stays within its budget would then not show in the process's
figure. With a low and fixed mmap threshold every large tensor is its own mapping, which `free` returns at
once.
"""

import ctypes
import re
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -3, -4, -8
_MMAP_THRESHOLD_BYTES = 64 * 1024
_STATUS, _CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def return_freed_memory() -> bool:
    """Make freed tensors of 64 KiB and more leave the process at once; False without glibc."""
    libc = _glibc()
    if libc is None:
        return False
    settings = {
        _M_MMAP_THRESHOLD: _MMAP_THRESHOLD_BYTES,
        _M_TRIM_THRESHOLD: _MMAP_THRESHOLD_BYTES,
        _M_MMAP_MAX: 1 << 20,
        _M_ARENA_MAX: 2,
    }
    done = all(libc.mallopt(key, value) == 1 for key, value in settings.items())
    libc.malloc_trim(0)
    return done


def trim() -> None:
    """Hand free pages of the allocator's own pools back to the kernel."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None


def resident_bytes() -> int:
    """Physical memory that the process holds now (VmRSS)."""
    return _status("VmRSS")


def peak_resident_bytes() -> int:
    """Most physical memory that the process held since the start or `reset_peak` (VmHWM)."""
    return _status("VmHWM")


def reset_peak() -> bool:
    """Start the high-water mark anew; False where the kernel does not allow it."""
    try:
        _CLEAR_REFS.write_text("5")
    except OSError:
        return False
    return True


def _status(key: str) -> int:
    match = re.search(rf"^{key}:\s+(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
    return int(match[1]) * 1024 if match else 0
