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


class FixedPoint(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="fixed-point"
):
    """Zeroth order by signs on an integer copy of the model: 16-bit weights, 8-bit activations, directions.

    Weights may grow to `headroom` times their largest magnitude. `keep` is the share of weights that are
    perturbed and updated: the largest, or some by chance. `sharpness` is how far the weights ascend before
    the gradient is estimated. `normalize` scales each tensor's step to the tensor's norm. With `beta` below
    1, directions are drawn to the last one followed, from step `guided_after` on.
    """

    directions: int = 1
    epsilon: float = 1e-3
    law: Law = "normal"
    weight_bits: int = 16
    accumulator_bits: int = 32
    headroom: float = 2.0
    keep: float = 1.0
    mask: Literal["magnitude", "random"] = "magnitude"
    sharpness: float = 0.0
    normalize: bool = False
    alpha: float = 0.5
    beta: float = 1.0
    guided_after: int = 0

    def __post_init__(self) -> None:
        _check_directions(self.directions)
        _check_epsilon(self.epsilon)
        _check_range("weight_bits", self.weight_bits, 2, 16)
        _check_range("accumulator_bits", self.accumulator_bits, 16, 32)
        _check_range("headroom", self.headroom, 1, 1e3)
        _check_range("keep", self.keep, 1 / 256, 1)
        _check_range("sharpness", self.sharpness, 0, 1e3)
        _check_range("alpha", self.alpha, 0, 1)
        _check_range("beta", self.beta, 0, 1)
        _check_range("guided_after", self.guided_after, 0, 1 << 62)


Method = Backprop | ForwardGradient | Spsa | Elastic | FixedPoint


def _check_directions(directions: int) -> None:
    if directions < 1:
        raise UsageError(f"Method: `directions` is {directions}; it must be at least 1.")


def _check_epsilon(epsilon: float) -> None:
    if not 0 < epsilon < float("inf"):
        raise UsageError(f"Method: `epsilon` is {epsilon}; it must be above 0.")


def _check_range(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise UsageError(f"Method: `{name}` is {value}; it must be from {least:g} to {most:g}.")
