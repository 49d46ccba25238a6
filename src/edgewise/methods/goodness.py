"""A network of units trained by forward-forward, and how it classifies; `forward_forward` trains it."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from edgewise.capture import integer_layers, labelled_layer
from edgewise.capture.calling import call_with
from edgewise.capture.integers import LEVELS
from edgewise.errors import UsageError
from edgewise.methods.chains import Call, chain_of, unsupported
from edgewise.methods.int8_operands import Int8Operands
from edgewise.methods.settings import ForwardForward

_LEAST = 1e-8
"""Added to mean squares, so that a layer that is silent is not divided by zero."""

StateOf = Callable[[str], dict[str, Tensor]]
"""Parameters and buffers of the module at a path, by their names in it."""


@dataclass(frozen=True)
class Signal:
    """What a unit reads: a float tensor normalized sample by sample, or int8 rows and their mean squares."""

    values: Tensor
    squares: Tensor | None = None

    def real(self) -> Tensor:
        """As a float tensor."""
        if self.squares is None:
            return self.values
        return self.values.to(torch.float32) * self.squares.clamp(min=_LEAST).rsqrt()[:, None]

    def rows(self) -> "Signal":
        """As int8 rows."""
        if self.squares is not None:
            return self
        q = integer_layers.rows(self.values)
        return Signal(q, integer_layers.squares(q))


def normalized(y: Tensor) -> Tensor:
    """Each sample divided by the root mean square of its elements."""
    over = list(range(1, y.dim()))
    return y * (y.square().mean(over, keepdim=True) + _LEAST).rsqrt()


@dataclass(frozen=True)
class Unit:
    """What trains as one: a layer with what follows it. Goodness is taken before `after`, which reshapes."""

    parts: tuple[tuple[str, nn.Module], ...]
    after: tuple[tuple[str, nn.Module], ...]
    names: tuple[str, ...]
    """Of its parameters."""
    channels: int
    flat: bool
    """Whether its output is [samples, features]."""

    @property
    def path(self) -> str:
        """Path of the layer itself."""
        return self.parts[0][0]

    @property
    def linear(self) -> tuple[str, str]:
        """Names of weight and bias of a lone linear layer."""
        return f"{self.path}.weight", f"{self.path}.bias"

    @property
    def is_linear_relu(self) -> bool:
        """Whether it is a linear layer, then ReLU, and nothing else."""
        kinds = [type(m) for _, m in self.parts if not isinstance(m, (nn.Identity, nn.Dropout))]
        return kinds == [nn.Linear, nn.ReLU] and not self.after and self.flat


class Layers:
    """A model as forward-forward sees it: what samples go through first, units, and the last layer."""

    def __init__(self, settings: ForwardForward, entry: tuple[Any, ...], units: tuple[Unit, ...]) -> None:
        self.settings, self.entry = settings, entry
        self.units, self.head = units[:-1], units[-1]
        self.classes = self.head.channels
        self.unit_step = settings.activation_range / LEVELS
        self._modules = {path: module for unit in units for path, module in unit.parts}

    # -- what goes in ----------------------------------------------------------------------------------------

    def enter(self, inputs: Tensor, labels: Tensor | None) -> Signal:
        """What the first unit reads: samples with `labels`, one each or several in turn, or with none."""
        if self.shares_products and labels is not None:
            each = labels.view(-1, len(inputs))
            height = self.settings.label_value
            return Signal(*labelled_layer.labelled(inputs, each, self.classes, height))
        x = self._written(inputs, labels)
        for _, module in self.entry:
            x = module(x)
        return Signal(x).rows() if self.is_fused(self.units[0]) else Signal(normalized(x))

    @property
    def shares_products(self) -> bool:
        """Whether the first unit runs on int8 rows that are samples as they are, but for the label."""
        plain = all(isinstance(module, (nn.Flatten, nn.Identity)) for _, module in self.entry)
        return plain and self.settings.label == "corner" and self.is_fused(self.units[0])

    def _written(self, x: Tensor, labels: Tensor | None) -> Tensor:
        times = 1 if labels is None else labels.shape[0] // x.shape[0]
        x = x.repeat(times, *[1] * (x.dim() - 1)) if times > 1 else x
        if labels is None:
            share = torch.full((x.shape[0], self.classes), 1 / self.classes)
        else:
            share = (labels[:, None] == torch.arange(self.classes)).to(x.dtype)
        share = share * self.settings.label_value
        if self.settings.label == "corner":
            return torch.cat([share, x.flatten(1)[:, self.classes :]], 1).view(x.shape)
        return x + (share @ waves(self.classes, tuple(x.shape[1:])).flatten(1)).view(x.shape)

    # -- through units ---------------------------------------------------------------------------------------

    def is_fused(self, unit: Unit) -> bool:
        """Whether the unit runs with its activations in int8; a gradient to earlier layers needs floats."""
        return self.settings.precision == "int8" and not self.settings.look_ahead and unit.is_linear_relu

    def through(self, unit: Unit, x: Tensor, state_of: StateOf, step: Tensor | None = None) -> Tensor:
        """The unit's output, whose squares are its goodness."""
        rounded = None if self.settings.rounding == "nearest" else step
        with Int8Operands(rounded) if self.settings.precision == "int8" else nullcontext():
            for path, module in unit.parts:
                x = call_with(module, state_of(path), x)
        return x

    def after(self, unit: Unit, y: Tensor) -> Tensor:
        """The output as the next layer wants its shape."""
        for _, module in unit.after:
            y = module(y)
        return y

    def fused(self, signal: Signal, weight: Tensor, bias: Tensor | None) -> Signal:
        """The output of a linear layer with ReLU, int8."""
        return Signal(
            *integer_layers.linear_relu(signal.values, signal.squares, weight, bias, self.unit_step)
        )

    def first(
        self, inputs: Tensor, labels: Tensor, weight: Tensor, bias: Tensor | None
    ) -> tuple[Signal, Signal]:
        """What the first unit reads and makes, of the right labels and the best of the wrong ones.

        If it `shares_products`; `labels` are [1 + candidates, B], the right ones first.
        """
        height = self.settings.label_value
        q, squares, *made = labelled_layer.first_layer(
            inputs, labels, weight, bias, self.classes, height, self.unit_step
        )
        return Signal(q, squares), Signal(*made)

    def step_through(self, unit: Unit, signal: Signal, state_of: StateOf) -> Signal:
        """What the next unit reads."""
        if self.is_fused(unit):
            held = state_of(unit.path)
            return self.fused(signal.rows(), held["weight"], held.get("bias"))
        return Signal(normalized(self.after(unit, self.through(unit, signal.real(), state_of))))

    # -- classes ---------------------------------------------------------------------------------------------

    def scores(self, x: Tensor) -> Tensor:
        """Scores of the classes for samples, [B, classes]."""
        if self.settings.inference == "readout":
            signal = self.enter(x, None)
            for unit in self.units:
                signal = self.step_through(unit, signal, self._own)
            return self.through(self.head, signal.real(), self._own)
        count = x.shape[0]
        return torch.stack([self._goodness(x, torch.full((count,), c)) for c in range(self.classes)], 1)

    def _own(self, path: str) -> dict[str, Tensor]:
        module = self._modules[path]
        return {**dict(module.named_parameters()), **dict(module.named_buffers())}

    def _goodness(self, x: Tensor, labels: Tensor) -> Tensor:
        """The sum over all units, each as a mean of squares."""
        signal = self.enter(x, labels)
        total = torch.zeros(x.shape[0])
        for unit in self.units:
            goodness, signal = self.judged(unit, signal, self._own)
            total = total + goodness
        return total

    def judged(self, unit: Unit, signal: Signal, state_of: StateOf) -> tuple[Tensor, Signal]:
        """Mean squares of what the unit makes of each sample, and what the next unit reads."""
        if self.is_fused(unit):
            signal = self.step_through(unit, signal, state_of)
            assert signal.squares is not None  # noqa: S101
            return signal.squares * self.unit_step**2, signal
        y = self.through(unit, signal.real(), state_of)
        return y.flatten(1).square().mean(1), Signal(normalized(self.after(unit, y)))


class Classifier(nn.Module):
    """A model that classifies by goodness or by readout: [B, ...] -> scores [B, classes].

    It has the children, parameters and buffers of the model, under the same names.
    """

    def __init__(self, model: nn.Module, layers: Layers) -> None:
        super().__init__()
        for name, child in model.named_children():
            self.add_module(name, child)
        for name, parameter in model.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        for name, buffer in model.named_buffers(recurse=False):
            self.register_buffer(name, buffer)
        self.training = model.training
        self._forward_forward = layers  # the only name beside the model's own

    def forward(self, x: Tensor) -> Tensor:
        """Scores of the classes."""
        return self._forward_forward.scores(x)


def layers_of(model: nn.Module) -> Layers:
    """The layers of a classifier."""
    assert isinstance(model, Classifier)  # noqa: S101  # made by `capture_with`
    return model._forward_forward  # noqa: SLF001 (of this file)


def waves(classes: int, shape: tuple[int, ...]) -> Tensor:
    """A plane wave of height 1 for each class, [classes, channels, H, W]: by direction, then by period.

    A convolution sees a wave at every position, where a label in the corner reaches only what is near.
    """
    _, height, width = shape
    turns = max(1, math.ceil(classes / 2))
    i, j = torch.arange(height)[:, None], torch.arange(width)[None, :]
    each = []
    for label in range(classes):
        angle, period = math.pi * (label % turns) / turns, 4.0 * 2 ** (label // turns)
        phase = 2 * math.pi / period * (i * math.sin(angle) + j * math.cos(angle))
        each.append(phase.cos().expand(shape))
    return torch.stack(each).to(torch.float32)


def classifier(model: nn.Module, settings: ForwardForward, batch: tuple[Any, Any]) -> Classifier:
    """The units of `model`, found on the inputs of an example batch, as a classifier.

    Raises:
        ModelUnsupported: the model is no chain of layers, or has parts that cannot be trained one by one.
        UsageError: samples are no float tensor, or too small for the labels.
    """
    inputs, _ = batch
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
        raise UsageError(
            "Method forward-forward writes labels into samples: inputs must be one float tensor."
        )
    chain = chain_of(model, inputs)
    refused = [part for link in chain.links for part in _refused(link, settings)]
    first = next((i for i, link in enumerate(chain.links) if link.has_weights), None)
    if first is None or not any(link.has_weights for link in chain.links[first + 1 :]):
        refused.append("the model itself: it has no linear layer or convolution before its last one")
    if settings.inference == "readout" and not chain.whole:
        refused.append(f"{chain.links[-1].path}: a readout must read what the layer before makes, as it is")
    if refused:
        raise unsupported(type(model).__name__, tuple(refused))
    entry = tuple((link.path, link.module) for link in chain.links[:first])
    layers = Layers(settings, entry, _units(chain.links[first:]))
    _check_samples(layers, inputs)
    return Classifier(model, layers)


def _units(links: tuple[Call, ...]) -> tuple[Unit, ...]:
    """A unit begins at each link with weights; what ends it and changes the shape comes after it."""
    groups: list[list[Call]] = []
    for link in links:
        if link.has_weights:
            groups.append([])
        groups[-1].append(link)
    return tuple(_unit(group) for group in groups)


def _unit(group: list[Call]) -> Unit:
    end = len(group)
    while end > 1 and not group[end - 1].keeps_shape and not any(group[end - 1].module.parameters()):
        end -= 1
    parts, after = (tuple((c.path, c.module) for c in part) for part in (group[:end], group[end:]))
    names = tuple(f"{path}.{name}" if path else name for path, m in parts for name, _ in m.named_parameters())
    result = group[end - 1].result
    return Unit(parts, after, names, int(result.shape[1]), result.dim() == 2)


def _refused(link: Call, settings: ForwardForward) -> list[str]:
    """Parts of a link that cannot be trained this way, with paths and reasons."""
    found = []
    for name, module in link.module.named_modules():
        path = ".".join(filter(None, (link.path, name))) or "the model itself"
        if isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
            found.append(
                f"{path}: {type(module).__name__}: a recurrent layer has no single pass to be good in"
            )
        elif isinstance(module, nn.Embedding):
            found.append(f"{path}: Embedding: no label can be written into indices")
        elif isinstance(module, _ConvNd) and settings.precision == "int8":
            plain = type(module) is nn.Conv2d and module.padding_mode == "zeros"
            if not plain or isinstance(module.padding, str):
                found.append(f"{path}: {type(module).__name__}: only Conv2d padded by zeros runs on int8")
    if not isinstance(link.args[0], Tensor) or not isinstance(link.result, Tensor):
        found.append(f"{link.path}: it does not make one tensor of one tensor")
    return found


def _check_samples(net: Layers, inputs: Tensor) -> None:
    numbers = inputs[0].numel()
    if net.settings.label == "corner" and numbers <= net.classes:
        raise UsageError(
            f"Method forward-forward: {net.classes} classes do not fit into samples of {numbers} numbers. "
            'Use samples with room for a label, or images with `label = "wave"`.'
        )
    if net.settings.label == "wave" and inputs.dim() != 4:
        raise UsageError(
            f"Method forward-forward: samples are {list(inputs.shape[1:])}; waves go into images [channels, "
            'height, width]. Use `label = "corner"`.'
        )
    if net.classes < 2:
        raise UsageError("Method forward-forward: the model scores one class; a wrong label needs two.")
