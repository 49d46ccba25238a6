"""Ops executed slice by slice: the same numbers, no more RAM and no other traffic than their options say."""

import math
import random
from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from edgewise.capture import SGD, AdamW, Captured, Optimizer, capture, updates
from edgewise.capture.tiling import Loop
from edgewise.capture.tiling.options import option_of
from edgewise.capture.tiling.rules import nests_of
from edgewise.graph import Op, Option
from tests.capture.tiles import Execution, Tiled, execute, executions, loops_of


@pytest.fixture(scope="module", autouse=True)
def _all_gradients_are_absorbed() -> Iterator[None]:
    """These tests are about gradients made within updates, also small ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(updates, "OUTWEIGHS", 0)
        yield


OPTIMIZERS: list[Optimizer] = [SGD(0.1), SGD(0.1, momentum=0.9, weight_decay=0.01), AdamW()]
TOLERANCE = 1e-6


def captured_step(model: nn.Module, x: Tensor, optimizer: Optimizer) -> tuple[Captured, tuple[Tensor, ...]]:
    def loss(out: Tensor, target: Tensor) -> Tensor:
        return (out * target).sum()

    with torch.no_grad():
        target = torch.randn(model(x).shape).to(model(x).dtype)
    return capture(model, loss, optimizer, (x, target)), (x, target)


def assert_tiles_as_whole(
    captured: Captured, batch: tuple[Tensor, ...], rng: random.Random, *, most: int = 4
) -> set[str]:
    """Some cuttings of every op, with random operands streamed; returns the kinds of ops that were cut."""
    tiled = set()
    for run in executions(captured, batch):
        loops = loops_of(captured, run.op)
        if loops:
            tiled.add(run.op.name.split(":")[-1].rstrip("_0123456789"))
        for loop in rng.sample(loops, min(most, len(loops))):
            names = list(option_of(loop).stream)
            streamed = rng.choice([names, [], [name for name in names if rng.random() < 0.5]])
            assert_same(captured, run, loop, streamed)
    return tiled


def assert_same(captured: Captured, run: Execution, loop: Loop, streamed: list[str]) -> None:
    """Same bits if the option says so, else the same to within the tolerance; RAM and traffic as it says."""
    option, found = option_of(loop), execute(captured, run, loop, streamed)
    what = f"{run.op.name} by {option.name}, streamed {streamed}"
    for name, tensor in run.after.items():
        if option.exact:
            assert torch.equal(found.after[name].nan_to_num(7), tensor.nan_to_num(7)), f"{name} of {what}"
        else:
            difference = float((found.after[name].double() - tensor.double()).norm())
            assert difference <= TOLERANCE * run.scale[name], f"{name} of {what}"
    planned = option.workspace_bytes + sum(option.stream[name].tile_bytes for name in streamed)
    assert found.held_bytes <= planned, what
    assert_traffic(run.op, option, streamed, found, what)


def assert_traffic(op: Op, option: Option, streamed: list[str], found: Tiled, what: str) -> None:
    olds = {old for old, _ in op.updates}
    for name in streamed:
        moved = option.stream[name].moved_bytes
        assert found.traffic.read.get(name, 0) == (0 if name in op.outputs else moved), f"{name} of {what}"
        written = moved if name in op.outputs or name in olds else 0
        assert found.traffic.written.get(name, 0) == written, f"{name} of {what}"
    assert set(found.traffic.read) | set(found.traffic.written) <= set(streamed)


FEW = settings(
    max_examples=15,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)


@FEW
@given(data=st.data())
def test_convolutions_and_their_gradients(data: st.DataObject) -> None:
    torch.manual_seed(data.draw(st.integers(0, 2**32), "seed"))
    dims = data.draw(st.sampled_from([1, 2, 2, 2]), "dims")
    groups = data.draw(st.sampled_from([1, 1, 2, 4]), "groups")
    into, out = (groups * data.draw(st.sampled_from([1, 2, 3, 8])) for _ in range(2))
    kernel = data.draw(st.lists(st.integers(1, 4), min_size=dims, max_size=dims), "kernel")
    layer = (nn.Conv1d, nn.Conv2d)[dims - 1](
        into,
        out,
        tuple(kernel),
        stride=data.draw(st.integers(1, 3), "stride"),
        padding=tuple(data.draw(st.integers(0, k - 1)) for k in kernel),
        dilation=data.draw(st.integers(1, 2), "dilation"),
        groups=groups,
        bias=data.draw(st.booleans(), "bias"),
    )
    sizes = data.draw(st.lists(st.integers(8, 14), min_size=dims, max_size=dims), "space")
    x = torch.randn(data.draw(st.integers(1, 3), "batch"), into, *sizes)
    model = nn.Sequential(nn.Conv2d(into, into, 1) if dims == 2 else nn.Conv1d(into, into, 1), layer)
    captured, batch = captured_step(model, x, data.draw(st.sampled_from(OPTIMIZERS)))
    tiled = assert_tiles_as_whole(captured, batch, random.Random(data.draw(st.integers(0, 2**32))))
    assert {"convolution", "convolution_backward.input", "update"} <= tiled


@FEW
@given(data=st.data())
def test_products_and_their_gradients(data: st.DataObject) -> None:
    torch.manual_seed(data.draw(st.integers(0, 2**32), "seed"))
    rows, into, out = (data.draw(st.integers(2, 40)) for _ in range(3))
    model = nn.Sequential(nn.Linear(into, out), nn.Linear(out, into, bias=data.draw(st.booleans())))
    captured, batch = captured_step(model, torch.randn(rows, into), data.draw(st.sampled_from(OPTIMIZERS)))
    tiled = assert_tiles_as_whole(captured, batch, random.Random(data.draw(st.integers(0, 2**32))))
    assert {"addmm", "mm", "update"} <= tiled


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.layer, self.heads = nn.Linear(width, 3 * width), heads
        self.register_buffer("mask", torch.ones(64, 64).tril().bool())

    def forward(self, x_BTD: Tensor) -> Tensor:
        parts = self.layer(x_BTD).chunk(3, dim=-1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        mask = self.mask[: x_BTD.shape[1], : x_BTD.shape[1]]
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


@pytest.mark.parametrize("seed", range(3))
def test_attention(seed: int) -> None:
    torch.manual_seed(seed)
    captured, batch = captured_step(Attention(24, 3), torch.randn(2, 5 + seed, 24), AdamW())
    tiled = assert_tiles_as_whole(captured, batch, random.Random(seed), most=6)
    assert {"bmm", "_safe_softmax", "_softmax_backward_data", "mul", "clone", "cat"} <= tiled


LAYERS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor], set[str]]] = {
    "batch norm": (
        lambda: nn.Sequential(nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU()),
        lambda: torch.randn(2, 3, 8, 8),
        {"_native_batch_norm_legit_functional", "native_batch_norm_backward", "relu", "threshold_backward"},
    ),
    "batch norm of rows": (
        lambda: nn.Sequential(nn.Linear(6, 9, bias=False), nn.BatchNorm1d(9)),
        lambda: torch.randn(7, 6),
        {"_native_batch_norm_legit_functional", "native_batch_norm_backward"},
    ),
    "layer norm": (
        lambda: nn.Sequential(nn.Linear(12, 12), nn.LayerNorm(12), nn.GELU(), nn.LayerNorm((5, 12))),
        lambda: torch.randn(3, 5, 12),
        {"native_layer_norm", "native_layer_norm_backward", "gelu", "gelu_backward"},
    ),
    "max pooling": (
        lambda: nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.MaxPool2d(3, 2, 1)),
        lambda: torch.randn(2, 3, 9, 9),
        {"max_pool2d_with_indices", "max_pool2d_with_indices_backward"},
    ),
    "average pooling": (
        lambda: nn.Sequential(nn.Conv2d(3, 6, 3), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(2), nn.Flatten()),
        lambda: torch.randn(2, 3, 10, 10),
        {"avg_pool2d", "avg_pool2d_backward", "_adaptive_avg_pool2d", "_adaptive_avg_pool2d_backward"},
    ),
    "softmax": (
        lambda: nn.Sequential(nn.Linear(6, 9), nn.Softmax(1), nn.Unflatten(1, (3, 3)), nn.LogSoftmax(1)),
        lambda: torch.randn(8, 6),
        {"_softmax", "_softmax_backward_data", "_log_softmax", "_log_softmax_backward_data"},
    ),
    "activations": (
        lambda: nn.Sequential(nn.Linear(6, 33), nn.SiLU(), nn.Tanh(), nn.Sigmoid(), nn.Hardswish(), nn.ELU()),
        lambda: torch.randn(5, 6),
        {"silu", "tanh", "sigmoid", "hardswish", "elu"},
    ),
    "embedding": (
        lambda: nn.Sequential(nn.Embedding(40, 12, padding_idx=3), nn.Linear(12, 4)),
        lambda: torch.randint(0, 40, (3, 7)),
        {"embedding", "update"},
    ),
    "dropout": (
        lambda: nn.Sequential(nn.Linear(6, 32), nn.Dropout(0.4), nn.Linear(32, 6)),
        lambda: torch.randn(4, 6),
        {"native_dropout", "native_dropout_backward"},
    ),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=["sgd", "momentum", "adamw"])
@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str, optimizer: Optimizer) -> None:
    torch.manual_seed(0)
    make, inputs, kinds = LAYERS[name]
    captured, batch = captured_step(make(), inputs(), optimizer)
    assert kinds <= assert_tiles_as_whole(captured, batch, random.Random(name), most=8)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=["sgd", "momentum", "adamw"])
def test_only_rows_that_were_looked_up_change_where_the_optimizer_leaves_the_others(
    optimizer: Optimizer,
) -> None:
    torch.manual_seed(0)
    tokens = torch.tensor([[7, 2, 7, 3], [0, 39, 2, 2]])
    captured, batch = captured_step(nn.Embedding(40, 12, padding_idx=3), tokens, optimizer)
    (run,) = [run for run in executions(captured, batch) if run.op.name == "weight:update"]
    loops = [loop for loop in loops_of(captured, run.op) if "touched" in loop.name]
    assert bool(loops) == (optimizer == OPTIMIZERS[0])
    for loop in loops:
        assert_same(captured, run, loop, ["weight"])
        assert_same(captured, run, loop, [])
        assert option_of(loop).exact
        assert option_of(loop).stream["weight"].moved_bytes == tokens.numel() * 12 * 4


class Gram(nn.Module):
    """The gradient of the weight is a product with the weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 6))

    def forward(self, x_BD: Tensor) -> Tensor:
        return x_BD.sum(0) + (self.weight @ self.weight.t()).sum(0)


def test_a_gradient_made_of_the_parameter_is_made_whole_before_the_parameter_changes() -> None:
    captured, batch = captured_step(Gram(), torch.randn(3, 6), SGD(0.1))
    for op in captured.graph.ops:
        if op.updates:
            nests = nests_of(captured.kernels[op.name], op.outputs, captured.layouts)
            assert all("weight" not in {o.value for o in nest.operands} for nest in nests)
    assert_tiles_as_whole(captured, batch, random.Random(0), most=8)


class Means(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.randn(1, 6, 1)), nn.Parameter(torch.randn(4, 1, 5))

    def forward(self, x_BCT: Tensor) -> Tensor:
        return (x_BCT * self.scale + self.shift).mean(2) + x_BCT.sum((0, 2)) * self.scale.mean()


def test_reductions_and_what_is_broadcast() -> None:
    torch.manual_seed(0)
    captured, batch = captured_step(Means(), torch.randn(4, 6, 5), SGD(0.1, momentum=0.9))
    tiled = assert_tiles_as_whole(captured, batch, random.Random(0), most=8)
    assert {"mean", "sum", "mul", "add", "update"} <= tiled


def test_wide_numbers() -> None:
    layers = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 4)).double()
    captured, batch = captured_step(layers, torch.randn(5, 6).double(), SGD(0.1))
    assert {"addmm", "mm", "update"} <= assert_tiles_as_whole(captured, batch, random.Random(0))


def test_sums_of_narrow_numbers_are_not_taken_in_parts() -> None:
    layers = nn.Sequential(nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 128)).bfloat16()
    captured, _ = captured_step(layers, torch.randn(64, 128).bfloat16(), SGD(0.1))
    tiled = {op.kind for op in captured.graph.ops for option in op.options if option.is_tiled}
    assert tiled == {"elementwise"}


def test_least_ram_is_a_small_share_of_a_large_op() -> None:
    model = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.Conv2d(32, 32, 3, padding=1))
    captured, _ = captured_step(model, torch.randn(1, 32, 32, 32), SGD(0.1, momentum=0.9))
    graph = captured.graph
    for op in graph.ops:
        touched = {*op.reads, *op.outputs}
        whole = sum(graph.value[name].bytes for name in touched) + op.options[0].workspace_bytes
        least = min(
            option.workspace_bytes
            + sum(stream.tile_bytes for stream in option.streams)
            + sum(graph.value[name].bytes for name in touched - set(option.stream))
            for option in op.options
        )
        assert whole < 2**16 or least <= max(whole / 16, 2**13), op.name
        assert len(op.options) <= 30


def test_small_ops_are_not_tiled() -> None:
    captured, _ = captured_step(nn.Sequential(nn.Linear(6, 8), nn.ReLU()), torch.randn(5, 6), SGD(0.1))
    assert all(len(found) == 0 for found in captured.loops.values())
    assert not any(option.is_tiled for op in captured.graph.ops for option in op.options)


def test_transfers_are_the_pieces_that_lie_apart() -> None:
    captured, _ = captured_step(nn.Linear(16, 8, bias=False), torch.randn(4, 16), SGD(0.1))
    (op,) = [op for op in captured.graph.ops if op.name == "mm"]
    for loop in loops_of(captured, op):
        option, sizes = option_of(loop), dict(loop.blocks)
        # The weight is read once more for each block of rows, if a loop over its own dims runs inside.
        order = [axis for axis, _ in loop.blocks]
        again = "rows" in order and order[-1] != "rows"
        loads = math.ceil(4 / sizes["rows"]) if again else 1
        # A slice over columns of x @ w^T is whole rows of w; one over the inner axis is a part of each row.
        pieces = 8 * (16 // sizes["inner"]) if "inner" in sizes else 8 // sizes.get("columns", 8)
        assert option.stream["weight"].transfers == loads * pieces, option.name
        assert option.stream["weight"].moved_bytes == loads * 8 * 16 * 4
