"""Figures of the methods' benchmarks: verdicts, and one page over all that no hand has touched."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from _figures import COLUMNS, Figure, Found, load, save, table

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "benchmarks"
FOUND = sorted(PAGES.glob("methods_*.json"))


@pytest.mark.parametrize(
    ("figure", "cells"),
    [
        (Figure(1, "points", 2.18, 2.0), "points | at most 2 | 2.18 | missed by 0.18"),
        (Figure(1, "points", 2.0, 2.0), "points | at most 2 | 2.00 | met"),
        (Figure(3, "cases", 25, 26, at_least=True, digits=0), "cases | at least 26 | 25 | missed by 1"),
        (Figure(3, "cases", 27, 26, at_least=True, digits=0), "cases | at least 26 | 27 | met"),
        (Figure(2, "bytes", 0.0004, 0.0, digits=4), "bytes | at most 0 | 0.0004 | missed by 0.0004"),
    ],
)
def test_a_figure_says_whether_its_aim_is_met_and_by_how_much_not(figure: Figure, cells: str) -> None:
    assert figure.cells == cells
    assert figure.is_met == cells.endswith("| met")


def test_what_is_saved_is_read_again(tmp_path: Path) -> None:
    found = Found("A page", "python benchmarks/a.py", 3, (Figure(1, "points", 0.5, 2.0),))
    save(tmp_path / "page.md", found)
    assert load(tmp_path / "page.md") == found
    assert table(found.figures) == f"{COLUMNS}\n| points | at most 2 | 0.50 | met |"


def test_the_page_over_all_is_what_its_program_makes_of_the_figures(tmp_path: Path) -> None:
    page = tmp_path / "methods.md"
    program = ROOT / "benchmarks" / "methods.py"
    subprocess.run([sys.executable, str(program), "--page", str(page)], check=True, cwd=ROOT)
    assert page.read_text() == (PAGES / "methods.md").read_text()


def test_every_claim_of_the_page_has_a_figure() -> None:
    claims = {figure.claim for path in FOUND for figure in load(path).figures}
    assert claims == set(range(1, 8))


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.stem)
def test_figures_lie_beside_the_page_that_shows_them(path: Path) -> None:
    found = msgspec.json.decode(path.read_bytes(), type=Found)
    text = path.with_suffix(".md").read_text()
    assert text.startswith(f"# {found.title}\n")
    assert found.command in text
    energies = [figure for figure in found.figures if figure.claim == 6]
    assert all(figure.is_met for figure in energies)
    assert bool(energies) == ("energy" in text.lower())
