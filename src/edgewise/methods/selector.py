"""What to train under a budget: layers and channels by Fisher potential, their cost by really planning them.

The Fisher potential of output channel o, from one backward pass of N samples, of activations a with gradients
g,

    P_o = 1/(2N) sum_n ( sum_d a_nod g_nod )^2

and the score of a layer

    s = sum_o P_o / ( W / max W * M / max M )        W: its weights, M: its multiply-adds

are those of TinyTrain (arXiv 2307.09988): what a layer promises for the task, for what it holds and computes.
Layers are taken by score, each with all its channels if that fits, else with the most promising share of
them, until nothing more fits. Whether a choice fits is no estimate: its step is captured, and a checked plan
of it must keep the budget on the device.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from edgewise.capture import Loss, Optimizer
from edgewise.capture.calling import call_arguments
from edgewise.capture.modes import in_evaluation
from edgewise.devices import Device
from edgewise.errors import BudgetInfeasible, ModelUnsupported, UsageError
from edgewise.methods.capture import capture_with
from edgewise.methods.settings import Channels, SparseUpdate
from edgewise.plan import Budget, Plan, make_plan, plain_plan
from edgewise.zoo.losses import resolve_loss

SHARES = (0.5, 0.25, 0.125)
"""Shares of a layer's channels that are tried where the whole does not fit."""

_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


@dataclass(frozen=True)
class Potential:
    """What one layer promises and costs; `channels` holds P_o of each output channel."""

    path: str
    channels: Tensor
    weights: int
    macs: int
    """Multiply-adds for one sample."""

    def best(self, share: float) -> Channels:
        """The channels of highest potential, in ascending order; all of them as a share of 1."""
        count = max(1, round(share * len(self.channels)))
        if count >= len(self.channels):
            return 1.0
        return tuple(sorted(self.channels.topk(count).indices.tolist()))


def potentials(
    model: nn.Module, loss: Loss | str, batches: Iterable[tuple[Any, Any]]
) -> tuple[Potential, ...]:
    """The Fisher potential of every convolution and linear layer that can be trained, in the model's order.

    One forward and backward pass a batch, in evaluation mode; nothing is changed in the model.

    Raises:
        UsageError: there is no batch, or no such layer.
    """
    layers = {
        path: m for path, m in model.named_modules() if isinstance(m, _LAYERS) and m.weight.requires_grad
    }
    probe = _Probe()
    handles = [m.register_forward_hook(probe.hook(path)) for path, m in layers.items()]
    try:
        with in_evaluation(model):
            for batch in batches:
                probe.take(model, resolve_loss(loss), batch)
    finally:
        for handle in handles:
            handle.remove()
    if not probe.sums:
        what = "a batch" if not probe.samples else "a convolution or linear layer to be trained"
        raise UsageError(f"Selecting what to train takes {what}, and there is none.")
    return tuple(
        Potential(path, probe.sums[path] / (2 * probe.samples), m.weight.numel(), probe.macs[path])
        for path, m in layers.items()
        if path in probe.sums
    )


@dataclass
class _Probe:
    """Sums over batches of what the hooks see; `outputs` are those of the batch under way."""

    outputs: dict[str, list[Tensor]] = field(default_factory=dict)
    layers: dict[str, nn.Module] = field(default_factory=dict)
    sums: dict[str, Tensor] = field(default_factory=dict)
    macs: dict[str, int] = field(default_factory=dict)
    samples: int = 0

    def hook(self, path: str) -> Any:
        def note(module: nn.Module, _: Any, output: Tensor) -> None:
            self.layers[path] = module
            self.outputs.setdefault(path, []).append(output)

        return note

    def take(self, model: nn.Module, loss: Loss, batch: tuple[Any, Any]) -> None:
        self.outputs = {}
        inputs, targets = batch
        args, kwargs = call_arguments(inputs)
        with torch.enable_grad():
            value = loss(model(*args, **kwargs), targets)
            calls = [(path, output) for path, made in self.outputs.items() for output in made]
            made = [output for _, output in calls]
            gradients = torch.autograd.grad(value, made, allow_unused=True) if made else ()
        samples = len(targets)
        self.samples += samples
        for (path, output), gradient in zip(calls, gradients, strict=True):
            if gradient is not None:
                self._add(path, output.detach(), gradient * samples)  # of the sum over samples, not the mean
        self.outputs = {}

    def _add(self, path: str, a: Tensor, g: Tensor) -> None:
        layer, channel_dim = self.layers[path], -1 if isinstance(self.layers[path], nn.Linear) else 1
        product = (a * g).movedim(channel_dim, 1).flatten(2) if a.dim() > 2 else (a * g)[..., None]
        found = product.sum(2).square().sum(0)
        self.sums[path] = self.sums.get(path, torch.zeros_like(found)) + found
        weight: Tensor = layer.weight  # type: ignore[assignment]
        self.macs[path] = a.numel() // (len(a) * len(weight)) * weight.numel()


def scores(found: Sequence[Potential]) -> dict[str, float]:
    """The score of each layer by its path: potential for its size and work, as in the module's formula."""
    weights, macs = max(p.weights for p in found), max(p.macs for p in found)
    return {p.path: float(p.channels.sum()) / (p.weights / weights * p.macs / macs) for p in found}


def select(
    model: nn.Module,
    loss: Loss | str,
    optimizer: Optimizer,
    batches: Sequence[tuple[Any, Any]],
    device: Device,
    ram_bytes: int,
    joules: float | None = None,
    *,
    time_limit: float = 0.0,
) -> SparseUpdate:
    """What to train of `model` so that a step keeps `ram_bytes` and `joules` on `device`.

    Args:
        model: in the mode that it is to be trained in.
        loss: as in `capture`.
        optimizer: whose states count.
        batches: a few batches of the new task, of the size of those to be trained with.
        device: whose energy counts.
        ram_bytes: limit of one step's RAM.
        joules: limit of one step's energy, if any.
        time_limit: seconds to plan each choice that does not fit as it is; if 0, what is chosen fits a plain
            plan.

    Raises:
        BudgetInfeasible: not even one channel of one layer can be trained; with the least RAM that was seen.
        UsageError: as in `potentials`.
    """
    found = potentials(model, loss, batches)
    ranking = scores(found)
    pricer = _Pricer(model, loss, optimizer, batches[0], device, Budget(ram_bytes, joules=joules), time_limit)
    choice = _Choice(model, pricer)
    todo = sorted(found, key=lambda p: ranking[p.path], reverse=True)
    while todo:
        fitting = choice.longest(todo)
        if fitting < len(todo):
            choice.add_part(todo[fitting])
        todo = todo[fitting + 1 :]
    if not choice.weights:
        raise pricer.nothing_fits()
    choice.add_biases([p.path for p in found])
    return choice.settings()


class _Choice:
    """What was chosen so far; every addition keeps the budget."""

    def __init__(self, model: nn.Module, pricer: "_Pricer") -> None:
        self.pricer = pricer
        self.weights: dict[str, Channels] = {}
        self.more: tuple[str, ...] = ()
        self._biased = {path for path, m in model.named_modules() if getattr(m, "bias", None) is not None}

    def settings(self, extra: dict[str, Channels] | None = None) -> SparseUpdate:
        weights = {**self.weights, **(extra or {})}
        biases = {*weights, *self.more} & self._biased
        return SparseUpdate(dict(sorted(weights.items())), tuple(sorted(biases)))

    def longest(self, todo: Sequence[Potential]) -> int:
        """Add as many of the first layers of `todo` as fit whole, and say how many."""
        least, most = 0, len(todo)  # `least` fit, more than `most` do not: costs grow with what is trained
        while least < most:
            middle = (least + most + 1) // 2
            if self.pricer.fits(self.settings({p.path: 1.0 for p in todo[:middle]})):
                least = middle
            else:
                most = middle - 1
        self.weights.update({p.path: 1.0 for p in todo[:least]})
        return least

    def add_part(self, layer: Potential) -> None:
        """Add the largest share of `layer` that fits, if any does."""
        if not self.pricer.fits(self.settings({layer.path: layer.best(SHARES[-1])})):
            return
        share = next(s for s in SHARES if self.pricer.fits(self.settings({layer.path: layer.best(s)})))
        self.weights[layer.path] = layer.best(share)

    def add_biases(self, order: list[str]) -> None:
        """Add the biases of all layers that the backward pass comes by, if they fit."""
        first = min(order.index(path) for path in self.weights)
        self.more = tuple(order[first:])
        if not self.pricer.fits(self.settings()):
            self.more = ()


@dataclass
class _Pricer:
    """Captures and plans candidates; remembers whether they fit."""

    model: nn.Module
    loss: Loss | str
    optimizer: Optimizer
    batch: tuple[Any, Any]
    device: Device
    budget: Budget
    time_limit: float
    known: dict[str, bool] = field(default_factory=dict)
    least: Plan | None = None

    def fits(self, settings: SparseUpdate) -> bool:
        """Whether a plan of this choice keeps the budget."""
        key = repr(settings)
        if key not in self.known:
            self.known[key] = self._fits(settings)
        return self.known[key]

    def _fits(self, settings: SparseUpdate) -> bool:
        try:
            captured = capture_with(settings, self.model, self.loss, self.optimizer, self.batch)
        except ModelUnsupported:
            if all(channels == 1.0 for channels in settings.weights.values()):
                raise  # the model cannot be captured at all
            return False  # channels of this layer do not stand alone
        plan = plain_plan(captured.graph, self.device)
        if self.least is None or plan.peak_bytes < self.least.peak_bytes:
            self.least = plan
        within = self.budget.joules is None or plan.joules <= self.budget.joules
        if plan.peak_bytes <= self.budget.ram_bytes or not within or not self.time_limit:
            return within and plan.peak_bytes <= self.budget.ram_bytes
        try:
            make_plan(captured.graph, self.device, self.budget, time_limit=self.time_limit)
        except BudgetInfeasible:
            return False
        return True

    def nothing_fits(self) -> BudgetInfeasible:
        """The error, with the cheapest step that was tried."""
        assert self.least is not None  # noqa: S101  # at least one choice was priced
        limit = "" if self.budget.joules is None else f" and {self.budget.joules:.6g} J"
        return BudgetInfeasible(
            f"No layer can be trained within {self.budget.ram_bytes:,} B{limit}. The cheapest choice takes "
            f"{self.least.peak_bytes:,} B and {self.least.joules:.6g} J a step on `{self.device.name}`. "
            "Raise the budget, take a smaller batch, or a method without a backward pass.",
            min_ram_bytes=self.least.peak_bytes,
        )
