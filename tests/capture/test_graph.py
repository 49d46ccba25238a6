"""What a captured graph says: values are storages, updates come early, options are legal."""

import random

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgewise.capture import SGD, AdamW, Captured, capture
from edgewise.errors import UsageError
from edgewise.graph import Graph, Op
from edgewise.plan import Compute
from edgewise.zoo import resolve_task, zoo_names
from tests.numerics.eager import relative_difference, train_eagerly
from tests.run.training import assert_same_bits, plain, start_of, train
from tests.support import plan_of, random_order

X, Y = torch.randn(4, 12, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 1])


def of_zoo(name: str, batch: int = 2, optimizer: object = None, **args: object) -> Captured:
    task = resolve_task(name, batch=batch, args=args)
    return capture(task.model, task.loss, optimizer or SGD(0.1, momentum=0.9), task.example_batch)


LARGE = ("resnet18", "mobilenetv2", "mcunet")


@pytest.mark.parametrize("name", [name for name in zoo_names() if name not in LARGE])
def test_each_parameter_is_updated_by_one_op_as_soon_as_its_gradient_is_ready(name: str) -> None:
    captured = of_zoo(name)
    graph = captured.graph
    order = {op.name: i for i, op in enumerate(graph.ops)}
    for parameter, _ in captured.model.named_parameters():
        (update,) = (op for op in graph.ops if parameter in (old for old, _ in op.updates))
        changed = [old for old, _ in update.updates]
        assert f"{parameter}.momentum" in changed
        assert not update.recomputable
        readers = {op.name for op in graph.ops if set(changed) & set(op.inputs)}
        makers = {graph.producer[v].name for v in update.inputs if v in graph.producer}
        waited_for = max(order[op] for op in readers | makers)
        between = graph.ops[waited_for + 1 : order[update.name]]
        assert all(op.updates and not op.outputs for op in between), "only other updates may stand between"


def test_views_take_no_bytes() -> None:
    class Views(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(12, 12)

        def forward(self, x: Tensor) -> Tensor:
            h = self.layer(x).view(4, 3, 4).transpose(1, 2)
            a, b = h.chunk(2, dim=1)
            return (a[:, :, 1:].flatten(1) * b[..., :2].reshape(4, -1)).unsqueeze(1).squeeze(1)

    captured = capture(Views(), "cross_entropy", SGD(0.1), (X, Y))
    forward = [v for v in captured.graph.values if v.kind == "activation"]
    made = {v.name: v.shape for v in forward}
    assert not [
        name for name in made if any(view in name for view in ("transpose", "slice", "squeeze", "split"))
    ]
    assert made["layer:addmm"] == (4, 12)


@pytest.mark.parametrize("name", ["transformer", "unet", "resnet8"])
def test_in_place_options_overwrite_what_has_the_same_size_and_can_be_spared(name: str) -> None:
    graph = of_zoo(name).graph
    pairs = [(op, pair) for op in graph.ops for option in op.options for pair in option.overwrites]
    assert len(pairs) > 10
    for op, (old, new) in pairs:
        assert old in op.inputs
        assert new in op.outputs
        assert graph.value[old].bytes == graph.value[new].bytes
        assert graph.value[old].kind in ("activation", "gradient")


def test_plans_take_the_in_place_options() -> None:
    captured = of_zoo("mlp")
    options = {step.option for step in plain(captured).steps if isinstance(step, Compute)}
    assert options == {"whole", "in_place"}


def test_a_backward_op_has_the_layer_of_its_forward_op() -> None:
    graph = of_zoo("resnet8").graph
    layers = {op.layer for op in graph.ops if op.kind == "convolution"}
    assert {
        op.layer for op in graph.ops if op.name.split(":")[-1].startswith("convolution_backward")
    } <= layers
    assert all(op.layer for op in graph.ops if op.kind in ("convolution", "normalization"))


@pytest.mark.parametrize(
    ("layer", "x", "kind", "flops"),
    [
        (nn.Linear(12, 3, bias=False), X, "matmul", 2 * 4 * 12 * 3),
        (nn.Linear(12, 3), X, "matmul", 2 * 4 * 12 * 3),
        (nn.Conv1d(4, 8, 3, bias=False), torch.zeros(2, 4, 10), "convolution", 2 * 2 * 8 * 8 * 4 * 3),
        (nn.Conv1d(4, 4, 3, groups=4), torch.zeros(2, 4, 10), "depthwise_convolution", 2 * 2 * 8 * 4 * 3),
        (nn.ConvTranspose1d(4, 2, 2, stride=2), torch.zeros(3, 4, 5), "convolution", 2 * 3 * 5 * 4 * 2 * 2),
        (nn.Embedding(7, 5), torch.zeros(3, 4, dtype=torch.int64), "embedding", 60),
    ],
)
def test_kind_and_arithmetic(layer: nn.Module, x: Tensor, kind: str, flops: int) -> None:
    graph = capture(layer, lambda out, _: out.square().mean(), SGD(0.1), (x, Y)).graph
    assert (graph.ops[0].kind, graph.ops[0].flops) == (kind, flops)


def test_tied_weights_are_one_parameter_with_one_update() -> None:
    graph = of_zoo("tied-lm").graph
    assert [op.name for op in graph.ops if "embed.weight" in [old for old, _ in op.updates]] == [
        "embed.weight:update"
    ]
    assert "head.weight" not in graph.value


def test_frozen_parameters_stay_as_they_are() -> None:
    model = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))
    model[0].weight.requires_grad_(False)
    captured = capture(model, "cross_entropy", AdamW(), (X, Y))
    assert "0.weight:update" not in captured.graph.op
    assert "0.weight.exp_avg" not in captured.graph.value
    start = start_of(captured)
    trained = train(captured, plain(captured), [(X, Y)] * 2)
    assert torch.equal(trained.state["0.weight"], start["0.weight"])
    assert not torch.equal(trained.state["0.bias"], start["0.bias"])


class Unused(nn.Module):
    """A parameter and a buffer that nothing reads."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.spare = nn.Linear(12, 3), nn.Parameter(torch.ones(5))
        self.register_buffer("table", torch.arange(4.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


def test_parameters_without_a_gradient_are_carried() -> None:
    captured = capture(Unused(), "cross_entropy", SGD(0.1), (X, Y))
    trained = train(captured, plain(captured), [(X, Y)])
    assert torch.equal(trained.state["spare"], torch.ones(5))
    assert torch.equal(trained.state["table"], torch.arange(4.0))


class Counting(nn.Module):
    """A buffer that the forward pass changes, and reads."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 3)
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        out = self.layer(x)
        self.mean.mul_(0.9).add_(out.detach().mean(0), alpha=0.1)
        self.calls += 1
        return out - self.mean


def test_buffers_change_once_a_step() -> None:
    eager = train_eagerly(Counting(), "cross_entropy", SGD(0.1), [])[1]
    model = Counting()
    model.load_state_dict({name: eager[name] for name in model.state_dict()})
    theirs = train_eagerly(model, "cross_entropy", SGD(0.1), [(X, Y)] * 3)[1]
    captured = capture(model, "cross_entropy", SGD(0.1), (X, Y))
    assert captured.graph.op["mean:carry"].updates == (("mean", "mean.next"),)
    ours = train(captured, plain(captured), [(X, Y)] * 3).state
    assert int(ours["calls"]) == 3
    assert all(relative_difference(ours[name], theirs[name]) < 1e-6 for name in ours)


def test_capturing_changes_nothing_in_the_model() -> None:
    task = resolve_task("resnet8", batch=2)
    before = {name: tensor.clone() for name, tensor in task.model.state_dict().items()}
    generator = torch.random.get_rng_state()
    hooks = [len(module._forward_hooks) for module in task.model.modules()]
    capture(task.model, task.loss, SGD(0.1), task.example_batch)
    assert all(torch.equal(tensor, before[name]) for name, tensor in task.model.state_dict().items())
    assert all(parameter.grad is None for parameter in task.model.parameters())
    assert torch.equal(torch.random.get_rng_state(), generator)
    assert [len(module._forward_hooks) for module in task.model.modules()] == hooks
    assert task.model.training


class Keywords(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 3)

    def forward(self, left: Tensor, *, right: Tensor, scale: float = 1.0) -> Tensor:
        return self.layer(left) * scale + self.layer(right)


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 3)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.layer(left - right)


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        (Keywords(), {"left": X, "right": 2 * X, "scale": 0.5}),
        (Pair(), (X, X + 1)),
        (Pair(), [X, X + 1]),
        (Pair(), (X.t().contiguous().t(), X[:, ::1].flip(0))),
        (nn.Linear(12, 3), X.t().contiguous().t()),
        (nn.Linear(12, 3), torch.randn(8, 12)[::2]),
    ],
    ids=["dict", "tuple", "list", "strided pair", "transposed", "sliced"],
)
def test_ways_to_give_inputs(model: nn.Module, inputs: object) -> None:
    batch = (inputs, Y)
    theirs = train_eagerly(model, "cross_entropy", AdamW(), [batch] * 2)
    captured = capture(model, "cross_entropy", AdamW(), batch)
    ours = train(captured, plain(captured), [batch] * 2)
    assert ours.losses == pytest.approx(theirs[0], rel=1e-6)
    assert all(relative_difference(ours.state[name], theirs[1][name]) < 1e-6 for name in ours.state)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_floating_dtypes(dtype: torch.dtype) -> None:
    model = nn.Sequential(nn.Linear(12, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3)).to(dtype)
    captured = capture(model, "cross_entropy", SGD(0.1, momentum=0.9), (X.to(dtype), Y))
    start = start_of(captured)
    theirs = train(captured, plain(captured), [(X.to(dtype), Y)] * 2, start=start)
    order, homes = random_order(captured.graph, random.Random(0), forget=0.5, page=0.5)
    ours = train(captured, plan_of(order, captured.graph, homes=homes), [(X.to(dtype), Y)] * 2, start=start)
    assert_same_bits(ours, theirs)
    assert {tensor.dtype for tensor in ours.state.values()} == {dtype}


LOSSES = {
    "mse": lambda out, _: F.mse_loss(out, out.detach() + 1),
    "sum": lambda out, _: F.mse_loss(out, out.detach() + 1, reduction="sum"),
    "l1": lambda out, _: F.l1_loss(out, out.detach() + 1),
    "smooth l1": lambda out, _: F.smooth_l1_loss(out, out.detach() + 1),
    "huber": lambda out, _: F.huber_loss(out, out.detach() + 1),
    "bce": lambda out, _: F.binary_cross_entropy(out.sigmoid(), torch.full_like(out, 0.3)),
    "bce with logits": lambda out, _: F.binary_cross_entropy_with_logits(out, torch.full_like(out, 0.3)),
    "kl": lambda out, _: F.kl_div(out.log_softmax(1), torch.full_like(out, 0.3), reduction="batchmean"),
    "smoothed": lambda out, y: F.cross_entropy(out, y, label_smoothing=0.1),
    "weighted": lambda out, y: F.cross_entropy(out, y, weight=torch.tensor([1.0, 2.0, 3.0])),
    "own": lambda out, y: (out.logsumexp(1) - out.gather(1, y[:, None])[:, 0]).mean(),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name: str) -> None:
    theirs = train_eagerly(model := nn.Linear(12, 3), LOSSES[name], SGD(0.1), [(X, Y)] * 2)
    captured = capture(model, LOSSES[name], SGD(0.1), (X, Y))
    ours = train(captured, plain(captured), [(X, Y)] * 2)
    assert ours.losses == pytest.approx(theirs[0], rel=1e-6)
    assert all(relative_difference(ours.state[n], theirs[1][n]) < 1e-6 for n in ours.state)


def test_the_graph_is_the_same_each_time() -> None:
    assert of_zoo("transformer").graph.sha256 == of_zoo("transformer").graph.sha256


def test_the_optimizer_decides_what_is_carried() -> None:
    def kinds(graph: Graph, op: str) -> list[str]:
        found: Op = graph.op[op]
        return [old for old, _ in found.updates]

    assert kinds(of_zoo("mlp", optimizer=SGD(0.1)).graph, "layers.1.bias:update") == ["layers.1.bias"]
    adam = of_zoo("mlp", optimizer=AdamW()).graph
    assert kinds(adam, "layers.1.bias:update")[1:] == ["layers.1.bias.exp_avg", "layers.1.bias.exp_avg_sq"]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: SGD(-1.0), "Optimizer: `lr` is -1.0; it must be zero or positive."),
        (lambda: SGD(0.1, momentum=1.0), "Optimizer: `momentum` is 1.0; it must be in [0, 1)."),
        (lambda: AdamW(betas=(0.9, 2.0)), "Optimizer: `beta2` is 2.0; it must be in [0, 1)."),
        (lambda: AdamW(eps=float("nan")), "Optimizer: `eps` is nan; it must be zero or positive."),
    ],
)
def test_settings_of_optimizers(make: object, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        make()
    assert str(caught.value) == text
