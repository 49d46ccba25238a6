"""`python -m edgewise.cli.reference`: write docs/cli.md, the whole help of each command."""

import io
from pathlib import Path

from cyclopts import App
from rich.console import Console

from edgewise.cli.app import COMMANDS, app

WIDTH = 100
PAGE = Path("docs/cli.md")
HEAD = """\
# The command line

Written by `python -m edgewise.cli.reference`; do not edit.
"""


def reference() -> str:
    """The page, in Markdown."""
    parts = [HEAD, _section(())]
    for name in COMMANDS:
        parts.append(_section((name,)))
        parts.extend(_section((name, sub)) for sub in _subcommands(app[name]))
    return "\n".join(parts)


def help_text(command: tuple[str, ...]) -> str:
    """What `edgewise COMMAND --help` prints, without colours."""
    file = io.StringIO()
    console = Console(file=file, width=WIDTH, color_system=None, force_terminal=False)
    app.help_print(list(command), console=console)
    return "\n".join(line.rstrip() for line in file.getvalue().strip().splitlines())


def _section(command: tuple[str, ...]) -> str:
    words = " ".join(("edgewise", *command))
    return (
        f"{'#' * (min(len(command), 2) + 1)} `{words}`\n\n```text\n{help_text(command)}\n```\n"
        if command
        else (f"```text\n{help_text(command)}\n```\n")
    )


def _subcommands(parent: App) -> list[str]:
    return [name for name in parent if not name.startswith("-")]


def main() -> None:
    """Write the page."""
    PAGE.write_text(reference(), encoding="utf-8")


if __name__ == "__main__":
    main()
