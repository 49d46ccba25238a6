"""The directions of a linear head in one op: logits at w + d and at w - d are w x + d x and w x - d x.

The accumulators of a head are its logits, so nothing is rounded between a weight and a logit, and signs and
losses are those of passes at moved weights, bit by bit. Weights stay where they are, and no pass begins
before the head. Integer units can take a class at a time; here some directions are taken together.

Shapes: k directions at once, B batch, C classes, F features.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from edgewise.capture.kernels import Memory, Tensors
from edgewise.methods.fixed_point.arithmetic import Factor, scaled
from edgewise.methods.fixed_point.draws import groups
from edgewise.methods.fixed_point.loss import cross_entropy
from edgewise.methods.fixed_point.moves import Mover, Perturbation


@dataclass(frozen=True)
class Probe:
    """Kernel: for each direction the sign of its difference of losses, int8 `[m]`; and the sum of losses."""

    x: str
    weights: tuple[str, ...]
    """Values of the weight `[C, F]` and of the bias `[C]`, if there is one."""
    shapes: tuple[tuple[int, ...], ...]
    movers: tuple[Mover | None, ...]
    """What moves each of them; none for one that stays."""
    bias: Factor | None
    directions: int
    logits: Factor

    def __call__(self, tensors: Tensors, option: str, first: bool, memory: Memory) -> tuple[Tensor, ...]:
        """Signs and losses; no weight is moved."""
        del option, first, memory
        x = tensors[self.x].flatten(1).T.to(torch.float64)
        at_w = (tensors[self.weights[0]].to(torch.float64) @ x).to(torch.int64)
        signs, total = [], torch.zeros((), dtype=torch.int64)
        for some in self.groups(x.shape[1]):
            d = [self._moves(i, some, tensors) for i in range(len(self.weights))]
            d_x = (d[0] @ x).to(torch.int64)
            losses = []
            for sign in (1, -1):
                logits = at_w + sign * d_x
                if self.bias is not None:
                    own = tensors[self.weights[1]] + sign * d[1].to(torch.int64)
                    logits += scaled(own, self.bias).unsqueeze(-1)
                losses.append(cross_entropy(logits.transpose(1, 2), tensors["batch.1"], self.logits))
                total += losses[-1].sum()
            signs.append((losses[0] - losses[1]).sign().to(torch.int8))
        return torch.cat(signs), total

    def _moves(self, index: int, some: range, tensors: Tensors) -> Tensor:
        """What each of some directions adds to a weight, integers in float64 `[k, ...]`."""
        mover, shape = self.movers[index], self.shapes[index]
        if mover is None:
            return torch.zeros((len(some), *shape), dtype=torch.float64)
        by = mover.steps(Perturbation(0), 1, tensors).to(torch.float64)
        pieces = [by[z + 127] for _, z in mover.directions.together(some, tensors)]
        return torch.cat(pieces, 1).view(-1, *shape)

    def groups(self, samples: int) -> list[range]:
        """Directions that are taken together."""
        return groups(self.directions, sum(map(math.prod, self.shapes)), samples)

    def scratch_bytes(self, samples: int) -> int:
        """Bytes of scratch: features, weights and moves in float64, and draws, or logits and their losses."""
        k, count = len(self.groups(samples)[0]), sum(map(math.prod, self.shapes))
        classes, features = self.shapes[0]
        drawn = max(m.directions.scratch_bytes(k) for m in self.movers if m is not None)
        logits = samples * classes
        return 8 * (features * samples + logits + (k + 1) * count) + max(drawn, (16 + 64) * k * logits)
