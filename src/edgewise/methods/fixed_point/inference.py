"""A forward pass of an integer network as a captured step that changes nothing."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from edgewise.capture import Captured
from edgewise.capture.assemble import Reading
from edgewise.capture.joint import split_batch
from edgewise.capture.kernels import Memory, Program, Tensors
from edgewise.methods.fixed_point.model import IntegerModel
from edgewise.methods.fixed_point.passes import Passes

SCORES = "scores"


@dataclass(frozen=True)
class ScoresKernel:
    """Class scores as real numbers, from logits of this scale."""

    logits: str
    shape: tuple[int, ...]
    scale: float

    def __call__(self, tensors: Tensors, option: str, first: bool, memory: Memory) -> tuple[Tensor, ...]:
        """The scores, `[B, C]`."""
        del option, first, memory
        return (tensors[self.logits].view(self.shape).to(torch.float32) * self.scale,)


def capture_inference(model: IntegerModel, batch: tuple[Any, Any], *, name: str) -> Captured:
    """The forward pass for batches like this one; `Captured.loss` reads the scores, those of the model.

    Weights have the names that they have in training.
    """
    tensors, leaves, spec = split_batch(batch)
    network = model.network.for_samples(len(tensors[0]))
    passes = Passes(network)
    for index, tensor in enumerate(tensors):
        passes.declare(f"batch.{index}", tuple(tensor.shape), tensor.dtype, "input")
    for node in network.nodes:
        passes.apply(node, "")
    logits = passes.value_of(network.logits.value, "")
    passes.declare(SCORES, network.logits.shape, torch.float32)
    kernel = ScoresKernel(logits, network.logits.shape, network.logit_scale)
    passes.add(SCORES, kernel, (logits,), (SCORES,))
    loops = passes.offer_loops()
    graph = passes.graph(name, (SCORES,))
    return Captured(
        graph=graph,
        kernels=passes.kernels,
        loops=loops,
        layouts=passes.layouts,
        constants={},
        states={},
        batch=tuple(f"batch.{index}" for index in range(len(tensors))),
        batch_leaves=tuple(leaves),
        batch_spec=spec,
        loss=Reading(Program((SCORES,), ()), 0),
        notes={},
        model=model,
        seed=0,
    )
