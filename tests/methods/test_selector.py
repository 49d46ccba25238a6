"""The selector: potentials by the paper's formula, and a choice whose own plan keeps the budget."""

import pytest
import torch
from torch import Tensor, nn

from edgewise.capture import SGD, AdamW, Captured
from edgewise.errors import BudgetInfeasible, UsageError
from edgewise.methods import Potential, SparseUpdate, capture_with, potentials, select
from edgewise.methods.selector import scores
from edgewise.plan import Budget, Plan, check, make_plan, minimum_ram, plain_plan
from tests.methods.steps import network
from tests.support import DEVICE


def small() -> nn.Sequential:
    return network(
        nn.Conv2d(1, 4, 3),
        nn.ReLU(),
        nn.Conv2d(4, 8, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32, 16),
        nn.ReLU(),
        nn.Linear(16, 3),
    )


def batch(samples: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(samples, 1, 7, 7, generator=generator), torch.arange(samples) % 3


def step_of(settings: SparseUpdate, optimizer: SGD | AdamW) -> tuple[Captured, Plan]:
    captured = capture_with(settings, small(), "cross_entropy", optimizer, batch())
    return captured, plain_plan(captured.graph, DEVICE)


LAST, ALL = SparseUpdate({"7": 1.0}, ("7",)), SparseUpdate({"": 1.0}, ("",))


def test_the_potential_is_that_of_the_formula() -> None:
    """By one backward pass a sample, with the loss of that sample alone."""
    model = small()
    outputs: dict[str, Tensor] = {}
    for path in ("2", "7"):
        model.get_submodule(path).register_forward_hook(
            lambda _, __, out, path=path: outputs.update({path: out})
        )
    expected = {"2": torch.zeros(8), "7": torch.zeros(3)}
    x, y = batch()
    for n in range(len(x)):
        loss = nn.functional.cross_entropy(model(x[n : n + 1]), y[n : n + 1])
        made = torch.autograd.grad(loss, list(outputs.values()))
        for (path, a), g in zip(outputs.items(), made, strict=True):
            expected[path] += (a * g).flatten(2).sum(2)[0].square() if a.dim() > 2 else (a * g)[0].square()
    found = {p.path: p for p in potentials(small(), "cross_entropy", [(x[:2], y[:2]), (x[2:], y[2:])])}
    assert list(found) == ["0", "2", "5", "7"]
    for path, channels in expected.items():
        assert torch.allclose(found[path].channels, channels.detach() / (2 * len(x)), rtol=1e-4)
    assert [found[p].macs for p in found] == [36 * 25, 288 * 4, 512, 48]
    assert [found[p].weights for p in found] == [36, 288, 512, 48]


def test_the_score_divides_by_size_and_work() -> None:
    channels = torch.tensor([1.0, 3.0])
    a, b = Potential("a", channels, 10, 100), Potential("b", 2 * channels, 5, 400)
    assert scores([a, b]) == pytest.approx({"a": 4 / (1 * 0.25), "b": 8 / (0.5 * 1)})
    assert b.best(0.5) == (1,)
    assert b.best(1.0) == 1.0


@pytest.mark.parametrize(
    ("optimizer", "share"), [(SGD(lr=0.1), 0.0), (AdamW(), 0.3), (SGD(lr=0.1, momentum=0.9), 1.0)]
)
def test_the_choice_keeps_its_budget(optimizer: SGD | AdamW, share: float) -> None:
    """As the independent check finds for a plan of it; and with the budget of everything, all is chosen."""
    last, everything = (step_of(s, optimizer)[1].peak_bytes for s in (LAST, ALL))
    ram_bytes = int(last + share * (everything - last))
    settings = select(small(), "cross_entropy", optimizer, [batch()], DEVICE, ram_bytes)
    captured, _ = step_of(settings, optimizer)
    plan = make_plan(captured.graph, DEVICE, Budget(ram_bytes))
    assert check(plan, captured.graph, DEVICE).peak_bytes <= ram_bytes
    assert settings.weights
    if share == 1:
        assert settings == SparseUpdate(dict.fromkeys("0257", 1.0), tuple("0257"))


def test_energy_is_a_limit_of_its_own() -> None:
    _, last = step_of(LAST, SGD(lr=0.1))
    _, everything = step_of(ALL, SGD(lr=0.1))
    joules = (last.joules + everything.joules) / 2
    settings = select(small(), "cross_entropy", SGD(lr=0.1), [batch()], DEVICE, everything.peak_bytes, joules)
    assert step_of(settings, SGD(lr=0.1))[1].joules <= joules
    assert set(settings.weights) < set("0257")


def test_planning_makes_room_for_more() -> None:
    """Within a budget that no plain step keeps."""
    captured, plain = step_of(LAST, SGD(lr=0.1))
    least = minimum_ram(captured.graph, DEVICE, time_limit=2).ram_bytes
    ram_bytes = (least + plain.peak_bytes) // 2
    with pytest.raises(BudgetInfeasible, match="No layer can be trained within") as caught:
        select(small(), "cross_entropy", SGD(lr=0.1), [batch()], DEVICE, ram_bytes)
    assert caught.value.min_ram_bytes is not None
    assert caught.value.min_ram_bytes > ram_bytes
    settings = select(small(), "cross_entropy", SGD(lr=0.1), [batch()], DEVICE, ram_bytes, time_limit=1)
    make_plan(step_of(settings, SGD(lr=0.1))[0].graph, DEVICE, Budget(ram_bytes), time_limit=5)


def test_the_model_is_left_as_it_was() -> None:
    model = small()
    model[0].weight.requires_grad_(False)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    assert [p.path for p in potentials(model, "cross_entropy", [batch()])] == ["2", "5", "7"]
    assert model.training
    assert all(torch.equal(p, before[name]) and p.grad is None for name, p in model.named_parameters())
    assert not model[2]._forward_hooks


def test_nothing_to_select_from() -> None:
    with pytest.raises(UsageError, match="takes a batch, and there is none"):
        potentials(small(), "cross_entropy", [])
    with pytest.raises(
        UsageError, match="takes a convolution or linear layer to be trained, and there is none"
    ):
        potentials(nn.Sequential(nn.Flatten(), nn.LayerNorm(49)), "cross_entropy", [batch()])
