"""From an estimator to the FX graph of a step: any way to get gradients that PyTorch's tracer can follow.

An estimator is given the loss as a function of the parameters, and says what the gradients are: by two
evaluations (`methods/spsa.py`), by one with tangents (`methods/forward_gradient.py`), by autograd on a part
of the model. What it writes is traced whole, so that everything in it is an op that can be planned.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from edgewise.capture.joint import JointGraph, Loss, LossModule, export
from edgewise.errors import ModelUnsupported

Parameters = dict[str, Tensor]
"""Tensors by the names of the model's parameters."""


@dataclass(frozen=True)
class Estimate:
    """What an estimator makes of a batch.

    `gradients` holds one for each parameter to be updated, of its shape; parameters left out stay as they
    are. A state of the method that has a gradient is updated like a parameter. `notes` are small tensors that
    are read after each step, as the scalars of a zeroth-order step are.
    """

    loss: Tensor
    gradients: Mapping[str, Tensor]
    notes: Mapping[str, Tensor] = field(default_factory=dict)


class Forward:
    """The loss of the batch as a function of the parameters.

    A call with `keep` carries buffers (running statistics) to the next step; at most one call of a step
    should. The others work on copies and leave no trace.
    """

    def __init__(self, module: LossModule, leaves: tuple[Tensor, ...], buffers: dict[str, Tensor]) -> None:
        self._module, self._leaves, self._buffers = module, leaves, buffers

    def __call__(self, parameters: Mapping[str, Tensor], *, keep: bool = False) -> Tensor:
        """The loss, one number, with `parameters` in the place of those of the same name."""
        buffers = self._buffers if keep else {name: b.clone() for name, b in self._buffers.items()}
        kept = self._buffers.keys() | self._module.states
        own = {n: t for n, t in self._module.held().items() if n not in kept}
        return self._module.loss_of({**own, **parameters, **buffers}, self._leaves)

    def loss(self, output: Any) -> Tensor:
        """The loss of the batch's targets against any output: that of a head within the model, say."""
        return self._module.compare(output, self._leaves)

    @property
    def batch(self) -> tuple[Any, Any]:
        """Inputs and targets, for a method with losses of its own."""
        return self._module.batch_of(self._leaves)

    @property
    def held(self) -> dict[str, Tensor]:
        """Parameters and buffers by name; a buffer changed here in place is changed for the next step."""
        return {n: t for n, t in self._module.held().items() if n not in self._module.states}


Estimator = Callable[[Forward, Parameters, dict[str, Tensor]], Estimate]
"""`(loss, trainable parameters, the method's own states) -> estimate`; states may be changed in place."""


class _StepModule(LossModule):
    """`forward` runs an estimator and returns loss, gradients and notes, in the order of `results`."""

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        batch: tuple[Any, Any],
        estimator: Estimator,
        states: dict[str, Tensor],
    ) -> None:
        super().__init__(model, loss, batch, states)
        self._estimator = (estimator, tuple(states), tuple(dict(model.named_buffers())))
        self._trainable = tuple(n for n, p in model.named_parameters() if p.requires_grad)
        self.results: tuple[tuple[str, str], ...] = ()

    def forward(self, *leaves: Tensor) -> tuple[Tensor, ...]:
        """What the estimator makes; nothing of it has a gradient of its own."""
        estimator, states, buffers = self._estimator
        held = self.held()
        forward = Forward(self, leaves, {name: held[name] for name in buffers})
        found = estimator(forward, {n: held[n] for n in self._trainable}, {n: held[n] for n in states})
        gradients, notes = found.gradients.items(), found.notes.items()
        self.results = (
            ("loss", ""),
            *(("gradient", n) for n, _ in gradients),
            *(("note", n) for n, _ in notes),
        )
        made = (found.loss, *(tensor for _, tensor in (*gradients, *notes)))
        return tuple(tensor.detach() for tensor in made)


def trace_estimate(
    model: nn.Module,
    loss: Loss,
    batch: tuple[Any, Any],
    estimator: Estimator,
    states: dict[str, Tensor] | None = None,
) -> JointGraph:
    """Trace one step of `estimator`; `states` are its own, which start at zero, by names of its choice.

    Dropout is left out: an estimator compares or combines several passes, which must see the same network.
    So modules are traced as in evaluation, all but batch norms.

    Raises:
        ModelUnsupported: the model draws dropout masks, or other random numbers, all the same.
        Exception: whatever tracing raises; `capture` turns it into `ModelUnsupported`.
    """
    module = _StepModule(model, loss, batch, estimator, states or {})
    with _without_dropout(model):
        joint, nodes = export(model, module)
    drawn = sorted({f"{_layer(n)}: {_drawing(n)}" for n in joint.module.graph.nodes if _drawing(n)})
    if drawn:
        parts = tuple(f"{part} in each pass of a step" for part in drawn)
        listed = "\n".join(f"  {part}" for part in parts)
        raise ModelUnsupported(
            f"{type(model).__name__} cannot be trained this way because of {len(parts)} part(s):\n{listed}\n"
            "Let them ask `self.training`, as `nn.Dropout` does, or set the rate to 0.",
            parts=parts,
        )
    found: dict[str, dict[str, fx.Node]] = {"gradient": {}, "note": {}}
    for (kind, name), node in zip(module.results[1:], nodes[1:], strict=True):
        found[kind][name] = node
    return replace(joint, gradients=found["gradient"], notes=found["note"])


def _drawing(node: fx.Node) -> str:
    """What a node draws, if that is of the model: directions are drawn by ops of our own."""
    if torch.Tag.nondeterministic_seeded not in getattr(node.target, "tags", ()):
        return ""
    name = str(node.target.overloadpacket.__name__)  # type: ignore[union-attr]
    return "dropout: it draws other masks" if "dropout" in name else f"{name}: it draws other numbers"


def _layer(node: fx.Node) -> str:
    return (node.meta.get("custom") or {}).get("layer") or "the model itself"


@contextmanager
def _without_dropout(model: nn.Module) -> Iterator[None]:
    """All modules as in evaluation, but norms over the batch: these are part of what is trained."""
    dropping = [m for m in model.modules() if m.training and not isinstance(m, _BatchNorm)]
    fused = torch.backends.mha.get_fastpath_enabled()  # attention in one call: nothing of it can be planned
    torch.backends.mha.set_fastpath_enabled(False)
    for module in dropping:
        module.training = False
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for module in dropping:
            module.training = True
