"""The folder of an emitted model: C sources, the first image of its store, what a host must know of it."""

import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import torch
from torch import Tensor

from edgewise.capture import Captured
from edgewise.emit.build import SUPPORT, furnish
from edgewise.emit.image import Store, image, lay_out
from edgewise.emit.program import Program, program
from edgewise.emit.readme import MAKEFILE, readme
from edgewise.emit.slots import Slot, Slots, slots_of
from edgewise.emit.text import header as header_text
from edgewise.emit.text import source
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


class Emitted(msgspec.Struct, frozen=True):
    """model.json: what was emitted, for which plan, and how a host talks to it."""

    format: str
    name: str
    model: str
    seed: int
    device: str
    ram_bytes: int
    stack_bytes: int
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


def write_folder(  # what a folder is made of
    folder: Path, captured: Captured, plan: Plan, certificate: Certificate, *, model: str
) -> Emitted:
    """Write all files of `folder`.

    Args:
        folder: made if it is not there; what lies in it under the same names is replaced.
        captured: as `prepare` returns it.
        plan: a plan for its graph.
        certificate: of the plan.
        model: how the user named the model, so that a host can build it again.

    Raises:
        UsageError: the folder cannot be written, or has something else in it.
    """
    slots = slots_of(captured, plan)
    store = lay_out([(slot.bytes, slot.kind) for slot in slots.slots])
    made = program(captured, plan, slots)
    inputs = tuple(_input(captured, name, offset) for name, offset in made.inputs.items())
    emitted = Emitted(
        format=FORMAT,
        name=captured.graph.name,
        model=model,
        seed=captured.seed,
        device=plan.device,
        ram_bytes=plan.budget.ram_bytes,
        stack_bytes=STACK_BYTES,
        arena_bytes=made.arena_bytes,
        peak_bytes=plan.peak_bytes,
        seconds=plan.seconds,
        joules=plan.joules,
        bytes_read=certificate.bytes_read,
        bytes_written=certificate.bytes_written,
        inputs=inputs,
        values=tuple(_value(captured, slots, index) for index in range(len(slots.slots))),
        store=store,
        sources=(),
    )
    sizes = [tensor.bytes for tensor in inputs]
    text = source(captured.graph.name, made, slots, store, sizes)
    emitted = msgspec.structs.replace(emitted, sources=tuple(_needed(text)))
    words = readme(captured, plan, certificate, made, slots, model=model, store_bytes=store.bytes)
    try:
        _write(folder, captured, made, slots, store, text, emitted)
        (folder / "README.md").write_text(words)
        (folder / "Makefile").write_text(MAKEFILE)
    except OSError as error:
        raise UsageError(f"Cannot write {folder}: {error.strerror}. Choose another place.") from error
    return emitted


def _write(
    folder: Path, captured: Captured, made: Program, slots: Slots, store: Store, text: str, emitted: Emitted
) -> None:
    _clear(folder)
    (folder / "kernels").mkdir(parents=True, exist_ok=True)
    (folder / "model.h").write_text(header_text(captured.graph.name, made, slots, store))
    (folder / "model.c").write_text(text)
    (folder / "weights.bin").write_bytes(image(store, [_content(captured, slot) for slot in slots.slots]))
    for path in (*emitted.sources, *(f"kernels/{header.name}" for header in KERNELS.glob("*.h"))):
        shutil.copyfile(HERE / path, folder / path)
    furnish(folder)
    (folder / "model.json").write_bytes(msgspec.json.format(msgspec.json.encode(emitted), indent=2))


def _clear(folder: Path) -> None:
    """Remove the sources of an earlier model; refuse a folder of something else."""
    if folder.exists() and any(folder.iterdir()) and not (folder / "model.json").is_file():
        raise UsageError(f"{folder} is not empty, and no emitted model. Name another folder.")
    for name in SUPPORT_AND_KERNELS:
        for path in (folder / name).glob("*.[ch]"):
            path.unlink()


def _content(captured: Captured, slot: Slot) -> bytes:
    return bytes(slot.bytes) if slot.kind == "scratch" else initial(captured, slot.value)


def initial(captured: Captured, name: str) -> bytes:
    """The bytes that the carried value `name` has before the first step."""
    tensor, storage = captured.empty(name)
    storage.zero_()
    found = dict([*captured.model.named_parameters(), *captured.model.named_buffers()]).get(name)
    found = captured.constants.get(name) if found is None else found
    if found is not None:
        tensor.copy_(found.detach())
    elif name not in captured.states:
        raise KeyError(name)
    return as_bytes(storage)[: captured.layouts[name].storage_bytes]


def as_bytes(tensor: Tensor) -> bytes:
    """The bytes of a dense tensor."""
    return tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()


def _input(captured: Captured, name: str, offset: int) -> Tensors:
    layout = captured.layouts[name]
    dtype = str(layout.dtype).removeprefix("torch.")
    return Tensors(name, dtype, layout.size, layout.storage_bytes, offset)


def _value(captured: Captured, slots: Slots, index: int) -> StoredValue:
    slot, layout = slots.slots[index], captured.layouts[slots.slots[index].value]
    dtype = str(layout.dtype).removeprefix("torch.")
    return StoredValue(slot.value, dtype, layout.size, layout.stride, slot.kind, slot.resident)


# -- which kernels are needed ---------------------------------------------------------------------------


def _needed(text: str) -> Iterator[str]:
    """Kernel sources that `text` calls into, and those that they call, sorted."""
    sources = {path: path.read_text() for path in sorted(KERNELS.glob("*.c"))}
    home = {name: path for path, body in sources.items() for name in _DEFINED.findall(body)}
    needed: set[Path] = set()
    todo: Sequence[str] = _CALLED.findall(text)
    while todo:
        found = {home[name] for name in todo if name in home} - needed
        needed |= found
        todo = [name for path in found for name in _CALLED.findall(sources[path])]
    yield from sorted(f"kernels/{path.name}" for path in needed)
