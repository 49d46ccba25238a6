"""The benchmarks of these rooms run, find what they claim, and write their pages."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(name: str, *arguments: str) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_hard_cap(tmp_path: Path) -> None:
    run("hard_cap.py", "--quick", "--page", str(tmp_path / "page.md"))
    text = (tmp_path / "page.md").read_text()
    assert "At the cap that Edgewise survives, plain PyTorch fails." in text
    rows = re.findall(r"^\| [^|]+ \| (\d+) MiB \| ([\d.]+) \|", text, re.MULTILINE)
    (plain_cap, plain_loss), (planned_cap, planned_loss) = rows
    assert int(planned_cap) < int(plain_cap)
    assert float(planned_loss) == pytest.approx(float(plain_loss), rel=1e-6)


def test_numerics(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    run("numerics.py", "--families", "mlp", "skip-sum", "--plans", "2", "--page", str(page))
    rows = re.findall(r"^\| (\S+) \|.* \| ([\d.e+-]+) \| (\d of \d) \|.*\|$", page.read_text(), re.MULTILINE)
    assert [(name, bits) for name, _, bits in rows] == [("mlp", "2 of 2"), ("skip-sum", "2 of 2")]
    assert all(float(difference) < 1e-6 for _, difference, _ in rows)
