"""`capture`: a model, a loss, an optimizer and an example batch become the Graph of one training step."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from edgewise.capture import (
    contrast,
    directions,
    effects,
    int8_chains,
    int8_weights,
    integer_layers,
    integers,
    labelled_layer,
    requantized,
    schedules,
)
from edgewise.capture.assemble import Assembled, Reading, assemble
from edgewise.capture.joint import JointGraph, Loss, split_batch, trace_joint
from edgewise.capture.kernels import Run
from edgewise.capture.lowering import STEP, Layout, Lowering
from edgewise.capture.optimizers import Optimizer
from edgewise.capture.survey import offending_parts
from edgewise.capture.tiling import Loop
from edgewise.errors import EdgewiseError, ModelUnsupported, UsageError
from edgewise.graph import Graph
from edgewise.zoo.losses import resolve_loss

Trace = Callable[[nn.Module, Loss, tuple[Any, Any]], JointGraph]
"""`(model, loss, batch) -> graph of the step`, before updates are added."""

REWRITES = {
    **effects.REWRITES,
    **directions.REWRITES,
    **schedules.REWRITES,
    **contrast.REWRITES,
    **integers.REWRITES,
    **requantized.REWRITES,
    **int8_weights.REWRITES,
    **integer_layers.REWRITES,
    **labelled_layer.REWRITES,
}
"""How ops are lowered that no ATen call can stand for."""

RESERVED = re.compile(rf"{STEP}|batch\.\d+|constant\.\d+|loss\.gradient")
"""Names of the inputs and constants of a step; no parameter may be called so."""


@dataclass(frozen=True)
class Captured:
    """A training step that can be planned (`graph`) and executed (`kernels`, `loops` for tiled options).

    Parameters and buffers are those of `model`, under the same names; `constants` holds what else the trace
    found. `states` maps each optimizer state to its parameter, and a state of the method to nothing; all
    start at zero. `batch` names the values that the tensors of a batch become; `batch_leaves` are all its
    leaves with a hole for each tensor, and `batch_spec` is the structure they are taken from. `loss` and
    `notes` say how results are read.
    """

    graph: Graph
    kernels: dict[str, Run]
    loops: dict[str, dict[str, Loop]]
    layouts: dict[str, Layout]
    constants: dict[str, Tensor]
    states: dict[str, str]
    batch: tuple[str, ...]
    batch_leaves: tuple[Any, ...]
    batch_spec: pytree.TreeSpec
    loss: Reading
    notes: dict[str, Reading]
    model: nn.Module
    seed: int

    def empty(self, name: str) -> tuple[Tensor, Tensor]:
        """A new tensor for the value `name`, content undefined, and its storage as flat bytes (uint8)."""
        storage = torch.empty(self.graph.value[name].bytes, dtype=torch.uint8)
        return self.over(name, storage), storage

    def blank(self, name: str) -> Tensor:
        """Zeros in the place of `name`, a tensor of the batch, which the step need not read."""
        layout = self.layouts[name]
        return torch.zeros(layout.size, dtype=layout.dtype)

    def over(self, name: str, storage: Tensor) -> Tensor:
        """The value `name` as a tensor over all of `storage`, flat bytes (uint8)."""
        layout = self.layouts[name]
        tensor = torch.empty(0, dtype=layout.dtype)
        tensor.set_(storage.untyped_storage(), layout.offset, layout.size, layout.stride)
        return tensor


def capture(
    model: nn.Module,
    loss: Loss | str,
    optimizer: Optimizer,
    example_batch: tuple[Any, Any],
    *,
    name: str | None = None,
    seed: int = 0,
    trace: Trace = trace_joint,
) -> Captured:
    """Capture one training step: forward, backward and optimizer update.

    Args:
        model: in the mode (`train` or `eval`) that it is to be trained in. Nothing is changed in it.
        loss: `(model output, targets) -> scalar`, or the name of one (`edgewise.zoo.losses`).
        optimizer: `SGD` or `AdamW`; each parameter's update is an op that can run once its gradient is ready.
        example_batch: `(inputs, targets)`; inputs are a tensor, a tuple (positional) or a dict (by keyword).
            Only shapes and dtypes matter; the step is captured for exactly these.
        name: name of the graph; the model's class by default.
        seed: key of everything random in the step; the same seed and step number give the same numbers.
        trace: how the step gets its gradients; by backpropagation if not given. `methods` has others.

    Raises:
        ModelUnsupported: the model has parts that cannot be captured, all named with their module paths.
        UsageError: nothing in the model can be trained, or the batch is no pair.
    """
    if not isinstance(example_batch, tuple) or len(example_batch) != 2:
        raise UsageError(
            "An example batch is a pair `(inputs, targets)`; inputs may be a tensor, a tuple or a dict."
        )
    loss = resolve_loss(loss)
    _check_model(model)
    batch = pytree.tree_map_only(torch.Tensor, _alone, example_batch)
    joint = _trace(model, loss, batch, trace)
    int8_chains.stay_in_int8(joint)
    low = Lowering(joint, seed, REWRITES)
    low.run()
    if low.unsupported:
        raise _unsupported(model, tuple(dict.fromkeys(low.unsupported)))
    assembled = assemble(low, joint, optimizer, name or type(model).__name__)
    return _captured(model, joint, low, assembled, batch)


def _alone(tensor: Tensor) -> Tensor:
    """A copy: the trace would take two inputs that share a storage for one, for all batches."""
    return tensor.detach().clone(memory_format=torch.contiguous_format)


def _captured(
    model: nn.Module, joint: JointGraph, low: Lowering, assembled: Assembled, batch: Any
) -> Captured:
    constants = {source.name: source.tensor for source in joint.sources if source.kind == "constant"}
    _, leaves, spec = split_batch(batch)
    return Captured(
        graph=assembled.graph,
        kernels=assembled.kernels,
        loops=assembled.loops,
        layouts=low.layouts,
        constants={**constants, **low.constants},
        states={**assembled.states, **{s.name: "" for s in joint.sources if s.kind == "state"}},
        batch=tuple(source.name for source in joint.sources if source.kind == "input"),
        batch_leaves=tuple(leaves),
        batch_spec=spec,
        loss=assembled.loss,
        notes=assembled.notes,
        model=model,
        seed=low.seed,
    )


def _trace(model: nn.Module, loss: Loss, batch: tuple[Any, Any], trace: Trace) -> JointGraph:
    try:
        return trace(model, loss, batch)
    except EdgewiseError:
        raise
    except Exception as error:
        parts = offending_parts(model, loss, batch)
        reason = (
            f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else error!r}"
        )
        raise _unsupported(model, parts or (f"the model itself: {reason}",)) from error


def _unsupported(model: nn.Module, parts: tuple[str, ...]) -> ModelUnsupported:
    listed = "\n".join(f"  {part}" for part in parts)
    return ModelUnsupported(
        f"{type(model).__name__} cannot be captured because of {len(parts)} part(s):\n{listed}\n"
        "Replace these, or keep them out of the trained model.",
        parts=parts,
    )


def _check_model(model: nn.Module) -> None:
    """Refuse what tracing would get wrong: nothing to train, other devices, storages that overlap."""
    parameters = dict(model.named_parameters())
    if not any(p.requires_grad for p in parameters.values()):
        raise UsageError(
            f"{type(model).__name__} has no parameter that requires a gradient: nothing can be trained."
        )
    held: dict[int, str] = {}
    parts = [
        f"{name}: tensor: Edgewise uses this name itself; rename the parameter or buffer"
        for name in (*parameters, *dict(model.named_buffers()))
        if RESERVED.fullmatch(name)
    ]
    for name, tensor in (*parameters.items(), *model.named_buffers()):
        if tensor.device.type != "cpu":
            parts.append(
                f"{name}: tensor: lives on {tensor.device}; move the model to the CPU before capturing it"
            )
            continue
        key = tensor.untyped_storage().data_ptr()
        if tensor.numel() and key in held:
            parts.append(
                f"{name}: tensor: shares its storage with `{held[key]}` without being the same tensor"
            )
        held[key] = name
    if parts:
        raise _unsupported(model, tuple(parts))
