"""POET's eight networks as graphs, rebuilt from the shapes of their layers.

The facts are those of ShishirPatil/poet@6e63098, architectures/*.py and power_computation*.py, oddities
included: the input is an op that costs nothing and may run again; a linear layer counts the multiply-adds of
one row, however many there are; the second residual of a transformer block starts at the projection; ResNets
have no ReLU after the stem, nor a convolution on the skip where shapes differ. The backward pass is a pure
chain: one gradient op a layer, which reads that layer, the next one and the gradient before it, has the size
of the next layer's output and costs twice the layer's flops. Only outputs are memory, four bytes an element;
parameters are counted, but are not values.
"""

from collections.abc import Callable
from math import prod
from typing import NamedTuple

from edgewise.graph import Graph, Op, Value, validate

ELEMENT_BYTES = 4

Shape = tuple[int, ...]


class Layer(NamedTuple):
    """One layer of batch 1: positions of the layers that it reads, its output, its flops and parameters."""

    kind: str
    inputs: tuple[int, ...]
    shape: Shape
    flops: int
    params: int = 0


class Layers:
    """A network as it is put together; each method appends a layer and returns its position."""

    def __init__(self, *shape: int) -> None:
        self.layers = [Layer("input", (), shape, 0)]

    @property
    def last(self) -> int:
        return len(self.layers) - 1

    def add(self, kind: str, shape: Shape, flops: int, params: int = 0, inputs: tuple[int, ...] = ()) -> int:
        """A layer that reads `inputs`, or the last one."""
        self.layers.append(Layer(kind, inputs or (self.last,), shape, flops, params))
        return self.last

    def shape(self, at: int | None = None) -> Shape:
        return self.layers[self.last if at is None else at].shape

    def conv(self, out: int, kernel: int, stride: int = 1, pad: int = 0, at: int | None = None) -> int:
        """Its flops count the input's positions, not the output's."""
        at = self.last if at is None else at
        channels, *sides = self.shape(at)
        shape = (out, *((side - kernel + 2 * pad) // stride + 1 for side in sides))
        flops = 2 * kernel**2 * prod(self.shape(at)) * out + prod(shape)
        return self.add("conv", shape, flops, out * (channels * kernel**2 + 1), (at,))

    def norm(self) -> int:
        return self.add("batch-norm", self.shape(), 2 * prod(self.shape()), 4 * self.shape()[0])

    def pointwise(self, kind: str) -> int:
        """ReLU, dropout: one flop an element."""
        return self.add(kind, self.shape(), prod(self.shape()))

    def pool(self, kind: str, kernel: int, stride: int) -> int:
        channels, *sides = self.shape()
        shape = (channels, *((side - kernel) // stride + 1 for side in sides))
        return self.add(kind, shape, 2 * kernel**2 * prod(shape))

    def flatten(self) -> int:
        return self.add("flatten", (1, prod(self.shape())), prod(self.shape()))

    def linear(self, out: int, *, relu: bool = False) -> int:
        rows, features = self.shape()
        params = (features + 1) * out
        flops = 2 * params + out + (rows * out if relu else 0)
        return self.add("linear-relu" if relu else "linear", (rows, out), flops, params)

    def add_skip(self, first: int, second: int) -> int:
        """The sum has the shape of `first`."""
        return self.add("add", self.shape(first), prod(self.shape(first)), 0, (first, second))

    def loss(self, classes: int) -> int:
        return self.add("loss", (classes,), prod(self.shape()) * classes)


def linear() -> Layers:
    net = Layers(1, 784)
    for out in (10, 120, 100, 200, 10, 10):
        net.linear(out)
        net.pointwise("relu")
    net.loss(10)
    return net


def bert(blocks: int, tokens: int = 512, hidden: int = 768, heads: int = 12) -> Layers:
    """Attention in blocks of three: queries, keys and values; their products; the weighted sum."""
    net, width = Layers(tokens, hidden), hidden // heads
    for _ in range(blocks):
        start = net.last
        net.add("qkv", (3 * tokens, width, heads), 3 * tokens * hidden**2, 3 * hidden**2)
        scores = tokens * tokens * heads
        net.add("scores", (tokens, tokens, heads), scores * (width + 2))
        net.add("attention", (tokens, hidden), 2 * scores * width)
        project = net.linear(hidden)
        net.add_skip(start, project)
        net.linear(4 * hidden, relu=True)
        net.linear(hidden)
        net.add_skip(project, net.last)
    net.loss(tokens)
    return net


def vgg16(side: int, classes: int) -> Layers:
    net = Layers(3, side, side)
    for stage in ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)):
        for out in stage:
            net.conv(out, 3, pad=1)
            net.pointwise("relu")
        net.pool("max-pool", 2, 2)
    net.flatten()
    for _ in range(2):
        net.linear(4096)
        net.pointwise("relu")
        net.pointwise("dropout")
    net.linear(classes)
    net.loss(classes)
    return net


def _conv_norm(
    net: Layers, out: int, kernel: int, stride: int = 1, at: int | None = None, *, relu: bool
) -> int:
    net.conv(out, kernel, stride, kernel // 2, at)
    net.norm()
    return net.pointwise("relu") if relu else net.last


def _head(net: Layers, classes: int) -> Layers:
    net.pool("average-pool", net.shape()[-1], 1)
    net.flatten()
    net.linear(classes)
    net.loss(classes)
    return net


def resnet18() -> Layers:
    net = Layers(3, 224, 224)
    _conv_norm(net, 64, 7, 2, relu=False)
    net.pool("max-pool", 3, 2)
    for out, stride in ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)):
        first = _conv_norm(net, out, 3, stride, relu=True)
        net.add_skip(first, _conv_norm(net, out, 3, relu=False))
        net.pointwise("relu")
    return _head(net, 1000)


def resnet50() -> Layers:
    net = Layers(3, 224, 224)
    _conv_norm(net, 64, 7, 2, relu=False)
    net.pool("max-pool", 3, 2)
    for width, blocks, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for block in range(blocks):
            first = _conv_norm(net, width, 1, 1 if block else stride, relu=True)
            _conv_norm(net, width, 3, relu=True)
            net.add_skip(_conv_norm(net, 4 * width, 1, relu=False), first)
            net.pointwise("relu")
    return _head(net, 1000)


def resnet18_cifar() -> Layers:
    """Six blocks of 16 to 64 channels, each with a convolution on its skip."""
    net = Layers(3, 32, 32)
    _conv_norm(net, 16, 3, relu=False)
    for out, stride in ((16, 1), (16, 1), (32, 2), (32, 1), (64, 2), (64, 1)):
        start = net.last
        _conv_norm(net, out, 3, stride, relu=True)
        second = _conv_norm(net, out, 3, relu=True)
        net.add_skip(second, _conv_norm(net, out, 3, stride, at=start, relu=False))
        net.pointwise("relu")
    return _head(net, 10)


NETWORKS: dict[str, Callable[[], Layers]] = {
    "linear": linear,
    "transformer": lambda: bert(1),
    "vgg16_cifar": lambda: vgg16(32, 10),
    "vgg16": lambda: vgg16(224, 1000),
    "resnet18_cifar": resnet18_cifar,
    "resnet18": resnet18,
    "bert": lambda: bert(12),
    "resnet50": resnet50,
}


def poet_layers(name: str) -> list[Layer]:
    """The layers of the network called `name`, forward only."""
    return NETWORKS[name]().layers


def poet_graph(name: str) -> Graph:
    """One training step of the network called `name`, as POET plans it."""
    layers = poet_layers(name)
    values, ops = [], []
    for at, layer in enumerate(layers):
        values.append(Value(f"{layer.kind}-{at}", ELEMENT_BYTES * prod(layer.shape), shape=layer.shape))
        inputs = tuple(values[read].name for read in layer.inputs)
        ops.append(
            Op(f"make-{layer.kind}-{at}", inputs, (values[-1].name,), flops=layer.flops, kind=layer.kind)
        )
    before = values[-1].name
    for at in reversed(range(len(layers) - 1)):
        layer, after = layers[at], layers[at + 1]
        gradient = Value(
            f"gradient-{at}", ELEMENT_BYTES * prod(after.shape), kind="gradient", shape=after.shape
        )
        inputs = tuple(dict.fromkeys((values[at].name, values[at + 1].name, before)))
        kind = f"{layer.kind}-backward"
        ops.append(Op(f"{kind}-{at}", inputs, (gradient.name,), flops=2 * layer.flops, kind=kind))
        values.append(gradient)
        before = gradient.name
    return validate(Graph(f"poet-{name}", tuple(values), tuple(ops), (before,)))
