"""The integer network as a module: what a fixed-point step trains, and what can be evaluated and saved."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from edgewise.methods.fixed_point.network import Network
from edgewise.methods.fixed_point.reading import read
from edgewise.methods.fixed_point.rules import RULES
from edgewise.methods.settings import FixedPoint

if TYPE_CHECKING:
    from edgewise.capture import Captured


class IntegerModel(nn.Module):
    """Maps real inputs to real class scores by integer arithmetic alone.

    Parameters are the integers of the float model's weights and biases, under the same names; batch norms are
    folded into them. Real numbers are `scales[name]` times these. Activations have 8 bits and fixed scales.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.scales = {name: parameter.scale for name, parameter in network.parameters.items()}
        for name, parameter in network.parameters.items():
            place(self, name, nn.Parameter(parameter.values.clone(), requires_grad=False))

    def forward(self, x: Tensor) -> Tensor:
        """Class scores `[B, C]`, float32, of `x` `[B, ...]`."""
        network, held = self.network, dict(self.named_parameters())
        left = _last_uses(network)
        values = {"batch.0": x}
        for node in network.nodes:
            inputs = [values[operand.value] for operand in node.inputs]
            values[node.name] = node.run(inputs, [held[name].data for name in node.weights])
            for name in left.get(node.name, ()):
                values.pop(name, None)
        logits = values[network.logits.value].view(x.shape[0], *network.logits.shape[1:])
        return logits.to(torch.float32) * network.logit_scale

    def capture_forward(self, batch: tuple[Any, Any], *, name: str) -> "Captured":
        """The forward pass as a step that changes nothing."""
        from edgewise.methods.fixed_point.inference import capture_inference  # noqa: PLC0415  # imports this

        return capture_inference(self, batch, name=name)

    def __deepcopy__(self, memo: dict[int, Any]) -> "IntegerModel":
        """A copy of the integers; the network itself never changes."""
        made = IntegerModel(self.network)
        made.load_state_dict(self.state_dict())
        return made


def quantize(model: nn.Module, inputs: Tensor, settings: FixedPoint | None = None) -> IntegerModel:
    """The integer network of `model` as it is in evaluation.

    Args:
        model: is not changed. Parameters that require no gradient are not trained in the copy either.
        inputs: real data `[B, ...]`: the scale of each activation is that of the largest one it makes here.
        settings: of the method; they decide the scales of the weights.

    Raises:
        ModelUnsupported: parts have no integer operator, or a sum could overflow; all named with their paths.
    """
    return IntegerModel(read(model, inputs, settings or FixedPoint(), RULES))


def place(root: nn.Module, path: str, tensor: Tensor) -> None:
    """Register `tensor` at `path`, making the modules on the way."""
    *parents, name = path.split(".")
    for parent in parents:
        if not hasattr(root, parent):
            root.add_module(parent, nn.Module())
        root = getattr(root, parent)
    register: Callable[..., None] = (
        root.register_parameter if isinstance(tensor, nn.Parameter) else root.register_buffer
    )
    register(name, tensor)


def _last_uses(network: Network) -> dict[str, list[str]]:
    """For each node, the values that nobody reads after it."""
    last = {operand.value: node.name for node in network.nodes for operand in node.inputs}
    last.pop(network.logits.value, None)
    uses: dict[str, list[str]] = {}
    for value, node in last.items():
        uses.setdefault(node, []).append(value)
    return uses
