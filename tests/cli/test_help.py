"""Help: every command is documented, says an example, keeps to eight flags, and is quick to ask."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgewise.cli import reference
from edgewise.cli.app import COMMANDS, app
from tests.cli.conftest import Run

FREE = {"--json", "--help", "-h", "--version", "-o"}
"""Flags that are the same everywhere, and short names of others, do not count."""


def commands() -> Iterator[tuple[str, ...]]:
    for name in COMMANDS:
        yield (name,)
        yield from ((name, sub) for sub in reference._subcommands(app[name]))


def flags(command: tuple[str, ...]) -> set[str]:
    lines = reference.help_text(command).splitlines()
    words = [word for line in lines if line.startswith("│ -") for word in line.split()[1:3]]
    return {word for word in words if word.startswith("-")} - FREE


@pytest.mark.parametrize("command", list(commands()), ids=" ".join)
def test_help_has_an_example_that_is_this_command(command: tuple[str, ...], run: Run) -> None:
    said = run(*command, "--help")
    assert said.code == 0
    assert f"  edgewise {' '.join(command)}" in said.out.partition("Example:")[2]
    assert "--json" in said.out


@pytest.mark.parametrize("command", list(commands()), ids=" ".join)
def test_at_most_eight_flags(command: tuple[str, ...]) -> None:
    assert len(flags(command)) <= 8


def test_flags_are_counted() -> None:
    assert flags(("plan",)) == {
        "--device",
        "--ram",
        "--seconds",
        "--minimize",
        "--cost-model",
        "--time-limit",
        "--pareto",
        "--out",
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_the_command_says(name: str) -> None:
    assert app[name].default_command is not None
    assert (app[name].default_command.__doc__ or "").splitlines()[0] == COMMANDS[name]


def test_the_page_in_the_documentation_is_up_to_date() -> None:
    page = Path(__file__).parents[2] / "docs" / "cli.md"
    assert page.read_text(encoding="utf-8") == reference.reference(), "run `python -m edgewise.cli.reference`"


def test_the_page_is_written_where_it_belongs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path)
    reference.main()
    assert (tmp_path / "docs" / "cli.md").read_text(encoding="utf-8").startswith("# The command line")


def test_without_a_command_there_is_help(run: Run) -> None:
    said = run()
    assert said.code == 0
    assert said.out == run("--help").out
    assert all(name in said.out for name in COMMANDS)


def test_version(run: Run) -> None:
    assert run("--version").out == "edgewise 0.1.0\n"


MODULES = (
    "import sys; from edgewise.cli import main; main(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
)


def modules_after(*argv: str) -> set[str]:
    words = [sys.executable, "-c", MODULES, *argv]
    return set(subprocess.run(words, capture_output=True, text=True, check=True).stderr.split())


def test_help_loads_nothing_that_is_slow() -> None:
    loaded = modules_after("--help")
    assert "edgewise.cli.app" in loaded
    assert not loaded & {"torch", "numpy", "highspy", "sklearn", "edgewise.plan", "edgewise.train"}


@pytest.mark.parametrize(
    "command", [("plan", "--help"), ("train", "--help"), ("compare", "--help"), ("devices",), ("recipes",)]
)
def test_torch_waits_for_a_model(command: tuple[str, ...]) -> None:
    assert not modules_after(*command) & {"torch", "sklearn"}
