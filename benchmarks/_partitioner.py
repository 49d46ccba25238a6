"""torch.compile's `activation_memory_budget` as a plan of our ops, so that one counter judges both.

PyTorch's own partitioner runs on the same joint graph as capture's. What it saves for the backward pass
becomes a set of values; an order of our ops follows from it as the partitioned graphs execute it: the forward
pass once, then the backward pass, each value that was not saved made again right before its first reader
there, with all that is missing for it, and kept until its last. That is what
`reordering_to_mimic_autograd_engine` does to the backward graph. Updates run as early as in our graph and ops
work in place where they can, both of which are more than the partitioner itself does.

The solver of the knapsack and the estimate of run times are the defaults of PyTorch 2.13.0. The budget limits
the sum of what is saved, not the peak; so all budgets of a sweep are counted.
"""

import copy
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from torch import fx

from edgewise.capture.effects import REWRITES
from edgewise.capture.joint import trace_joint
from edgewise.capture.lowering import Lowering
from edgewise.graph import Value
from edgewise.plan.checkpointing import on_demand
from edgewise.plan.problem import Problem
from edgewise.plan.schedule import Order

if TYPE_CHECKING:
    from benchmarks._networks import Training


class Split(NamedTuple):
    """What the partitioner saves at a budget, in seconds of its own."""

    budget: float
    saved: frozenset[str]
    seconds: float


def splits(training: "Training", budgets: Sequence[float]) -> Iterator[Split]:
    """Names of the values that are saved for the backward pass, at each of `budgets`."""
    import torch._functorch.config as functorch_config  # noqa: PLC0415

    joint = trace_joint(training.model, training.loss, training.batch)
    low = Lowering(joint, 0, REWRITES)
    low.run()
    nodes = {node.name: node for node in joint.module.graph.nodes}
    for budget in budgets:
        begin = time.process_time()
        with functorch_config.patch(activation_memory_budget=budget):
            saved = _saved_nodes(joint.module)
        values: set[str] = set()
        for name in saved:
            node = nodes[name]
            items = [node] if (node, None) in low.base or node in low.views else []
            values.update(low.program(tuple(items))[0].operands)
        yield Split(budget, frozenset(values), time.process_time() - begin)


def _saved_nodes(module: fx.GraphModule) -> list[str]:
    from torch._functorch._aot_autograd import descriptors as d  # noqa: PLC0415
    from torch._functorch.partitioners import min_cut_rematerialization_partition  # noqa: PLC0415

    mine = copy.copy(module)
    mine.graph = copy.deepcopy(module.graph)
    (output,) = mine.graph.find_nodes(op="output")
    ahead = (d.PlainAOTOutput, d.InputMutationAOTOutput)
    forward = sum(isinstance(about, ahead) for about in output.meta["desc"])
    inputs = [node.meta["desc"] for node in mine.graph.find_nodes(op="placeholder")]
    fixed = [i for i, about in enumerate(inputs) if isinstance(about, d.ParamAOTInput | d.BufferAOTInput)]
    first, _ = min_cut_rematerialization_partition(
        mine, None, num_fwd_outputs=forward, static_lifetime_input_indices=fixed
    )
    (output,) = first.graph.find_nodes(op="output")
    return [node.name for node in output.args[0][forward:] if isinstance(node, fx.Node)]


def order_of(problem: Problem, saved: frozenset[str]) -> Order:
    """The ops of `problem`, with what is not in `saved` made again for the backward pass."""
    values = problem.graph.value
    forward = next(t for t, op in enumerate(problem.ops) if any(is_gradient(values[v]) for v in op.outputs))
    kept = {problem.index[name] for name in saved if name in problem.index}
    return on_demand(problem, kept | problem.required, forward)  # the loss is made once, whatever is saved


def is_gradient(value: Value) -> bool:
    return value.kind == "gradient"
