"""Which parameters are perturbed together, in how many directions a step, and at which rate.

A step of zeroth order in d numbers makes about 1 / d of the way of an exact one. So few numbers at once, and
many directions where a pass is cheap, are what counts: a linear head costs one small product a direction
(`probe`), for the layers before it run once a step. (Training parts in turn is the sparse update of arXiv
2411.04036, section 3.4.)
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from edgewise.errors import UsageError
from edgewise.methods.fixed_point.network import Network
from edgewise.methods.fixed_point.operators import Linear
from edgewise.methods.fixed_point.products import BLOCK
from edgewise.methods.settings import FixedPoint


@dataclass(frozen=True)
class Part:
    """Parameters by name, which one direction perturbs at once; all others stay where they are."""

    label: str
    names: frozenset[str]
    directions: int
    rate: float = 1.0
    """What the learning rate is multiplied by."""


def parts_of(settings: FixedPoint, trained: Iterable[str]) -> tuple[Part, ...]:
    """A part for each block of `settings`, and one for the parameters that are in none.

    Raises:
        UsageError: a block has no parameter that is trained, or an earlier block has them all.
    """
    left, parts = list(trained), []
    for index, block in enumerate(settings.blocks):
        own = frozenset(n for n in left if any(fnmatchcase(n, pattern) for pattern in block.names))
        if not own:
            raise UsageError(
                f"Method fixed-point: block {list(block.names)} has no trained parameter. "
                f"Left for it: {', '.join(f'`{name}`' for name in left) or 'none'}."
            )
        left = [name for name in left if name not in own]
        parts.append(Part(str(index), own, block.directions, block.rate))
    if left:
        parts.append(Part(str(len(parts)), frozenset(left), settings.directions))
    return tuple(parts)


def probed(network: Network, part: Part) -> Linear | None:
    """The last operator, if it is linear and small, and `part` is of that alone."""
    last = network.nodes[-1]
    small = sum(network.parameters[name].values.numel() for name in last.weights) <= BLOCK
    fits = last.name == network.logits.value and small and part.names <= set(last.weights)
    return last.operator if fits and isinstance(last.operator, Linear) else None
