"""Amounts in recipes: `256KiB`, `0.2s`, or a multiple of what plain training needs, `0.5x`."""

import math
import re
from typing import NamedTuple

from edgewise.errors import UsageError

_BYTES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "min": 60.0, "h": 3600.0}
_AMOUNT = re.compile(r"\s*(?P<number>\d+(\.\d*)?|\.\d+)\s*(?P<unit>[A-Za-z]*)\s*")


class Amount(NamedTuple):
    """A number of bytes or seconds; or, if `relative`, a multiple of plain training's."""

    number: float
    relative: bool = False

    def of(self, plain: float) -> float:
        """The amount, where plain training takes `plain`."""
        return self.number * plain if self.relative else self.number


def parse_bytes(text: str) -> Amount:
    """`262144`, `256KiB`, `64MB` or `0.5x`.

    Raises:
        UsageError: it is none of these, or zero.
    """
    return _parse(
        text, _BYTES, "B", "a size such as `256KiB`, or a multiple of plain training's such as `0.5x`"
    )


def parse_seconds(text: str) -> Amount:
    """`0.2`, `200ms`, `0.2s` or `1.5x`.

    Raises:
        UsageError: it is none of these, or zero.
    """
    return _parse(
        text, _SECONDS, "s", "a time such as `200ms`, or a multiple of plain training's such as `1.5x`"
    )


def _parse(text: str, units: dict[str, float] | dict[str, int], default: str, wanted: str) -> Amount:
    match = _AMOUNT.fullmatch(text)
    scales = {name.lower(): scale for name, scale in units.items()}
    unit = (match["unit"] or default).lower() if match else ""
    if match is None or (unit != "x" and unit not in scales):
        raise UsageError(f"`{text}` is not {wanted}. Units: {', '.join(units)}, x.")
    number = float(match["number"])
    if not 0 < number < math.inf:
        raise UsageError(f"`{text}` must be above zero.")
    return Amount(number, relative=True) if unit == "x" else Amount(number * scales[unit])
