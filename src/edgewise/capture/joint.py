"""From a model and a loss to one FX graph of forward and backward: the only file that knows AOTAutograd.

`aot_export_joint_with_descriptors` is a private path of PyTorch (tested with 2.13.0), so everything that
depends on it is kept here. Unlike `aot_export_module` it keeps the module path of every node, also in the
backward pass, finds parameters without a gradient by itself, and says what each input and output is. The
trace runs on fake tensors: it computes nothing and needs no memory for activations.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn
from torch.fx import traceback
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree

from edgewise.capture.calling import call_with, within
from edgewise.capture.recurrent import recurrent_dropout
from edgewise.errors import UsageError

Loss = Callable[[Any, Any], Tensor]
"""`(model output, targets) -> scalar`."""

SourceKind = Literal["parameter", "frozen", "buffer", "state", "input", "constant"]
"""A `state` is of the method that makes the gradients, and starts at zero; a `buffer` is of the model."""


Runs = tuple[tuple[int, int], ...]
"""Indices along the first dim of a tensor, as runs `(start, stop)` in ascending order."""


@dataclass(frozen=True)
class Source:
    """One placeholder of the joint graph: where its tensor comes from."""

    name: str
    kind: SourceKind
    node: fx.Node
    tensor: Tensor


@dataclass(frozen=True)
class JointGraph:
    """A functional FX graph of one forward and backward pass.

    `gradients` maps a parameter's name to the node of its gradient (parameters without one are left out),
    `mutations` a buffer's name to its new value. `notes` are small results to be read after each step. A
    parameter in `rows` has a gradient for these rows only, and the others stay.
    """

    module: fx.GraphModule
    sources: tuple[Source, ...]
    loss: fx.Node
    gradients: dict[str, fx.Node]
    mutations: dict[str, fx.Node]
    notes: dict[str, fx.Node] = field(default_factory=dict)
    rows: dict[str, Runs] = field(default_factory=dict)


class LossModule(nn.Module):
    """`forward(*batch leaves) -> (loss,)`; each distinct parameter and buffer of the model stands here once.

    AOTAutograd exports tied weights as two parameters with half a gradient each; `call_with` gives the
    distinct ones the whole gradient. `states` are further buffers, the model's not.
    """

    def __init__(
        self, model: nn.Module, loss: Loss, batch: tuple[Any, Any], states: dict[str, Tensor] | None = None
    ) -> None:
        super().__init__()
        self.tensors, constants, spec = split_batch(batch)
        self._hidden = (model, loss, spec, constants)  # a tuple, so that the model is no submodule
        self.states = frozenset(states or {})
        self.names: dict[str, str] = {}  # name here -> name in the model
        for name, parameter in model.named_parameters():
            key = f"p{len(self.names)}"
            self.register_parameter(key, parameter)
            self.names[key] = name
        for name, buffer in (*model.named_buffers(), *(states or {}).items()):
            key = f"b{len(self.names)}"
            self.register_buffer(key, buffer)
            self.names[key] = name

    def held(self) -> dict[str, Tensor]:
        """Parameters, buffers and states by their names in the model."""
        return {name: getattr(self, key) for key, name in self.names.items()}

    def batch_of(self, leaves: tuple[Tensor, ...]) -> tuple[Any, Any]:
        """Inputs and targets again, from the tensors in them."""
        _, _, spec, constants = self._hidden
        inputs, targets = pytree.tree_unflatten(fill(constants, leaves), spec)
        return inputs, targets

    def loss_of(self, state: dict[str, Tensor], leaves: tuple[Tensor, ...]) -> Tensor:
        """The loss of a batch, with `state` in the place of the model's parameters and buffers."""
        return self.compare(call_with(self._hidden[0], state, self.batch_of(leaves)[0]), leaves, state)

    def compare(
        self, output: Any, leaves: tuple[Tensor, ...], state: dict[str, Tensor] | None = None
    ) -> Tensor:
        """The loss of `output` against the targets of a batch; it may read tensors of the model itself."""
        model, loss = self._hidden[:2]
        targets = self.batch_of(leaves)[1]
        value = within(model, self.held() if state is None else state, lambda: loss(output, targets))
        if not isinstance(value, Tensor) or value.numel() != 1 or not value.is_floating_point():
            found = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise UsageError(
                f"The loss returns {found}, not one number. Take its mean or sum over the batch."
            )
        return value

    def forward(self, *leaves: Tensor) -> tuple[Tensor, ...]:
        """The loss."""
        return (self.loss_of(self.held(), leaves),)


class _Hole:
    """Marks the place of a tensor among the constant leaves of a batch."""


HOLE = _Hole()


def split_batch(batch: Any) -> tuple[list[Tensor], list[Any], pytree.TreeSpec]:
    """Tensors of `batch`, its leaves with a hole for each tensor, and its structure."""
    leaves, spec = pytree.tree_flatten(batch)
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    return tensors, [HOLE if isinstance(leaf, Tensor) else leaf for leaf in leaves], spec


def fill(constants: list[Any], tensors: tuple[Tensor, ...]) -> list[Any]:
    """The leaves of a batch again: each hole filled by the next tensor."""
    rest = iter(tensors)
    return [next(rest) if leaf is HOLE else leaf for leaf in constants]


def trace_joint(model: nn.Module, loss: Loss, batch: tuple[Any, Any]) -> JointGraph:
    """Trace forward and backward of `loss(model(inputs), targets)` for `batch = (inputs, targets)`.

    Attention is traced by its parts (the math backend), so that each part is an op that can be planned.

    Raises:
        Exception: whatever tracing raises; `capture` turns it into `ModelUnsupported`.
    """
    return export(model, LossModule(model, loss, batch))[0]


def export(model: nn.Module, module: LossModule) -> tuple[JointGraph, list[fx.Node]]:
    """Trace `module.forward` on its batch, and its backward pass if its results have one.

    Returns the graph, whose `loss` is the first result, and the nodes of all that `forward` returned.
    """
    from torch._functorch.aot_autograd import (  # noqa: PLC0415 (private; kept in one place)
        aot_export_joint_with_descriptors,
    )

    tensors = tuple(module.tensors)
    with ExitStack() as stack, _layers(model), trace_friendly(), torch.enable_grad():
        captured = aot_export_joint_with_descriptors(stack, module, tensors, decompositions=None)
    return _read_descriptors(module, captured.graph_module)


def _read_descriptors(module: LossModule, gm: fx.GraphModule) -> tuple[JointGraph, list[fx.Node]]:
    """Tell inputs and outputs apart by the descriptors that AOTAutograd leaves on them."""
    from torch._functorch._aot_autograd import descriptors as d  # noqa: PLC0415

    sources = tuple(_source(module, node) for node in gm.graph.find_nodes(op="placeholder"))
    gradients, mutations, results = {}, {}, []
    (output,) = gm.graph.find_nodes(op="output")
    for node, descriptor in zip(output.args[0], output.meta["desc"], strict=True):
        match descriptor:
            case d.PlainAOTOutput():
                results.append(node)
            case d.GradAOTOutput(grad_of=d.ParamAOTInput(target)) if node is not None:
                gradients[module.names[target]] = node
            case d.InputMutationAOTOutput(mutated_input=d.BufferAOTInput(target)):
                mutations[module.names[target]] = node
            case d.InputMutationAOTOutput(mutated_input=d.ParamAOTInput(target)):
                name = module.names[target]
                raise RuntimeError(f"the forward pass changes the parameter `{name}` in place")
            case _:
                pass  # gradients and changes of the batch, which nobody reads
    return JointGraph(gm, sources, results[0], gradients, mutations), results


def _source(module: LossModule, node: fx.Node) -> Source:
    from torch._functorch._aot_autograd import descriptors as d  # noqa: PLC0415

    match node.meta["desc"]:
        case d.ParamAOTInput(target):
            parameter = getattr(module, target)
            kind: SourceKind = "parameter" if parameter.requires_grad else "frozen"
            return Source(module.names[target], kind, node, parameter)
        case d.BufferAOTInput(target):
            name = module.names[target]
            return Source(name, "state" if name in module.states else "buffer", node, getattr(module, target))
        case d.PlainAOTInput(index):
            return Source(f"batch.{index}", "input", node, module.tensors[index])
        case d.TangentAOTInput():  # the gradient of the loss with respect to itself
            fake = node.meta["val"]
            return Source("loss.gradient", "constant", node, torch.ones(fake.shape, dtype=fake.dtype))
        case other:
            raise TypeError(f"AOTAutograd made an input that Edgewise does not know: {other}")


@contextmanager
def trace_friendly() -> Iterator[None]:
    """Attention by its parts, tensors that are no buffers as constants, and the model told of it."""
    from torch._subclasses.fake_tensor import fake_tensor_tls  # noqa: PLC0415

    before = fake_tensor_tls.allow_non_fake_inputs_override
    fake_tensor_tls.allow_non_fake_inputs_override = True
    try:
        with ExitStack() as stack:
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            stack.enter_context(_without_onednn())
            stack.enter_context(recurrent_dropout())
            stack.enter_context(torch.compiler._compile_session_context())  # noqa: SLF001
            yield
    finally:
        fake_tensor_tls.allow_non_fake_inputs_override = before


@contextmanager
def _without_onednn() -> Iterator[None]:
    """Recurrent layers by their parts: oneDNN has one op for a whole one, which keeps what no graph shows.

    `torch.backends.mkldnn.flags` sets more than it is asked for, and warns of it.
    """
    enabled = torch._C._get_mkldnn_enabled()  # noqa: SLF001
    torch._C._set_mkldnn_enabled(False)  # noqa: SLF001
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(enabled)  # noqa: SLF001


@contextmanager
def _layers(model: nn.Module) -> Iterator[None]:
    """Note on each traced node the path of the module it was called in, as `node.meta["custom"]["layer"]`."""
    stack: list[str] = []

    def mark() -> None:
        traceback.current_meta["custom"] = {"layer": stack[-1] if stack else ""}

    def enter(name: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            stack.append(name)
            mark()

        return hook

    def leave(*_: Any) -> None:
        stack.pop()
        mark()

    handles = []
    for name, submodule in model.named_modules():
        handles.append(submodule.register_forward_pre_hook(enter(name)))
        handles.append(submodule.register_forward_hook(leave, always_call=True))
    try:
        with traceback.preserve_node_meta():
            yield
    finally:
        for handle in handles:
            handle.remove()
        traceback.current_meta.pop("custom", None)
