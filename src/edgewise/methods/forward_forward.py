"""Forward-forward: each layer learns on its own to tell samples with a right label from ones with a wrong.

Hinton's forward-forward algorithm (arXiv 2212.13345), and FF-INT8 (arXiv 2506.22771, DAC 2025) with `int8`.
A label is written into the sample. A layer of n outputs y has the goodness G = s/n ||y||^2 and the threshold
theta = s t, so that theta grows with the width where G is the sum of squares (s = n; the reference codes
disagree: 2.0 goes with the mean). Its loss is

    L = mean softplus(theta - G(right label)) + mean softplus(G(wrong label) - theta)

and, with peer normalization, the variance over its outputs of their running means. The next layer reads
y / rms(y): not how large y is, or it could read G off its input.

With `pairs`, L = mean softplus(G(wrong label) - G(right label)), which settles sooner (SymBa, arXiv
2303.08418). Wrong labels are drawn anew in each step; of several candidates for a sample, that one is learned
from in which the first layer finds most goodness, for most of the others are told apart early.

Look-ahead of depth h gives layer i the gradient of L_i + lambda (L_{i+1} + ... + L_{i+h}), by the chain
rule. So equation 4 of FF-INT8 is read here, though its text says that no chain is built: without one, later
losses contribute nothing. lambda rises with the epochs. The activations of h + 1 layers are held at once;
with h = 0, of one.

The last layer of the model is no unit: classes are scored by the goodness that the others find for each
label. Only with `readout` it is trained, by cross entropy, on what the others make of a sample whose label
is spread over all classes.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from edgewise.capture import JointGraph, Loss, Trace, contrast, integer_layers
from edgewise.capture.directions import step_number
from edgewise.capture.estimates import Estimate, Forward, Parameters, trace_estimate
from edgewise.errors import UsageError
from edgewise.methods.goodness import Layers, Signal, Unit, classifier, layers_of, normalized
from edgewise.methods.settings import ForwardForward
from edgewise.zoo.losses import cross_entropy

__all__ = ["classifier", "estimate", "trace"]

_MEMORY = 0.9
"""What a running mean keeps of itself in a step."""


def trace(settings: ForwardForward) -> Trace:
    """The step of forward-forward as a trace for `capture`; the model is a `Classifier`."""
    return partial(_trace, settings=settings)


def _trace(model: nn.Module, loss: Loss, batch: tuple[Any, Any], settings: ForwardForward) -> JointGraph:
    layers = layers_of(model)
    if loss is not cross_entropy:
        raise UsageError(
            "Method forward-forward has losses of its own and classifies: the loss must be `cross_entropy`."
        )
    states = {}
    if settings.peer:
        states = {_state(unit): torch.zeros(unit.channels) for unit in layers.units}
    return trace_estimate(model, loss, batch, partial(estimate, layers=layers), states)


def _state(unit: Unit) -> str:
    return f"{unit.path}.mean_activity"


def estimate(
    forward: Forward, parameters: Parameters, states: dict[str, Tensor], *, layers: Layers
) -> Estimate:
    """Loss: the sum of the layers' own, which the notes hold one by one."""
    step = _Step(layers, parameters, states, forward)
    gradients, losses = step.run()
    if layers.settings.inference == "readout":
        gradients.update(step.readout())
    each = torch.stack(losses)
    return Estimate(each.sum(), gradients, {"losses": each})


class _Step:
    """One step: `run` goes through the units and finds gradients of their parameters and their losses."""

    def __init__(
        self, layers: Layers, parameters: Parameters, states: Mapping[str, Tensor], forward: Forward
    ) -> None:
        self.layers, self.parameters, self.states = layers, parameters, states
        self.settings = layers.settings
        self.inputs, self.targets = forward.batch
        self.held = forward.held
        self.number = step_number(self.inputs)

    def run(self) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Both kinds of samples side by side, the right labels first."""
        gradients: dict[str, Tensor] = {}
        losses: list[Tensor] = []
        with torch.no_grad():
            signal, made = self._enter()
        for index, unit in enumerate(self.layers.units):
            if self.layers.is_fused(unit):
                found, loss, signal = self._fused(unit, signal, made)
                gradients.update(found)
            else:
                loss, signal = self._local(unit, signal)
                self._spread(index, loss, gradients)
            losses.append(loss.detach())
            made = None
        return gradients, losses

    def _enter(self) -> tuple[Signal, Signal | None]:
        """What the first unit reads; and what it makes of that, where this was needed to choose labels."""
        layers, s = self.layers, self.settings
        wrong = contrast.wrong_labels(self.targets, self.number, layers.classes, s.candidates)
        labels = torch.cat([self.targets[None], wrong])
        if layers.shares_products:
            weight, bias = self._linear(layers.units[0])
            return layers.first(self.inputs, labels, weight, bias)
        if s.candidates > 1:
            tried = layers.enter(self.inputs, wrong.flatten())
            goodness, _ = layers.judged(layers.units[0], tried, self._copies_of)
            best = goodness.view(wrong.shape).argmax(0, keepdim=True)
            labels = torch.cat([self.targets[None], wrong.gather(0, best)])
        return layers.enter(self.inputs, labels.flatten()), None

    def _linear(self, unit: Unit) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of a unit that is one linear layer."""
        weight, bias = (self.held.get(name) for name in unit.linear)
        assert weight is not None  # noqa: S101
        return weight, bias

    # -- by autograd -----------------------------------------------------------------------------------------

    def _local(self, unit: Unit, signal: Signal) -> tuple[Tensor, Signal]:
        """The unit's loss, and what the next one reads: cut off from its past without a look-ahead."""
        x = signal.real()
        x = x if self.settings.look_ahead else x.detach()
        y = self.layers.through(unit, x, self._state_of, self.number)
        goodness = y.flatten(1).square().mean(1)
        over = [d for d in range(y.dim()) if d != 1]
        activity = y[: len(y) // 2].mean(over) if self.settings.peer else None
        loss = self._loss(unit, goodness, activity)
        after = self.layers.after(unit, y if self.settings.look_ahead else y.detach())
        return loss, Signal(normalized(after))

    def _loss(self, unit: Unit, goodness: Tensor, activity: Tensor | None) -> Tensor:
        """Of the mean squares of all samples, and the mean output of each neuron for right labels."""
        s = self.settings
        right, wrong = (s.sharpness * goodness).chunk(2)
        if s.pairs:
            loss = softplus(wrong - right).mean()
        else:
            theta = s.sharpness * s.threshold
            loss = softplus(theta - right).mean() + softplus(wrong - theta).mean()
        return loss if activity is None else loss + self._peer_loss(unit, activity)

    def _peer_loss(self, unit: Unit, activity: Tensor) -> Tensor:
        """Of the mean output of each neuron for right labels; the running means move on."""
        running = self.states[_state(unit)]
        new = _MEMORY * running + (1 - _MEMORY) * activity
        with torch.no_grad():
            running.copy_(new.detach())
        return self.settings.peer * (new - new.mean()).square().mean()

    def _spread(self, index: int, loss: Tensor, gradients: dict[str, Tensor]) -> None:
        """Add the gradient of a unit's loss to those of its own parameters, and of units that look ahead."""
        units = self.layers.units[max(0, index - self.settings.look_ahead) : index + 1]
        names = [[n for n in unit.names if n in self.parameters] for unit in units]
        flat = [self.parameters[n] for each in names for n in each]
        found = iter(torch.autograd.grad(loss, flat, retain_graph=bool(self.settings.look_ahead)))
        for unit, each in zip(units, names, strict=True):
            for name in each:
                gradient = next(found)
                if unit is not units[-1]:
                    gradient = gradients[name] + gradient * self._weight()
                gradients[name] = gradient

    def _weight(self) -> Tensor:
        """The weight of later losses in this step."""
        s = self.settings
        epoch = torch.div(self.number, s.steps_per_epoch, rounding_mode="floor")
        return s.look_ahead_start + s.look_ahead_rate * epoch

    def _state_of(self, path: str) -> dict[str, Tensor]:
        """Parameters and buffers of the module at `path`, by their names in it."""
        prefix = f"{path}." if path else ""
        return {n.removeprefix(prefix): t for n, t in self.held.items() if n.startswith(prefix)}

    # -- with activations in int8 ----------------------------------------------------------------------------

    def _fused(
        self, unit: Unit, signal: Signal, made: Signal | None
    ) -> tuple[dict[str, Tensor], Tensor, Signal]:
        """As `_local` and `_spread` for a linear layer with ReLU; its gradient is written out."""
        s, half = self.settings, self.targets.shape[0]
        signal = signal.rows()
        made = made or self.layers.fused(signal, *self._linear(unit))
        y = made.values
        unit_step, p = self.layers.unit_step, None
        threshold = None if s.pairs else s.threshold / unit_step**2
        loss, slope = contrast.contrast(made.squares, s.sharpness * unit_step**2, threshold)
        if s.peer:
            activity = (y[:half].sum(0) * (unit_step / half)).requires_grad_()
            with torch.enable_grad():
                peers = self._peer_loss(unit, activity)
            loss, p = loss + peers, torch.autograd.grad(peers, activity)[0] / half
        stochastic = s.rounding == "stochastic"
        q, squares = signal.values, signal.squares
        g, scale, sums = integer_layers.relu_gradient(
            y, slope, p, squares, self.number, unit_step, stochastic
        )
        of = {unit.linear[0]: integer_layers.weight_gradient(g, q, scale), unit.linear[1]: sums}
        return {name: of[name] for name in unit.linear if name in self.parameters}, loss, made

    # -- the readout -----------------------------------------------------------------------------------------

    def readout(self) -> dict[str, Tensor]:
        """Gradients of the last layer's parameters, by cross entropy."""
        head = self.layers.head
        with torch.no_grad():
            signal = self.layers.enter(self.inputs, None)
            for unit in self.layers.units:
                signal = self.layers.step_through(unit, signal, self._copies_of)
        names = [n for n in head.names if n in self.parameters]
        scores = self.layers.through(head, signal.real().detach(), self._state_of, self.number)
        found = torch.autograd.grad(cross_entropy(scores, self.targets), [self.parameters[n] for n in names])
        return dict(zip(names, found, strict=True))

    def _copies_of(self, path: str) -> dict[str, Tensor]:
        """As `_state_of`, but with copies of buffers, which move once a step."""
        return {n: t if t.requires_grad else t.clone() for n, t in self._state_of(path).items()}
