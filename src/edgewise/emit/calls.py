"""Calls of C kernels, as data: what a rule returns and the writer turns into text."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from edgewise.emit.views import Extent, View


@dataclass(frozen=True)
class Table:
    """A constant C array of this type of element."""

    kind: str
    numbers: tuple[int | float | str, ...]


@dataclass(frozen=True)
class Settings:
    """A constant C struct, handed over by its address."""

    kind: str
    fields: tuple[Any, ...]
    """Numbers, C expressions, tables, or tuples of them."""


@dataclass(frozen=True)
class Call:
    """`function(arguments)`: views, settings and tables by address, `None` as NULL, floats as float32."""

    function: str
    arguments: tuple[View | Settings | Table | int | float | str | None, ...]
    checked: bool = False
    """Whether it returns what went wrong in the store."""


@dataclass(frozen=True)
class Given:
    """An ATen call with views in the place of its tensors: `args`, `kwargs`, and what it makes.

    `made[i]` is the view that result i goes to, by its position among the call's results (0 for a lone one).
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    made: Mapping[int, View]

    @property
    def out(self) -> View:
        """The first result."""
        return self.made[0]

    def arg(self, index: int, name: str = "", default: Any = None) -> Any:
        """Argument `index`, by position or by name."""
        return self.args[index] if index < len(self.args) else self.kwargs.get(name, default)


Rule = Callable[[Given], tuple[Call, ...]]
"""The kernel calls for an ATen call. Raises `Unsupported` where there are none."""


class Unsupported(Exception):  # never leaves the room: `coverage` turns it into ModelUnsupported
    """Why an op has no C: one clause. `prepare` makes a `ModelUnsupported` of it."""


def only_floats(*views: View | None) -> None:
    """Raises `Unsupported` unless all are float32."""
    for view in views:
        if view is not None and view.dtype != torch.float32:
            raise Unsupported(f"no kernel in C for {str(view.dtype).removeprefix('torch.')}")


def c_number(value: Any) -> str:
    """A number as C reads it, to the bit; float32 with its suffix."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, int):
        return f"({value})" if value < 0 else str(value)
    if math.isnan(value):
        raise Unsupported("NaN is one of its settings")
    if math.isinf(value):
        return "EW_INFINITY" if value > 0 else "(-EW_INFINITY)"
    text = str(value) + ("f" if isinstance(value, np.float32) else "")
    return f"({text})" if value < 0 else text


def single(value: float) -> np.float32:
    """`value` as float32 holds it."""
    return np.float32(value)


def extents(values: tuple[Extent, ...]) -> str:
    """`1, 16, rows, 8`."""
    return ", ".join(map(str, values))
