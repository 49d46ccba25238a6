"""What can be set of each method; a recipe's `[method]`. Nothing here imports torch."""

from itertools import pairwise
from typing import Literal

import msgspec

from edgewise.errors import UsageError

Law = Literal["rademacher", "normal"]
"""How the elements of a direction are distributed; both have mean 0 and variance 1."""


class Backprop(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="backprop"):
    """The exact gradient by backpropagation."""


class TopShare(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Only the largest `share` of each parameter is moved and updated; chosen anew every `every` steps."""

    share: float = 0.01
    every: int = 100

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise UsageError(f"Method: `share` is {self.share}; it must be in (0, 1].")
        _check_steps(every=self.every)


class Svrg(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Variance reduction by a snapshot every `every` steps, with the mean over the `batches` that follow."""

    every: int = 256
    batches: int = 16

    def __post_init__(self) -> None:
        _check_steps(every=self.every, batches=self.batches)
        if self.batches >= self.every:
            raise UsageError(
                f"Method: `batches` is {self.batches}; it must be below `every`, {self.every}, or no step is "
                "left that gains by the snapshot."
            )


class ForwardGradient(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="forward-gradient"
):
    """The mean of (grad . v) v over random directions v, one forward pass with tangents each.

    Either `top` or `svrg` makes the variance less.
    """

    directions: int = 1
    law: Law = "normal"
    top: TopShare | None = None
    svrg: Svrg | None = None

    def __post_init__(self) -> None:
        _check_directions(self.directions)
        _check_one_of(top=self.top, svrg=self.svrg)


class Spsa(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="spsa"):
    """Zeroth order: two losses for each of some random directions. `sign` keeps only which was larger.

    `in_place` moves the weights themselves, as MeZO does: the memory of inference to the byte, but each step
    leaves them a rounding or two off where they were. Either `top` or `svrg` makes the variance less.
    """

    directions: int = 1
    epsilon: float = 1e-3
    sign: bool = False
    law: Law = "rademacher"
    in_place: bool = False
    top: TopShare | None = None
    svrg: Svrg | None = None

    def __post_init__(self) -> None:
        _check_directions(self.directions)
        _check_one_of(in_place=self.in_place, top=self.top, svrg=self.svrg)
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


class LocalLosses(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="local-losses"
):
    """Backprop from a loss at the end of each module in `blocks`; none goes from a block into the one before.

    Without `stop_gradients`, every loss reaches all that lies before it.
    """

    blocks: tuple[str, ...]
    stop_gradients: bool = True

    def __post_init__(self) -> None:
        if not self.blocks:
            raise UsageError("Method local-losses: `blocks` is empty; name the modules that end in a loss.")


class ActivityPerturbation(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="activity-perturbation"
):
    """Forward gradients on what layers put out: noise on it, and the slope of the loss along the noise.

    `blocks` are modules that end in a local loss, `patches` and `groups` divide each of these by positions
    and groups of channels. `shared` noise is that of all samples of a batch. Modules in `layers` count as one
    layer each: the gradient within them is exact.
    """

    blocks: tuple[str, ...] = ()
    patches: bool = False
    groups: int = 1
    directions: int = 1
    law: Law = "normal"
    shared: bool = False
    layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_directions(self.directions)
        if self.groups < 1:
            raise UsageError(f"Method: `groups` is {self.groups}; it must be at least 1.")
        if not self.blocks and (self.patches or self.groups > 1):
            raise UsageError("Method: `patches` and `groups` divide the losses of `blocks`; name some.")


Channels = float | tuple[int, ...]
"""Output channels of a weight: a share of them, the first ones, or their indices in ascending order."""


class SparseUpdate(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="sparse-update"
):
    """Backprop for the weights and biases below some module paths only; `""` is the whole model.

    `weights` (all parameters of two dims or more) go by channels; `biases` are all those of one dim, scales
    of norms included. With `frozen` at int8, convolutions and linear layers that no gradient passes, those
    before the first that is trained, compute on int8, with the scales of the example batch; frozen
    convolutions behind it have int8 weights.
    """

    weights: dict[str, Channels] = {}
    biases: tuple[str, ...] = ()
    frozen: Literal["float32", "int8"] = "float32"

    def __post_init__(self) -> None:
        for path, channels in self.weights.items():
            if isinstance(channels, tuple):
                good = channels and channels[0] >= 0 and all(a < b for a, b in pairwise(channels))
            else:
                good = 0 < channels <= 1
            if not good:
                raise UsageError(
                    f"Method sparse-update: `weights` of `{path}` are {channels}; they must be a share above "
                    "0 and at most 1, or channels in ascending order."
                )

    def __hash__(self) -> int:
        return hash((tuple(sorted(self.weights)), self.biases, self.frozen))


class Extrapolated(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="extrapolated"
):
    """The gradient by backprop at the point that a step of `rate` would lead to."""

    rate: float = 0.01

    def __post_init__(self) -> None:
        if not 0 <= self.rate < float("inf"):
            raise UsageError(f"Method: `rate` is {self.rate}; it must be zero or positive.")


class ForwardForward(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="forward-forward"
):
    """Each layer learns to tell right labels from wrong ones; no gradient passes between layers.

    A layer of n outputs y has the goodness G = sharpness * mean(y^2), and the loss softplus(theta - G) for a
    right label and softplus(G - theta) for a wrong one, with theta = sharpness * threshold. So `sharpness` n
    makes G the sum of squares, with a theta that is `threshold` times the width. With `pairs`, the loss is
    softplus(G - G') of the two labels of each sample, G' that of the right one, and no threshold counts
    (SymBa, arXiv 2303.08418).

    Of `candidates` wrong labels that are drawn for a sample, that one counts in which the first layer finds
    most goodness.

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
    pairs: bool = False
    candidates: int = 1
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
        if self.candidates < 1:
            raise UsageError(f"Method: `candidates` is {self.candidates}; it must be at least 1.")
        if self.look_ahead < 0:
            raise UsageError(f"Method: `look_ahead` is {self.look_ahead}; it must be zero or positive.")
        if self.steps_per_epoch < 1:
            raise UsageError(f"Method: `steps_per_epoch` is {self.steps_per_epoch}; it must be at least 1.")


class Block(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters that are perturbed by themselves, in `directions` a step, at `rate` times the learning rate.

    `names` are patterns of their names, as a shell has them: `["head.*"]`.
    """

    names: tuple[str, ...]
    directions: int = 1
    rate: float = 1.0

    def __post_init__(self) -> None:
        _check_directions(self.directions)
        _check_positive("rate", self.rate)


class FixedPoint(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="fixed-point"
):
    """Zeroth order by signs on an integer copy of the model: 16-bit weights, 8-bit activations, directions.

    Weights may grow to `headroom` times their largest magnitude. `keep` is the share of weights that are
    perturbed and updated: the largest, or some by chance. `sharpness` is how far the weights ascend before
    the gradient is estimated. `normalize` scales each tensor's step to the tensor's norm. With `beta` below
    1, directions are drawn to the last one followed, from step `guided_after` on. Parameters in none of the
    `blocks` are perturbed together, in `directions` a step; one in several belongs to the first. The rate
    falls to nothing over `decay_steps`, on a straight line; with 0 it stays.
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
    blocks: tuple[Block, ...] = ()
    decay_steps: int = 0

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
        _check_range("decay_steps", self.decay_steps, 0, 1 << 31)


Method = (
    Backprop
    | ForwardGradient
    | Spsa
    | Elastic
    | LocalLosses
    | ActivityPerturbation
    | SparseUpdate
    | Extrapolated
    | ForwardForward
    | FixedPoint
)


def _check_directions(directions: int) -> None:
    if directions < 1:
        raise UsageError(f"Method: `directions` is {directions}; it must be at least 1.")


def _check_steps(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise UsageError(f"Method: `{name}` is {count}; it must be at least 1.")


def _check_one_of(**chosen: object) -> None:
    """Weights that are moved in place have neither magnitudes to compare nor a snapshot to take."""
    named = [f"`{name}`" for name, value in chosen.items() if value]
    if len(named) > 1:
        raise UsageError(f"Method: {' and '.join(named)} do not go together. Choose one of them.")


def _check_epsilon(epsilon: float) -> None:
    _check_positive("epsilon", epsilon)


def _check_positive(name: str, figure: float) -> None:
    if not 0 < figure < float("inf"):
        raise UsageError(f"Method: `{name}` is {figure}; it must be above 0.")


def _check_range(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise UsageError(f"Method: `{name}` is {value}; it must be from {least:g} to {most:g}.")
