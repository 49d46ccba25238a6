"""The benchmark on POET's networks runs, writes its page, and finds what the page claims."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_page_of_the_smallest_network(tmp_path: Path) -> None:
    page = tmp_path / "poet.md"
    command = [
        sys.executable,
        str(ROOT / "benchmarks" / "poet.py"),
        "--networks",
        "linear",
        *("--page", str(page), "--kept", str(tmp_path / "kept.json")),
    ]
    done = subprocess.run(
        [*command, "--shares", "0.2", "0.05"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    assert "| linear | 27 | 51 | 7,416 | 3,256 | 174,360 |" in text
    rows = re.findall(
        r"^\| linear \| m0 \| (\d+%) \| [^|]+ \| (\S+) \| .* \| (\S+) \| \S+ \|$", text, re.MULTILINE
    )
    assert [share for share, _, _ in rows] == ["20%", "5%"]
    assert all(ours == poets for _, ours, poets in rows)
    assert "and ours needs no more energy\nin 2 of those." in text


def test_without_poets_program(tmp_path: Path) -> None:
    page = tmp_path / "poet.md"
    command = [sys.executable, str(ROOT / "benchmarks" / "poet.py"), "--networks", "transformer"]
    options = ["--shares", "0.5", "--poet-ops", "10", "--page", str(page), "--kept", str(tmp_path / "none")]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "| not run | - |" in page.read_text()


def test_what_was_found_before_is_not_run_again(tmp_path: Path) -> None:
    page, kept = tmp_path / "poet.md", tmp_path / "kept.json"
    case = '{"network": "linear", "share": 0.5, "limit": 600.0, "overhead": 0.125, "seconds": 99.5}'
    kept.write_text(f"[{case}]")
    command = [sys.executable, str(ROOT / "benchmarks" / "poet.py"), "--networks", "linear"]
    options = ["--shares", "0.5", "--page", str(page), "--kept", str(kept)]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "| 0.125 | 99.5 |" in page.read_text()
