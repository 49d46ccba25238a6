"""Which units behind a layer are active: those whose rectifier lets a change of theirs through.

The slope of the loss in a unit that a rectifier has cut off is zero, so a forward gradient need not guess it.
What a layer returns is followed through sums to its rectifier; wherever it is used in any other way besides,
nothing is known of it, and nothing is cut off.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

_SUMS = (torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__, Tensor.__iadd__, Tensor.add_)
_RECTIFIERS: dict[Any, Callable[[Tensor], Tensor]] = {
    **dict.fromkeys((F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_), lambda y: y > 0),
    F.relu6: lambda y: (y > 0) & (y < 6),
}


@dataclass
class Unit:
    """What is known of a layer's output: the tensors that carry it, and where it is rectified."""

    carriers: list["_Carrier"] = field(default_factory=list)
    rectified: tuple[Tensor, Callable[[Tensor], Tensor]] | None = None

    def active(self) -> Tensor | None:
        """True where a change of the output goes on, of its shape; `None` if that is not known."""
        if self.rectified is None or any(carrier.uses != 1 for carrier in self.carriers):
            return None
        result, passes = self.rectified
        return passes(result.detach())


@dataclass
class _Carrier:
    tensor: Tensor
    """Kept, so that its identity is not used again."""
    units: list[Unit]
    uses: int = 0


class Relus(TorchFunctionMode):
    """Follows what it is given to `follow` through all that is called on it."""

    def __init__(self) -> None:
        super().__init__()
        self._carriers: dict[int, _Carrier] = {}

    def follow(self, output: Tensor) -> Unit:
        """Follow what a layer puts out."""
        unit = Unit()
        self._carry(output, [unit])
        return unit

    def _carry(self, tensor: Tensor, units: list[Unit]) -> None:
        carrier = _Carrier(tensor, units)
        self._carriers[id(tensor)] = carrier
        for unit in units:
            unit.carriers.append(carrier)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call `func`, and note what it uses."""
        del types
        result = func(*args, **(kwargs or {}))
        if not any(isinstance(leaf, Tensor) for leaf in pytree.tree_leaves(result)):
            return result  # a question for a shape is no use
        leaves = {id(leaf): leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        used = [self._carriers[key] for key in leaves if key in self._carriers]
        if used:
            self._note(func, used, result)
        return result

    def _note(self, func: Any, used: list[_Carrier], result: Any) -> None:
        units = [unit for carrier in used for unit in carrier.units]
        for carrier in used:
            carrier.uses += 1
            if carrier.tensor is result:  # changed in place: what carried it is gone
                del self._carriers[id(result)]
        if func in _RECTIFIERS:
            for unit in units:
                unit.rectified = (result, _RECTIFIERS[func])
        elif func in _SUMS:
            shapes = {carrier.tensor.shape for carrier in used}
            if shapes == {result.shape}:  # what is spread over axes is used many times
                self._carry(result, units)
