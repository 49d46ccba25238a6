"""Frozen layers on int8 (arXiv 2206.15472): those that no gradient passes, before the first that is trained.

Weights are rounded to int8 at a scale for each output channel, activations at one scale for each tensor: its
largest element over the batches that are watched. Batch norms behind such layers, with the running
statistics, become part of them; so do the clamps (ReLU, ReLU6, ...) that limit what a layer puts out.
`capture.requantized` has the arithmetic, which is exact in whole numbers.

Behind the first trained layer, activations stay in floats, for gradients pass them; frozen convolutions there
have int8 weights (`capture.int8_weights`).
"""

import copy
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (its common name)
from torch.overrides import TorchFunctionMode

from edgewise.capture import int8_weights, integers, requantized
from edgewise.capture.calling import call_arguments
from edgewise.capture.modes import in_evaluation
from edgewise.errors import UsageError
from edgewise.methods.sparse_update import trained_alone

LEVELS = integers.LEVELS
_LEAST = 1e-12
"""What a range of zero is taken for."""

_LAYERS = (F.linear, F.conv2d, torch.conv2d)
_NORMS = (F.batch_norm, torch.batch_norm)
_CLAMPS = {"relu", "relu_", "relu6", "hardtanh", "hardtanh_", "clamp", "clamp_", "clamp_min", "clamp_min_"}


class Int8Layer(nn.Module):
    """A convolution or linear layer on int8, in the place of a float one; takes and makes floats.

    `weight` is int8, `bias` int32, `factor` what sums are multiplied by, one for each output channel. The
    output is `output_scale` times whole numbers from `least` to `most`.
    """

    weight: Tensor
    bias: Tensor
    factor: Tensor
    input_scale: Tensor

    def __init__(
        self, layer: nn.Conv2d | nn.Linear, input_scale: float, output_scale: float, least: int, most: int
    ) -> None:
        super().__init__()
        w, w_scale = _rounded(layer.weight.detach())
        b = torch.zeros(len(w)) if layer.bias is None else layer.bias.detach()
        self.register_buffer("weight", w)
        self.register_buffer("bias", _int32(b.double() / (input_scale * w_scale.double())))
        self.register_buffer("factor", w_scale * (input_scale / output_scale))
        self.register_buffer("input_scale", torch.tensor(input_scale))
        self.output_scale, self.least, self.most = output_scale, least, most
        self._settings: tuple[list[int], int] | None = None
        if isinstance(layer, nn.Conv2d):
            self._settings = _settings_of(layer)

    def extra_repr(self) -> str:
        """Sizes and scales, for people."""
        sizes = "x".join(map(str, self.weight.shape))
        return f"{sizes}, {self.least} to {self.most} times {self.output_scale:.3g}"

    def forward(self, x: Tensor) -> Tensor:
        """The output in floats, on the grid of `output_scale`; of floats, or of int8 at `input_scale`."""
        q = x if x.dtype == torch.int8 else integers.nearest(x, self.input_scale)
        given, limits = (self.weight, self.bias, self.factor), [self.least, self.most]
        if self._settings is not None:
            y = requantized.convolution(q, *given, *self._settings, limits)
        else:
            rows = requantized.linear(q.reshape(-1, q.shape[-1]), *given, limits)
            y = rows.view(*q.shape[:-1], rows.shape[-1])
        made: Tensor = requantized.floats(y, self.output_scale)
        return made


class Int8Weights(nn.Module):
    """A frozen convolution in float32 by int8 weights, in the place of `layer`, whose bias it keeps."""

    weight: Tensor
    factor: Tensor

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        weight, factor = _rounded(layer.weight.detach())
        self.register_buffer("weight", weight)
        self.register_buffer("factor", factor)
        self.bias = layer.bias
        self._settings = _settings_of(layer)

    def forward(self, x: Tensor) -> Tensor:
        """The convolution."""
        y: Tensor = int8_weights.convolution(x, self.weight, self.factor, *self._settings)
        return y if self.bias is None else y + self.bias[:, None, None]


def _rounded(w: Tensor) -> tuple[Tensor, Tensor]:
    """Int8 `w`, and the scale of each output channel."""
    scale = w.flatten(1).abs().amax(1).clamp(min=_LEAST) / LEVELS
    return (w / scale.view(-1, *[1] * (w.dim() - 1))).round().to(torch.int8), scale


def _int32(x: Tensor) -> Tensor:
    """To the nearest whole number; sums of products are far from the limits."""
    return x.round().clamp(-(1 << 30), (1 << 30) - 1).to(torch.int32)


def with_int8_layers(
    model: nn.Module, batches: Iterable[Any], trained: Collection[str]
) -> tuple[nn.Module, tuple[str, ...]]:
    """A copy of `model` with int8 layers in the place of those that no gradient passes; their paths.

    Frozen convolutions that gradients pass get int8 weights.

    Args:
        model: stays as it is; called on the batches in evaluation mode.
        batches: inputs of the model, whose ranges set the scales of activations.
        trained: names of the parameters that are trained.

    Raises:
        UsageError: there is no batch, or no such layer.
    """
    made = copy.deepcopy(model)
    layers = {
        path: m for path, m in made.named_modules() if isinstance(m, nn.Linear) or _is_plain_convolution(m)
    }
    with trained_alone(made, trained), in_evaluation(made):
        found = _watch(made, layers, batches)
    for path, seen in found.items():
        layer = layers[path]
        if seen.norm is not None:
            norm = made.get_submodule(seen.norm).eval()
            layer = nn.utils.fuse_conv_bn_eval(layer.eval(), norm)  # type: ignore[arg-type]
            _put(made, seen.norm, nn.Identity())
        input_scale, output_scale = (max(most, _LEAST) / LEVELS for most in (seen.input, seen.output))
        least, most = seen.limits(output_scale)
        _put(made, path, Int8Layer(layer, input_scale, output_scale, least, most))
    others = {path: m for path, m in layers.items() if path not in found and isinstance(m, nn.Conv2d)}
    passed = [path for path in others if f"{path}.weight" not in trained]
    for path in passed:
        _put(made, path, Int8Weights(others[path]))
    if not found and not passed:
        raise UsageError(
            "There is no frozen layer to be rounded to int8: no convolution, and no linear layer before the "
            "first that is trained. Train less, or leave `frozen` at float32."
        )
    return made, tuple(found)


def _is_plain_convolution(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and module.padding_mode == "zeros" and _padding(module) is not None


def _padding(layer: nn.Conv2d) -> tuple[int, ...] | None:
    """Zeros before and behind each axis, or `None` where these are not as many."""
    if not isinstance(layer.padding, str):
        return layer.padding
    if layer.padding == "valid":
        return 0, 0
    reach = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
    return None if any(n % 2 for n in reach) else tuple(n // 2 for n in reach)


def _settings_of(layer: nn.Conv2d) -> tuple[list[int], int]:
    """Stride, padding and dilation, each along H and W, and the groups."""
    return [*layer.stride, *(_padding(layer) or (0, 0)), *layer.dilation], layer.groups


def _put(model: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module.train(model.training))


# -- what happens in the model -------------------------------------------------------------------------------

_Key = tuple[int, int]
"""A tensor and its version: what is changed in place is another one."""


def _key(tensor: Tensor) -> _Key:
    return id(tensor), tensor._version  # noqa: SLF001 (its only name)


class _Event(NamedTuple):
    """One call of a function of PyTorch: the tensors it read, and what it made, if that is one tensor."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    reads: tuple[_Key, ...]
    made: _Key | None
    most: float
    passes_gradients: bool


class _Watch(TorchFunctionMode):
    """While entered, notes all calls; tensors stay alive, so that each keeps its identity."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[_Event] = []
        self._alive: list[Any] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Make the call, and note it."""
        del types
        kwargs = kwargs or {}
        tensors = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)]
        tensors += [t for a in args if isinstance(a, (list, tuple)) for t in a if isinstance(t, Tensor)]
        reads = tuple(map(_key, tensors))
        made = func(*args, **kwargs)
        self._alive.append((made, tensors))
        if isinstance(made, Tensor):
            most = float(made.detach().abs().max()) if made.is_floating_point() and made.numel() else 0.0
            self.events.append(_Event(func, args, kwargs, reads, _key(made), most, made.requires_grad))
        elif isinstance(made, (list, tuple)) and any(isinstance(part, Tensor) for part in made):
            self.events.append(_Event(func, args, kwargs, reads, None, 0.0, passes_gradients=False))
        return made


@dataclass
class _Seen:
    """What was seen of a layer: the largest input and output, the norm and the clamps behind it."""

    norm: str | None
    clamps: list[_Event] = field(default_factory=list)
    input: float = 0.0
    output: float = 0.0

    def limits(self, scale: float) -> tuple[int, int]:
        """The least and the most whole number that the clamps let through."""
        ends = torch.tensor([-LEVELS, LEVELS]) * scale
        for clamp in self.clamps:
            ends = clamp.function(ends.clone(), *clamp.args[1:], **clamp.kwargs)
        least, most = (ends / scale).round().int().tolist()
        return least, most


def _watch(model: nn.Module, layers: dict[str, Any], batches: Iterable[Any]) -> dict[str, _Seen]:
    """The layers that no gradient passes, in the order of their calls."""
    paths = {id(layer.weight): path for path, layer in layers.items()}
    norms = {id(m.running_mean): p for p, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    found: dict[str, _Seen] = {}
    empty = True
    for inputs in batches:
        empty, args_kwargs = False, call_arguments(inputs)
        with _Watch() as watch:
            model(*args_kwargs[0], **args_kwargs[1])
        for path, seen in _read(watch.events, paths, norms).items():
            old = found.setdefault(path, seen)
            old.input, old.output = max(old.input, seen.input), max(old.output, seen.output)
    if empty:
        raise UsageError("Frozen layers are rounded to int8 at the scales of a batch. Give one.")
    return found


def _read(events: list[_Event], paths: dict[int, str], norms: dict[int, str]) -> dict[str, _Seen]:
    """What one pass tells of each layer that it calls once, on what needs no gradient."""
    readers: dict[_Key, list[_Event]] = {}
    for event in events:
        for key in dict.fromkeys(event.reads):
            readers.setdefault(key, []).append(event)
    calls = [e for e in events if e.function in _LAYERS and len(e.args) > 1 and id(e.args[1]) in paths]
    names = [paths[id(e.args[1])] for e in calls]
    means = [id(_running_mean(e)) for e in events if e.function in _NORMS]
    found: dict[str, _Seen] = {}
    for event, path in zip(calls, names, strict=True):
        if event.passes_gradients or names.count(path) > 1:
            continue
        seen = _Seen(None, input=float(event.args[0].detach().abs().max()))
        end = event
        while end.made is not None and len(after := readers.get(end.made, [])) == 1:
            (reader,) = after
            if reader.function in _NORMS and end is event and event.function is not F.linear:
                mean = id(_running_mean(reader))
                if mean not in norms or means.count(mean) > 1 or reader.passes_gradients:
                    break
                seen.norm = norms[mean]
            elif getattr(reader.function, "__name__", "") in _CLAMPS and len(reader.reads) == 1:
                seen.clamps.append(reader)
            else:
                break
            end = reader
        seen.output = end.most
        found[path] = seen
    return found


def _running_mean(event: _Event) -> Any:
    """Of `F.batch_norm(x, mean, ...)`, or of `torch.batch_norm(x, weight, bias, mean, ...)`."""
    at = 1 if event.function is F.batch_norm else 3
    return event.args[at] if len(event.args) > at else event.kwargs.get("running_mean")
