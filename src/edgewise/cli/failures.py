"""What is said when a command fails: the message on stderr and, with `--json`, a JSON object on stdout."""

import difflib
import sys
import traceback
from typing import Any

import msgspec
from cyclopts import CycloptsError, UnusedCliTokensError

from edgewise.errors import BudgetInfeasible, EdgewiseError, ModelUnsupported

BUG = "edgewise: this is a bug of Edgewise. Please report it with the lines above and what you typed."
IN_THE_MODEL = ("--batch", "--input")


def write_error(error: EdgewiseError, *, as_json: bool) -> int:
    """Say what went wrong; returns the exit code."""
    if as_json:
        _write_json(error_payload(error))
    sys.stderr.write(f"edgewise: {error}\n")
    return error.exit_code


def error_payload(error: EdgewiseError) -> dict[str, Any]:
    """`error` for programs: its class, its message and exit code, and what it carries."""
    payload: dict[str, Any] = {
        "error": type(error).__name__,
        "message": str(error),
        "exit_code": error.exit_code,
    }
    if isinstance(error, BudgetInfeasible):
        payload |= {"status": "infeasible", "min_ram_bytes": error.min_ram_bytes, "op": error.op}
    if isinstance(error, ModelUnsupported):
        payload["parts"] = list(error.parts)
    return payload


def write_bug(*, as_json: bool) -> int:
    """Show the exception being handled, which nobody expected; returns the exit code of a bug."""
    error = sys.exception()
    if as_json:
        _write_json({"error": type(error).__name__, "message": str(error), "exit_code": 1})
    sys.stderr.write(f"{traceback.format_exc()}{BUG}\n")
    return 1


def usage_text(error: CycloptsError) -> str:
    """What is wrong with the arguments, in one line, and where to read more."""
    text = _unknown_subcommand(error) or " ".join(str(error).split())
    if any(flag in text for flag in IN_THE_MODEL):
        text += " Batch size and sample are written behind the model: `resnet18@4`, `pkg:factory@4x3x32x32`."
    command = " ".join(("edgewise", *(error.command_chain or ())))
    return f"{text} See `{command} --help`."


def _unknown_subcommand(error: CycloptsError) -> str | None:
    """Cyclopts takes a misspelt subcommand for an argument of the command that would run without one."""
    if not isinstance(error, UnusedCliTokensError) or error.app is None or not error.unused_tokens:
        return None
    names = [name for name in error.app if not name.startswith("-")]
    if not names:
        return None
    near = difflib.get_close_matches(error.unused_tokens[0], names, n=1)
    hint = f"Did you mean `{near[0]}`?" if near else f"There are: {', '.join(names)}."
    return f"Unknown command `{error.unused_tokens[0]}`. {hint}"


def _write_json(payload: dict[str, Any]) -> None:
    text = msgspec.json.format(msgspec.json.encode(payload), indent=2).decode()
    try:
        print(text, flush=True)
    except BrokenPipeError:
        return
