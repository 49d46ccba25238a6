"""The commands put together, and `main`: from arguments to an exit code.

A command's module is imported when it is called, and torch only where a model is built: `--help` is quick.
"""

import io
import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from edgewise import __version__
from edgewise.cli.failures import usage_text, write_bug, write_error
from edgewise.errors import EdgewiseError, UsageError

COMMANDS = {
    "estimate": "What plain training of a model needs, and the least RAM it could be planned for.",
    "plan": "Plan one training step: what to keep, recompute, page or run in slices, in what order, where.",
    "check": "Check a plan, independently of whoever made it: exit code 5 if it breaks a rule.",
    "train": "Train by a recipe inside the budget of a device.",
    "compare": "Train a model by many methods within one budget; which to use here, and why.",
    "emit": "Write one planned training step as C for a microcontroller, with the kernels that it needs.",
    "emulate": "Build an emitted model, and train it on an emulated board.",
    "report": "Write the report of a run or a plan: one HTML file that needs no network.",
    "recipes": "Recipes that come along. Without a command: list them.",
    "devices": "Profiles of devices: compute rates, memories, energies. Without a command: list them.",
}
"""Each command is the `app` of a module of its name, and loaded when it is called."""

INTERRUPTED = 130
BROKEN_PIPE = 141  # 128 + SIGPIPE, as a shell reports of every other program that writes to `head`

EXAMPLE = """\
Example:
  edgewise recipes
  edgewise train digits --ram 0.5x

Results go to stdout, for people or (--json) for programs; progress to stderr.
Exit codes:
  0    done
  1    a bug of Edgewise
  2    usage
  3    no plan fits the budget
  4    the model cannot be captured
  5    a corrupt file, or a plan that breaks a rule
  6    the device or disk failed
  130  interrupted; training has written a checkpoint"""

app = App(
    name="edgewise",
    help="Train PyTorch models inside a memory, time and energy budget.",
    version=f"edgewise {__version__}",
    help_epilogue=EXAMPLE,
    help_format="plaintext",
    result_action="return_value",
    exit_on_error=False,
    print_error=False,
    suppress_keyboard_interrupt=False,
)
for _name, _help in COMMANDS.items():
    app.command(f"edgewise.cli.{_name}:app", name=_name, help=_help)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command in `argv` (the process's arguments by default) and return the exit code."""
    tokens = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in tokens
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that lacks a letter is no failure
    try:
        code = app(tokens) or 0
        sys.stdout.flush()
    except CycloptsError as error:
        return write_error(UsageError(usage_text(error)), as_json=as_json)
    except EdgewiseError as error:
        return write_error(error, as_json=as_json)
    except KeyboardInterrupt:
        sys.stderr.write("edgewise: interrupted\n")
        return INTERRUPTED
    except BrokenPipeError:
        _forget_stdout()
        return BROKEN_PIPE
    except Exception:  # noqa: BLE001  -- the last line of defence: what arrives here is a bug of ours
        return write_bug(as_json=as_json)
    return int(code)


def _forget_stdout() -> None:
    """Whoever read our output has left; keep the interpreter from complaining when it flushes at exit."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # stdout is no file at all, as in tests
        return
