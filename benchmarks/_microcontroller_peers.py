"""What others need for the same networks, in the page of `microcontroller.py`: three tables of peers."""

import tempfile
from pathlib import Path
from typing import Any, Literal, NamedTuple

import _tflm
import torch
from torch import Tensor, nn

from edgewise.capture import SGD, Captured, capture
from edgewise.capture.forward import capture_forward
from edgewise.devices import Device, load_device
from edgewise.emit import HOST, RESERVED_BYTES, Made, build, emit, find_board, run
from edgewise.emit.build import memory_sizes
from edgewise.emit.flash import flash_of, without
from edgewise.emit.prepare import prepare
from edgewise.errors import BudgetInfeasible
from edgewise.graph import Graph
from edgewise.plan import Budget, minimum_ram, plain_plan
from edgewise.zoo.losses import logits_of
from tests.emit.cases import CASES, Case, folded, mcunet, sparse_mcunet
from tests.emit.trained import distance, in_pytorch, run_in_c, same_bits

KIB = 1024
BOARD, DEVICE = find_board("an500"), "stm32f7"
FLASH_BYTES = 3584 * KIB  # of the board's 4 MiB, for weights
TINYENGINE_RAM, TINYENGINE_FLASH = 189_800, 478_144  # golden file of tests/examples/tiny_training.sh
MIRRORED = ("MLP, batch 4", "digits CNN, batch 4", "MobileNetV2-0.35 at 64", "MCUNet-5fps at 128")
"""Networks for `_tflm`. A 1x1 convolution of stride 2, as in ResNets, is another one when mirrored."""
TRIES = 20
FROZEN: tuple[Literal["float32", "int8"], ...] = ("float32", "int8")
"""What frozen layers are stored in, and those that no gradient passes compute in."""


def size(count: int) -> str:
    """Bytes for people, exact below a mebibyte."""
    return f"{count:,} B" if count < KIB * KIB else f"{count / KIB / KIB:.1f} MiB"


def flash_bytes(folder: Path, board: str) -> int:
    """Of the program that was built last for `board`."""
    return memory_sizes(folder / "build" / board / "model.elf", find_board(board))[0]


def changes(state: dict[str, Tensor], start: dict[str, Tensor]) -> dict[str, Tensor]:
    """What a step changed; states of the optimizer begin at zero."""
    floating = {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}
    return {
        name: tensor.double() - start[name].double() if name in start else tensor.double()
        for name, tensor in floating.items()
        if name in start or name.rpartition(".")[2] in ("momentum", "exp_avg", "exp_avg_sq")
    }


def in_flash(captured: Captured) -> Graph:
    """The graph that is planned if all that does not change is in flash, as far as it fits."""
    return without(prepare(captured), flash_of(captured, FLASH_BYTES).offsets).graph


def smallest(
    captured: Captured, graph: Graph, device: Device, folder: Path, limit: float, **options: Any
) -> Made:
    """Emitted for the least RAM for which a plan of `graph` and its addresses are found."""
    least = minimum_ram(graph, device, time_limit=limit).ram_bytes
    for _ in range(TRIES):
        try:
            return emit(captured, device, Budget(least), folder, time_limit=limit, **options)
        except BudgetInfeasible as error:  # holes between values
            least = max(least + 256, error.min_ram_bytes or 0)
    raise BudgetInfeasible(f"no addresses within {least:,} B", min_ram_bytes=None, op=None)


# -- a plan that keeps everything ----------------------------------------------------------------------------


def against_plain(name: str, captured: Captured, case: Case, batch: Any, folder: Path, limit: float) -> str:
    """The planned step, and one with a plan that keeps everything, both on an M7 if its 4 MiB are enough."""
    graph, device = prepare(captured).graph, load_device(case.device)
    keep_bytes = plain_plan(graph, device).peak_bytes + RESERVED_BYTES
    seen, flash = [], []
    for ram_bytes in (case.ram_bytes, keep_bytes) if keep_bytes <= BOARD.ram_bytes else ():
        place, budget = folder / str(ram_bytes), Budget(ram_bytes - RESERVED_BYTES)
        made = emit(captured, device, budget, place, model="benchmark", infer=False, time_limit=limit)
        seen.append(run_in_c(made, place, [batch], BOARD)[1].instructions or 0)
        flash.append(flash_bytes(place, BOARD.name))
    return (
        f"| {name} | {size(case.ram_bytes)} | {size(keep_bytes)} | {case.ram_bytes / keep_bytes:.2g} | "
        + (f"{size(flash[0])} | {size(flash[1])} | " if flash else "- | - | ")
        + (f"{seen[0]:,} | {seen[1]:,} | {seen[0] / seen[1]:.2f} |" if seen else "- | - | - |")
    )


# -- sparse update of MCUNet ---------------------------------------------------------------------------------


def sparse_update(limit: float) -> list[str]:
    """MCUNetV3's sparse update of its network within several budgets, beside what its engine states."""
    stated = f"{size(TINYENGINE_RAM)} | {size(TINYENGINE_FLASH)}"
    rows = [f"| TinyEngine, as stated | int8 | {stated} | - | - | - | - | - |"]
    for frozen in FROZEN:
        captured, batch = sparse_mcunet(frozen=frozen)
        keep = plain_plan(in_flash(captured), load_device(DEVICE)).peak_bytes + RESERVED_BYTES
        for label, ram_bytes in (
            ("all kept", keep),
            ("planned", 256 * KIB),
            ("planned", TINYENGINE_RAM),
            ("least", None),
        ):
            rows.append(one_sparse(f"Edgewise, {label}", frozen, captured, batch, ram_bytes, limit))
            print(rows[-1], flush=True)
    return rows


def one_sparse(
    label: str, numbers: str, captured: Captured, batch: Any, ram_bytes: int | None, limit: float
) -> str:
    start = {k: v.detach().clone() for k, v in captured.model.state_dict().items()}
    options: dict[str, Any] = {"model": "benchmark", "infer": False, "flash_bytes": FLASH_BYTES}
    device = load_device(DEVICE)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if ram_bytes is None:
            made = smallest(captured, in_flash(captured), device, folder, limit, **options)
        else:
            budget = Budget(ram_bytes - RESERVED_BYTES)
            made = emit(captured, device, budget, folder, time_limit=limit, **options)
        ram_bytes = made.emitted.ram_bytes + RESERVED_BYTES
        here, _ = run_in_c(made, folder, [batch])
        there, seen = run_in_c(made, folder, [batch], BOARD, ram_bytes=ram_bytes)
        flash = flash_bytes(folder, BOARD.name)
    same = there.losses == here.losses and same_bits(there.state, here.state)
    wanted = changes(in_pytorch(captured, [batch]).state, start)
    mine = changes(there.state, start)
    apart = distance(mine, {name: wanted[name] for name in mine})
    return (
        f"| {label} | {numbers} | {size(ram_bytes)} | {size(flash)} | {seen.instructions:,} | "
        f"{size(seen.read_bytes)} | {size(seen.written_bytes)} | {apart:.1e} | "
        f"{'same bits' if same else 'DIFFER'} |"
    )


# -- inference alone -----------------------------------------------------------------------------------------


class Inferred(NamedTuple):
    ram_bytes: int
    flash_bytes: int
    instructions: int
    read_bytes: int
    apart: float
    same: bool


def inference(limit: float) -> list[str]:
    """Each network of the cases once, and MCUNet: overlaid as it is, and within the least RAM."""
    networks = {name.rpartition(",")[0]: case.make for name, case in CASES.items()}
    rows = []
    for name, make in {**networks, "MCUNet-5fps at 128": mcunet}.items():
        model, loss, batch = make()
        captured = capture(folded(model, batch[0]), loss, SGD(0.0), batch, name="network")
        rows.append(inferred_row(name, captured, batch, limit))
        print(rows[-1], flush=True)
    return rows


def inferred_row(name: str, captured: Captured, batch: Any, limit: float) -> str:
    model, device = captured.model.eval(), load_device(DEVICE)
    graph = in_flash(capture_forward(model, batch, name="network"))
    weights = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    options: dict[str, Any] = {"model": "benchmark", "train": False, "flash_bytes": FLASH_BYTES}
    with tempfile.TemporaryDirectory() as place:
        least_folder, folder = Path(place) / "least", Path(place) / "overlaid"
        made = smallest(captured, graph, device, least_folder, limit, **options)
        least = infer(made, least_folder, model, batch)
        overlaid = None
        if weights <= FLASH_BYTES:
            budget = Budget(plain_plan(graph, device).peak_bytes)
            made = emit(captured, device, budget, folder, time_limit=limit, **options)
            overlaid = infer(made, folder, model, batch)
    all_found = [found for found in (overlaid, least) if found]
    kept = (
        f"{size(overlaid.ram_bytes)} | {size(overlaid.flash_bytes)} | {overlaid.instructions:,}"
        if overlaid
        else "- | - | -"
    )
    return (
        f"| {name} | {in_tflm(name, model, batch)} | {kept} | {size(least.ram_bytes)} | "
        f"{size(least.flash_bytes)} | {least.instructions:,} | {size(least.read_bytes)} | "
        f"{max(found.apart for found in all_found):.1e} | "
        f"{'same bits' if all(found.same for found in all_found) else 'DIFFER'} |"
    )


def infer(made: Made, folder: Path, model: nn.Module, batch: Any) -> Inferred:
    """One inference here and on the board."""
    ram_bytes = made.emitted.ram_bytes + RESERVED_BYTES
    outputs = []
    for board in (HOST, BOARD):
        built = build(folder, board, ram_bytes=ram_bytes)
        seen = run(built, [], store=folder / "weights.bin", inputs=[[batch[0]]])
        outputs.append(torch.frombuffer(bytearray(seen.outputs[0]), dtype=torch.float32))
    with torch.no_grad():
        wanted = logits_of(model(batch[0])).flatten()
    apart = distance({"output": outputs[1]}, {"output": wanted})
    flash = flash_bytes(folder, BOARD.name)
    same = outputs[0].equal(outputs[1])
    return Inferred(ram_bytes, flash, seen.instructions or 0, seen.read_bytes, apart, same)


def in_tflm(name: str, model: nn.Module, batch: Any) -> str:
    """The arena of TensorFlow Lite Micro, where it is installed and the network can be written for it."""
    if not _tflm.HERE or name not in MIRRORED:
        return "-"
    network: Any = getattr(model, "network", model)
    x = batch[0] if batch[0].is_floating_point() else (batch[0].float() - 128) / 64
    arena, apart = _tflm.arena(network, x)
    if apart > 1e-3:
        raise ValueError(f"{name}: TFLM infers something else, {apart:.1e} apart")
    return size(arena)
