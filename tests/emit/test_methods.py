"""Steps of every method as C: those of PyTorch, on this computer and on an emulated board."""

from pathlib import Path
from typing import Any

import pytest

from edgewise.capture import SGD, AdamW, Captured, Optimizer
from edgewise.emit import find_board
from edgewise.methods import capture_with
from edgewise.train.method_names import parse_method
from edgewise.zoo import resolve_task
from tests.emit.trained import budgets, distance, in_pytorch, made_in_c, run_in_c, same_bits

PLAIN = SGD(lr=0.01)
BLOCKS = 'blocks=[{names=["layers.5.weight"],directions=4},{names=["layers.1.*"],rate=2.0}]'
STEPS: dict[tuple[str, str], Optimizer] = {
    ("mlp", "spsa:epsilon=0.05:directions=3:law=normal"): AdamW(lr=1e-3),
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


@pytest.mark.parametrize(("name", "method"), STEPS)
def test_the_step_is_pytorchs(name: str, method: str, tmp_path: Path) -> None:
    captured, batches = captured_by(name, method, STEPS[name, method])
    expected = in_pytorch(captured, batches)
    made = made_in_c(captured, tmp_path, 1 << 30)
    found, _ = run_in_c(made, tmp_path, batches)
    assert found.losses == pytest.approx(expected.losses, rel=1e-5)
    if method.startswith("fixed-point"):
        assert found.losses == expected.losses
        assert same_bits(found.state, expected.state)
    else:
        assert distance(found.state, expected.state) < 1e-5


SMALL = [
    ("mlp", "spsa:directions=2:law=normal"),
    ("mlp", "spsa:top={share=0.1,every=2}"),
    ("digits-cnn", "spsa:in_place=true"),
    ("digits-cnn", "elastic"),
    ("mlp", "forward-forward:precision=int8:candidates=2"),
    ("mlp", f"fixed-point:{BLOCKS}"),
]


@pytest.mark.parametrize(("name", "method"), SMALL)
def test_within_little_ram_a_board_makes_the_bits_of_the_host(name: str, method: str, tmp_path: Path) -> None:
    """A tenth of the way from the least budget to none."""
    captured, batches = captured_by(name, method, PLAIN)
    least, most = budgets(captured)
    plain, _ = run_in_c(made_in_c(captured, tmp_path / "plain", 1 << 30), tmp_path / "plain", batches)
    made = made_in_c(captured, tmp_path / "small", least + (most - least) // 10)
    found, _ = run_in_c(made, tmp_path / "small", batches)
    there, _ = run_in_c(made, tmp_path / "small", batches, find_board("stm32f405"))
    assert there.losses == found.losses
    assert same_bits(there.state, found.state)
    if made.certificate.exact:
        assert found.losses == plain.losses
        assert same_bits(found.state, plain.state)
    else:
        assert distance(found.state, plain.state) < 1e-4
