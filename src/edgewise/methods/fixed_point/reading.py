"""From a float model to its integer network: a walk over the graph of `torch.export`; scales from a batch.

Batch norms are folded into what stands before them (in evaluation they are linear), and activations into the
saturation of what makes their argument. Every other function of one number becomes a table. What has no
integer operator is listed, all of it at once, with its module path.
"""

import operator
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from edgewise.errors import ModelUnsupported
from edgewise.methods.fixed_point.arithmetic import ACTIVATION_MAX, scale_of
from edgewise.methods.fixed_point.network import Network, Node, Operand, Parameter
from edgewise.methods.fixed_point.operators import Operator, Quantize
from edgewise.methods.settings import FixedPoint

aten = torch.ops.aten
Rule = Callable[["Reader", fx.Node], None]
"""Reads one node: emits what computes it, and says which operand it is."""

_CLAMPS: dict[Any, tuple[float, float]] = {
    aten.relu.default: (0.0, float("inf")),
    aten.relu_.default: (0.0, float("inf")),
    aten.relu6.default: (0.0, 6.0),
    aten.relu6_.default: (0.0, 6.0),
    aten.hardtanh.default: (-1.0, 1.0),
    aten.hardtanh_.default: (-1.0, 1.0),
}
"""Activations that are saturations, and their bounds where they name none."""


class NoOperatorError(Exception):
    """Why a node has no integer operator; caught where the walk goes on."""


class _Calibration(fx.Interpreter):
    """Runs the model once and keeps of each node its shape and largest magnitude."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.shapes: dict[fx.Node, tuple[int, ...]] = {}
        self.largest: dict[fx.Node, float] = {}

    def run_node(self, n: fx.Node) -> Any:
        """As it is, but for the notes."""
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.shapes[n] = tuple(result.shape)
            self.largest[n] = float(result.detach().abs().max()) if result.is_floating_point() else 0.0
        return result


@dataclass(frozen=True)
class Tail:
    """What follows a node and is folded into it: batch norms, then a saturation. `end` is the last of it."""

    end: fx.Node
    norms: tuple[fx.Node, ...]
    low: float = -float("inf")
    high: float = float("inf")

    def bounds(self, scale: float) -> tuple[int, int]:
        """The saturation in integers of `scale`."""
        low = max(self.low / scale, -ACTIVATION_MAX)
        return round(low), round(min(self.high / scale, ACTIVATION_MAX))


@dataclass
class Reader:
    """State of the walk."""

    model: nn.Module
    settings: FixedPoint
    module: fx.GraphModule
    shapes: dict[fx.Node, tuple[int, ...]]
    largest: dict[fx.Node, float]
    rules: dict[Any, Rule]
    operands: dict[fx.Node, Operand] = field(default_factory=dict)
    scales: dict[str, float] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    parameters: dict[str, Parameter] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    # -- the walk ------------------------------------------------------------------------------------------

    def run(self) -> Network:
        """Read every node.

        Raises:
            ModelUnsupported: some have no integer operator.
        """
        (source,) = self.module.graph.find_nodes(op="placeholder")
        self._read_input(source)
        for node in self.module.graph.nodes:
            if node.op == "call_function" and node not in self.operands and node in self.shapes:
                self._read(node)
        if self.problems:
            raise unsupported(self.model, self.problems)
        (output,) = self.module.graph.find_nodes(op="output")
        results = output.all_input_nodes
        if len(results) != 1 or results[0] not in self.operands:
            raise unsupported(self.model, ["the model itself: output: it returns more than class scores"])
        logits = self.operands[results[0]]
        return Network(tuple(self.nodes), self.parameters, self.settings, logits, self.scales[logits.value])

    def _read_input(self, node: fx.Node) -> None:
        scale = scale_of(self.largest[node])
        name = f"{node.name}:quantized"
        shape = self.shapes[node]
        given = Operand("batch.0", shape)
        self.nodes.append(Node(name, "", Quantize(scale), (given,), (), shape, torch.int8, _count(shape)))
        self.scales[name] = scale
        self.operands[node] = Operand(name, shape)

    def _read(self, node: fx.Node) -> None:
        rule = self.rules.get(node.target) or self.rules["any"]
        if self.shapes[node][:1] != self.nodes[0].shape[:1]:
            rule = _refuse_shape
        try:
            rule(self, node)
        except NoOperatorError as why:
            target = str(node.target)
            self.problems.append(f"{self.layer(node) or 'the model itself'}: {target}: {why}")
            name = self.name(node)
            self.scales[name] = 1.0
            self.operands[node] = Operand(name, self.shapes[node])

    # -- what rules ask ------------------------------------------------------------------------------------

    def operand(self, argument: Any) -> Operand:
        """What the integer network has in the place of an argument."""
        found = self.operands.get(argument) if isinstance(argument, fx.Node) else None
        if found is None:
            raise NoOperatorError("an operand is not computed from the input of the model")
        return found

    def scale(self, argument: fx.Node) -> float:
        """Its scale."""
        return self.scales[self.operand(argument).value]

    def tensor(self, argument: Any) -> Tensor | None:
        """The parameter or buffer that an argument names, if it does."""
        if isinstance(argument, fx.Node) and argument.op == "get_attr":
            found: Tensor = operator.attrgetter(str(argument.target))(self.module)
            return found.detach()
        return None

    def trains(self, argument: Any) -> bool:
        """Whether an argument names a parameter that is to be trained."""
        if not isinstance(argument, fx.Node):
            return False
        found = dict(self.model.named_parameters()).get(str(argument.target))
        return found is not None and found.requires_grad

    def layer(self, node: fx.Node) -> str:
        """Path of the module that a node was called in."""
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        return str(stack[-1][0]) if stack else ""

    def name(self, node: fx.Node) -> str:
        """Of the value that a node makes."""
        layer = self.layer(node)
        return f"{layer}:{node.name}" if layer else str(node.name)

    def tail(self, node: fx.Node, *, norms: bool = False) -> Tail:
        """What can be folded into `node`."""
        end, folded = node, []
        while norms and (user := _only_user(end)) and user.target is aten.batch_norm.default:
            folded.append(user)
            end = user
        user = _only_user(end)
        if user is None or user.target not in _CLAMPS:
            return Tail(end, tuple(folded))
        low, high = _CLAMPS[user.target]
        given: tuple[Any, ...] = user.args[1:]
        low, high = (float(given[0]) if given else low), (float(given[1]) if len(given) > 1 else high)
        return Tail(user, tuple(folded), low, high)

    def is_last(self, node: fx.Node) -> bool:
        """Whether its result is what the model returns."""
        return any(user.op == "output" for user in node.users)

    def emit(
        self,
        node: fx.Node,
        made: Operator,
        inputs: tuple[fx.Node, ...],
        scale: float,
        *,
        end: fx.Node | None = None,
        weights: tuple[str, ...] = (),
        flops: int = 0,
        dtype: torch.dtype = torch.int8,
    ) -> None:
        """Add what computes `node` and all up to `end`."""
        end = end or node
        name, shape = self.name(node), self.shapes[end]
        operands = tuple(self.operand(argument) for argument in inputs)
        cost = flops or _count(max((shape, *(o.shape for o in operands)), key=_count))
        self.nodes.append(Node(name, self.layer(node), made, operands, weights, shape, dtype, cost))
        self.scales[name] = scale
        made_here = node
        while made_here is not end:
            self.operands[made_here] = Operand(name, shape)
            (made_here,) = made_here.users
        self.operands[end] = Operand(name, shape)
        if _in_place(node):  # whoever reads its operand from here on reads what became of it
            self.operands[inputs[0]] = self.operands[end]


def _refuse_shape(reader: Reader, node: fx.Node) -> None:
    raise NoOperatorError(f"the first axis of {list(reader.shapes[node])} is not that of the samples")


def read(model: nn.Module, inputs: Any, settings: FixedPoint, rules: dict[Any, Rule]) -> Network:
    """The integer network of `model` as it is in evaluation; activations are scaled as `inputs` need it.

    Raises:
        ModelUnsupported: parts have no integer operator, or a sum could overflow; all named with their paths.
    """
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
        raise unsupported(model, ["the model itself: input: fixed point takes one tensor of real numbers"])
    module = _exported(model, inputs)
    calibration = _Calibration(module)
    with torch.no_grad():
        calibration.run(inputs)
    return Reader(model, settings, module, calibration.shapes, calibration.largest, rules).run()


def _exported(model: nn.Module, inputs: Tensor) -> fx.GraphModule:
    training = {m for m in model.modules() if m.training}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = torch.export.export(model.eval(), (inputs,)).module()
    except Exception as error:  # the model is the user's code, and export has many ways to fail
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise unsupported(model, [f"the model itself: {type(error).__name__}: {reason}"]) from error
    finally:
        for part in training:
            part.training = True
    for node in module.graph.find_nodes(op="call_module", target="_guards_fn"):
        module.graph.erase_node(node)
    return module


def unsupported(model: nn.Module, problems: list[str]) -> ModelUnsupported:
    """The error that lists them."""
    parts = tuple(dict.fromkeys(problems))
    listed = "\n".join(f"  {part}" for part in parts)
    return ModelUnsupported(
        f"{type(model).__name__} cannot be trained in fixed point because of {len(parts)} part(s):\n"
        f"{listed}\nReplace these, or train with another method.",
        parts=parts,
    )


def _in_place(node: fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable  # noqa: SLF001


def _only_user(node: fx.Node) -> fx.Node | None:
    users = list(node.users)
    return users[0] if len(users) == 1 else None


def _count(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape).numel())
