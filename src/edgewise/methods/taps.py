"""Where a pass through a model is tapped: at its layers, at the ends of its blocks, and at its own end.

What lies between the ends of two blocks is a *segment*: a model's first layers belong to the segment of its
first block, what comes after its last block is a segment of its own, with the model's own loss. So blocks
need not cover the model, and no layer is left without a loss.
"""

import difflib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree

from edgewise.capture.calling import call_with
from edgewise.capture.estimates import _without_dropout
from edgewise.errors import ModelUnsupported, UsageError


class Listener:
    """Sees, and may replace, what tapped modules return, in the order of the pass."""

    def layer(self, path: str, output: Any) -> Any:
        """A layer returns `output`."""
        del path
        return output

    def block(self, path: str, output: Any) -> Any:
        """The module of a block returns `output`."""
        del path
        return output

    def end(self, output: Any) -> Any:
        """The model returns `output`."""
        return output


@dataclass
class Taps:
    """The hooks of one model; `listener` is told of every call while they are open."""

    model: nn.Module
    blocks: tuple[str, ...]
    layers: tuple[str, ...]
    listener: Listener = field(default_factory=Listener)

    @contextmanager
    def open(self) -> Iterator[None]:
        """Tap the model's modules."""
        with ExitStack() as stack:
            for path in self.layers:
                self._tap(stack, path, self._at_layer)
            for path in self.blocks:
                self._tap(stack, path, self._at_block)
            self._tap(stack, "", self._at_end)
            yield

    def _at_layer(self, path: str, output: Any) -> Any:
        return self.listener.layer(path, output)

    def _at_block(self, path: str, output: Any) -> Any:
        return self.listener.block(path, output)

    def _at_end(self, _: str, output: Any) -> Any:
        return self.listener.end(output)

    def _tap(self, stack: ExitStack, path: str, tell: Callable[[str, Any], Any]) -> None:
        module = self.model.get_submodule(path)
        stack.callback(module.register_forward_hook(lambda _m, _a, out: tell(path, out)).remove)

    def run(self, inputs: Any, listener: Listener, parameters: dict[str, Tensor] | None = None) -> None:
        """A real pass in which nothing is changed: buffers are copies, random numbers are given back."""
        state = {**(parameters or {}), **{name: b.clone() for name, b in self.model.named_buffers()}}
        self.listener = listener
        with (
            _without_dropout(self.model),
            torch.random.fork_rng(devices=[]),
            sdpa_kernel(SDPBackend.MATH),
            torch.enable_grad(),
        ):
            call_with(self.model, state, inputs)


def check_blocks(model: nn.Module, blocks: Sequence[str], method: str) -> None:
    """Refuse blocks that are no modules of the model, or named twice."""
    paths = [path for path, _ in model.named_modules() if path]
    for index, path in enumerate(blocks):
        if path in paths and path not in blocks[:index]:
            continue
        if path in paths:
            raise UsageError(f"Method {method}: `{path}` stands twice in `blocks`.")
        near = difflib.get_close_matches(path, paths, n=1)
        hint = f"Did you mean `{near[0]}`?" if near else f"There are: {', '.join(paths[:8])}."
        raise UsageError(f"Method {method}: `{path}` in `blocks` is no module of the model. {hint}")


@dataclass(frozen=True)
class Call:
    """One call of a layer: in which segment, and what it returns (of tensors shape and dtype only)."""

    layer: str
    segment: int
    output: Any


@dataclass
class Survey(Listener):
    """What happens in one pass."""

    calls: list[Call] = field(default_factory=list)
    features: dict[str, Any] = field(default_factory=dict)
    """What each block puts out, in the order of the pass."""
    output: Any = None
    _segment: int = 0

    def layer(self, path: str, output: Any) -> Any:
        """Note the call."""
        self.calls.append(Call(path, self._segment, _shape_only(output)))
        return output

    def block(self, path: str, output: Any) -> Any:
        """Note the features; the next segment begins."""
        self._segment += 1
        self.features[path] = _shape_only(output)
        return output

    def end(self, output: Any) -> Any:
        """Note the output."""
        self.output = _shape_only(output)
        return output


def survey(taps: Taps, inputs: Any, method: str) -> Survey:
    """One pass of `inputs`; refuses blocks and outputs on which no local loss can stand.

    Raises:
        UsageError: a block is not called exactly once or returns no features; the model returns no scores.
    """
    found = Survey()
    taps.run(inputs, found)
    if len(found.features) != found._segment or len(found.features) != len(taps.blocks):  # noqa: SLF001
        calls = "not called in a pass" if len(found.features) < len(taps.blocks) else "called more than once"
        missing = [path for path in taps.blocks if path not in found.features] or list(taps.blocks)
        raise UsageError(f"Method {method}: of `blocks`, {', '.join(f'`{p}`' for p in missing)}: {calls}.")
    for path, features in found.features.items():
        if not _is_float(features) or features.ndim < 2:
            raise UsageError(
                f"Method {method}: the block `{path}` returns {_shape(features)}, no features [B, ...]."
            )
    if taps.blocks and (not _is_float(found.output) or found.output.ndim != 2):
        raise UsageError(
            f"Method {method}: local losses stand on heads that make what the model makes, [B, C] numbers; "
            f"this model returns {_shape(found.output)}."
        )
    return found


def _shape_only(found: Any) -> Any:
    return found.detach().to("meta") if isinstance(found, Tensor) else found


def _is_float(found: Any) -> bool:
    return isinstance(found, Tensor) and found.is_floating_point()


def _shape(found: Any) -> str:
    return str(list(found.shape)) if isinstance(found, Tensor) else f"a {type(found).__name__}"


def samples(inputs: Any) -> int:
    """Samples in a batch."""
    return next(int(leaf.shape[0]) for leaf in pytree.tree_leaves(inputs) if isinstance(leaf, Tensor))


def refuse(model: nn.Module, parts: Sequence[str], method: str, hint: str) -> None:
    """Raise `ModelUnsupported` if there are any parts that a method cannot serve."""
    if parts:
        listed = "\n".join(f"  {part}" for part in parts)
        raise ModelUnsupported(
            f"{type(model).__name__} cannot be trained by {method} because of {len(parts)} part(s):\n"
            f"{listed}\n{hint}",
            parts=tuple(parts),
        )


@contextmanager
def without_tangents() -> Iterator[None]:
    """Outside of forward differentiation, which goes on behind it; no tensor has its tangent any more."""
    forward_ad.exit_dual_level()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        forward_ad.enter_dual_level()  # type: ignore[no-untyped-call]


def unpack(tensor: Tensor) -> tuple[Tensor, Tensor | None]:
    """Value and tangent."""
    value, tangent = forward_ad.unpack_dual(tensor)  # type: ignore[no-untyped-call]
    return value, tangent


def dual(value: Tensor, tangent: Tensor) -> Tensor:
    """The inverse of `unpack`."""
    made: Tensor = forward_ad.make_dual(value, tangent)  # type: ignore[no-untyped-call]
    return made


def by_patches(y: Tensor) -> Tensor:
    """[B, P, D], a view: P positions (one, if there are none) of D channels.

    Channels are axis 1, but the last of three, as with scores.
    """
    if y.ndim == 2:
        return y.unsqueeze(1)
    return y if y.ndim == 3 else y.flatten(2).transpose(1, 2)


def from_patches(y_BPD: Tensor, shape: Sequence[int]) -> Tensor:
    """The inverse of `by_patches`."""
    if len(shape) == 2:
        return y_BPD.squeeze(1)
    return y_BPD if len(shape) == 3 else torch.unflatten(y_BPD.transpose(1, 2), 2, tuple(shape[2:]))
