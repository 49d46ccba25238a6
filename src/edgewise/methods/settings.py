"""What can be set of each method; a recipe's `[method]`. Nothing here imports torch."""

from typing import Literal

import msgspec

from edgewise.errors import UsageError

Law = Literal["rademacher", "normal"]
"""How the elements of a direction are distributed; both have mean 0 and variance 1."""


class Backprop(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="backprop"):
    """The exact gradient by backpropagation."""


class ForwardGradient(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="forward-gradient"
):
    """The mean of (grad . v) v over random directions v, one forward pass with tangents each."""

    directions: int = 1
    law: Law = "normal"

    def __post_init__(self) -> None:
        _check_directions(self.directions)


class Spsa(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="spsa"):
    """Zeroth order: two losses for each of some random directions. `sign` keeps only which was larger."""

    directions: int = 1
    epsilon: float = 1e-3
    sign: bool = False
    law: Law = "rademacher"

    def __post_init__(self) -> None:
        _check_directions(self.directions)
        _check_epsilon(self.epsilon)


class Elastic(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="elastic"):
    """Backprop for the parameters below the module paths in `head`, zeroth order for all others."""

    head: tuple[str, ...] = ()
    directions: int = 1
    epsilon: float = 1e-3
    law: Law = "rademacher"

    def __post_init__(self) -> None:
        _check_directions(self.directions)
        _check_epsilon(self.epsilon)


Method = Backprop | ForwardGradient | Spsa | Elastic


def _check_directions(directions: int) -> None:
    if directions < 1:
        raise UsageError(f"Method: `directions` is {directions}; it must be at least 1.")


def _check_epsilon(epsilon: float) -> None:
    if not 0 < epsilon < float("inf"):
        raise UsageError(f"Method: `epsilon` is {epsilon}; it must be above 0.")
