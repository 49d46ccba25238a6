"""The emitted model infers what PyTorch infers, from the weights that training left."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from edgewise.capture import SGD, AdamW, capture
from edgewise.capture.calling import call_arguments
from edgewise.emit import HOST, build, emit, run
from edgewise.errors import UsageError
from edgewise.plan import Budget
from edgewise.zoo.losses import logits_of
from tests.emit.trained import (
    DEVICE,
    captured_zoo,
    distance,
    in_pytorch,
    inferred_in_c,
    made_in_c,
    run_in_c,
    same_bits,
    state_of,
    tensors_of,
)


@pytest.mark.parametrize(
    ("name", "ram_bytes"),
    [("mlp", 1 << 30), ("digits-cnn", 24 * 1024), ("transformer", 60 * 1024), ("text-classifier", 1 << 30)],
)
def test_outputs_are_pytorchs(name: str, ram_bytes: int, tmp_path: Path) -> None:
    captured, batches = captured_zoo(name, 2, SGD(lr=0.05, momentum=0.9))
    made = made_in_c(captured, tmp_path, ram_bytes)
    assert made.emitted.arena_bytes <= ram_bytes
    outputs = inferred_in_c(made, tmp_path, batches, batches)
    trained, _ = run_in_c(made, tmp_path, batches)
    model = captured.model.eval()
    weights = {name: trained.state[name] for name in model.state_dict()}
    for (inputs, _), output in zip(batches, outputs, strict=True):
        args, kwargs = call_arguments(inputs)
        with torch.no_grad():
            expected = logits_of(functional_call(model, weights, args, kwargs))
        torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)


def test_training_goes_on_where_it_was(tmp_path: Path) -> None:
    captured, batches = captured_zoo("digits-cnn", 2, AdamW(lr=1e-3))
    made = made_in_c(captured, tmp_path, 24 * 1024)
    plain, _ = run_in_c(made, tmp_path, batches)
    assert made.emitted.inference is not None
    built = build(tmp_path, HOST, ram_bytes=0)
    images = [[batches[0][0]]]
    first = run(built, tensors_of(made, batches[:1]), store=tmp_path / "weights.bin", inputs=images)
    (tmp_path / "store.bin").write_bytes(first.store)
    rest = run(
        built, tensors_of(made, batches[1:]), store=tmp_path / "store.bin", first_step=1, inputs=images
    )
    assert first.losses + rest.losses == plain.losses
    assert same_bits(state_of(made, rest.store), plain.state)


class Contrast(nn.Module):
    """Pairs of samples whose codes are to be alike; targets count for nothing."""

    def __init__(self, *, apart: bool) -> None:
        super().__init__()
        self.code, self.apart = nn.Linear(3, 2), apart

    def forward(self, x: Tensor) -> Any:
        codes = self.code(x)
        return codes.unbind(1) if self.apart else codes

    def loss(self, codes: Any, targets: Tensor) -> Tensor:
        return F.mse_loss(*codes) if self.apart else F.mse_loss(*codes.unbind(1))


@pytest.mark.parametrize("apart", [True, False])
def test_targets_that_are_not_read_and_outputs_that_are_several(apart: bool, tmp_path: Path) -> None:
    model = Contrast(apart=apart)
    batch = torch.randn(4, 2, 3), torch.zeros(4)
    captured = capture(model, model.loss, SGD(0.1), batch)
    made = made_in_c(captured, tmp_path, 1 << 20)
    assert (made.emitted.inference is None) == apart
    expected = in_pytorch(captured, [batch])
    found, _ = run_in_c(made, tmp_path, [batch])
    assert distance(found.state, expected.state) < 1e-6
    if apart:
        with pytest.raises(UsageError, match="has one output, but the model returns a tuple"):
            emit(captured, DEVICE, Budget(1 << 20), tmp_path / "x", model="x", train=False)
