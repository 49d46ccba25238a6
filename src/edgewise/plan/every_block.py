"""Checkpoint every block: keep what blocks hand on, recompute each block once in the backward pass.

What most training scripts do (`torch.utils.checkpoint` around each block; Chen et al., arXiv 1604.06174
section 4.1). A block is a numbered module of a container, as in `blocks.3`, with what follows it; where no
op says which layer it belongs to, a stretch between two moments at which one value only is handed on. There
is no choice of RAM.
"""

import re
from collections.abc import Iterator

from edgewise.plan.checkpointing import checkpointed, forward_ops, natural_cuts
from edgewise.plan.problem import Candidate, Problem, judge


def every_block(problem: Problem) -> Iterator[Candidate]:
    """The one plan there is."""
    forward = forward_ops(problem)
    candidate = judge(problem, checkpointed(problem, block_cuts(problem, forward), forward))
    if candidate is not None:
        yield candidate


def block_cuts(problem: Problem, forward: int) -> list[int]:
    """Numbers of forward ops done at which a block ends."""
    cuts, current = [], None
    for c, op in enumerate(problem.ops[:forward]):
        block = _block(op.layer)
        if block is not None and block != current:
            if current is not None:
                cuts.append(c)
            current = block
    return cuts or natural_cuts(problem, forward)


def _block(layer: str) -> str | None:
    """`blocks.3` for `blocks.3.attention.out`; `None` for what is in no numbered module."""
    found = re.match(r"(?:.*?\.)?\d+(?=\.|$)", layer)
    return found.group() if found else None
