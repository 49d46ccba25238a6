"""The folder of an emitted model: C sources, the first image of its store, what a host must know of it."""

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch

from edgewise.capture import Captured
from edgewise.emit.build import SUPPORT, furnish
from edgewise.emit.contents import initial
from edgewise.emit.flash import Flash
from edgewise.emit.image import Store, image, lay_out
from edgewise.emit.program import program
from edgewise.emit.readme import MAKEFILE, readme
from edgewise.emit.slots import NO_SLOTS, Slot, Slots, inference_slots, slots_of
from edgewise.emit.text import Part, header, source
from edgewise.errors import UsageError
from edgewise.plan import Certificate, Plan

HERE = Path(__file__).parent
KERNELS = HERE / "kernels"
FORMAT = "edgewise.emitted/1"
STACK_BYTES = 3072
"""Stack of a program: a loop over slices has some tensors there, and kernels have theirs."""

SUPPORT_AND_KERNELS = ("kernels", *SUPPORT)

_CALLED = re.compile(r"\bew_\w+")
_DEFINED = re.compile(r"^(?:\w[\w ]*\b|[A-Z_]+\()(ew_\w+)[(,]", re.MULTILINE)
"""The name of a function where its definition begins, or of one that a macro defines."""


class Tensors(msgspec.Struct, frozen=True):
    """A tensor that passes between host and device: its name, and how its bytes are read."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int
    offset: int
    """In the arena, or in the store."""


class StoredValue(msgspec.Struct, frozen=True):
    """What a slot of the store holds."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    kind: str
    resident: bool
    inferred: bool
    """Whether inference alone reads it."""


class Inferred(msgspec.Struct, frozen=True):
    """The forward pass: what it takes, what it gives, and what its plan needs."""

    inputs: tuple[Tensors, ...]
    output: Tensors
    peak_bytes: int
    seconds: float


class Emitted(msgspec.Struct, frozen=True):
    """model.json: what was emitted, for which plan, and how a host talks to it.

    Without `inputs` it does not train, and all that is said of the plan is said of inference.
    """

    format: str
    name: str
    model: str
    seed: int
    device: str
    ram_bytes: int
    stack_bytes: int
    flash_bytes: int
    """Of weights; code comes to it."""
    arena_bytes: int
    peak_bytes: int
    seconds: float
    joules: float
    bytes_read: int
    bytes_written: int
    inputs: tuple[Tensors, ...]
    values: tuple[StoredValue, ...]
    store: Store
    sources: tuple[str, ...]
    constants: dict[str, str]
    """What lies in flash, by name; a digest of each (`Flash.digests`)."""
    inference: Inferred | None = None


@dataclass(frozen=True)
class Planned:
    """A captured step, a plan for it, what the check certified, and what of it lies in flash."""

    captured: Captured
    plan: Plan
    certificate: Certificate
    flash: Flash


def write_folder(folder: Path, training: Planned | None, inference: Planned | None, *, model: str) -> Emitted:
    """Write all files of `folder`.

    Args:
        folder: made if it is not there; an emitted model that lies in it is replaced.
        training: a training step, as `prepare` returns it, and its plan; `None` if the C is to infer only.
        inference: the same of the model's forward pass; `None` if the C is to train only.
        model: how the user named the model, so that a host can build it again.

    Raises:
        UsageError: the folder cannot be written, or has something else in it.
    """
    step, other = _parts(training, inference)
    main, part, last = training or inference, step or other, other or step
    if main is None or part is None or last is None:
        raise ValueError("neither training nor inference")
    captured, plan, certificate = main.captured, main.plan, main.certificate
    every = last.slots.slots
    journal_bytes = sum(slot.journal_bytes for slot in every)
    store = lay_out([(slot.bytes, slot.kind) for slot in every], journal_bytes)
    text = source(captured.graph.name, step, other, store, len(main.flash.contents))
    emitted = Emitted(
        format=FORMAT,
        name=captured.graph.name,
        model=model,
        seed=captured.seed,
        device=plan.device,
        ram_bytes=plan.budget.ram_bytes,
        stack_bytes=STACK_BYTES,
        flash_bytes=len(main.flash.contents),
        arena_bytes=max(part.program.arena_bytes, last.program.arena_bytes),
        peak_bytes=plan.peak_bytes,
        seconds=plan.seconds,
        joules=plan.joules,
        bytes_read=certificate.bytes_read,
        bytes_written=certificate.bytes_written,
        inputs=_inputs(training, step) if training and step else (),
        values=tuple(_value(slot, _owner(slot, training, inference)) for slot in every),
        store=store,
        sources=tuple(_needed(text)),
        constants=main.flash.digests(),
        inference=_inferred(inference, other) if inference and other else None,
    )
    contents = [_content(slot, _owner(slot, training, inference)) for slot in every]
    output = emitted.inference.output if emitted.inference else None
    files = {
        "model.h": header(captured.graph.name, step, other, _shaped(output) if output else "", store),
        "model.c": text,
        "README.md": readme(
            captured,
            plan,
            certificate,
            part,
            model=model,
            arena_bytes=emitted.arena_bytes,
            store_bytes=store.bytes,
            flash=main.flash,
            trains=training is not None,
        ),
        "Makefile": MAKEFILE,
        **({"flash.c": main.flash.source()} if main.flash.offsets else {}),
        "model.json": msgspec.json.format(msgspec.json.encode(emitted), indent=2).decode(),
    }
    try:
        _write(folder, files, emitted, image(store, contents))
    except OSError as error:
        raise UsageError(f"Cannot write {folder}: {error.strerror}. Choose another place.") from error
    return emitted


def _parts(training: Planned | None, inference: Planned | None) -> tuple[Part | None, Part | None]:
    """The programs of both; inference has the slots of training, and what it needs besides."""
    step = other = None
    if training is not None:
        step = _part(training, slots_of(training.captured, training.plan, training.flash), "step")
    if inference is not None:
        held = step.slots if step else NO_SLOTS
        own = inference_slots(inference.captured, inference.plan, held, inference.flash)
        other = _part(inference, own, "infer")
    return step, other


def _part(planned: Planned, slots: Slots, prefix: str) -> Part:
    made = program(planned.captured, planned.plan, slots, planned.flash, prefix)
    return Part(made, slots, [planned.captured.layouts[name].storage_bytes for name in made.inputs])


def _owner(slot: Slot, training: Planned | None, inference: Planned | None) -> Captured:
    """The captured step that knows the value of `slot`."""
    if training is not None and slot.value in training.captured.layouts and not slot.inferred:
        return training.captured
    found = inference or training
    assert found is not None  # noqa: S101  # one of them there is
    return found.captured


def _inferred(planned: Planned, part: Part) -> Inferred:
    captured, made = planned.captured, part.program
    result = captured.loss.program.operands[0]
    layout = captured.layouts[result]
    output = Tensors("output", _dtype(layout.dtype), layout.size, made.result[1], made.result[0])
    return Inferred(_inputs(planned, part), output, planned.plan.peak_bytes, planned.plan.seconds)


def _inputs(planned: Planned, part: Part) -> tuple[Tensors, ...]:
    layouts = planned.captured.layouts
    return tuple(
        Tensors(name, _dtype(layouts[name].dtype), layouts[name].size, layouts[name].storage_bytes, offset)
        for name, offset in part.program.inputs.items()
    )


def _dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _shaped(tensor: Tensors) -> str:
    return f"{tensor.dtype} {list(tensor.shape)}"


def _write(folder: Path, files: Mapping[str, str], emitted: Emitted, weights: bytes) -> None:
    _clear(folder)
    (folder / "kernels").mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "weights.bin").write_bytes(weights)
    for path in (*emitted.sources, *(f"kernels/{found.name}" for found in KERNELS.glob("*.h"))):
        shutil.copyfile(HERE / path, folder / path)
    furnish(folder)


def _clear(folder: Path) -> None:
    """Remove the sources of an earlier model; refuse a folder of something else."""
    if folder.exists() and any(folder.iterdir()) and not (folder / "model.json").is_file():
        raise UsageError(f"{folder} is not empty, and no emitted model. Name another folder.")
    (folder / "flash.c").unlink(missing_ok=True)
    for name in SUPPORT_AND_KERNELS:
        for path in (folder / name).glob("*.[ch]"):
            path.unlink()


def _content(slot: Slot, captured: Captured) -> bytes:
    return bytes(slot.bytes) if slot.kind == "scratch" else initial(captured, slot.value)


def _value(slot: Slot, captured: Captured) -> StoredValue:
    layout = captured.layouts[slot.value]
    return StoredValue(
        slot.value, _dtype(layout.dtype), layout.size, layout.stride, slot.kind, slot.resident, slot.inferred
    )


# -- which kernels are needed ---------------------------------------------------------------------------


def _needed(text: str) -> Iterator[str]:
    """Kernel sources that `text` and the runtime call into, and those that they call, sorted."""
    sources = {path: path.read_text() for path in sorted(KERNELS.glob("*.c"))}
    home = {name: path for path, body in sources.items() for name in _DEFINED.findall(body)}
    needed: set[Path] = set()
    todo: Sequence[str] = _CALLED.findall(text + (HERE / "runtime" / "slices.c").read_text())
    while todo:
        found = {home[name] for name in todo if name in home} - needed
        needed |= found
        todo = [name for path in found for name in _CALLED.findall(sources[path])]
    yield from sorted(f"kernels/{path.name}" for path in needed)
