"""Keep what is dear to make: a plan for each price a byte from which values of the forward pass are kept.

The others are made again when they are wanted. So convolutions and products stay, activations and norms do
not: what selective checkpointing keeps by lists of ops (PyTorch's `torch.utils.checkpoint`, its policies), by
what the device says they cost.
"""

from collections.abc import Iterator

from edgewise.plan.checkpointing import forward_ops, on_demand
from edgewise.plan.problem import Candidate, Problem, judge

SHARES = (0.3, 0.6)
"""Of the bytes that the forward pass makes, how much is made again."""


def dear_values(problem: Problem) -> Iterator[Candidate]:
    """A plan for each of `SHARES`."""
    forward = forward_ops(problem)
    made = [v for v, birth in enumerate(problem.birth) if 0 <= birth < forward and problem.bytes[v]]
    made.sort(key=lambda v: problem.weight(problem.op_costs[problem.birth[v]]) / problem.bytes[v])
    total = sum(problem.bytes[v] for v in made)
    for share in SHARES:
        kept, passed = set(made), 0
        for v in made:
            passed += problem.bytes[v]
            if passed > share * total:
                break
            kept.discard(v)
        candidate = judge(problem, on_demand(problem, kept, forward))
        if candidate is not None:
            yield candidate
