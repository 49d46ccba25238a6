"""The emitted model infers what PyTorch infers, from the weights that training left."""

from pathlib import Path

import pytest
import torch
from torch.func import functional_call

from edgewise.capture import SGD, AdamW
from edgewise.capture.calling import call_arguments
from edgewise.emit import HOST, build, run
from edgewise.zoo.losses import logits_of
from tests.emit.trained import (
    captured_zoo,
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
