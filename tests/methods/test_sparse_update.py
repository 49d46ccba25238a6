"""Sparse update: the gradient of what is trained is backprop's own, all else is neither made nor touched."""

import pytest
import torch
from torch import Tensor, nn

from edgewise.capture import SGD, AdamW
from edgewise.capture.channels import runs_of
from edgewise.errors import ModelUnsupported, UsageError
from edgewise.methods import Backprop, Method, SparseUpdate
from edgewise.plan import plain_plan
from tests.methods.steps import (
    captured_by,
    exact_gradient,
    gradients,
    network,
    run,
    states_under_random_plans,
)
from tests.support import DEVICE

CASES = [
    SparseUpdate({"0": 0.5, "2": (1, 2, 5), "3": 0.25, "8": (0, 2)}, ("0", "8")),
    SparseUpdate({"": 1.0}, ("",)),
    SparseUpdate({"2": 0.5}),
    SparseUpdate({"8": 0.5}),
    SparseUpdate({}, ("",)),
    SparseUpdate({"3": (7,)}, ("4",)),
]


def small() -> nn.Sequential:
    """A convolution, norms, a depthwise and a pointwise one, a linear layer, ReLU and ReLU6 between them."""
    model = network(
        nn.Conv2d(1, 6, 3),
        nn.ReLU(),
        nn.Conv2d(6, 8, 1),
        nn.Conv2d(8, 8, 3, groups=8, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU6(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 3),
    )
    model[4].running_var.fill_(0.3)
    model[4].eval()
    return model


def batch(samples: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(samples, 1, 9, 9, generator=generator), torch.arange(samples) % 3


def trained_rows(model: nn.Module, settings: SparseUpdate) -> dict[str, list[int]]:
    """What a reader of the settings expects."""
    found: dict[str, list[int]] = {}
    for name, p in model.named_parameters():
        layer = name.rpartition(".")[0]
        if p.dim() > 1:
            share = settings.weights.get(layer, settings.weights.get(""))
        else:
            share = 1.0 if {layer, ""} & set(settings.biases) else None
        if share is not None:
            whole = range(len(p))
            found[name] = list(share) if isinstance(share, tuple) else list(whole[: round(share * len(p))])
    return found


@pytest.mark.parametrize("settings", CASES, ids=lambda s: f"{s.weights}{s.biases}")
def test_the_gradient_is_the_slice_of_the_full_one(settings: SparseUpdate) -> None:
    model = small()
    exact, rows = exact_gradient(model, batch()), trained_rows(model, settings)
    (found,) = gradients(captured_by(settings, model, batch()), batch(), 1)
    for name, gradient in exact.items():
        inside = rows.get(name, [])
        outside = [i for i in range(len(gradient)) if i not in inside]
        assert torch.allclose(found[name][inside], gradient[inside], rtol=1e-4, atol=1e-6)
        assert not found[name][outside].any()


@pytest.mark.parametrize("optimizer", [SGD(lr=0.1, momentum=0.9, weight_decay=0.1), AdamW(weight_decay=0.1)])
def test_what_is_not_trained_keeps_its_bits(optimizer: SGD | AdamW) -> None:
    """Though weight decay and momentum would move a weight whose gradient is zero."""
    model = small()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    run(captured_by(CASES[0], model, batch(), optimizer=optimizer), batch(), steps=3)
    for name, p in model.named_parameters():
        inside = trained_rows(model, CASES[0]).get(name, [])
        outside = [i for i in range(len(p)) if i not in inside]
        assert torch.equal(p[outside], before[name][outside])
        assert not inside or not torch.equal(p[inside], before[name][inside])


def test_states_are_those_of_the_trained_rows() -> None:
    """And the updates of a share are the rows of those of the whole."""
    whole, part = small(), small()
    for model, settings in ((whole, SparseUpdate({"2": 1.0})), (part, SparseUpdate({"2": (1, 2, 5)}))):
        captured = captured_by(settings, model, batch(), optimizer=AdamW())
        run(captured, batch(), steps=3)
    assert captured.graph.value["2.weight.exp_avg"].shape == (3, 6, 1, 1)
    assert torch.allclose(part[2].weight[[1, 2, 5]], whole[2].weight[[1, 2, 5]], atol=1e-4)


@pytest.mark.parametrize("settings", CASES, ids=lambda s: f"{s.weights}{s.biases}")
def test_a_planned_step_has_the_bits_of_the_plain_one(settings: SparseUpdate) -> None:
    captured = captured_by(settings, small(), batch(), optimizer=AdamW())
    plain, *others = states_under_random_plans(captured, batch())
    assert all(torch.equal(plain[name], other[name]) for other in others for name in plain)


def cost(method: Method, model: nn.Module) -> tuple[int, int]:
    """Planned RAM above parameters and buffers, and flops of a step."""
    graph = captured_by(method, model, batch(32)).graph
    kept = sum(v.bytes for v in graph.sources() if v.kind in ("parameter", "state"))
    return plain_plan(graph, DEVICE).peak_bytes - kept, sum(op.flops for op in graph.ops)


def test_memory_and_work_fall_with_what_is_trained() -> None:
    full = cost(Backprop(), small())
    late = cost(SparseUpdate({"3": 1.0, "8": 1.0}, ("8",)), small())
    part = cost(SparseUpdate({"3": 0.25, "8": 1.0}, ("8",)), small())
    last = cost(SparseUpdate({"8": 1.0}, ("8",)), small())
    for more, less in ((full, late), (late, last)):
        assert less[0] <= more[0]
        assert less[1] < more[1]
    assert last[0] < 0.6 * full[0]
    assert last[1] < 0.5 * full[1]
    assert part[1] < late[1]


def test_the_gradient_of_a_share_costs_that_share() -> None:
    def flops(share: float) -> int:
        graph = captured_by(SparseUpdate({"2": share}), small(), batch()).graph
        (op,) = [op for op in graph.ops if op.layer == "2" and op.name.endswith(".parameters")]
        return op.flops

    assert flops(0.25) * 4 == flops(1.0)


def test_the_backward_pass_ends_at_the_earliest_trained_layer() -> None:
    graph = captured_by(SparseUpdate({"3": 1.0}), small(), batch()).graph
    assert [op.kind for op in graph.ops if op.layer in ("0", "1", "2")] == [
        "convolution",
        "elementwise",
        "convolution",
    ]


def test_biases_alone_read_no_activation() -> None:
    """Of a net whose frozen layers are convolutions and ReLU, masks are kept and nothing else."""
    model = network(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU6(), nn.Flatten(), nn.Linear(100, 3)
    )
    graph = captured_by(SparseUpdate({}, ("0",)), model, batch()).graph
    loss = next(i for i, op in enumerate(graph.ops) if op.name.endswith("nll_loss_forward"))
    made = {name: op for op in graph.ops[: loss + 1] for name in op.outputs}
    kept = {name for op in graph.ops[loss + 1 :] for name in op.inputs if name in made}
    images = [graph.value[name] for name in kept if len(graph.value[name].shape or ()) == 4]
    assert images
    assert {value.dtype for value in images} == {"bool"}


def test_frozen_norms_in_training_go_on_with_their_statistics() -> None:
    model = small()
    model[4].train()
    exact = exact_gradient(small().apply(lambda m: m.train()), batch())
    captured = captured_by(SparseUpdate({"0": 1.0}), model, batch())
    (found,) = gradients(captured, batch(), 1)
    assert torch.allclose(found["0.weight"], exact["0.weight"], rtol=1e-4, atol=1e-6)
    run(captured, batch())
    assert int(model[4].num_batches_tracked) == 1


def test_requires_grad_is_given_back() -> None:
    model = small()
    captured_by(SparseUpdate({"8": 1.0}), model, batch())
    assert all(p.requires_grad for p in model.parameters())


def test_runs() -> None:
    assert runs_of([0, 1, 2, 5, 7, 8]) == ((0, 3), (5, 6), (7, 9))


def test_channels_that_do_not_stand_alone_are_refused() -> None:
    model = network(
        nn.Conv2d(1, 4, 3),
        nn.Conv2d(4, 8, 3, groups=2),
        nn.ConvTranspose2d(8, 4, 3),
        nn.Flatten(),
        nn.LazyLinear(3),
    )
    model(batch()[0])
    with pytest.raises(ModelUnsupported) as caught:
        captured_by(SparseUpdate({"": 0.5}), model, batch())
    assert [part.partition(", ")[0] for part in caught.value.parts] == [
        "1.weight: its convolution is grouped (2)",
        "2.weight: its convolution is transposed",
    ]


def test_an_embedding_has_no_channels() -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(7, 4), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.table(x).mean(1))

    words = (torch.arange(6).reshape(2, 3), torch.tensor([0, 1]))
    with pytest.raises(
        ModelUnsupported, match=r"table.weight: its gradient comes out of `aten.embedding_dense"
    ):
        captured_by(SparseUpdate({"table": 0.5}), Words(), words)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (
            SparseUpdate({"fc": 1.0}),
            r"`fc` in `weights` has no weights to be trained. Name a module such as `8`, `3`",
        ),
        (
            SparseUpdate({}, ("3",)),
            r"`3` in `biases` has no biases to be trained. Name a module such as `8`, `4`",
        ),
        (
            SparseUpdate({"2": (3, 8)}),
            r"`2` in `weights` names channel 8, but `2.weight` has 8, counted from 0",
        ),
        (SparseUpdate(), "neither `weights` nor `biases` names anything to be trained"),
    ],
)
def test_settings_that_do_not_fit_the_model(settings: SparseUpdate, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        captured_by(settings, small(), batch())


@pytest.mark.parametrize("channels", [0.0, 1.5, float("nan"), (), (2, 1), (-1, 2)])
def test_settings_out_of_range(channels: float | tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"`weights` of `0` are .*; they must be a share above 0"):
        SparseUpdate({"0": channels})
