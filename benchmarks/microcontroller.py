"""Training steps as emitted C on emulated boards: RAM, flash, stack, instructions, and how near to PyTorch.

    python benchmarks/microcontroller.py [--cases NAME ...] [--time-limit S] [--page PATH]

Each step is planned for a budget of RAM that the linker, the memory protection unit and the emulator
enforce. It runs on this computer and on the board, and both must leave the same bits. What it changed is
compared with what it changes in PyTorch, and with float64. TensorFlow Lite Micro is measured beside it where
it is installed (`pip install tflite-micro`). Writes docs/benchmarks/microcontroller.md in about 20 minutes.
"""

import argparse
import copy
import platform
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import _tflm
import numpy as np
import torch
from torch import Tensor, nn

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from _microcontroller_peers import (  # noqa: E402
    KIB,
    against_plain,
    changes,
    flash_bytes,
    inference,
    size,
    sparse_update,
)

from edgewise.capture import SGD, AdamW, Captured, capture  # noqa: E402
from edgewise.devices import load_device  # noqa: E402
from edgewise.emit import RESERVED_BYTES, Made, emit, find_board  # noqa: E402
from edgewise.emit.emulate.qemu import INSTRUCTIONS_PER_SECOND  # noqa: E402
from edgewise.emit.prepare import prepare  # noqa: E402
from edgewise.methods import capture_with  # noqa: E402
from edgewise.plan import Budget, minimum_ram, plain_plan  # noqa: E402
from edgewise.train import load_recipe  # noqa: E402
from edgewise.train.data import epoch_order, load_data  # noqa: E402
from edgewise.train.method_names import parse_method  # noqa: E402
from edgewise.zoo import resolve_task  # noqa: E402
from tests.emit.cases import CASES, Case, from_zoo  # noqa: E402
from tests.emit.trained import Trained, distance, in_pytorch, run_in_c, same_bits  # noqa: E402
from tests.numerics.eager import train_eagerly  # noqa: E402

PAGE = ROOT / "docs" / "benchmarks" / "microcontroller.md"

TEXT = """# On the microcontroller

A planned training step as C99 (`edgewise emit`), compiled by zig and run on emulated boards (`edgewise
emulate`, unicorn). *RAM* is all that a program gets: arena, stack and variables; beyond it nothing is
mapped. Instructions are counted, not timed: an emulator says nothing of the seconds that a board takes. The
M55 (`an547`) is in QEMU alone, where its memory protection unit holds the program to its RAM, and its clock,
of {tick:.0f} instructions a tick, counts.

## One step

| step | parameters | ops | board | RAM | arena | stack, most | flash | instructions | read | written |
|---|---:|---:|---|---:|---:|---:|---:|---:|---:|---:|
{steps}

*Read*, *written*: what passes between RAM and the store (a file here, an SD card on a board), with the
first load and the last save. Flash has code and constants; all weights live in the store.

## The same numbers

*Host*: the same C on this computer. *From PyTorch*: relative difference, by the norm over all parameters,
buffers and optimizer states, of what the step changed from what it changes in PyTorch without a plan.
*PyTorch from float64*: that of PyTorch's own step from the same step in float64, which is what rounding
alone does. Each is the median of {inputs} inputs, and behind it the largest: an activation within rounding of
a kink (of ReLU6, say) falls on one side here and on the other there, and changes all gradients before it.

| step | loss | PyTorch's | from PyTorch | PyTorch from float64 | C from float64 | board and host |
|---|---:|---:|---:|---:|---:|---|
{numbers}

## What planning saves, and what it takes

*Keep*: the same kernels with a plan that keeps every value until its last reader, weights in RAM: what a
generator without a planner needs. Flash and instructions of both programs, without inference, on an M7 where
its 4 MiB are enough to keep everything.

| step | RAM, planned | keep | ratio | flash, planned | keep | instructions | keep | ratio |
|---|---:|---:|---:|---:|---:|---:|---:|---:|
{peers}

## The sparse update of MCUNetV3

One step of MCUNet-5fps (arXiv 2206.15472): one image of 128x128x3 bytes, 10 classes, SGD, the layers of the
49 kB scheme, frozen weights in flash, on board `an500`. TinyEngine's figures are those of its golden file for
this network and scheme; it states no instructions, and was not run. It computes in int8, with float32
gradients, and has no store. Edgewise's *frozen layers*: float32, or int8 in the 22 convolutions before the
first trained one, and int8 weights in those behind it. Below the RAM of *all kept*, values move to the store
and back; *read* and *written* are as above. TinyEngine trains shares of input channels, Edgewise as many
weights by output channels. Nobody else was found who emits a whole training step of any network.

| engine | frozen layers | RAM | flash | instructions | read | written | from PyTorch | board and host |
|---|---|---:|---:|---:|---:|---:|---:|---|
{sparse}

## Inference alone

The floor: `edgewise emit --inference`, norms folded, float32, on board `an500`. *Overlaid*: weights in
flash, every value in RAM from its maker to its last reader, as generators for inference (onnx2c) do it; `-`
where the weights are more than the flash. *Least*: the smallest RAM that was found, with slices, and what
does not fit in flash or RAM in the store. Both are all RAM of the program, {reserved} of it for stack and
variables. *TFLM*: the smallest arena in which the interpreter of TensorFlow Lite Micro runs the same float32
network on this computer ({tflm}), stack not counted; `-` where the network was not written for it.
*PyTorch*: relative difference of the output from PyTorch's; *host*: whether this computer has the same bits.

| network | TFLM | overlaid | flash | instructions | least | flash | instructions | read | PyTorch | host |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|
{inference}

## Training for epochs

On board `{board}`, within {ram} of RAM; *instructions* a step, inference included. The accuracy is of what
the board infers with the weights that it trained, of all whole batches of test samples.

| model | batch | epochs | steps | instructions | last loss | PyTorch's | accuracy | PyTorch's |
|---|---:|---:|---:|---:|---:|---:|---:|---:|
{training}

## Without plain backpropagation

One step of an MLP of 26,122 weights, batch 4, by the methods of `edgewise compare`, everything in RAM, on
board `an500`. *Least*: the smallest arena that was found, the rest in the store. *From PyTorch*: as above.

| method | arena | least | instructions | from PyTorch | board and host |
|---|---:|---:|---:|---:|---|
{methods}

### A network larger than the RAM

One step of {wide_sizes} numbers, batch {wide_batch}, on board `{board}` within {ram} of RAM, weights in the
store. *Kept*: the arena with everything in RAM.

| method | weights | kept | arena | least | instructions | read | written | from PyTorch | board and host |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---|
{wide}

## Power lost

The first two steps of `{lost_model}` ({lost_ram} of RAM), once for each write to the store, with the power
lost in the middle of that write. After a restart every weight is as before or after a finished step, all
together, or not.

| writes | as before the step | as after it | anything else |
|---:|---:|---:|---:|
{lost}

Measured with `python benchmarks/microcontroller.py` on {machine}, limit {limit:.0f} s a plan.
"""


INPUTS = 5
EPOCHS = {"mlp": 5, "digits-cnn": 1}
METHODS = (
    "backprop",
    "spsa",
    "spsa:in_place=true",
    "forward-gradient",
    "elastic",
    "activity-perturbation",
    "forward-forward",
    "forward-forward:precision=int8",
    "fixed-point",
)


WIDE = (784, 1000, 1000, 10)
WIDE_BATCH = 8
WIDE_METHODS = ("backprop", "forward-forward:precision=int8", "fixed-point")


class Rows(NamedTuple):
    steps: list[str]
    numbers: list[str]
    peers: list[str]
    sparse: list[str]
    inference: list[str]
    training: list[str]
    methods: list[str]
    wide: list[str]
    lost: list[str]


# -- one step ------------------------------------------------------------------------------------------------


def measure(name: str, case: Case, limit: float, rows: Rows) -> None:
    model, loss, batch = case.make()
    captured = capture(model.train(), loss, case.optimizer, batch, name=name)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "planned"
        made = emitted(captured, case, folder, limit)
        here, _ = run_in_c(made, folder, [batch])
        board = find_board(case.board)
        there, seen = run_in_c(made, folder, [batch], board, ram_bytes=case.ram_bytes)
        same = there.losses == here.losses and same_bits(there.state, here.state)
        flash = flash_bytes(folder, case.board)
        rows.steps.append(
            f"| {name} | {parameters(model):,} | {len(made.captured.graph.ops)} | {case.board} | "
            f"{size(case.ram_bytes)} | {size(made.emitted.arena_bytes)} | {seen.stack_bytes:,} B | "
            f"{size(flash)} | {seen.instructions:,} | {size(seen.read_bytes)} | {size(seen.written_bytes)} |"
        )
        others = others_like(batch)
        ours = [there, *(run_in_c(made, folder, [other])[0] for other in others)]
        rows.numbers.append(compared(name, captured, case, [batch, *others], loss, ours, same=same))
        rows.peers.append(against_plain(name, captured, case, batch, Path(place) / "peers", limit))
    for row in (rows.steps[-1], rows.numbers[-1], rows.peers[-1]):
        print(row, flush=True)


def emitted(captured: Captured, case: Case, folder: Path, limit: float) -> Made:
    budget = Budget(case.ram_bytes - RESERVED_BYTES)
    return emit(captured, load_device(case.device), budget, folder, model="benchmark", time_limit=limit)


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def others_like(batch: Any) -> list[Any]:
    """Other inputs: normal numbers, or the same tokens in another order."""
    x, targets = batch
    found = []
    for seed in range(1, INPUTS):
        dice = torch.Generator().manual_seed(seed)
        order = torch.randperm(x.numel(), generator=dice)
        other = (
            torch.randn(x.shape, generator=dice)
            if x.is_floating_point()
            else x.flatten()[order].view(x.shape)
        )
        found.append((other, targets))
    return found


def compared(
    name: str,
    captured: Captured,
    case: Case,
    batches: list[Any],
    loss: Any,
    ours: list[Trained],
    *,
    same: bool,
) -> str:
    start = {k: v.detach().clone() for k, v in captured.model.state_dict().items()}
    apart: list[list[float]] = [[], [], []]
    theirs = [in_pytorch(captured, [batch]) for batch in batches]
    for batch, our, their in zip(batches, ours, theirs, strict=True):
        double = copy.deepcopy(captured.model).double()
        _, exact = train_eagerly(double, loss, case.optimizer, [doubled(batch)])
        mine, wanted, true = (changes(s, start) for s in (our.state, their.state, exact))
        for found, pair in zip(apart, ((mine, wanted), (wanted, true), (mine, true)), strict=True):
            found.append(distance(*pair))
    shown = " | ".join(f"{statistics.median(found):.1e}, {max(found):.1e}" for found in apart)
    return (
        f"| {name} | {ours[0].losses[0]:.6f} | {theirs[0].losses[0]:.6f} | {shown} | "
        f"{'same bits' if same else 'DIFFER'} |"
    )


def doubled(batch: Any) -> Any:
    return tuple(t.double() if t.is_floating_point() else t for t in batch)


# -- epochs --------------------------------------------------------------------------------------------------


def train(name: str, epochs: int, limit: float, rows: Rows) -> None:
    recipe = load_recipe("digits")
    data = load_data(recipe.data)
    size_ = recipe.train.batch
    task = resolve_task(name, batch=size_, example_batch=data.train.batch(range(size_)))
    optimizer = AdamW(lr=2e-3)
    captured = capture(task.model, task.loss, optimizer, task.example_batch, name=name)
    batches = [
        data.train.batch(order[at : at + size_])
        for epoch in range(1, epochs + 1)
        for order in [epoch_order(len(data.train), seed=0, epoch=epoch)]
        for at in range(0, len(order) - size_ + 1, size_)
    ]
    case = Case(from_zoo(name), optimizer, "stm32f4", "stm32f405", 128 * KIB)
    tests = [data.test.batch(np.arange(at, at + size_)) for at in range(0, len(data.test) - size_ + 1, size_)]
    with tempfile.TemporaryDirectory() as place:
        made = emitted(captured, case, Path(place), limit)
        inputs = [[x] for x, _ in tests]
        ours, seen = run_in_c(made, Path(place), batches, find_board(case.board), inputs=inputs)
    theirs = in_pytorch(captured, batches)
    assert made.emitted.inference is not None
    shape = made.emitted.inference.output.shape
    scores = [torch.frombuffer(bytearray(raw), dtype=torch.float32).view(shape) for raw in seen.outputs]
    rows.training.append(
        f"| {name} | {size_} | {epochs} | {len(batches)} | "
        f"{round((seen.instructions or 0) / len(batches)):,} | {ours.losses[-1]:.5f} | "
        f"{theirs.losses[-1]:.5f} | {accuracy(scores, tests):.1%} | "
        f"{accuracy(inferred(captured, theirs, tests), tests):.1%} |"
    )
    print(rows.training[-1], flush=True)


def inferred(captured: Captured, trained: Trained, tests: list[Any]) -> list[Tensor]:
    """What PyTorch makes of the samples with the weights of its own training."""
    model = copy.deepcopy(captured.model)
    model.load_state_dict({name: trained.state[name] for name in model.state_dict()})
    with torch.no_grad():
        return [model.eval()(x) for x, _ in tests]


def accuracy(scores: list[Tensor], tests: list[Any]) -> float:
    right = sum(int((s.argmax(1) == y).sum()) for s, (_, y) in zip(scores, tests, strict=True))
    return right / sum(len(y) for _, y in tests)


# -- methods -------------------------------------------------------------------------------------------------


def by_method(method: str, rows: Rows) -> None:
    task = resolve_task("mlp", batch=4)
    optimizer, board, device = SGD(0.01), find_board("an500"), load_device("stm32f4")
    captured = capture_with(parse_method(method), task.model, task.loss, optimizer, task.example_batch)
    start = {k: v.detach().clone() for k, v in captured.model.state_dict().items()}
    theirs = in_pytorch(captured, [task.example_batch])
    graph = prepare(captured).graph
    arena, least = plain_plan(graph, device).peak_bytes, minimum_ram(graph, device, time_limit=10).ram_bytes
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        made = emit(captured, device, Budget(arena), folder, model="x", infer=False, time_limit=10)
        here, _ = run_in_c(made, folder, [task.example_batch])
        there, seen = run_in_c(made, folder, [task.example_batch], board)
    rows.methods.append(
        f"| `{method}` | {size(arena)} | {size(least)} | {seen.instructions:,} | "
        f"{beside(start, here, there, theirs)} |"
    )
    print(rows.methods[-1], flush=True)


def beside(start: dict[str, Tensor], here: Trained, there: Trained, theirs: Trained) -> str:
    """How far the board is from PyTorch, and whether it has the bits of this computer."""
    same = there.losses == here.losses and same_bits(there.state, here.state)
    mine, wanted = changes(there.state, start), changes(theirs.state, start)
    apart = (
        f"{distance(mine, wanted):.1e}" if wanted else "0" if same_bits(there.state, theirs.state) else "?"
    )
    return f"{apart} | {'same bits' if same else 'DIFFER'}"


def larger_than_ram(method: str, rows: Rows) -> None:
    torch.manual_seed(0)
    inputs, first, second, classes = WIDE
    layers = (nn.Linear(inputs, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU())
    model = nn.Sequential(nn.Flatten(), *layers, nn.Linear(second, classes))
    batch = torch.rand(WIDE_BATCH, 1, 28, 28), torch.arange(WIDE_BATCH) % classes
    captured = capture_with(parse_method(method), model, "cross_entropy", SGD(0.01), batch)
    start = {k: v.detach().clone() for k, v in captured.model.state_dict().items()}
    theirs, device = in_pytorch(captured, [batch]), load_device("stm32f4")
    graph, budget = prepare(captured).graph, Budget(128 * KIB - RESERVED_BYTES)
    kept, least = plain_plan(graph, device).peak_bytes, minimum_ram(graph, device, time_limit=10).ram_bytes
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        made = emit(captured, device, budget, folder, model="x", infer=False, time_limit=10)
        here, _ = run_in_c(made, folder, [batch])
        there, seen = run_in_c(made, folder, [batch], find_board("stm32f405"), ram_bytes=128 * KIB)
    rows.wide.append(
        f"| `{method}` | {parameters(model):,} | {size(kept)} | {size(made.emitted.arena_bytes)} | "
        f"{size(least)} | {seen.instructions:,} | {size(seen.read_bytes)} | {size(seen.written_bytes)} | "
        f"{beside(start, here, there, theirs)} |"
    )
    print(rows.wide[-1], flush=True)


# -- power ---------------------------------------------------------------------------------------------------


def lose_power(rows: Rows) -> int:
    """The budget within which two steps of the MLP lost their power at every write."""
    case = Case(from_zoo("mlp", 2), SGD(0.1), "stm32f4", "stm32f405", 20 * KIB)
    model, loss, batch = case.make()
    captured = capture(model, loss, case.optimizer, batch, name="mlp")
    board = find_board(case.board)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        made = emitted(captured, case, folder, 10)
        finished = [
            run_in_c(made, folder, [batch] * n, board, ram_bytes=case.ram_bytes)[0].state for n in (1, 2)
        ]
        start = dict(finished[0])
        start.update({name: dict(captured.model.state_dict()).get(name, start[name]) for name in start})
        states = [start, *finished]
        counts = dict.fromkeys(("old", "new", "else"), 0)
        write = 0
        while True:
            left, seen = run_in_c(
                made, folder, [batch] * 2, board, ram_bytes=case.ram_bytes, power_off_at=write
            )
            if not seen.power_lost:
                break
            counts[found_in(left, states)] += 1
            write += 1
    rows.lost.append(f"| {write} | {counts['old']} | {counts['new']} | {counts['else']} |")
    print(rows.lost[-1], flush=True)
    return case.ram_bytes


def found_in(left: Trained, states: list[dict[str, Tensor]]) -> str:
    """Whether what is left are the weights before the first step, after one of the steps, or neither."""
    for index, state in enumerate(states):
        if same_bits(left.state, state):
            return "new" if index else "old"
    return "else"


def main() -> None:
    parser = argparse.ArgumentParser(description="Training steps as emitted C on emulated boards.")
    parser.add_argument("--cases", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--time-limit", type=float, default=30.0)
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    torch.set_num_threads(1)
    sparse, inferred_alone = sparse_update(options.time_limit), inference(options.time_limit)
    rows = Rows([], [], [], sparse, inferred_alone, [], [], [], [])
    lost_ram = lose_power(rows)
    for name, epochs in EPOCHS.items():
        train(name, epochs, options.time_limit, rows)
    for method in METHODS:
        by_method(method, rows)
    for method in WIDE_METHODS:
        larger_than_ram(method, rows)
    for name in options.cases:
        measure(name, CASES[name], options.time_limit, rows)
    text = TEXT.format(
        **{field: "\n".join(getattr(rows, field)) for field in Rows._fields},
        board="stm32f405",
        inputs=INPUTS,
        ram=size(128 * KIB),
        tflm=_tflm.VERSION,
        reserved=size(RESERVED_BYTES),
        wide_sizes=", ".join(f"{count:,}" for count in WIDE[:-1]) + f" and {WIDE[-1]}",
        wide_batch=WIDE_BATCH,
        lost_model="mlp",
        lost_ram=size(lost_ram),
        limit=options.time_limit,
        tick=INSTRUCTIONS_PER_SECOND / find_board("an547").clock_hz,
        machine=f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}",
    )
    options.page.parent.mkdir(parents=True, exist_ok=True)
    options.page.write_text(text)


if __name__ == "__main__":
    main()
