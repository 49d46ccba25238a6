"""Steps of a method on small models, run plainly: what the tests of all methods share."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from edgewise.capture import SGD, Captured, Optimizer
from edgewise.methods import Method, capture_with
from edgewise.plan import plain_plan
from edgewise.run import Executor, StepResult
from tests.support import DEVICE, plan_of, random_order

Record = Callable[[str, object], None]
"""pytest's `record_property`: figures that `benchmarks/methods_theorems.py` shows."""

PLAIN = SGD(lr=1.0)
"""Under this optimizer, the gradient of a step is what the weights lose in it."""


def network(*layers: nn.Module, seed: int = 0) -> nn.Sequential:
    """Layers in train mode, with weights that depend on `seed` only."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in layers:
            if hasattr(layer, "reset_parameters"):
                layer.reset_parameters()
    return nn.Sequential(*layers).train()


def captured_by(
    method: Method, model: nn.Module, batch: Any, loss: Any = "cross_entropy", optimizer: Optimizer = PLAIN
) -> Captured:
    """The step of `method` on `model`."""
    return capture_with(method, model, loss, optimizer, batch)


def gradients(captured: Captured, batch: Any, steps: int) -> Iterator[dict[str, Tensor]]:
    """The gradients that `steps` steps under `PLAIN` would take, each from the same weights."""
    plan = plain_plan(captured.graph, DEVICE)
    with Executor(captured, plan, DEVICE) as executor:
        before = executor.state()
        for step in range(steps):
            executor.step(batch, step)
            after = executor.state()
            yield {name: before[name] - after[name] for name in before}
            executor.load_state(before)


def standard_errors(found: Tensor, exact: Tensor, slack: float) -> float:
    """How far the mean of estimates `[draws, numbers]` is from `exact`, where it is farthest.

    In standard errors, beyond a `slack` for what is no chance: rounding, the bias of a finite difference.
    """
    found = found.double()
    deviation = found.std(0) / len(found) ** 0.5
    beyond = ((found.mean(0) - exact).abs() - slack).clamp(min=0)
    return float((beyond / deviation.clamp(min=1e-300)).max())


def states_under_random_plans(captured: Captured, batch: Any, steps: int = 2) -> list[dict[str, Tensor]]:
    """What some steps make of the model, first by the plain plan, then with values recomputed and paged.

    No plan takes a sum in another order, so the bits must agree. Each execution's peak is that of its plan.
    """
    states, start = [], None
    plans = [plain_plan(captured.graph, DEVICE)]
    for seed in range(2):
        order, homes = random_order(captured.graph, random.Random(seed), forget=0.4, page=0.3)
        plans.append(plan_of(order, captured.graph, homes=homes))
    for plan in plans:
        with Executor(captured, plan, DEVICE) as executor:
            start = start or executor.state()
            executor.load_state(start)
            for step in range(steps):
                assert executor.step(batch, step).peak_bytes == plan.peak_bytes
            states.append(executor.state())
    return states


def run(captured: Captured, batch: Any, steps: int = 1, first: int = 0) -> list[StepResult]:
    """Steps in a row; the model keeps what they make of it."""
    with Executor(captured, plain_plan(captured.graph, DEVICE), DEVICE) as executor:
        return [executor.step(batch, first + i) for i in range(steps)]


def exact_gradient(model: nn.Module, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    """Autograd's, of the mean cross entropy."""
    loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
    names, parameters = zip(*model.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


def flattened(tensors: dict[str, Tensor], names: list[str]) -> Tensor:
    """One vector of the tensors of these names."""
    return torch.cat([tensors[name].reshape(-1) for name in names])
