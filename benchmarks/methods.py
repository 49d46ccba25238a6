"""What training without plain backpropagation costs, in one table: `python benchmarks/methods.py`.

Measures nothing: it reads what the programs `methods_*.py` left beside their pages, and writes
docs/benchmarks/methods.md.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from _figures import Found, load

FOLDER = Path(__file__).parents[1] / "docs" / "benchmarks"
CLAIMS = {
    1: "Theorems hold",
    2: "The Cost of Avoiding Backpropagation, redone: backprop, planned at the memory of zeroth order",
    3: "Last mile: fixed-point forward gradients on shifted data",
    4: "Forward-forward and FF-INT8",
    5: "Local losses with activity perturbation",
    6: "Energy on at least three device profiles",
    7: "Bad input is refused before training starts",
}
COLUMNS = "| figure | aim | measured | | seeds | page |\n|---|---|---:|---|---:|---|"
TEXT = """# Training without plain backpropagation, and what it costs

What these methods were to show, and what was measured. Every figure is from the program of the page that it
links to; where seeds are given, it is the mean of so many.

{missed}

{sections}
Pages, and what they were written by:

{pages}

Assembled by `python benchmarks/methods.py`.
"""


def rows(found: dict[str, Found], claim: int) -> Iterator[str]:
    """A line for each figure of a claim."""
    for name, each in found.items():
        for figure in each.figures:
            if figure.claim == claim:
                yield f"| {figure.cells} | {each.seeds if figure.is_mean else ''} | [{each.title}]({name}) |"


def section(found: dict[str, Found], claim: int) -> str:
    """The table of a claim."""
    lines = list(rows(found, claim)) or ["| nothing was measured | | | | | |"]
    return "\n".join((f"## {claim}. {CLAIMS[claim]}\n", COLUMNS, *lines, ""))


def page(found: dict[str, Found]) -> str:
    """The page in markdown."""
    missed = [f"- {figure.cells}" for each in found.values() for figure in each.figures if not figure.is_met]
    return TEXT.format(
        missed="Missed:\n\n" + "\n".join(line.replace(" | ", "; ") for line in missed)
        if missed
        else "No aim was missed.",
        sections="\n".join(section(found, claim) for claim in CLAIMS),
        pages="\n".join(f"- [{each.title}]({name}): `{each.command}`" for name, each in found.items()),
    )


def main() -> None:
    """Read and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--page", type=Path, default=FOLDER / "methods.md")
    options = parser.parse_args()
    pages = sorted(path.with_suffix(".md") for path in FOLDER.glob("methods_*.json"))
    options.page.write_text(page({path.name: load(path) for path in pages}))


if __name__ == "__main__":
    main()
