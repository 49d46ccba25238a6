"""Square-root checkpointing: about sqrt(n) segments.

So a chain of n equal layers needs O(sqrt(n)) memory for one more forward pass. Chen et al., arXiv
1604.06174, algorithm 3: walk the forward pass, and cut at the next candidate once a segment has made more
than b bytes; b is searched around its square-root value. Candidates are moments at which one value only is
handed on; where there are hardly any, every moment. The published method takes the b of least memory; so
that it can be compared at a budget, the cheapest of its plans that fits is taken here.
"""

import math
from collections.abc import Iterator

from edgewise.plan.checkpointing import checkpointed, forward_ops, natural_cuts
from edgewise.plan.problem import Candidate, Problem, judge

ENOUGH_CUTS = 3
"""With fewer natural cuts than this, every moment of the forward pass may be one."""


def square_root(problem: Problem) -> Iterator[Candidate]:
    """A plan for each number of segments around the square root."""
    forward = forward_ops(problem)
    natural = natural_cuts(problem, forward)
    candidates = natural if len(natural) >= ENOUGH_CUTS else list(range(1, forward))
    made = [sum(problem.bytes[v] for v in problem.outputs[c]) for c in range(forward)]
    tried: set[tuple[int, ...]] = set()
    for segments in range(1, 2 * math.isqrt(max(1, len(candidates))) + 3):
        cuts = _cut(made, candidates, sum(made) / segments)
        if cuts in tried:
            continue
        tried.add(cuts)
        candidate = judge(problem, checkpointed(problem, cuts, forward))
        if candidate is not None:
            yield candidate


def _cut(made: list[int], candidates: list[int], most: float) -> tuple[int, ...]:
    """Cuts such that a segment ends at the first candidate at which it has made `most` bytes or more."""
    allowed, cuts, held = set(candidates), [], 0
    for c, bytes_ in enumerate(made):
        if held >= most and c in allowed:
            cuts.append(c)
            held = 0
        held += bytes_
    return tuple(cuts)
