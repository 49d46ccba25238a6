"""When a model cannot be traced: run its forward pass once and list every op that stands in the way."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from edgewise.capture.calling import call_with
from edgewise.capture.effects import REWRITES
from edgewise.capture.joint import Loss, trace_friendly

_REASONS = {
    torch.Tag.data_dependent_output: "reads a value out of a tensor, so the graph would depend on the data",
    torch.Tag.dynamic_output_shape: "has a result whose shape depends on the data",
}
_COMPOSITE_DRAWS = {
    "dropout",
    "native_dropout",
    "bernoulli_",
    "bernoulli",
    "rand",
    "rand_like",
    "randn",
    "randn_like",
}


class _Survey(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.layers: list[str] = []
        self.found: dict[str, None] = {}  # in order, once each

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        layer = self.layers[-1] if self.layers and self.layers[-1] else "the model itself"
        for tag, reason in _REASONS.items():
            if tag in func.tags:
                self.found[f"{layer}: {func}: {reason}"] = None
        seeded = torch.Tag.nondeterministic_seeded in func.tags
        if seeded and func not in REWRITES and func.overloadpacket.__name__ not in _COMPOSITE_DRAWS:
            self.found[f"{layer}: {func}: draws random numbers in a way that cannot be repeated"] = None
        return func(*args, **(kwargs or {}))


@contextmanager
def _tracked(model: nn.Module, layers: list[str]) -> Iterator[None]:
    def leave(*_: Any) -> None:
        layers.pop()

    handles = []
    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(lambda *_, name=name: layers.append(name)))
        handles.append(module.register_forward_hook(leave, always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _undisturbed() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        yield


def offending_parts(model: nn.Module, loss: Loss, batch: tuple[Any, Any]) -> tuple[str, ...]:
    """`module.path: op: reason` for every op of the forward pass and loss that cannot be captured.

    Buffers and the random state are left as they were. An error of the model itself ends the survey early.
    """
    inputs, targets = batch
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    survey = _Survey()
    with _undisturbed(), trace_friendly(), _tracked(model, survey.layers), survey:
        try:
            output = call_with(model, buffers, inputs)
            loss(output, targets)
        except Exception as error:  # noqa: BLE001 (whatever the model raises is what we report)
            layer = survey.layers[-1] if survey.layers else "the model itself"
            survey.found[f"{layer or 'the model itself'}: {type(error).__name__}: {error}"] = None
    return tuple(survey.found)
