"""Weights moved in place: the memory of inference, the same estimate, and a drift within its bound."""

from functools import partial

import torch
from torch import Tensor, nn

from edgewise.capture import SGD, Captured, capture
from edgewise.capture.estimates import Estimate, Forward, Parameters, trace_estimate
from edgewise.methods import Spsa
from edgewise.plan import plain_plan
from edgewise.run import Executor
from edgewise.zoo.task import Task, resolve_task
from tests.methods.steps import captured_by, network, run
from tests.support import DEVICE


def small() -> nn.Sequential:
    return network(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(5, 3, generator=generator), torch.arange(5) % 3


def inference(task: Task) -> Captured:
    """One pass of the model, and nothing after it."""

    def only_the_loss(forward: Forward, parameters: Parameters, _: dict[str, Tensor]) -> Estimate:
        with torch.no_grad():
            return Estimate(forward(parameters, keep=True), {})

    trace = partial(trace_estimate, estimator=only_the_loss)
    return capture(task.model, task.loss, SGD(0.0), task.example_batch, trace=trace)


def peak_bytes(captured: Captured) -> int:
    return plain_plan(captured.graph, DEVICE).peak_bytes


def test_the_memory_is_that_of_inference() -> None:
    """And the batch, which the next pass reads again."""
    task = resolve_task("digits-cnn", batch=8)
    x, targets = task.example_batch
    one_pass = peak_bytes(inference(task)) + x.nbytes + targets.nbytes
    for method in (Spsa(in_place=True), Spsa(directions=3, in_place=True)):
        found = peak_bytes(captured_by(method, task.model, task.example_batch, task.loss))
        assert found <= 1.01 * one_pass


def test_no_copy_of_a_layer_is_made() -> None:
    task = resolve_task("mlp", batch=8)
    apart, in_place = (
        peak_bytes(captured_by(method, task.model, task.example_batch, task.loss))
        for method in (Spsa(), Spsa(in_place=True))
    )
    assert apart - in_place > 0.9 * max(w.nbytes for w in task.model.parameters())


def test_the_estimate_is_that_of_spsa() -> None:
    apart = run(captured_by(Spsa(directions=3, epsilon=1e-2), small(), batch()), batch())[0]
    in_place = run(captured_by(Spsa(directions=3, epsilon=1e-2, in_place=True), small(), batch()), batch())[0]
    assert torch.allclose(apart.notes["coefficients"], in_place.notes["coefficients"], rtol=1e-3, atol=1e-5)


def test_weights_drift_by_rounding_only() -> None:
    """Three roundings a step; a walk by eps sqrt(2) a step would be a hundred times further."""
    steps, epsilon = 150, 1e-3
    captured = captured_by(Spsa(epsilon=epsilon, in_place=True), small(), batch(), optimizer=SGD(0.0))
    with Executor(captured, plain_plan(captured.graph, DEVICE), DEVICE) as executor:
        before = executor.state()
        for step in range(steps):
            executor.step(batch(), step)
        after = executor.state()
    largest = max(float(w.abs().max()) for w in after.values())
    gap = max(float((after[name] - before[name]).abs().max()) for name in before)
    assert 0 < gap <= steps * 3 * 2**-24 * (largest + epsilon)
    assert gap < 1e-2 * epsilon * (2 * steps) ** 0.5
