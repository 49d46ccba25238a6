"""`edgewise emulate`: an emitted model, built and trained on an emulated board."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cyclopts import App

from edgewise.cli.output import Facts, note, write_facts, write_json
from edgewise.cli.params import AsJson
from edgewise.errors import UsageError
from edgewise.report.units import bytes_text, exact_bytes, figure, plural
from edgewise.train.units import parse_bytes

if TYPE_CHECKING:
    from edgewise.cli.emulating import Reference
    from edgewise.emit import Built, Emitted, Emulated, Taken

EXAMPLE = """\
Boards: stm32f405 (Cortex-M4F), lm3s6965 (M3), an500 (M7), an547 (M55), and host, this computer. The \
program gets just the RAM that it was emitted for: what does not fit does not link, and what it touches \
beyond stops it. Instructions are counted; an emulator says nothing of the time that a board takes.

Compilers: zig (pip install edgewise[mcu]), gcc. Emulators: unicorn (the same extra), qemu. An SD card \
is on lm3s6965 by qemu, memory on the bus on an500 by unicorn.

Example:
  edgewise emulate build/digits --data digits --steps 20
  edgewise emulate build/small --board lm3s6965 --ram 64KiB --medium sd --json"""

app = App(name="emulate", help_epilogue=EXAMPLE)


@app.default
def emulate(  # noqa: PLR0913  -- seven flags, each of them an argument
    folder: Path,
    /,
    *,
    data: str | None = None,
    steps: int = 4,
    board: str = "stm32f405",
    ram: str | None = None,
    emulator: str | None = None,
    compiler: str | None = None,
    medium: str | None = None,
    as_json: AsJson = False,
) -> None:
    """Build an emitted model, and train it on an emulated board.

    Args:
        folder: What `edgewise emit` wrote.
        data: Recipe whose data to train on, as in `digits`. The model's own if not given.
        steps: How many steps to train.
        board: Name of the board. See below.
        ram: RAM of the program, as in `96KiB`. What it was emitted for if not given.
        emulator: Name of the emulator. Whichever is there if not given.
        compiler: Name of the compiler. Whichever is there if not given.
        medium: What the store is on: `file` of this computer, `sd`, or `memory`. A file if not given.
        as_json: Print the result as JSON.
    """
    if steps < 1:
        raise UsageError(f"`--steps {steps}` must be at least 1.")

    from edgewise.cli.emulating import (  # noqa: PLC0415
        find_batches,
        find_tests,
        load_emitted,
        outputs_of,
        reference,
    )
    from edgewise.emit import RESERVED_BYTES, build, find_board, run  # noqa: PLC0415  -- imports torch

    emitted = load_emitted(folder)
    if not emitted.inputs:
        raise UsageError(
            f"{folder} infers and does not train. Emit it without `--inference`: it then does both."
        )
    target = find_board(board)
    given = emitted.ram_bytes + RESERVED_BYTES if ram is None else int(parse_bytes(ram).of(0))
    batches, tests = find_batches(emitted, data, steps), find_tests(emitted, data)
    note(f"building {folder} for {board}")
    built = build(folder, target, ram_bytes=given, compiler=compiler, medium=medium)
    note(f"training {plural(steps, 'step')} on {board}")
    inputs = tests.inputs if tests else ()
    seen = run(built, batches, store=folder / "weights.bin", emulator=emulator, inputs=inputs)
    accuracy = tests.accuracy(outputs_of(emitted, seen.outputs)) if tests else None
    found = Found(
        emitted, built, seen, accuracy, reference(folder, batches, tests), tests.samples if tests else 0
    )
    if as_json:
        write_json(_payload(folder, found))
    else:
        write_facts(_facts(found), title=f"{emitted.name} on {_where(built, seen)}")


class Found(NamedTuple):
    """What was emulated, and what came of it; accuracies are of `tested` samples that were not trained on."""

    emitted: "Emitted"
    built: "Built"
    seen: "Emulated"
    accuracy: float | None
    plain: "Reference | None"
    tested: int


def _where(built: "Built", seen: "Emulated") -> str:
    if built.board.is_host:
        return f"this computer, built by {built.compiler}"
    return f"{seen.board}, emulated by {seen.emulator}, built by {built.compiler}"


def _payload(folder: Path, found: Found) -> dict[str, Any]:
    emitted, built, seen, plain = found.emitted, found.built, found.seen, found.plain
    is_host = built.board.is_host
    return {
        "path": str(folder),
        "name": emitted.name,
        "board": seen.board,
        "emulator": None if is_host else seen.emulator,
        "compiler": built.compiler,
        "medium": built.medium,
        "losses": seen.losses,
        "pytorch_losses": None if plain is None else plain.losses,
        "accuracy": found.accuracy,
        "pytorch_accuracy": None if plain is None else plain.accuracy,
        "tested_samples": found.tested,
        "ram_bytes": None if is_host else built.ram_bytes,
        "ram_used_bytes": None if is_host else built.ram_used_bytes,
        "arena_bytes": emitted.arena_bytes,
        "stack_bytes": seen.stack_bytes,
        "flash_bytes": None if is_host else built.flash_used_bytes,
        "instructions": seen.instructions,
        "store_bytes": emitted.store.bytes,
        "bytes_read": seen.read_bytes,
        "bytes_written": seen.written_bytes,
        **{
            f"{key}_per_{name.split()[-1]}": _share(getattr(part, what), count)
            for name, part, count in _parts(seen)
            for key, what in (
                ("instructions", "instructions"),
                ("bytes_read", "read_bytes"),
                ("bytes_written", "written_bytes"),
            )
        },
    }


def _facts(found: Found) -> Facts:
    emitted, built, seen = found.emitted, found.built, found.seen
    plain = None if found.plain is None else found.plain.losses
    other = None if found.plain is None else found.plain.accuracy
    steps = len(seen.losses)
    facts = [
        ("trained", plural(steps, "step")),
        ("loss", _losses(seen.losses)),
        ("  PyTorch's", "" if plain is None else f"{_losses(plain)}; {_difference(seen.losses, plain)}"),
        (
            "accuracy",
            "" if found.accuracy is None else f"{found.accuracy:.1%} of {found.tested} test samples",
        ),
        ("  PyTorch's", "" if other is None else f"{other:.1%}"),
    ]
    if not built.board.is_host:
        facts += [
            ("RAM", f"{exact_bytes(built.ram_used_bytes)} of {exact_bytes(built.ram_bytes)}"),
            ("  arena", exact_bytes(emitted.arena_bytes)),
            ("  stack", f"at most {exact_bytes(seen.stack_bytes or 0)} of {exact_bytes(built.stack_bytes)}"),
            ("flash", exact_bytes(built.flash_used_bytes)),
            ("instructions", _each(found, "instructions", "{:,}".format)),
        ]
    facts += [
        ("store", f"{bytes_text(emitted.store.bytes)} outside RAM"),
        ("  read", _each(found, "read_bytes", bytes_text)),
        ("  written", _each(found, "written_bytes", bytes_text)),
    ]
    return facts


def _losses(losses: Sequence[float]) -> str:
    first, last = figure(losses[0]), figure(losses[-1])
    return first if len(losses) == 1 else f"{first} at first, {last} at last"


def _difference(losses: Sequence[float], plain: Sequence[float]) -> str:
    most = max(abs(a - b) / max(abs(b), 1e-30) for a, b in zip(losses, plain, strict=True))
    return f"{most:.1e} apart at most, relatively"


def _each(found: Found, what: str, text: Callable[[int], str]) -> str:
    """Of a whole run, of a step, and of an inference if there were any."""
    seen, words = found.seen, [text(getattr(found.seen, what) or 0)]
    for name, part, count in _parts(seen):
        if count:
            words.append(f"{text(_share(getattr(part, what), count) or 0)} {name}")
    return ", ".join(words)


def _parts(seen: "Emulated") -> "tuple[tuple[str, Taken, int], ...]":
    """The parts of a run that are repeated: what one is called, what all took, and how many there were."""
    return (
        ("a step", seen.by_steps, len(seen.losses)),
        ("an inference", seen.by_inferences, len(seen.outputs)),
    )


def _share(total: int | None, count: int) -> int | None:
    return None if total is None or not count else round(total / count)
