"""The eight networks rebuilt from POET's layer lists have the figures that its released code gives."""

import pytest

from edgewise.devices import load_device
from edgewise.plan import minimum_ram, plain_plan
from tests.plan.poet_networks import ELEMENT_BYTES, NETWORKS, poet_graph, poet_layers

DEVICE = load_device("nrf52840")
TABLE = {  # research/planner.md section 1.3: T, E, keep-all peak, largest working set and parameters in bytes
    "linear": (27, 51, 7_416, 3_256, 174_360),
    "transformer": (19, 37, 37_748_736, 31_457_280, 28_329_984),
    "vgg16_cifar": (81, 159, 2_465_832, 1_048_576, 134_552_872),
    "vgg16": (81, 159, 115_505_152, 51_380_224, 553_430_176),
    "resnet18_cifar": (133, 269, 2_453_760, 262_144, 994_984),
    "resnet18": (127, 259, 28_577_536, 10_408_192, 46_109_600),
    "bert": (195, 411, 383_778_816, 31_457_280, 339_959_808),
    "resnet50": (335, 683, 127_759_104, 12_390_400, 91_394_464),
}


def test_there_are_eight() -> None:
    assert list(NETWORKS) == list(TABLE)


@pytest.mark.parametrize("name", NETWORKS)
def test_figures_are_those_of_poet(name: str) -> None:
    graph = poet_graph(name)
    least = minimum_ram(graph, DEVICE, cost_model="poet")
    assert least.exact
    assert TABLE[name] == (
        len(graph.ops),
        sum(len(op.inputs) for op in graph.ops),
        plain_plan(graph, DEVICE, cost_model="poet").peak_bytes,
        least.ram_bytes,
        ELEMENT_BYTES * sum(layer.params for layer in poet_layers(name)),
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_backward_is_a_chain_of_twice_the_flops(name: str) -> None:
    graph, layers = poet_graph(name), poet_layers(name)
    forward, backward = graph.ops[: len(layers)], graph.ops[len(layers) :]
    assert [op.flops for op in backward] == [2 * layer.flops for layer in reversed(layers[:-1])]
    before = forward[-1].outputs[0]
    for op, at in zip(backward, reversed(range(len(layers) - 1)), strict=True):
        after = forward[at + 1].outputs[0]
        assert set(op.inputs) == {forward[at].outputs[0], after, before}
        before = op.outputs[0]
        assert graph.value[before].bytes == graph.value[after].bytes
    assert graph.outputs == (before,)


@pytest.mark.parametrize(
    ("name", "joules"), [("linear", 0.000456), ("resnet18_cifar", 0.5457), ("transformer", 8.2568)]
)
def test_energy_of_compute_is_flops_by_the_rate(name: str, joules: float) -> None:
    flops = sum(op.flops for op in poet_graph(name).ops)
    found = plain_plan(poet_graph(name), DEVICE, cost_model="poet").joules
    assert found == pytest.approx(flops * DEVICE.compute.joules_per_flop)
    assert found == pytest.approx(joules, rel=1e-3)
