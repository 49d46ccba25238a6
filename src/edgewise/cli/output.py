"""Results on stdout: a table for people, JSON for programs."""

import io
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

WIDTH_OF_A_FILE = 1000
"""Columns where stdout is no terminal: wide enough that nothing is wrapped, for `grep` and paths."""

Facts = Iterable[tuple[str, str]]


def write_json(payload: Any) -> None:
    """`payload` as JSON on stdout."""
    print(msgspec.json.format(msgspec.json.encode(payload), indent=2).decode())


def write_facts(facts: Facts, *, title: str = "") -> None:
    """Names and figures in two columns on stdout; what has no figure is left out."""
    table = Table.grid(padding=(0, 2))
    for name, value in facts:
        if value:
            table.add_row(Text(name), Text(value))
    if title:
        _show(Text(title, style="bold"))
    _show(table)


def write_table(heads: Mapping[str, bool], rows: Iterable[Iterable[str]]) -> None:
    """A table on stdout; `heads` are the names of its columns, and whether they are numbers.

    In a narrow terminal names are broken, never cut: they are what one types next.
    """
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for head, is_number in heads.items():
        table.add_column(head, justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    _show(table)


def write_line(text: str) -> None:
    """One line on stdout, as it is."""
    print(text)


def note(text: str) -> None:
    """One line on stderr, for people at a terminal; nothing where stderr is none."""
    if sys.stderr.isatty():
        sys.stderr.write(f"{text}\n")


def _show(what: RenderableType) -> None:
    """Print to a terminal as it likes it, and elsewhere without colours, wrapping or spaces at the end."""
    if sys.stdout.isatty():
        Console(markup=False, highlight=False, emoji=False).print(what)
        return
    file = io.StringIO()
    Console(file=file, width=WIDTH_OF_A_FILE, markup=False, highlight=False, emoji=False).print(what)
    print("\n".join(line.rstrip() for line in file.getvalue().splitlines()))
