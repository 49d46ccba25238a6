"""Steps of every method as C: those of PyTorch, on this computer and on an emulated board."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from edgewise.capture import SGD, AdamW, Captured, Optimizer, capture
from edgewise.emit import Made, emit, find_board
from edgewise.emit.prepare import prepare
from edgewise.errors import ModelUnsupported
from edgewise.methods import capture_with, fold_norms, quantize
from edgewise.methods.fixed_point import in_c
from edgewise.plan import Budget
from edgewise.train.method_names import parse_method
from edgewise.zoo import resolve_task
from tests.emit.trained import DEVICE, distance, in_pytorch, inferred_in_c, made_in_c, run_in_c, same_bits

PLAIN = SGD(lr=0.01)
BLOCKS = 'blocks=[{names=["layers.5.weight"],directions=4},{names=["layers.1.*"],rate=2.0}]'
STEPS: dict[tuple[str, str], Optimizer] = {
    ("mlp", "spsa:epsilon=0.05:directions=2:law=normal"): AdamW(lr=1e-3),
    ("mlp", "spsa:epsilon=0.05:in_place=true"): SGD(lr=0.01, momentum=0.9),
    ("mlp", "spsa:epsilon=0.05:directions=2:in_place=true:law=normal"): PLAIN,
    ("mlp", "sign-spsa"): PLAIN,
    ("mlp", "spsa:epsilon=0.05:top={share=0.1,every=2}"): PLAIN,
    ("mlp", "spsa:epsilon=0.05:svrg={every=3,batches=1}"): PLAIN,
    ("mlp", "forward-gradient:directions=2:top={share=0.2,every=3}"): PLAIN,
    ("mlp", "forward-gradient:svrg={every=2,batches=1}"): PLAIN,
    ("mlp", "elastic:epsilon=0.05"): PLAIN,
    ("mlp", "extrapolated:rate=0.1"): PLAIN,
    ("mlp", 'sparse-update:weights={"layers.3"=0.5}:biases=[""]'): AdamW(lr=1e-3),
    ("mlp", "activity-perturbation"): PLAIN,
    ("mlp", 'local-losses:blocks=["layers.1","layers.3"]'): PLAIN,
    ("mlp", "forward-forward:candidates=3:inference=readout"): PLAIN,
    ("mlp", "forward-forward:look_ahead=1:peer=0.1:steps_per_epoch=2"): PLAIN,
    ("mlp", "forward-forward:precision=int8:candidates=3"): SGD(lr=0.01, momentum=0.9),
    ("mlp", "forward-forward:precision=int8:rounding=nearest:pairs=true:peer=0.1:inference=readout"): AdamW(),
    ("mlp", "forward-forward:precision=int8:look_ahead=1"): PLAIN,
    ("mlp", "fixed-point:directions=2"): PLAIN,
    ("mlp", "fixed-point:keep=0.5:mask=random:law=rademacher:decay_steps=10"): PLAIN,
    ("mlp", "fixed-point:weight_bits=8:accumulator_bits=24:epsilon=0.02"): PLAIN,
    ("mlp", f"fixed-point:keep=0.5:beta=0.5:guided_after=1:{BLOCKS}"): PLAIN,
    ("resnet8", "fixed-point:sharpness=0.002:normalize=true"): PLAIN,
    ("digits-cnn", "spsa:epsilon=0.05"): PLAIN,
    ("digits-cnn", "forward-gradient"): PLAIN,
    ("digits-cnn", "forward-forward:label=wave"): PLAIN,
    ("digits-cnn", "forward-forward:precision=int8"): PLAIN,
}


def captured_by(name: str, method: str, optimizer: Optimizer) -> tuple[Captured, list[Any]]:
    """A step of a zoo model by `method`, and batches for some steps."""
    task = resolve_task(name, batch=4)
    captured = capture_with(parse_method(method), task.model, task.loss, optimizer, task.example_batch)
    inputs, targets = task.example_batch
    return captured, [(inputs, targets), (inputs.flip(0), targets), (inputs, targets.flip(0))]


def to_train(captured: Captured, folder: Path, ram_bytes: int) -> Made:
    """The C of the step alone, without inference."""
    return emit(captured, DEVICE, Budget(ram_bytes), folder, model="test", infer=False, time_limit=2)


CASES = [
    pytest.param(name, method, marks=() if name == "mlp" else pytest.mark.slow, id=f"{name}-{method}")
    for name, method in STEPS
]


@pytest.mark.parametrize(("name", "method"), CASES)
def test_the_step_is_pytorchs(name: str, method: str, tmp_path: Path) -> None:
    captured, batches = captured_by(name, method, STEPS[name, method])
    expected = in_pytorch(captured, batches)
    found, _ = run_in_c(to_train(captured, tmp_path, 1 << 30), tmp_path, batches)
    assert found.losses == pytest.approx(expected.losses, rel=1e-5)
    if method.startswith("fixed-point"):
        assert found.losses == expected.losses
        assert same_bits(found.state, expected.state)
    else:
        assert distance(found.state, expected.state) < 1e-5


SMALL = [  # and bytes of RAM that leave much outside
    ("mlp", "spsa:law=normal", 40_000),
    ("mlp", "spsa:top={share=0.1,every=2}", 80_000),
    ("mlp", "spsa:epsilon=0.05:in_place=true", 9_000),
    ("mlp", "forward-forward:precision=int8:candidates=2", 6_000),
    ("mlp", f"fixed-point:{BLOCKS}", 4_000),
    ("mlp", "fixed-point:keep=0.5:mask=random:beta=0.5:guided_after=1:sharpness=0.002", 4_000),
    pytest.param("digits-cnn", "spsa:in_place=true", 20_000, marks=pytest.mark.slow),
    pytest.param("digits-cnn", "elastic", 20_000, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "method", "ram_bytes"), SMALL)
def test_within_little_ram_a_board_makes_the_bits_of_the_host(
    name: str, method: str, ram_bytes: int, tmp_path: Path
) -> None:
    captured, batches = captured_by(name, method, PLAIN)
    plain, _ = run_in_c(to_train(captured, tmp_path / "plain", 1 << 30), tmp_path / "plain", batches)
    made = to_train(captured, tmp_path / "small", ram_bytes)
    assert made.certificate.paged_in or made.certificate.streamed
    assert made.certificate.exact or not method.startswith(("fixed-point", "forward-forward:precision=int8"))
    found, _ = run_in_c(made, tmp_path / "small", batches)
    there, _ = run_in_c(made, tmp_path / "small", batches, find_board("stm32f405"))
    assert there.losses == found.losses
    assert same_bits(there.state, found.state)
    if made.certificate.exact:
        assert found.losses == plain.losses
        assert same_bits(found.state, plain.state)
    else:
        assert found.losses == pytest.approx(plain.losses, rel=1e-4)


def test_a_network_of_integers_infers_what_it_does_in_pytorch(tmp_path: Path) -> None:
    captured, batches = captured_by("mlp", "fixed-point", PLAIN)
    made = made_in_c(captured, tmp_path, 1 << 30)
    (scores,) = inferred_in_c(made, tmp_path, [], batches[1:2])
    assert torch.equal(scores, captured.model(batches[1][0]))


def test_a_quantized_network_trains_as_in_pytorch(tmp_path: Path) -> None:
    task = resolve_task("digits-cnn", batch=4)
    fold_norms(task.model.eval())
    quantize(task.model, [task.example_batch[0]])
    captured = capture(task.model, task.loss, PLAIN, task.example_batch, name="quantized")
    expected = in_pytorch(captured, [task.example_batch] * 2)
    found, _ = run_in_c(to_train(captured, tmp_path, 40_000), tmp_path, [task.example_batch] * 2)
    assert found.losses == pytest.approx(expected.losses, rel=1e-5)
    assert (
        distance(found.state, {name: expected.state[name] for name in found.state if name in expected.state})
        < 1e-5
    )


def test_a_model_in_half_precision_is_refused() -> None:
    model = nn.Sequential(nn.Linear(4, 3)).to(torch.bfloat16)
    batch = torch.randn(2, 4).to(torch.bfloat16), torch.tensor([0, 2])
    captured = capture_with(parse_method("spsa"), model, "cross_entropy", PLAIN, batch)
    with pytest.raises(ModelUnsupported, match="no kernel in C for bfloat16") as caught:
        prepare(captured)
    assert any(part.startswith("0: random") for part in caught.value.parts)


def test_moves_that_no_factor_makes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    captured, _ = captured_by("mlp", "fixed-point", PLAIN)
    monkeypatch.setattr(in_c, "moves", lambda size: tuple((z * z * size) % 7 for z in range(255)))
    in_c.rate_of.cache_clear()
    with pytest.raises(ModelUnsupported, match="no factor makes moves of"):
        prepare(captured)
    in_c.rate_of.cache_clear()
