"""The same network in TensorFlow Lite Micro: the arena that its interpreter needs, on this computer.

Optional (`pip install tflite-micro`). A convolutional network of the zoo, its norms folded, is written as a
float32 .tflite file, activations fused into convolutions as TensorFlow's converter fuses them, and run.

TFLite pads convolutions of stride 2 at the end, PyTorch at the beginning. So kernels and images are mirrored:
that is the same network up to rounding, and `arena` says how far its output is from PyTorch's.
"""

import operator
from importlib import import_module, metadata
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

HERE = find_spec("tflite_micro") is not None
VERSION = f"version {metadata.version('tflite-micro')}" if HERE else "not installed when this was measured"
FUSED = {nn.ReLU: "RELU", nn.ReLU6: "RELU6"}


def schema() -> Any:
    return import_module("tflite_micro.tensorflow.lite.micro.python.schema_py_generated")


class Converter(fx.Interpreter):  # type: ignore[misc]
    """Runs a network, and writes down each layer as operators of TFLite; images become [B, H, W, C]."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(fx.symbolic_trace(network))
        self.tfl = schema()
        self.model = self.tfl.ModelT()
        self.model.version, self.model.operatorCodes = 3, []
        self.model.buffers = [self.tfl.BufferT()]
        self.graph_ = self.tfl.SubGraphT()
        self.graph_.tensors, self.graph_.operators = [], []
        self.model.subgraphs = [self.graph_]
        self.of: dict[int, int] = {}
        self.kept: list[Tensor] = []  # or another tensor might get the id of one that is gone

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        inputs = [self.env[a] for a in n.all_input_nodes]
        if n.op == "placeholder":
            self.made(result)
            self.graph_.inputs = [self.of[id(result)]]
        elif n.op == "output":
            self.graph_.outputs = [self.of[id(inputs[0])]]
        else:
            self.layer(n, inputs, result)
        return result

    def layer(self, n: fx.Node, inputs: list[Tensor], result: Tensor) -> None:
        module = self.fetch_attr(str(n.target)) if n.op == "call_module" else None
        if isinstance(module, nn.Conv2d):
            self.convolution(module, inputs[0], result)
        elif isinstance(module, nn.Linear):
            weights = [self.constant(module.weight), self.constant(module.bias)]
            self.operator("FULLY_CONNECTED", [self.of[id(inputs[0])], *weights], result, "FullyConnected")
        elif type(module) in FUSED:
            self.graph_.operators[-1].builtinOptions.fusedActivationFunction = getattr(
                self.tfl.ActivationFunctionType, FUSED[type(module)]
            )
            self.same(inputs[0], result)
        elif isinstance(module, nn.MaxPool2d):
            pool = self.operator("MAX_POOL_2D", [self.of[id(inputs[0])]], result, "Pool2D")
            pool.padding = self.tfl.Padding.VALID
            pool.strideH = pool.strideW = pool.filterHeight = pool.filterWidth = module.kernel_size
        elif isinstance(module, (nn.Identity, nn.Flatten)):
            self.same(inputs[0], result)
        elif n.target is operator.add:
            self.operator("ADD", [self.of[id(x)] for x in inputs], result, "Add")
        elif n.target == "mean":
            axes = self.constant(torch.tensor([1, 2], dtype=torch.int32))
            self.operator("MEAN", [self.of[id(inputs[0])], axes], result, "Reducer")
        else:
            raise NotImplementedError(f"{n.format_node()}: not written for this comparison")

    def convolution(self, layer: nn.Conv2d, x: Tensor, result: Tensor) -> None:
        weight = layer.weight.flip(2, 3)
        deep = layer.groups > 1
        weight = weight.permute(1, 2, 3, 0) if deep else weight.permute(0, 2, 3, 1)
        assert layer.bias is not None
        operands = [self.of[id(x)], self.constant(weight), self.constant(layer.bias)]
        kind = "DepthwiseConv2D" if deep else "Conv2D"
        made = self.operator("DEPTHWISE_CONV_2D" if deep else "CONV_2D", operands, result, kind)
        made.padding = self.tfl.Padding.SAME
        made.strideH = made.strideW = layer.stride[0]
        made.dilationHFactor = made.dilationWFactor = 1
        if deep:
            made.depthMultiplier = 1

    def operator(self, code: str, inputs: list[int], result: Tensor, options: str) -> Any:
        wanted = getattr(self.tfl.BuiltinOperator, code)
        codes = self.model.operatorCodes
        index = next((i for i, known in enumerate(codes) if known.builtinCode == wanted), len(codes))
        if index == len(codes):
            codes.append(self.tfl.OperatorCodeT())
            codes[-1].builtinCode, codes[-1].deprecatedBuiltinCode, codes[-1].version = wanted, wanted, 1
        self.made(result)
        new = self.tfl.OperatorT()
        new.opcodeIndex, new.inputs, new.outputs = index, inputs, [self.of[id(result)]]
        new.builtinOptionsType = getattr(self.tfl.BuiltinOptions, f"{options}Options")
        new.builtinOptions = getattr(self.tfl, f"{options}OptionsT")()
        self.graph_.operators.append(new)
        return new.builtinOptions

    def made(self, tensor: Tensor) -> None:
        shape = tensor.shape if tensor.dim() != 4 else tensor.permute(0, 2, 3, 1).shape
        self.of[id(tensor)] = self.tensor(shape, self.tfl.TensorType.FLOAT32, 0)
        self.kept.append(tensor)

    def same(self, before: Tensor, after: Tensor) -> None:
        self.of[id(after)] = self.of[id(before)]
        self.kept.append(after)

    def constant(self, tensor: Tensor) -> int:
        buffer = self.tfl.BufferT()
        array = tensor.detach().contiguous().numpy()
        buffer.data = np.frombuffer(array.tobytes(), dtype=np.uint8)
        self.model.buffers.append(buffer)
        kind = "INT32" if tensor.dtype == torch.int32 else "FLOAT32"
        return self.tensor(tensor.shape, getattr(self.tfl.TensorType, kind), len(self.model.buffers) - 1)

    def tensor(self, shape: Any, kind: int, buffer: int) -> int:
        new = self.tfl.TensorT()
        new.shape, new.type, new.buffer = list(shape), kind, buffer
        new.name = f"t{len(self.graph_.tensors)}"
        self.graph_.tensors.append(new)
        return len(self.graph_.tensors) - 1

    def file(self) -> bytes:
        builder = import_module("flatbuffers").Builder(1 << 20)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def arena(network: nn.Module, x: Tensor) -> tuple[int, float]:
    """The least arena in bytes in which TFLM infers, and how far its output is from PyTorch's, by the norm.

    Args:
        network: in evaluation mode, norms folded.
        x: a batch of float32, [B, C, H, W] or [B, n].
    """
    with torch.no_grad():
        converter = Converter(network)
        wanted = converter.run(x)
    file = converter.file()
    image = x.flip(2, 3).permute(0, 2, 3, 1).contiguous() if x.dim() == 4 else x
    most = 64 * sum(t.numel() for t in converter.kept)
    output = inferred(file, image, most)
    assert output is not None
    apart = float((torch.from_numpy(output) - wanted).norm() / wanted.norm())
    least = 0
    while most - least > 16:
        middle = (least + most) // 2
        least, most = (least, middle) if inferred(file, image, middle) is not None else (middle, most)
    return most, apart


def inferred(file: bytes, x: Tensor, arena_bytes: int) -> Any:
    """The output of TFLM, or `None` if the arena is too small."""
    runtime = import_module("tflite_micro").runtime
    try:
        interpreter = runtime.Interpreter.from_bytes(file, arena_size=arena_bytes)
        interpreter.set_input(x.numpy(), 0)
        interpreter.invoke()
    except RuntimeError:
        return None
    return interpreter.get_output(0)
