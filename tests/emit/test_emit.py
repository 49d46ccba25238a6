"""The emitted step against PyTorch, against itself under other plans, and on every board."""

import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import torch
from torch import Tensor, nn

from edgewise.capture import SGD, AdamW, capture
from edgewise.devices import Device
from edgewise.emit import BOARDS, HOST, Board, Made, build, run
from edgewise.emit.prepare import prepare
from edgewise.emit.statements import ALIGNMENT
from edgewise.errors import BudgetInfeasible, ModelUnsupported
from edgewise.graph import Graph
from edgewise.plan import Certificate, Plan, check
from tests.emit.trained import (
    budgets,
    captured_zoo,
    distance,
    in_pytorch,
    made_in_c,
    run_in_c,
    same_bits,
    state_of,
    tensors_of,
)

EMULATED = [b for b in BOARDS.values() if b.unicorn or (b.qemu and shutil.which("qemu-system-arm"))]
SECTOR = 512
"""The record of a commit."""

FAMILIES = {  # batch size, optimizer
    "mlp": (4, AdamW(lr=1e-3)),
    "digits-cnn": (4, SGD(lr=0.05, momentum=0.9, weight_decay=1e-3)),
    "resnet8": (2, SGD(lr=0.01)),
    "mobilenetv2": (5, SGD(lr=0.001)),
    "transformer": (2, SGD(lr=0.05)),
    "tied-lm": (2, SGD(lr=0.05)),
    "text-classifier": (4, AdamW(lr=1e-3)),
    "unet": (1, SGD(lr=0.05)),
    "local-mixer": (2, SGD(lr=0.05, momentum=0.9)),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n == "mobilenetv2" else n for n in FAMILIES]
)
def test_without_a_limit_the_step_is_pytorchs(name: str, tmp_path: Path) -> None:
    batch, optimizer = FAMILIES[name]
    captured, batches = captured_zoo(name, batch, optimizer)
    if (
        name == "mobilenetv2"
    ):  # an activation within rounding of a kink of its 35 ReLU6 may fall on either side
        batches = batches[:1]
    expected = in_pytorch(captured, batches)
    made = made_in_c(captured, tmp_path, 1 << 30)
    found, _ = run_in_c(made, tmp_path, batches)
    assert found.losses == pytest.approx(expected.losses, rel=1e-5)
    assert distance(found.state, expected.state) < 1e-5


@pytest.mark.parametrize("name", ["digits-cnn", "transformer", "text-classifier", "local-mixer"])
def test_any_plan_gives_the_same_bits_or_says_otherwise(name: str, tmp_path: Path) -> None:
    batch, optimizer = FAMILIES[name]
    captured, batches = captured_zoo(name, batch, optimizer)
    unplanned = made_in_c(captured, tmp_path / "plain", 1 << 30)
    plain, _ = run_in_c(unplanned, tmp_path / "plain", batches)
    once, _ = run_in_c(unplanned, tmp_path / "plain", batches[:1])
    least, most = budgets(captured)
    dice = random.Random(name)
    for number, share in enumerate((0.0, dice.uniform(0, 0.2), dice.uniform(0.2, 0.8))):
        folder = tmp_path / str(number)
        try:
            made = made_in_c(captured, folder, int(least + share * (most - least)))
        except BudgetInfeasible:  # at the very least, holes between values may leave no room
            assert share == 0, share
            continue
        if made.certificate.exact:
            found, _ = run_in_c(made, folder, batches)
            assert found.losses == plain.losses
            assert same_bits(found.state, plain.state)
        else:  # sums were taken in parts: 1e-6 in an op, which grows a little on its way through the step
            found, _ = run_in_c(made, folder, batches[:1])
            assert distance(found.state, once.state) < 3e-6


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Made, Path, list]:
    """A convolutional network within 20 KiB, with pages and loops."""
    captured, batches = captured_zoo("digits-cnn", 4, AdamW(lr=1e-3))
    folder = tmp_path_factory.mktemp("small")
    made = made_in_c(captured, folder, 20 * 1024)
    assert made.certificate.paged_in
    assert made.certificate.streamed
    return made, folder, batches


@pytest.mark.parametrize("board", EMULATED, ids=lambda board: board.name)
def test_boards_make_the_bits_of_the_host(board: Board, small: tuple[Made, Path, list]) -> None:
    made, folder, batches = small
    here, _ = run_in_c(made, folder, batches)
    there, emulated = run_in_c(made, folder, batches, board, ram_bytes=min(board.ram_bytes, 64 * 1024))
    assert there.losses == here.losses
    assert same_bits(there.state, here.state)
    assert emulated.instructions


def test_what_passes_through_the_medium_is_what_the_plan_says(small: tuple[Made, Path, list]) -> None:
    made, folder, batches = small
    _, once = run_in_c(made, folder, batches[:1])
    _, twice = run_in_c(made, folder, batches[:2])
    read, written = twice.read_bytes - once.read_bytes, twice.written_bytes - once.written_bytes
    planned = made.certificate
    padding = ALIGNMENT * (
        len(planned.paged_in) + len(planned.paged_out)
    )  # no medium sees it, but plans count it
    assert planned.bytes_read - padding <= read <= planned.bytes_read
    assert planned.bytes_written - padding <= written - SECTOR <= planned.bytes_written


def test_the_arena_is_within_the_budget(small: tuple[Made, Path, list]) -> None:
    made, folder, _ = small
    assert made.emitted.arena_bytes <= 20 * 1024
    assert f"MODEL_ARENA_BYTES = {made.emitted.arena_bytes}" in (folder / "model.h").read_text()
    assert f"{made.emitted.arena_bytes:,} bytes of RAM" in (folder / "README.md").read_text()


def test_training_goes_on_from_what_a_run_left(small: tuple[Made, Path, list], tmp_path: Path) -> None:
    made, folder, batches = small
    whole, _ = run_in_c(made, folder, batches)
    built = build(folder, HOST, ram_bytes=0)
    first = run(built, tensors_of(made, batches[:1]), store=folder / "weights.bin")
    (tmp_path / "store.bin").write_bytes(first.store)
    rest = run(built, tensors_of(made, batches[1:]), store=tmp_path / "store.bin", first_step=1)
    assert first.losses + rest.losses == whole.losses
    assert same_bits(state_of(made, rest.store), whole.state)


class _Odd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.special.i0(self.first(x)).cumprod(1))


def test_ops_without_c_are_refused_all_at_once() -> None:
    captured = capture(_Odd(), "cross_entropy", SGD(lr=0.1), (torch.randn(3, 4), torch.tensor([0, 1, 1])))
    with pytest.raises(ModelUnsupported) as caught:
        prepare(captured)
    text = str(caught.value)
    assert "cannot be emitted as C because of" in text
    assert "cumprod: no kernel in C" in text
    assert "special_i0: no kernel in C" in text or "i0" in text
    assert len(caught.value.parts) >= 2


class _Squeezed(nn.Module):
    """Gates on channels, a transposed convolution, and norms that the zoo does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.InstanceNorm2d(4, affine=True)
        self.gate, self.up = nn.Conv2d(4, 4, 1), nn.ConvTranspose2d(4, 2, 2, stride=2)
        self.last = nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.silu(self.norm(self.first(x)))
        x = x * torch.sigmoid(self.gate(nn.functional.adaptive_avg_pool2d(x, 1)))
        x = nn.functional.elu(self.up(nn.functional.avg_pool2d(x, 2)))
        return self.last(nn.functional.pad(x, (1, 1)).mean((2, 3)))


class _Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.last = nn.LSTM(5, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.layer(x)[0][:, -1])


class _Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.2)
        self.last = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.layer(self.embed(x)).mean(1))


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        (_Squeezed, lambda: torch.randn(2, 1, 8, 8)),
        (_Recurrent, lambda: torch.randn(2, 4, 5)),
        (_Attending, lambda: torch.randint(0, 20, (2, 6))),
    ],
)
def test_models_from_elsewhere(model: type[nn.Module], inputs: Callable[[], Tensor], tmp_path: Path) -> None:
    torch.manual_seed(0)
    batch = (inputs(), torch.tensor([0, 2]))
    captured = capture(model(), "cross_entropy", SGD(lr=0.05, momentum=0.9), batch)
    expected = in_pytorch(captured, [batch] * 2)
    least, most = budgets(captured)
    made = made_in_c(captured, tmp_path, least + (most - least) // 4)
    found, _ = run_in_c(made, tmp_path, [batch] * 2)
    assert found.losses == pytest.approx(expected.losses, rel=1e-5)
    assert distance(found.state, expected.state) < 1e-5


def test_the_states_of_a_weight_are_stored_behind_it(small: tuple[Made, Path, list]) -> None:
    names = [value.name for value in small[0].emitted.values if value.kind != "scratch"]
    first = names.index("head.weight")
    assert names[first : first + 3] == ["head.weight", "head.weight.exp_avg", "head.weight.exp_avg_sq"]


def test_a_plan_made_anew_for_its_addresses_keeps_the_ram_that_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program links within that RAM, not within what the second plan was made for."""
    asked: list[int] = []

    def too_large_at_first(plan: Plan, graph: Graph, device: Device) -> Certificate:
        certificate = check(plan, graph, device)
        asked.append(plan.budget.ram_bytes)
        if len(asked) > 1:
            return certificate
        return msgspec.structs.replace(certificate, arena_bytes=plan.budget.ram_bytes + 4096)

    monkeypatch.setattr(sys.modules["edgewise.emit.emit"], "check", too_large_at_first)
    captured, _ = captured_zoo("mlp", 4, SGD(lr=0.1))
    _, most = budgets(captured)
    made = made_in_c(captured, tmp_path, most)

    assert made.emitted.ram_bytes == made.plan.budget.ram_bytes == most
    assert made.plan.peak_bytes <= most - 4096


def test_addresses_that_do_not_fit_where_no_smaller_plan_does_say_what_they_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_holes(plan: Plan, graph: Graph, device: Device) -> Certificate:
        certificate = check(plan, graph, device)
        return msgspec.structs.replace(certificate, arena_bytes=plan.budget.ram_bytes + 16)

    monkeypatch.setattr(sys.modules["edgewise.emit.emit"], "check", with_holes)
    captured, _ = captured_zoo("mlp", 4, SGD(lr=0.1))
    least, _ = budgets(captured)
    with pytest.raises(BudgetInfeasible, match=f"fit {least:,} B; the best takes {least + 16:,} B") as caught:
        made_in_c(captured, tmp_path, least)
    assert caught.value.min_ram_bytes == least + 16
