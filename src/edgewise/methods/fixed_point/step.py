"""The training step in integers, as a Graph: sign-m-SPSA on weights that are perturbed in place.

    g = 1/m sum_i sign(L(w + eps z_i) - L(w - eps z_i)) z_i        w <- w - lr g

(arXiv 2411.04036, equations 3 to 8.) Losses are integers, so that their comparison is one; directions are
drawn again instead of stored (`draws`), and weights are moved to each perturbation and back in their own
place (`moves`), so the step has the memory of integer inference. Three things differ from the paper.
w + round(eps_q z_q Dz) replaces (w_q 1_q + eps_q z_q) Dz: 1_q Dz is 0.992, so the loss was taken at shrunken
weights. Rounding of the update is stochastic and unbiased, the paper's floor moves every weight down. And the
1/m is part of the factor of the learning rate, so the sum of signed directions stays exact.

Sharpness-aware (section 3.4): first the same for a direction of its own gives a sign s_0; all else happens at
w + rho s_0 z_0, and what it finds is applied to w.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgewise.capture import Captured, Loss, Optimizer
from edgewise.capture.assemble import Reading
from edgewise.capture.directions import FIRST_STREAM
from edgewise.capture.joint import split_batch
from edgewise.capture.kernels import Memory, Program, Tensors
from edgewise.capture.lowering import STEP
from edgewise.errors import UsageError
from edgewise.graph import Graph
from edgewise.methods.fixed_point.arithmetic import Factor
from edgewise.methods.fixed_point.draws import Directions, Guidance, Mask, packed
from edgewise.methods.fixed_point.limits import check_optimizer, check_steps, rate_of
from edgewise.methods.fixed_point.loss import cross_entropy, factor_of_logits, in_nats
from edgewise.methods.fixed_point.model import IntegerModel, quantize
from edgewise.methods.fixed_point.moves import Displacement, Mover, Perturbation, Shift, Update, between
from edgewise.methods.fixed_point.network import Network
from edgewise.methods.fixed_point.passes import Cost, Passes
from edgewise.methods.settings import FixedPoint
from edgewise.zoo import losses


def capture_fixed(
    settings: FixedPoint,
    model: nn.Module,
    loss: Loss | str,
    optimizer: Optimizer,
    example_batch: tuple[Any, Any],
    *,
    name: str | None = None,
    seed: int = 0,
) -> Captured:
    """Capture one training step of the integer network of `model`; `Captured.model` is that network.

    Args:
        settings: of the method.
        model: a float model, or what `quantize` made of one with the same settings.
        loss: cross entropy, by name or itself.
        optimizer: `SGD` without momentum and weight decay; its rate is that of real weights.
        example_batch: real data, `(inputs, targets)`: float `[B, ...]` and int64 `[B]`.
        name: name of the graph; the model's class by default.
        seed: key of directions and of rounding.

    Raises:
        ModelUnsupported: parts have no integer operator, or a sum could overflow; named with their paths.
        UsageError: the perturbation or the step is smaller than the unit of a weight; another loss or
            optimizer; targets that are not class indices.
    """
    if loss not in ("cross_entropy", losses.cross_entropy):
        raise UsageError("Method fixed-point: its loss is `cross_entropy`, in integers. Use that.")
    rate = check_optimizer(optimizer)
    made = model if isinstance(model, IntegerModel) else quantize(model, example_batch[0], settings)
    if made.network.settings != settings:
        raise UsageError("Method fixed-point: `model` was quantized for other settings. Quantize it again.")
    check_steps(made.network, settings, rate)
    network = made.network.for_samples(len(example_batch[0]))
    _check_targets(network, example_batch[1])
    return _Step(made, network, rate, seed).captured(name or type(model).__name__, example_batch)


def inference_graph(model: IntegerModel, samples: int | None = None) -> Graph:
    """A forward pass of the integer network on `samples`: what a step's memory is to be compared with."""
    network = model.network.for_samples(samples or model.network.samples)
    passes = Passes(network)
    source = network.nodes[0].inputs[0]
    passes.declare(source.value, source.shape, torch.float32, "input")
    for node in network.nodes:
        passes.apply(node, "")
    return passes.graph("inference", (passes.value_of(network.logits.value, ""),))


def _check_targets(network: Network, targets: Any) -> None:
    shape = network.logits.shape
    fits = isinstance(targets, Tensor) and targets.dtype == torch.int64 and tuple(targets.shape) == shape[:1]
    if len(shape) != 2 or not fits:
        raise UsageError(
            f"Method fixed-point: class scores {list(shape)} need targets of int64 [{shape[0]}], one class "
            f"index a sample, and scores of two axes."
        )


@dataclass(frozen=True)
class _LossKernel:
    """The sum of cross entropies in units of 2^-20 bits."""

    logits: str
    shape: tuple[int, ...]
    factor: Factor

    def __call__(self, tensors: Tensors, option: str, first: bool, memory: Memory) -> tuple[Tensor, ...]:
        del option, first, memory
        return (cross_entropy(tensors[self.logits].view(self.shape), tensors["batch.1"], self.factor),)


@dataclass(frozen=True)
class _SignKernel:
    """Which of two losses is larger: 1, -1, or 0."""

    plus: str
    minus: str

    def __call__(self, tensors: Tensors, option: str, first: bool, memory: Memory) -> tuple[Tensor, ...]:
        del option, first, memory
        return ((tensors[self.plus] - tensors[self.minus]).sign().to(torch.int8),)


@dataclass(frozen=True)
class _MeanKernel:
    """The mean loss for people."""

    losses: tuple[str, ...]
    samples: int

    def __call__(self, tensors: Tensors, option: str, first: bool, memory: Memory) -> tuple[Tensor, ...]:
        del option, first, memory
        total = torch.stack([tensors[name] for name in self.losses]).sum()
        return (in_nats(total, self.samples * len(self.losses)),)


@dataclass(frozen=True)
class _StackKernel:
    """All signs in one tensor."""

    signs: tuple[str, ...]

    def __call__(self, tensors: Tensors, option: str, first: bool, memory: Memory) -> tuple[Tensor, ...]:
        del option, first, memory
        return (torch.stack([tensors[name] for name in self.signs]),)


class _Step:
    """Builds the graph: where the weights are to be, passes there, signs, and updates."""

    def __init__(self, model: IntegerModel, network: Network, rate: float, seed: int) -> None:
        self.model, self.network, self.rate, self.seed = model, network, rate, seed
        self.settings = network.settings
        self.passes = Passes(self.network)
        self.constants: dict[str, Tensor] = {}
        self.states: dict[str, str] = {}
        self.losses: list[str] = []
        held = dict(model.named_parameters())
        trained = [name for name, p in self.network.parameters.items() if p.trained]
        self.movers = {name: self._mover(name, held[name], i, len(trained)) for i, name in enumerate(trained)}
        self.places: dict[str, Displacement] = {name: {} for name in trained}

    def captured(self, name: str, batch: tuple[Any, Any]) -> Captured:
        """The step for batches like this one."""
        tensors, leaves, spec = split_batch(batch)
        for index, tensor in enumerate(tensors):
            self.passes.declare(f"batch.{index}", tuple(tensor.shape), tensor.dtype, "input")
        signs = self._signs()
        self._results(signs, len(tensors[0]))
        for parameter, mover in self.movers.items():
            self._update(parameter, mover, signs)
        graph = self.passes.graph(name, ("loss", "signs"))
        return Captured(
            graph=graph,
            kernels=self.passes.kernels,
            loops={op.name: {} for op in graph.ops},
            layouts=self.passes.layouts,
            constants=self.constants,
            states=self.states,
            batch=("batch.0", "batch.1"),
            batch_leaves=tuple(leaves),
            batch_spec=spec,
            loss=Reading(Program(("loss",), ()), 0),
            notes={"signs": Reading(Program(("signs",), ()), 0)},
            model=self.model,
            seed=self.seed,
        )

    # -- what moves each parameter -------------------------------------------------------------------------

    def _mover(self, name: str, weights: Tensor, index: int, parameters: int) -> Mover:
        settings, count = self.settings, weights.numel()
        directions = settings.directions + (settings.sharpness > 0)
        streams = tuple(FIRST_STREAM + parameters * i + index for i in range(directions))
        self._spare = FIRST_STREAM + parameters * directions  # streams from here on are nobody's yet
        mask = self._mask(name, weights, self._spare + parameters + index) if settings.keep < 1 else None
        guidance = None
        if settings.beta < 1:
            state = self.passes.declare(f"{name}.followed", tuple(weights.shape), torch.int8, "state")
            self.states[state] = ""
            guidance = Guidance(state, settings.alpha, settings.beta, settings.guided_after)
        drawn = Directions(count, settings.law, self.seed, streams, mask, guidance)
        return Mover(name, self.network.parameters[name], drawn)

    def _mask(self, name: str, weights: Tensor, stream: int) -> Mask:
        if self.settings.mask == "random":
            return Mask(below=max(1, round(256 * self.settings.keep)), stream=stream)
        kept = max(1, round(self.settings.keep * weights.numel()))
        flags = torch.zeros(weights.numel(), dtype=torch.bool)
        flags[weights.reshape(-1).to(torch.int32).abs().topk(kept).indices] = True
        bits = f"{name}.kept"
        self.constants[bits] = packed(flags)
        self.passes.declare(bits, tuple(self.constants[bits].shape), torch.uint8, "state")
        return Mask(bits=bits)

    def _reads(self, mover: Mover, change: Displacement) -> list[str]:
        guidance = mover.directions.guidance
        states = [guidance.state] if guidance else []
        return [*mover.directions.reads, *states, *(key.sign for key in change if key.sign)]

    # -- passes --------------------------------------------------------------------------------------------

    def _signs(self) -> tuple[str, ...]:
        """All passes, and the values that hold the sign of each direction."""
        base: dict[Perturbation, int] = {}
        if self.settings.sharpness:
            ascent = Perturbation(self.settings.directions)
            base = {ascent._replace(sign=self._sign("ascent", ascent, {})): 1}
        return tuple(self._sign(str(i), Perturbation(i), base) for i in range(self.settings.directions))

    def _sign(self, label: str, direction: Perturbation, base: Displacement) -> str:
        plus = self._pass(f"{label}+", {**base, direction: 1})
        minus = self._pass(f"{label}-", {**base, direction: -1})
        sign = self.passes.declare(f"sign.{label}", (), torch.int8)
        self.passes.add(sign, _SignKernel(plus, minus), (plus, minus), (sign,))
        return sign

    def _pass(self, label: str, place: Displacement) -> str:
        """A forward pass with all trained weights at `place`; the value of its loss."""
        network, passes = self.network, self.passes
        for node in network.nodes:
            for name in node.weights:
                if name in self.movers:
                    self._shift(name, place)
            passes.apply(node, label)
        logits = passes.value_of(network.logits.value, label)
        loss = passes.declare(f"loss.{label}", (), torch.int64)
        kernel = _LossKernel(logits, network.logits.shape, factor_of_logits(network.logit_scale))
        count = network.logits.shape[0] * network.logits.shape[1]
        passes.add(loss, kernel, (logits, "batch.1"), (loss,), cost=Cost(20 * count, "softmax", 64 * count))
        self.losses.append(loss)
        return loss

    def _shift(self, name: str, place: Displacement) -> None:
        mover, change = self.movers[name], between(self.places[name], place)
        self.places[name] = place
        old, new = self.passes.next_version(name)
        flops = 2 * len(change) * mover.directions.count
        self.passes.add(
            f"{new}:shift",
            Shift(mover, change, old),
            self._reads(mover, change),
            updates=((old, new),),
            cost=Cost(flops, "random", mover.scratch_bytes, name.rpartition(".")[0]),
        )

    # -- results -------------------------------------------------------------------------------------------

    def _results(self, signs: tuple[str, ...], samples: int) -> None:
        passes = self.passes
        passes.declare("loss", (), torch.float32)
        passes.add("loss", _MeanKernel(tuple(self.losses), samples), self.losses, ("loss",))
        passes.declare("signs", (len(signs),), torch.int8)
        passes.add("signs", _StackKernel(signs), signs, ("signs",))

    def _update(self, name: str, mover: Mover, signs: tuple[str, ...]) -> None:
        back = between(self.places[name], {})
        old, new = self.passes.next_version(name, last=True)
        updates = [(old, new)]
        guidance = mover.directions.guidance
        if guidance:
            updates.append(self.passes.next_version(guidance.state, last=True))
        stream = self._spare + list(self.movers).index(name)
        kernel = Update(
            mover, back, old, signs, rate_of(mover.parameter, self.settings, self.rate), stream,
            self.settings.normalize,
        )  # fmt: skip
        flops = 4 * (len(back) + len(signs)) * mover.directions.count
        reads = [n for n in self._reads(mover, back) if guidance is None or n != guidance.state]
        self.passes.add(
            f"{name}:update",
            kernel,
            (*reads, *signs, STEP),
            updates=tuple(updates),
            cost=Cost(flops, "optimizer", kernel.scratch_bytes, name.rpartition(".")[0]),
        )
