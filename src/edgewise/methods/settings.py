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


class ForwardForward(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="forward-forward"
):
    """Each layer learns to tell right labels from wrong ones; no gradient passes between layers.

    A layer of n outputs y has the goodness G = sharpness * mean(y^2), and the loss softplus(theta - G) for a
    right label and softplus(G - theta) for a wrong one, with theta = sharpness * threshold. So `sharpness` n
    makes G the sum of squares, with a theta that is `threshold` times the width.

    `label` says how a label is written into the samples: as a one-hot vector of height `label_value` in the
    place of the first numbers (`corner`), or as a wave of that height, another for each class, added to the
    whole image (`wave`).

    Look-ahead adds to the loss of a layer those of the next `look_ahead` layers (h in the text), times
    `look_ahead_rate` for each epoch of `steps_per_epoch` steps that is over, on top of `look_ahead_start`.
    `peer` is the factor of peer normalization. `inference` says how classes are scored: by the goodness of
    all layers for each label, or by the model's last layer, trained on what the others make of no label.
    With `int8`, products are of int8 operands, activations of linear layers with ReLU stay int8, and
    gradients are rounded by `rounding`; `activation_range` is what the largest int8 stands for there.
    """

    precision: Literal["float32", "int8"] = "float32"
    threshold: float = 0.5
    sharpness: float = 100.0
    label: Literal["corner", "wave"] = "corner"
    label_value: float = 10.0
    look_ahead: int = 0
    look_ahead_start: float = 0.0
    look_ahead_rate: float = 0.001
    steps_per_epoch: int = 1000
    peer: float = 0.0
    inference: Literal["goodness", "readout"] = "goodness"
    rounding: Literal["stochastic", "nearest"] = "stochastic"
    activation_range: float = 8.0

    def __post_init__(self) -> None:
        for name in ("threshold", "sharpness", "label_value", "activation_range"):
            _check_positive(name, getattr(self, name))
        for name in ("look_ahead_start", "look_ahead_rate", "peer"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UsageError(f"Method: `{name}` is {getattr(self, name)}; it must be zero or positive.")
        if self.look_ahead < 0:
            raise UsageError(f"Method: `look_ahead` is {self.look_ahead}; it must be zero or positive.")
        if self.steps_per_epoch < 1:
            raise UsageError(f"Method: `steps_per_epoch` is {self.steps_per_epoch}; it must be at least 1.")


Method = Backprop | ForwardGradient | Spsa | Elastic | ForwardForward


def _check_directions(directions: int) -> None:
    if directions < 1:
        raise UsageError(f"Method: `directions` is {directions}; it must be at least 1.")


def _check_epsilon(epsilon: float) -> None:
    _check_positive("epsilon", epsilon)


def _check_positive(name: str, figure: float) -> None:
    if not 0 < figure < float("inf"):
        raise UsageError(f"Method: `{name}` is {figure}; it must be above 0.")
