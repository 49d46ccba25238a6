"""A model called with other tensors in the place of its own."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn


def call_arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """How a model is called: a dict by keyword, a tuple or list by position, else as one argument."""
    if isinstance(inputs, dict):
        return (), inputs
    if isinstance(inputs, (tuple, list)):
        return tuple(inputs), {}
    return (inputs,), {}


class _Around(nn.Module):
    """Holds a model whose tensors can be replaced for any call, not only that of the model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, call: Callable[[], Any]) -> Any:
        """The result of `call`."""
        return call()


def call_with(model: nn.Module, state: Mapping[str, Tensor], inputs: Any) -> Any:
    """What `model` makes of `inputs` with the tensors of `state` in the place of those of the same name."""
    args, kwargs = call_arguments(inputs)
    return within(model, state, lambda: model(*args, **kwargs))


def within(model: nn.Module, state: Mapping[str, Tensor], call: Callable[[], Any]) -> Any:
    """What `call` returns while the tensors of `state` are in the place of those of the same name in `model`.

    A tensor that has several names in the model is replaced under all of them. Each place where a module
    holds it is named once: `functional_call` with `tie_weights` leaves a module of two names with what it was
    called with instead of its own tensors (https://github.com/pytorch/pytorch/issues/164759).
    """
    named = (*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False))
    given = {tensor: state[name] for name, tensor in named if name in state}
    places: dict[tuple[nn.Module, str], tuple[str, Tensor]] = {}
    for name, tensor in named:
        if tensor in given:
            path, _, own = name.rpartition(".")
            places[model.get_submodule(path), own] = (f"model.{name}", given[tensor])
    return torch.func.functional_call(_Around(model), dict(places.values()), (call,), tie_weights=False)
