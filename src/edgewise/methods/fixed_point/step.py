"""The training step in integers, as a Graph: sign-m-SPSA on weights that are perturbed in place.

    g = 1/m sum_i sign(L(w + eps z_i) - L(w - eps z_i)) z_i        w <- w - lr g

(arXiv 2411.04036, equations 3 to 8.) Losses are integers, so that their comparison is one; directions are
drawn again instead of stored (`draws`), and weights are moved to each perturbation and back in their own
place (`moves`), so the step has the memory of integer inference. Three things differ from the paper.
w + round(eps_q z_q Dz) replaces (w_q 1_q + eps_q z_q) Dz: 1_q Dz is 0.992, so the loss was taken at shrunken
weights. Rounding of the update is stochastic and unbiased, the paper's floor moves every weight down. And the
1/m is part of the factor of the learning rate, so the sum of signed directions stays exact.

Blocks of parameters are perturbed one after another around the same w, each in directions of its own
(`blocks`). What stands before a block is computed once for all of its directions.

Sharpness-aware (section 3.4): first the same for a direction of its own gives a sign s_0; all else happens at
w + rho s_0 z_0, and what it finds is applied to w.
"""

from collections.abc import Iterable, Mapping
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
from edgewise.methods.fixed_point.blocks import Part, parts_of, probed
from edgewise.methods.fixed_point.draws import PIECE, Directions, Guidance, Mask, groups, packed
from edgewise.methods.fixed_point.limits import check_optimizer, check_steps, rate_of
from edgewise.methods.fixed_point.loss import cross_entropy, factor_of_logits, in_nats
from edgewise.methods.fixed_point.model import IntegerModel, quantize
from edgewise.methods.fixed_point.moves import Displacement, Mover, Perturbation, Shift, Update, between
from edgewise.methods.fixed_point.network import Network, Node
from edgewise.methods.fixed_point.operators import Linear
from edgewise.methods.fixed_point.passes import Cost, Passes
from edgewise.methods.fixed_point.probe import Probe
from edgewise.methods.settings import FixedPoint
from edgewise.zoo import losses


def capture_fixed(
    settings: FixedPoint,
    model: nn.Module,
    loss: Loss | str,
    optimizer: Optimizer,
    example_batch: tuple[Any, Any],
    name: str,
    seed: int,
) -> Captured:
    """What `capture_with` makes by this method: a step of the integer network of `model`, `Captured.model`.

    The loss is cross entropy, the optimizer `SGD` without momentum and weight decay, whose rate is that of
    real weights; the batch is real data, float `[B, ...]` and int64 `[B]`.

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
    parts = parts_of(settings, (name for name, p in made.network.parameters.items() if p.trained))
    check_steps(made.network, settings, {name: rate * part.rate for part in parts for name in part.names})
    network = made.network.for_samples(len(example_batch[0]))
    _check_targets(network, example_batch[1])
    return _Step(made, network, parts, rate, seed).captured(name, example_batch)


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
class LossKernel:
    """The sum of cross entropies in units of 2^-20 bits."""

    logits: str
    shape: tuple[int, ...]
    factor: Factor

    def __call__(self, tensors: Tensors, option: str, first: bool, memory: Memory) -> tuple[Tensor, ...]:
        """The sum."""
        del option, first, memory
        return (cross_entropy(tensors[self.logits].view(self.shape), tensors["batch.1"], self.factor),)


@dataclass(frozen=True)
class SignKernel:
    """Which of two losses is larger: 1, -1, or 0."""

    plus: str
    minus: str

    def __call__(self, tensors: Tensors, option: str, first: bool, memory: Memory) -> tuple[Tensor, ...]:
        """The sign."""
        del option, first, memory
        return ((tensors[self.plus] - tensors[self.minus]).sign().to(torch.int8),)


@dataclass(frozen=True)
class MeanKernel:
    """The mean loss for people."""

    losses: tuple[str, ...]
    samples: int
    """In all of them together."""

    def __call__(self, tensors: Tensors, option: str, first: bool, memory: Memory) -> tuple[Tensor, ...]:
        """The mean."""
        del option, first, memory
        total = torch.stack([tensors[name] for name in self.losses]).sum()
        return (in_nats(total, self.samples),)


@dataclass(frozen=True)
class JoinKernel:
    """Signs in one tensor `[m]`."""

    signs: tuple[str, ...]

    def __call__(self, tensors: Tensors, option: str, first: bool, memory: Memory) -> tuple[Tensor, ...]:
        """All signs."""
        del option, first, memory
        return (torch.cat([tensors[name].view(-1) for name in self.signs]),)


class _Step:
    """Builds the graph: where the weights are to be, passes there, signs, and updates."""

    def __init__(
        self, model: IntegerModel, network: Network, parts: tuple[Part, ...], rate: float, seed: int
    ) -> None:
        self.model, self.network, self.parts, self.rate, self.seed = model, network, parts, rate, seed
        self.most = max(part.directions for part in parts)
        self.settings = network.settings
        self.passes = Passes(self.network)
        self.constants: dict[str, Tensor] = {}
        self.states: dict[str, str] = {}
        self.losses: dict[str, int] = {}  # value -> how many batches it is the sum of
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
        for value, part in signs.items():
            for parameter in self.movers:
                if parameter in part.names:
                    self._update(parameter, self.movers[parameter], value, part)
        loops = self.passes.offer_loops()
        graph = self.passes.graph(name, ("loss", "signs"))
        return Captured(
            graph=graph,
            kernels=self.passes.kernels,
            loops=loops,
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
        directions = self.most + (settings.sharpness > 0)
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
        return [*mover.reads(change), *([guidance.state] if guidance else [])]

    # -- passes --------------------------------------------------------------------------------------------

    def _signs(self) -> dict[str, Part]:
        """All passes, and of which part each value of signs is."""
        base: dict[Perturbation, int] = {}
        if self.settings.sharpness:
            every = Part("ascent", frozenset(self.movers), 1)
            self.passes.begin(every.label, every.names)
            ascent = Perturbation(self.most)
            base = {ascent._replace(sign=self._sign("ascent", ascent, every, {})): 1}
        return {self._signs_of(part, base): part for part in self.parts}

    def _signs_of(self, part: Part, base: Displacement) -> str:
        passes, name = self.passes, f"signs.{part.label}"
        passes.begin(part.label, part.names)
        passes.declare(name, (part.directions,), torch.int8)
        last = probed(self.network, part)
        if last:
            self._probe(last, part, base, name)
            return name
        labels = [f"{part.label}.{i}" for i in range(part.directions)]
        signs = [self._sign(label, Perturbation(i), part, base) for i, label in enumerate(labels)]
        passes.add(name, JoinKernel(tuple(signs)), signs, (name,))
        return name

    def _sign(self, label: str, direction: Perturbation, part: Part, base: Displacement) -> str:
        plus = self._pass(f"{label}+", part, base, {**base, direction: 1})
        minus = self._pass(f"{label}-", part, base, {**base, direction: -1})
        sign = self.passes.declare(f"sign.{label}", (), torch.int8)
        self.passes.add(sign, SignKernel(plus, minus), (plus, minus), (sign,))
        return sign

    def _pass(self, label: str, part: Part, base: Displacement, place: Displacement) -> str:
        """A forward pass with `part` at `place` and all else at `base`; the value of its loss."""
        network, passes = self.network, self.passes
        for node in network.nodes:
            self._apply(node, label, {name: place if name in part.names else base for name in node.weights})
        logits = passes.value_of(network.logits.value, label)
        loss = passes.declare(f"loss.{label}", (), torch.int64)
        kernel = LossKernel(logits, network.logits.shape, factor_of_logits(network.logit_scale))
        passes.add(loss, kernel, (logits, "batch.1"), (loss,), cost=self._cost_of_losses())
        self.losses[loss] = 1
        return loss

    def _probe(self, operator: Linear, part: Part, base: Displacement, signs: str) -> None:
        """All directions of `part`, which is of the last, linear operator alone."""
        passes, head = self.passes, self.network.nodes[-1]
        for node in self.network.nodes[:-1]:
            self._apply(node, part.label, dict.fromkeys(node.weights, base))
        self._shift_all(dict.fromkeys(head.weights, base))
        loss = passes.declare(f"loss.{part.label}", (), torch.int64)
        self.losses[loss] = 2 * part.directions
        movers = tuple(self.movers[name] if name in part.names else None for name in head.weights)
        kernel = Probe(
            passes.value_of(head.inputs[0].value, part.label),
            tuple(passes.versions[name] for name in head.weights),
            tuple(passes.layouts[name].size for name in head.weights),
            movers,
            operator.bias,
            part.directions,
            factor_of_logits(self.network.logit_scale),
        )
        drawn = [name for mover in movers if mover for name in self._reads(mover, {})]
        flops = 2 * part.directions * (head.flops + self._cost_of_losses().flops)
        cost = Cost(flops, operator.kind, kernel.scratch_bytes(self.network.samples), head.layer)
        passes.add(signs, kernel, (kernel.x, *kernel.weights, "batch.1", *drawn), (signs, loss), cost=cost)

    def _cost_of_losses(self) -> Cost:
        count = self.network.logits.shape[0] * self.network.logits.shape[1]
        return Cost(20 * count, "softmax", 64 * count)

    def _apply(self, node: Node, label: str, places: Mapping[str, Displacement]) -> None:
        self._shift_all(places)
        self.passes.apply(node, label)

    def _shift_all(self, places: Mapping[str, Displacement]) -> None:
        """Move trained weights to their places."""
        for name, place in places.items():
            change = between(self.places.get(name, place), place)
            if change:
                self.places[name] = place
                self._shift(name, change)

    def _shift(self, name: str, change: dict[Perturbation, int]) -> None:
        mover = self.movers[name]
        old, new = self.passes.next_version(name)
        kernel = Shift(mover, old, change)
        flops = 2 * len(change) * mover.directions.count
        self.passes.add(
            f"{new}:shift",
            kernel,
            self._reads(mover, change),
            updates=((old, new),),
            cost=Cost(flops, "random", kernel.scratch_bytes, name.rpartition(".")[0]),
        )

    # -- results -------------------------------------------------------------------------------------------

    def _results(self, signs: Iterable[str], samples: int) -> None:
        passes = self.passes
        passes.declare("loss", (), torch.float32)
        mean = MeanKernel(tuple(self.losses), samples * sum(self.losses.values()))
        passes.add("loss", mean, self.losses, ("loss",))
        passes.declare("signs", (sum(part.directions for part in self.parts),), torch.int8)
        passes.add("signs", JoinKernel(tuple(signs)), signs, ("signs",))

    def _update(self, name: str, mover: Mover, signs: str, part: Part) -> None:
        back = between(self.places[name], {})
        old, new = self.passes.next_version(name, last=True)
        updates = [(old, new)]
        guidance = mover.directions.guidance
        if guidance:
            updates.append(self.passes.next_version(guidance.state, last=True))
        stream = self._spare + list(self.movers).index(name)
        rate = rate_of(mover.parameter, self.settings, self.rate * part.rate)
        together = groups(part.directions, min(mover.directions.count, PIECE), self.network.samples)
        kernel = Update(mover, old, back, signs, rate, stream, together)
        flops = 4 * (len(back) + part.directions) * mover.directions.count
        reads = [n for n in self._reads(mover, back) if guidance is None or n != guidance.state]
        self.passes.add(
            f"{name}:update",
            kernel,
            (*reads, signs, STEP),
            updates=tuple(updates),
            cost=Cost(flops, "optimizer", kernel.scratch_bytes, name.rpartition(".")[0]),
        )
