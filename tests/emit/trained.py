"""The same training steps in PyTorch, and as emitted C on this computer or an emulated board."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from edgewise.capture import Captured, Optimizer, capture
from edgewise.devices import Device, load_device
from edgewise.emit import HOST, Board, Emulated, Made, build, contents, emit, run
from edgewise.emit.prepare import prepare
from edgewise.plan import Budget, minimum_ram, plain_plan
from edgewise.run import Executor
from edgewise.zoo import resolve_task

DEVICE = load_device("stm32f4")
HOST_DEVICE = load_device("host")


class Trained(NamedTuple):
    """Losses of the steps, and what they left: parameters, buffers and optimizer states by name."""

    losses: tuple[float, ...]
    state: dict[str, Tensor]


def captured_zoo(name: str, batch: int, optimizer: Optimizer) -> tuple[Captured, list[Any]]:
    """A captured step of a zoo model, and three batches for it."""
    task = resolve_task(name, batch=batch)
    captured = capture(task.model, task.loss, optimizer, task.example_batch, name=name)
    inputs, targets = task.example_batch
    return captured, [(inputs, targets), (_turned(inputs), targets), (inputs, _turned(targets))]


def _turned(tree: Any) -> Any:
    return pytree.tree_map_only(torch.Tensor, lambda t: t.flip(0).contiguous(), tree)


def in_pytorch(captured: Captured, batches: Sequence[Any]) -> Trained:
    """The steps by the executor, without a limit; the captured model stays as it is."""
    before = copy.deepcopy(captured.model.state_dict())
    with Executor(captured, plain_plan(captured.graph, HOST_DEVICE), HOST_DEVICE) as executor:
        losses = tuple(executor.step(batch, number).loss for number, batch in enumerate(batches))
        state = executor.state()
    captured.model.load_state_dict(before)
    return Trained(losses, state)


def made_in_c(
    captured: Captured, folder: Path, ram_bytes: int, *, device: Device = DEVICE, time_limit: float = 2
) -> Made:
    """The C of the step within `ram_bytes` of arena."""
    return emit(captured, device, Budget(ram_bytes), folder, model="test", time_limit=time_limit)


def run_in_c(
    made: Made, folder: Path, batches: Sequence[Any], board: Board = HOST, **options: Any
) -> tuple[Trained, Emulated]:
    """The steps by the emitted C on `board`, and all that the emulator tells."""
    ram_bytes = options.pop("ram_bytes", board.ram_bytes)
    built = build(folder, board, ram_bytes=ram_bytes, compiler=options.pop("compiler", None))
    emulated = run(built, tensors_of(made, batches), store=folder / "weights.bin", **options)
    return Trained(emulated.losses, state_of(made, emulated.store)), emulated


def tensors_of(made: Made, batches: Sequence[Any]) -> list[list[Tensor]]:
    """Of each batch the tensors that the step reads, in their order in model.json."""
    wanted = [made.captured.batch.index(tensor.name) for tensor in made.emitted.inputs]
    return [[pytree.tree_leaves(batch)[index] for index in wanted] for batch in batches]


def state_of(made: Made, store: bytes) -> dict[str, Tensor]:
    """Everything in an image of the store that outlives a step, by name."""
    found = {}
    for value, raw in zip(made.emitted.values, contents(store, made.emitted.store), strict=True):
        if value.kind != "scratch":
            flat = torch.frombuffer(bytearray(raw), dtype=getattr(torch, value.dtype))
            found[value.name] = flat.as_strided(value.shape, value.stride)
    return found


def budgets(captured: Captured) -> tuple[int, int]:
    """The least RAM that is found for the step in C, and what it needs without a plan."""
    graph = prepare(captured).graph
    return minimum_ram(graph, DEVICE, time_limit=2).ram_bytes, plain_plan(graph, DEVICE).peak_bytes


def distance(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> float:
    """Relative difference of all floating-point tensors together; others must be equal."""
    above = below = 0.0
    for name, expected in theirs.items():
        if not expected.is_floating_point():
            assert torch.equal(ours[name], expected), name
            continue
        above += float((ours[name].double() - expected.double()).norm() ** 2)
        below += float(expected.double().norm() ** 2)
    return (above / below) ** 0.5


def same_bits(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> bool:
    """Whether all tensors have the same bytes."""
    return all(torch.equal(ours[n].view(torch.uint8), t.view(torch.uint8)) if t.dim() else ours[n].equal(t)
               for n, t in theirs.items())  # fmt: skip


def inferred_in_c(made: Made, folder: Path, batches: Sequence[Any], inputs: Sequence[Any]) -> list[Tensor]:
    """The outputs for `inputs` (batches, of which only the inputs count), after training on `batches`."""
    inference = made.emitted.inference
    assert inference is not None
    indices = [made.captured.batch.index(tensor.name) for tensor in inference.inputs]
    given = [[pytree.tree_leaves(batch)[index] for index in indices] for batch in inputs]
    built = build(folder, HOST, ram_bytes=0)
    seen = run(built, tensors_of(made, batches), store=folder / "weights.bin", inputs=given)
    dtype = getattr(torch, inference.output.dtype)
    return [
        torch.frombuffer(bytearray(raw), dtype=dtype).view(inference.output.shape) for raw in seen.outputs
    ]
