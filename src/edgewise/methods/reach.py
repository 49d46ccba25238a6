"""How far the output of a layer reaches by the end of its block: only its own position, its own channels?

Found by trial, with real numbers: a change of some positions and channels is followed to the end of the
block, and whatever else it moves there is reached. Four ways of halving them (every other one, and the first
half against the second) find all that mixing layers do: convolutions, attention, products over positions.
Weights are positive random numbers in these passes, since trained or zero weights could hide a way.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from edgewise.errors import UsageError
from edgewise.methods.settings import ActivityPerturbation
from edgewise.methods.taps import (
    Listener,
    Survey,
    Taps,
    by_patches,
    dual,
    from_patches,
    unpack,
    without_tangents,
)


@dataclass(frozen=True)
class Reach:
    """Whether a change of a unit moves only the `own_patch` and `own_group` of it at the end of its block."""

    own_patch: bool = False
    own_group: bool = False

    def gather(self, slopes_BPG: Tensor) -> Tensor:
        """Slopes [B, P or 1, G or 1]: summed over all that a unit reaches."""
        summed = slopes_BPG if self.own_patch else slopes_BPG.sum(1, keepdim=True)
        return summed if self.own_group else summed.sum(2, keepdim=True)


def reaches(taps: Taps, inputs: Any, found: Survey, settings: ActivityPerturbation) -> list[Reach]:
    """The reach of each call in `found`.

    Raises:
        UsageError: the output of a block has no positions, or cannot be divided into the groups.
    """
    _check_division(found, settings)
    reached = [Reach() for _ in found.calls]
    if not (settings.patches or settings.groups > 1):
        return reached
    features = list(found.features.values())
    by_segment = [[i for i, c in enumerate(found.calls) if c.segment == s] for s in range(len(features))]
    for turn in range(max(map(len, by_segment))):
        targets = {calls[turn]: s for s, calls in enumerate(by_segment) if turn < len(calls)}
        fitting = {
            i: s for i, s in targets.items() if _fits(found.calls[i].output, features[s], settings.groups)
        }
        leaks = [_Trial(fitting, settings.groups, half).of(taps, inputs) for half in range(4)]
        for call, segment in fitting.items():
            reached[call] = Reach(
                own_patch=settings.patches and not any(leak[segment][0] for leak in leaks),
                own_group=settings.groups > 1 and not any(leak[segment][1] for leak in leaks),
            )
    return reached


def _check_division(found: Survey, settings: ActivityPerturbation) -> None:
    for path, features in found.features.items():
        positions, channels = by_patches(features).shape[1:]
        if settings.patches and positions == 1:
            raise UsageError(
                f"Method activity-perturbation: the block `{path}` returns {list(features.shape)}, "
                "which has no positions. Leave out `patches`."
            )
        if channels % settings.groups:
            raise UsageError(
                f"Method activity-perturbation: the {channels} channels of the block `{path}` cannot be "
                f"divided into {settings.groups} `groups`."
            )


def _fits(output: Tensor, features: Tensor, groups: int) -> bool:
    if output.ndim != features.ndim:
        return False
    ours, theirs = by_patches(output).shape, by_patches(features).shape
    return ours[1] == theirs[1] and ours[2] % groups == 0


def _half(length: int, which: int) -> Tensor:
    """Half of some indices, as a mask; all of one."""
    index = torch.arange(length)
    halves = (index % 2 == 0, index % 2 == 1, index < length // 2, index >= length // 2)
    return halves[which] if length > 1 else index == 0


class _Trial(Listener):
    """A pass in which `targets` (call -> segment) move one half of their positions and groups."""

    def __init__(self, targets: dict[int, int], groups: int, half: int) -> None:
        self.targets, self.groups, self.half = targets, groups, half
        self.leaks: list[tuple[bool, bool]] = []
        self._count = 0
        self._generator = torch.Generator().manual_seed(half)

    def of(self, taps: Taps, inputs: Any) -> list[tuple[bool, bool]]:
        """For each segment, whether other positions moved, and other groups."""
        weights = {
            name: (torch.rand(p.shape, generator=self._generator, dtype=p.dtype) + 0.1) / max(1, p[0].numel())
            for name, p in taps.model.named_parameters()
            if p.is_floating_point() and p.ndim
        }
        with forward_ad.dual_level():
            taps.run(inputs, self, weights)
        return self.leaks

    def layer(self, path: str, output: Tensor) -> Tensor:
        """Move a target."""
        del path
        self._count += 1
        if self._count - 1 not in self.targets:
            return output
        change_BPD = by_patches(torch.randn(output.shape, generator=self._generator, dtype=output.dtype))
        positions, groups = self._halves(change_BPD)
        moved_BPD = change_BPD * positions[:, None] * groups
        return dual(output.detach(), from_patches(moved_BPD, output.shape))

    def block(self, path: str, output: Tensor) -> Tensor:
        """See what has moved."""
        del path
        value, tangent = unpack(output)
        self.leaks.append((False, False) if tangent is None else self._leaks(by_patches(tangent.detach())))
        with without_tangents():
            return value.detach()

    def _halves(self, features_BPD: Tensor) -> tuple[Tensor, Tensor]:
        """Masks [P] and [D]."""
        _, positions, channels = features_BPD.shape
        groups = _half(self.groups, self.half).repeat_interleave(channels // self.groups)
        return _half(positions, self.half), groups

    def _leaks(self, moved_BPD: Tensor) -> tuple[bool, bool]:
        positions, groups = self._halves(moved_BPD)
        moved = (moved_BPD != 0) | ~moved_BPD.isfinite()
        return bool(moved[:, ~positions].any()), bool(moved[:, :, ~groups].any())
