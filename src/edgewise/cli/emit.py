"""`edgewise emit`: one planned training step of a model as a folder of C for a microcontroller."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from edgewise.cli.output import Facts, write_facts, write_json
from edgewise.cli.params import MODEL_HELP, AsJson, Switch
from edgewise.cli.planning import planning
from edgewise.cli.subject import capture_subject
from edgewise.cli.words import arena_words, count_words, gap_words
from edgewise.devices import load_device
from edgewise.emit import RESERVED_BYTES, Made, emit
from edgewise.errors import BudgetInfeasible, UsageError
from edgewise.plan import Budget
from edgewise.report.units import bytes_text, exact_bytes, seconds_text
from edgewise.train.units import parse_bytes

EXAMPLE = f"""\
{MODEL_HELP}

RAM is all that the program may use: the arena of the step, its variables, and the stack. The folder has \
C99 without any library, a README with its memory map, and what `edgewise emulate` needs.

Example:
  edgewise emit digits --device stm32f4 --ram 96KiB -o build/digits
  edgewise emit resnet8@1 --device stm32f4 --ram 64KiB -o build/resnet8
  edgewise emulate build/digits
  edgewise emit resnet8@1 --inference --flash 1MiB --ram 256KiB -o build/infer"""

app = App(name="emit", help_epilogue=EXAMPLE)


@app.default
def emit_(
    model: str,
    /,
    *,
    device: str = "stm32f4",
    ram: str | None = None,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    flash: str = "512KiB",
    inference: Switch = False,
    time_limit: float = 60.0,
    as_json: AsJson = False,
) -> None:
    """Write one planned training step as C for a microcontroller, with the kernels that it needs.

    Args:
        model: A built-in model, `package.module:factory`, or a recipe. See below.
        device: Name of a profile, or path of a .toml file: what computing and paging cost there.
        ram: RAM of the program, as in `96KiB`. All RAM of the device if not given.
        flash: Flash for weights that do not change; what does not fit goes to the store.
        out: Folder to write; made if it is not there.
        inference: Write the forward pass alone, without training.
        time_limit: Seconds after which the best plan so far is taken.
        as_json: Print the result as JSON.
    """
    if not time_limit > 0:
        raise UsageError(f"`--time-limit {time_limit:g}` must be above zero seconds.")
    target = load_device(device)
    ram_bytes = target.memory.ram.bytes if ram is None else int(parse_bytes(ram).of(0))
    if ram_bytes <= RESERVED_BYTES:
        raise UsageError(
            f"{exact_bytes(ram_bytes)} of RAM leave nothing: stack and variables take {RESERVED_BYTES:,} B. "
            "Give it more with `--ram`."
        )
    subject = capture_subject(model)
    with planning("joules") as progress, _with_reserve(ram_bytes):
        made = emit(
            subject.captured,
            target,
            Budget(ram_bytes - RESERVED_BYTES),
            out,
            model=model,
            flash_bytes=int(parse_bytes(flash).of(0)),
            train=not inference,
            time_limit=time_limit,
            progress=progress,
        )
    if as_json:
        write_json(_payload(made, out))
    else:
        write_facts([*subject.facts, *_facts(made, ram_bytes, out)])


@contextmanager
def _with_reserve(ram_bytes: int) -> Iterator[None]:
    """Where nothing fits, say what RAM the whole program needs, not its arena alone."""
    try:
        yield
    except BudgetInfeasible as error:
        if error.min_ram_bytes is None:
            raise
        least = error.min_ram_bytes + RESERVED_BYTES
        because = f": op `{error.op}` sets it" if error.op else ""
        raise BudgetInfeasible(
            f"No plan fits {ram_bytes:,} B, of which stack and variables take {RESERVED_BYTES:,} B. "
            f"Least RAM: {least:,} B{because}. Try `--ram {least}`, or a smaller batch.",
            min_ram_bytes=least,
            op=error.op,
        ) from error


def _payload(made: Made, out: Path) -> dict[str, Any]:
    emitted, certificate = made.emitted, made.certificate
    return {
        "path": str(out),
        "name": emitted.name,
        "device": emitted.device,
        "ram_bytes": emitted.ram_bytes,
        "arena_bytes": emitted.arena_bytes,
        "peak_bytes": emitted.peak_bytes,
        "flash_bytes": emitted.flash_bytes,
        "store_bytes": emitted.store.bytes,
        "status": made.plan.status,
        "gap": made.plan.gap,
        "seconds": emitted.seconds,
        "joules": emitted.joules,
        "bytes_read": emitted.bytes_read,
        "bytes_written": emitted.bytes_written,
        "recomputed": certificate.recomputed,
        "paged_in": certificate.paged_in,
        "streamed": certificate.streamed,
        "sources": emitted.sources,
        "infers": emitted.inference is not None,
    }


def _facts(made: Made, ram_bytes: int, out: Path) -> Facts:
    plan, certificate, emitted = made.plan, made.certificate, made.emitted
    following = "edgewise emulate" if emitted.inputs else "make -C"
    return [
        ("RAM", f"{bytes_text(ram_bytes)}, {exact_bytes(RESERVED_BYTES)} of them stack and variables"),
        ("planned peak", exact_bytes(plan.peak_bytes)),
        ("arena", arena_words(plan, certificate)),
        ("plan", count_words(plan)),
        ("quality", f"{gap_words(plan.status, plan.gap)} ({plan.solver})"),
        ("flash", f"{bytes_text(emitted.flash_bytes)} of weights" if emitted.flash_bytes else ""),
        ("store", f"{bytes_text(emitted.store.bytes)} outside RAM"),
        ("time of a step", f"{seconds_text(plan.seconds)}, by the profile of {plan.device}"),
        ("inference", "" if emitted.inference else "none: the model has several outputs"),
        ("written to", f"{out}; next: {following} {out}"),
    ]
