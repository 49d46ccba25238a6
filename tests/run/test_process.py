"""The process's own figures: memory that is freed leaves the process, and the high-water mark can be reset.

Each is looked at in a process of its own, so that nothing else there moves the figures.
"""

import subprocess
import sys

import pytest

from edgewise.run import process

FREED = """
import torch
from edgewise.run import process
assert process.return_freed_memory()
kept = torch.ones(1000)
before = process.resident_bytes()
blocks = [torch.ones(64 * 1024) for _ in range(256)]          # 64 MiB in blocks of 256 KiB
held = process.resident_bytes()
between = [torch.ones(100) for _ in range(100)]               # what would pin the end of a heap
del blocks
after = process.resident_bytes()
assert held - before > 60 * 2**20, (before, held)
assert after - before < 4 * 2**20, (before, held, after)
"""
PEAK = """
import torch
from edgewise.run import process
process.return_freed_memory()
torch.ones(16 * 2**20)
high = process.peak_resident_bytes()
assert process.reset_peak()
assert process.peak_resident_bytes() < high - 32 * 2**20
assert process.peak_resident_bytes() >= process.resident_bytes() - 2**20
"""


@pytest.mark.parametrize("program", [FREED, PEAK], ids=["freed", "peak"])
def test_figures_of_a_process(program: str) -> None:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_trim_is_harmless() -> None:
    process.trim()
    assert process.resident_bytes() > 0


def test_a_kernel_that_does_not_tell(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    (tmp_path / "status").write_text("Name:\\tpython\\n")
    monkeypatch.setattr(process, "_STATUS", tmp_path / "status")
    monkeypatch.setattr(process, "_CLEAR_REFS", tmp_path / "missing" / "clear_refs")
    assert process.resident_bytes() == process.peak_resident_bytes() == 0
    assert not process.reset_peak()


def test_a_c_library_that_is_not_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_glibc", lambda: None)
    assert not process.return_freed_memory()
    process.trim()
