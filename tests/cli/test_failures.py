"""What is said, and which exit code there is, when a command fails."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from edgewise.cli import failures
from edgewise.cli import recipes as recipes_command
from edgewise.devices import load_device, save_device
from edgewise.errors import (
    BudgetInfeasible,
    CorruptArtifact,
    DeviceError,
    EdgewiseError,
    ModelUnsupported,
    PlanRejected,
    UntrustedArtifact,
    UsageError,
)
from tests.cli.conftest import Run

ERRORS = [
    (UsageError("wrong"), 2, {}),
    (
        BudgetInfeasible("too small", min_ram_bytes=7, op="fc"),
        3,
        {"status": "infeasible", "min_ram_bytes": 7, "op": "fc"},
    ),
    (ModelUnsupported("odd", parts=("a: b",)), 4, {"parts": ["a: b"]}),
    (CorruptArtifact("damaged"), 5, {}),
    (PlanRejected("refused"), 5, {}),
    (UntrustedArtifact("stale"), 5, {}),
    (DeviceError("full"), 6, {}),
]


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def list_recipes() -> None:
        raise error

    monkeypatch.setattr(recipes_command, "list_recipes", list_recipes)


@pytest.mark.parametrize(("error", "code", "more"), ERRORS, ids=lambda value: type(value).__name__)
def test_every_error_has_its_message_and_code(
    error: EdgewiseError, code: int, more: dict[str, object], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(monkeypatch, error)
    assert run("recipes") == (code, "", f"edgewise: {error}\n")
    said = run("recipes", "--json")
    assert (said.code, said.err) == (code, f"edgewise: {error}\n")
    head = {"error": type(error).__name__, "message": str(error), "exit_code": code}
    assert said.json == {**head, **more}


def test_a_bug_shows_where_it_is_and_asks_for_a_report(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, ZeroDivisionError("division by zero"))
    said = run("recipes")
    assert (said.code, said.out) == (1, "")
    assert "Traceback" in said.err
    assert "ZeroDivisionError: division by zero" in said.err
    assert said.err.endswith(f"{failures.BUG}\n")
    assert run("recipes", "--json").json["error"] == "ZeroDivisionError"


def test_an_interrupt(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, KeyboardInterrupt())
    assert run("recipes") == (130, "", "edgewise: interrupted\n")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["pln"], 'Unknown command "pln". Did you mean "plan"?'),
        (["zzz"], 'Unknown command "zzz". Available commands: '),
        (["plan"], "requires an argument. See `edgewise plan --help`."),
        (
            ["plan", "m", "--rem", "4"],
            "Unknown option: --rem. Did you mean --ram? See `edgewise plan --help`.",
        ),
        (["plan", "m", "--ram"], "--ram"),
        (["plan", "m", "--minimize", "x"], 'Choose from: "joules", "seconds", "ram".'),
        (["plan", "m", "--time-limit", "soon"], "soon"),
        (["plan", "m", "--batch", "4"], "behind the model: `resnet18@4`, `pkg:factory@4x3x32x32`."),
        (["plan", "m", "--input=3x32x32"], "behind the model: `resnet18@4`, `pkg:factory@4x3x32x32`."),
        (
            ["devices", "shw", "x"],
            "Unknown command `shw`. Did you mean `show`? See `edgewise devices --help`.",
        ),
        (["recipes", "q"], "Unknown command `q`. There are: ls, cp. See `edgewise recipes --help`."),
        (["check", "a", "b"], "Unused"),
    ],
)
def test_wrong_arguments(argv: list[str], said: str, run: Run) -> None:
    found = run(*argv)
    assert (found.code, found.out) == (2, "")
    assert found.err.startswith("edgewise: ")
    assert said in found.err
    assert found.err.count("\n") == 1
    assert run(*argv, "--json").json["error"] == "UsageError"


def test_a_reader_that_leaves_early_is_no_failure_of_ours() -> None:
    words = [sys.executable, "-m", "edgewise.cli", "devices", "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


def test_a_terminal_that_lacks_a_letter_is_no_failure_of_ours(tmp_path: Path) -> None:
    board = msgspec.structs.replace(load_device("rpi4"), name="board", description="größer")
    save_device(board, tmp_path / "edgewise" / "devices" / "board.toml")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "XDG_CONFIG_HOME": str(tmp_path)}
    words = [sys.executable, "-m", "edgewise.cli", "devices"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    assert r"gr\xf6\xdfer" in done.stdout


def test_the_module_runs_as_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edgewise.cli", "nonsense"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith('edgewise: Unknown command "nonsense"')
