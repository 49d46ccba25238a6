"""Frozen int8 layers as C: whole, in bands and by channels, in every plan the bits of PyTorch."""

import random
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgewise.capture import SGD, Captured
from edgewise.capture.integers import round_nearest
from edgewise.emit import BOARDS
from edgewise.methods import SparseUpdate, capture_with
from tests.emit.trained import budgets, in_pytorch, made_in_c, run_in_c, same_bits
from tests.methods.steps import network
from tests.methods.test_frozen_int8 import Residual

WIDE = 24


def frozen(*trained: str) -> tuple[Captured, list[tuple[Tensor, Tensor]]]:
    """Ops of more than 16 KiB, so that there are slices of them: rows, channels, and groups."""
    model = network(
        nn.Conv2d(3, WIDE, 3, stride=2, padding=1), nn.BatchNorm2d(WIDE), nn.ReLU6(),
        nn.Conv2d(WIDE, WIDE, 5, padding="same", groups=WIDE), nn.MaxPool2d(3, 1, 1),
        Residual(WIDE, nn.ReLU()), nn.Conv2d(WIDE, 40, 1), nn.AvgPool2d(4), nn.Flatten(),
        nn.Linear(1440, 32), nn.ReLU(), nn.Linear(32, 5),
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    batches = [
        (torch.randn(2, 3, 48, 48, generator=generator), torch.tensor([number, 4])) for number in range(3)
    ]
    model[1].eval()
    model[5].norm.eval()
    settings = SparseUpdate(dict.fromkeys(trained, 1.0), trained, "int8")
    captured = capture_with(
        settings, model, "cross_entropy", SGD(0.1), batches[0], watched=[x for x, _ in batches]
    )
    return captured, batches


@pytest.fixture(scope="module")
def case() -> tuple[Captured, list[tuple[Tensor, Tensor]], dict[str, Tensor]]:
    captured, batches = frozen("11")
    return captured, batches, in_pytorch(captured, batches).state


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_any_plan_makes_pytorchs_int8(share: float, case, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    captured, batches, expected = case
    least, most = budgets(captured)
    ram = int(least * 1.1 + share * (most - least) * random.Random(share).uniform(0.9, 1))
    made = made_in_c(captured, tmp_path, ram)
    found, _ = run_in_c(made, tmp_path, batches)
    trained = {n: t for n, t in expected.items() if n.startswith("11.")}
    others = {n: t for n, t in expected.items() if n not in trained}

    assert same_bits(found.state, others)
    for name, tensor in trained.items():  # a softmax and two sums away from int8
        torch.testing.assert_close(found.state[name], tensor, rtol=1e-5, atol=1e-7)
    assert share > 0 or made.certificate.streamed


@pytest.mark.parametrize("share", [0.05, 0.4, 1.0])
def test_gradients_through_int8_weights_are_pytorchs(share: float, tmp_path: Path) -> None:
    """The first layer is trained: all others are between it and the loss."""
    captured, batches = frozen("0", "11")
    expected = in_pytorch(captured, batches[:1]).state
    least, most = budgets(captured)
    made = made_in_c(captured, tmp_path, int(least * 1.1 + share * (most - least)))
    found, _ = run_in_c(made, tmp_path, batches[:1])

    assert any("by_i8" in name for name in made.emitted.sources)
    for name, tensor in expected.items():
        torch.testing.assert_close(found.state[name], tensor, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("board", ["stm32f405", "lm3s6965", "an500"])
def test_boards_make_the_bits_of_the_host(board: str, case, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Of images that are int8 already, at the scale of the first layer: floats would take all the RAM."""
    trained, batches, expected = case
    first, target = trained.model[0], batches[0][1]
    images = [(round_nearest(x, first.input_scale), y) for x, y in batches]
    settings = SparseUpdate({"11": 1.0}, ("11",))
    captured = capture_with(settings, trained.model, "cross_entropy", SGD(0.1), (images[0][0], target))
    made = made_in_c(captured, tmp_path, 40 * 1024)
    here, _ = run_in_c(made, tmp_path, images)
    there, _ = run_in_c(made, tmp_path, images, BOARDS[board], ram_bytes=48 * 1024)

    assert there.losses == here.losses
    assert same_bits(there.state, here.state)
    torch.testing.assert_close(here.state["11.weight"], expected["11.weight"], rtol=1e-5, atol=1e-7)
