"""A model as a chain of layers, found by watching a pass: what each layer reads is what the one before made.

Methods that train layer by layer need to know where a layer ends. A module is taken apart if its children
are called in turn, each on the result of the one before, with nothing in between: so a `Sequential` is, and a
residual block is not, which therefore stays one link and trains as one unit.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from edgewise.capture.calling import call_arguments
from edgewise.capture.modes import in_evaluation
from edgewise.errors import ModelUnsupported


@dataclass(frozen=True)
class Call:
    """One call of a module in a pass; `begin` and `end` count the calls and returns of all modules."""

    path: str
    module: nn.Module
    args: tuple[Any, ...]
    result: Any
    begin: int
    end: int

    @property
    def keeps_shape(self) -> bool:
        """Whether the result has the shape of the input."""
        return bool(self.args[0].shape == self.result.shape)

    @property
    def has_weights(self) -> bool:
        """Whether a linear layer or a convolution is in the module."""
        return any(isinstance(part, (nn.Linear, _ConvNd)) for part in self.module.modules())


@dataclass(frozen=True)
class Chain:
    """The links of a model in turn. `whole` says whether the last one reads just what the one before made."""

    links: tuple[Call, ...]
    whole: bool


def chain_of(model: nn.Module, inputs: Any) -> Chain:
    """Take `model` apart; between its last two parts there may be something that is no module.

    Raises:
        ModelUnsupported: something else than modules stands between other parts, or a part with weights is
            called twice.
    """
    calls = _watch(model, inputs)
    root = calls[-1]
    parts = _children(root, calls)
    joined = [_joined(a, b) for a, b in pairwise(parts)]
    whole = bool(parts) and all(joined) and _ends_meet(root, parts)
    if not whole and not (len(parts) > 1 and all(joined[:-1]) and _begin_meets(root, parts)):
        raise _unsupported(model, (_where(root, parts, joined),))
    links = tuple(link for part in parts for link in _expanded(part, calls))
    twice = tuple(f"{link.path}: weights: they are used in two layers" for link in _repeated(links))
    if twice:
        raise _unsupported(model, twice)
    return Chain(links, whole)


def _repeated(links: tuple[Call, ...]) -> Iterator[Call]:
    """Links with a parameter that an earlier one has, too."""
    seen: set[int] = set()
    for link in links:
        own = {id(parameter) for parameter in link.module.parameters()}
        if own & seen:
            yield link
        seen |= own


def _watch(model: nn.Module, inputs: Any) -> list[Call]:
    """Every call of a module in one pass, in the order in which they return; the model's own is the last."""
    args, kwargs = call_arguments(inputs)
    calls: list[Call] = []
    with _undisturbed(model), _hooks(model, calls):
        model(*args, **kwargs)
    return calls


@contextmanager
def _hooks(model: nn.Module, calls: list[Call]) -> Iterator[None]:
    begun: list[int] = []
    count = 0

    def enter(*_: Any) -> None:
        nonlocal count
        begun.append(count)
        count += 1

    def leave(path: str, module: nn.Module, args: Any, result: Any) -> None:
        nonlocal count
        calls.append(Call(path, module, args, result, begun.pop(), count))
        count += 1

    handles = []
    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(enter))
        handles.append(module.register_forward_hook(lambda m, a, r, name=name: leave(name, m, a, r)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _undisturbed(model: nn.Module) -> Iterator[None]:
    """In evaluation, so that no buffer changes, and without a trace in the generator."""
    with in_evaluation(model), torch.random.fork_rng(devices=[]), torch.no_grad():
        yield


def _children(call: Call, calls: list[Call]) -> list[Call]:
    """Calls that `call` made itself, in turn."""
    inside = [c for c in calls if call.begin < c.begin and c.end < call.end]
    direct = [c for c in inside if not any(o.begin < c.begin and c.end < o.end for o in inside)]
    return sorted(direct, key=lambda c: c.begin)


def _joined(before: Call, after: Call) -> bool:
    return len(after.args) == 1 and after.args[0] is before.result and isinstance(before.result, Tensor)


def _begin_meets(call: Call, parts: list[Call]) -> bool:
    return len(call.args) == 1 and len(parts[0].args) == 1 and parts[0].args[0] is call.args[0]


def _ends_meet(call: Call, parts: list[Call]) -> bool:
    return _begin_meets(call, parts) and parts[-1].result is call.result


def _expanded(call: Call, calls: list[Call]) -> Iterator[Call]:
    parts = _children(call, calls)
    joined = all(_joined(a, b) for a, b in pairwise(parts))
    if parts and joined and _ends_meet(call, parts):
        for part in parts:
            yield from _expanded(part, calls)
    else:
        yield call


def _where(root: Call, parts: list[Call], joined: list[bool]) -> str:
    if not parts:
        return "the model itself: it has no layers that are modules, so there is nothing to train one by one"
    if not _begin_meets(root, parts):
        return f"{parts[0].path}: it does not read just the model's input"
    first = joined.index(False) if False in joined else len(parts) - 1
    return f"{parts[first].path}: what it makes goes elsewhere than into the next layer, as it is"


def _unsupported(model: nn.Module, parts: tuple[str, ...]) -> ModelUnsupported:
    return unsupported(type(model).__name__, parts)


def unsupported(model: str, parts: tuple[str, ...]) -> ModelUnsupported:
    """Why a model of that class cannot be trained layer by layer."""
    listed = "\n".join(f"  {part}" for part in parts)
    return ModelUnsupported(
        f"{model} cannot be trained layer by layer because of {len(parts)} part(s):\n{listed}\n"
        "Write the model as an `nn.Sequential` of layers, or train it by another method.",
        parts=parts,
    )
