"""Forward gradients on activities: noise on what layers put out, and the slope of the loss along it.

    z' = z + u (u at value 0)     c_n = sum over all noise of (dL/dz_n . u_n)     grad z_n = c_n u_n [active]

for each sample n (arXiv 2210.03310, section 3). One pass with tangents gives all c_n; the parameters of a
layer get theirs from grad z by a backward pass through that layer alone. Of a layer from p to q units, in a
batch of N, the variance of an element is (q+2)/N V + (q+1)/N S, with V that of one sample's gradient and S
the mean squared gradient, where noise on weights has pq instead of q. Signs instead of normal numbers make it
q/N V + (q-1)/N S; noise that all samples share has (q+1) S, or (q-1) S.

With `blocks` each segment of the model has noise and a loss of its own (`local_losses.py`), with `patches`
and `groups` each position and group of channels of a block's output too: their losses are all that of the
block, but what comes from the others counts as constant (replicated aggregation, section 4), so that the
slope at (p, g) is what the noise that reaches (p, g) does there. Which noise reaches only its own position or
group is found out by a trial pass (`reach.py`); the slopes of the others are sums. So the estimate
is unbiased for every model, as far as samples do not mix: norms over the batch are refused.

The last layer and the heads get their exact gradient.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils import _pytree as pytree

from edgewise.capture import JointGraph, Loss, Trace
from edgewise.capture.directions import FIRST_STREAM, direction
from edgewise.capture.estimates import Estimate, Forward, Parameters, trace_estimate
from edgewise.methods.local_losses import Head, head_states, owners
from edgewise.methods.reach import Reach, reaches
from edgewise.methods.relus import Relus, Unit
from edgewise.methods.settings import ActivityPerturbation
from edgewise.methods.taps import (
    Listener,
    Survey,
    Taps,
    by_patches,
    check_blocks,
    dual,
    from_patches,
    refuse,
    samples,
    survey,
    unpack,
    without_tangents,
)
from edgewise.methods.zeros import without_zeros

METHOD = "activity-perturbation"


def trace(settings: ActivityPerturbation) -> Trace:
    """The step of activity perturbation as a trace for `capture`."""
    return partial(_trace, settings=settings)


@dataclass(frozen=True)
class _Site:
    """One call of a layer: what of it is trained, and how it is perturbed (`None`: not, it is the last)."""

    layer: str
    parameters: tuple[str, ...]
    reach: Reach | None
    stream: int


def _trace(
    model: nn.Module, loss: Loss, batch: tuple[Any, Any], settings: ActivityPerturbation
) -> JointGraph:
    check_blocks(model, settings.blocks, METHOD)
    layers = layers_of(model, settings.layers)
    taps = Taps(model, settings.blocks, tuple(layers))
    with taps.open():
        found = survey(taps, batch[0], METHOD)
        _check_calls(model, found, layers, samples(batch[0]))
        sites = _sites(found, layers, reaches(taps, batch[0], found, settings))
        estimator = partial(estimate, settings=settings, taps=taps, sites=sites)
        return without_zeros(trace_estimate(model, loss, batch, estimator, head_states(found)))


def layers_of(model: nn.Module, named: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """The trainable parameters of each layer: of modules without modules in them, and of those `named`.

    Raises:
        ModelUnsupported: a parameter belongs to no layer, or a norm mixes the samples of a batch.
    """
    layers: dict[str, tuple[str, ...]] = {}
    parts = []
    for path, own in owners(model).items():
        above = next((layer for layer in named if f"{path}.".startswith(f"{layer}.")), None)
        if above is not None:
            layers[above] = (*layers.get(above, ()), *own)
        elif any(True for _ in model.get_submodule(path).children()):
            parts += [f"{n}: parameter: it belongs to no layer, but to a module of modules" for n in own]
        else:
            layers[path] = own
    parts += [
        f"{path}: {type(module).__name__}: it mixes the samples of a batch"
        for path, module in model.named_modules()
        if isinstance(module, _BatchNorm) and (module.training or module.running_mean is None)
    ]
    hint = "Name such a module in `layers`, freeze the parameter, or put norms over the batch into eval mode."
    refuse(model, parts, METHOD, hint)
    return layers


def _check_calls(model: nn.Module, found: Survey, layers: Mapping[str, tuple[str, ...]], batch: int) -> None:
    """Refuse layers that are never called, and outputs that have no sample an entry of their first axis."""
    called = {call.layer for call in found.calls}
    parts = [f"{path}: layer: it is not called in a pass" for path in layers if path not in called]
    for call in found.calls:
        out = call.output
        if not isinstance(out, Tensor) or not out.is_floating_point():
            parts.append(f"{call.layer}: layer: it returns a {type(out).__name__}, not one tensor of numbers")
        elif out.ndim < 1 or out.shape[0] != batch:
            parts.append(
                f"{call.layer}: layer: its output {list(out.shape)} has no axis of {batch} samples in front"
            )
    hint = "Name a module around such a layer in `layers`, or freeze its parameters."
    refuse(model, list(dict.fromkeys(parts)), METHOD, hint)


def _sites(found: Survey, layers: Mapping[str, tuple[str, ...]], reached: list[Reach]) -> tuple[_Site, ...]:
    """All calls of layers; the last is exact if the model's own loss is what it learns from."""
    last = len(found.calls) - 1
    exact = {last} if found.calls[last].segment == len(found.features) else set()
    return tuple(
        _Site(call.layer, layers[call.layer], None if i in exact else reached[i], FIRST_STREAM + i)
        for i, call in enumerate(found.calls)
    )


@dataclass
class _Call:
    """A layer that has been called: `output` has the graph of that layer alone behind it."""

    site: _Site
    output: Tensor
    noise: Tensor
    unit: Unit


@dataclass
class _Perturbed(Listener):
    """One pass with noise; takes the gradients of each segment at its end."""

    forward: Forward
    parameters: Parameters
    states: dict[str, Tensor]
    settings: ActivityPerturbation
    sites: tuple[_Site, ...]
    first_stream: int
    gradients: dict[str, Tensor] = field(default_factory=dict)
    losses: dict[str, Tensor] = field(default_factory=dict)
    relus: Relus = field(default_factory=Relus)
    _count: int = 0
    _calls: list[_Call] = field(default_factory=list)
    _outputs: list[tuple[Tensor, Tensor | None]] = field(default_factory=list)

    def run(self) -> Tensor:
        """The loss; then all gradients are there."""
        with forward_ad.dual_level(), self.relus:
            loss = self.forward(self.parameters, keep=self.first_stream == 0).reshape(())
        ends = [value for value, _ in self._outputs]
        last = self.sites[-1].parameters if self.sites[-1].reach is None else ()
        wanted = [*ends, *(self.parameters[name] for name in last)]
        found = torch.autograd.grad(loss, wanted, allow_unused=True)
        self._add(last, found[len(ends) :])
        slopes = [
            (gradient * tangent).flatten(1).sum(1)
            for gradient, (_, tangent) in zip(found, self._outputs, strict=False)
            if gradient is not None and tangent is not None
        ]
        if slopes:
            self._close(sum(slopes[1:], slopes[0]).view(-1, 1, 1))
        return loss.detach()

    def layer(self, path: str, output: Tensor) -> Tensor:
        """The output with noise at value 0."""
        del path
        site = self.sites[self._count]
        self._count += 1
        if site.reach is None:
            return output
        value, tangent = unpack(output)
        noise = self._noise(site, value)
        moved = dual(value.detach(), noise if tangent is None else tangent.detach() + noise)
        self._calls.append(_Call(site, value, noise, self.relus.follow(moved)))
        return moved

    def block(self, path: str, output: Tensor) -> Tensor:
        """A local loss: its head's gradient, and the slopes for the layers of the segment."""
        value, tangent = unpack(output)
        features = value.detach().requires_grad_()
        head = Head.of(path, self.forward, self.states)
        loss = head.loss(features)
        gradient, *own = torch.autograd.grad(loss, (features, *head.tensors))
        self._add(head.names, own)
        self.losses[path] = loss.detach()
        moved = None if tangent is None else by_patches(gradient * tangent.detach())
        with without_tangents():
            if moved is not None:
                self._close(torch.unflatten(moved, 2, (self.settings.groups, -1)).sum(3))
            return value.detach()

    def end(self, output: Any) -> Any:
        """The output without tangents, which are kept."""
        leaves, spec = pytree.tree_flatten(output)
        for index, leaf in enumerate(leaves):
            if isinstance(leaf, Tensor) and leaf.is_floating_point():
                value, tangent = unpack(leaf)
                leaves[index] = value if value.requires_grad else value.detach().requires_grad_()
                self._outputs.append((leaves[index], None if tangent is None else tangent.detach()))
        return pytree.tree_unflatten(leaves, spec)

    def _noise(self, site: _Site, like: Tensor) -> Tensor:
        """Drawn once in a step; a plan may forget it and draw the same again."""
        like = like.detach()
        stream = site.stream + self.first_stream
        if self.settings.shared:
            shared: Tensor = direction(like[0], stream, self.settings.law)
            return shared.expand_as(like)
        own: Tensor = direction(like, stream, self.settings.law)
        return own

    def _close(self, slopes_BPG: Tensor) -> None:
        """The gradients of the segment's layers."""
        for call in self._calls:
            names = call.site.parameters
            found = self._output_gradient(call, slopes_BPG)
            wanted = [self.parameters[name] for name in names]
            self._add(names, torch.autograd.grad(call.output, wanted, found, allow_unused=True))
        self._calls = []

    def _output_gradient(self, call: _Call, slopes_BPG: Tensor) -> Tensor:
        noise, reach = call.noise, call.site.reach
        slopes_BPG = reach.gather(slopes_BPG)  # type: ignore[union-attr]
        if slopes_BPG.shape[1:] == (1, 1):
            found = noise * slopes_BPG.view(-1, *(1,) * (noise.ndim - 1))
        else:
            noise_BPGC = torch.unflatten(by_patches(noise), 2, (slopes_BPG.shape[2], -1))
            found = from_patches((noise_BPGC * slopes_BPG.unsqueeze(3)).flatten(2), noise.shape)
        active = call.unit.active()
        return found if active is None else found * active

    def _add(self, names: tuple[str, ...], gradients: Any) -> None:
        for name, gradient in zip(names, gradients, strict=True):
            if gradient is not None:
                known = self.gradients.get(name)
                self.gradients[name] = gradient if known is None else known + gradient


def estimate(
    forward: Forward,
    parameters: Parameters,
    states: dict[str, Tensor],
    *,
    settings: ActivityPerturbation,
    taps: Taps,
    sites: tuple[_Site, ...],
) -> Estimate:
    """Loss: the model's own; the local ones are notes."""
    gradients: dict[str, Tensor] = {}
    for index in range(settings.directions):
        taps.listener = one = _Perturbed(forward, parameters, states, settings, sites, index * len(sites))
        loss = one.run()
        for name, gradient in one.gradients.items():
            part = gradient / settings.directions if settings.directions > 1 else gradient
            gradients[name] = gradients[name] + part if name in gradients else part
    notes = {f"local_loss.{block}": found for block, found in one.losses.items()}
    return Estimate(loss, gradients, notes)
