"""Winner-take-all sampling: unbiased, winners chosen as the theorem says, and only k rows are kept."""

import pytest
import torch
from torch import Tensor, nn

from edgewise.errors import UsageError
from edgewise.methods import Backprop, WtaCrsLinear, use_wta_crs
from edgewise.methods.wta_crs import rows_kept, sampled
from edgewise.plan import plain_plan
from tests.methods.steps import (
    Record,
    captured_by,
    exact_gradient,
    flattened,
    gradients,
    network,
    standard_errors,
    states_under_random_plans,
)
from tests.support import DEVICE


def skewed(rows: int) -> Tensor:
    """Probabilities of which a few are large."""
    p = torch.arange(1, rows + 1, dtype=torch.float32) ** -1.5
    return (p / p.sum())[torch.randperm(rows, generator=torch.Generator().manual_seed(0))]


def batch(rows: int = 64) -> tuple[Tensor, Tensor]:
    """Rows of very different norms."""
    x = torch.randn(rows, 6, generator=torch.Generator().manual_seed(1))
    return x * torch.linspace(0.05, 2, rows)[:, None] ** 3, torch.arange(rows) % 3


def small(share: float = 0.2) -> nn.Sequential:
    model = network(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    if share < 1:
        use_wta_crs(model, share)
    return model


def test_the_winners_minimize_the_factor_of_the_variance() -> None:
    """(1 - P_c) / (k - c) over c, by trying every c."""
    p, k = skewed(40), 12
    index, factor = sampled(p, torch.rand(k, generator=torch.Generator().manual_seed(0)))
    ordered = p.double().sort(descending=True).values
    count = min(range(k), key=lambda c: float((1 - ordered[:c].sum()) / (k - c)))
    assert 0 < count < k
    assert torch.equal(index[:count], p.argsort(descending=True)[:count])
    assert torch.equal(factor[:count], torch.ones(count))
    assert not set(index[count:].tolist()) & set(index[:count].tolist())
    rest = (1 - ordered[:count].sum()) / ((k - count) * p[index[count:]].double())
    assert torch.allclose(factor[count:].double(), rest)


@pytest.mark.parametrize("p", [skewed(40), torch.full((40,), 1 / 40)], ids=["skewed", "uniform"])
def test_each_row_has_a_mean_factor_of_one(p: Tensor) -> None:
    """Which is what makes every sum over rows unbiased."""
    generator, k, draws = torch.Generator().manual_seed(2), 12, 1500
    sums = torch.zeros(draws, len(p), dtype=torch.float64)
    for row in sums:
        index, factor = sampled(p, torch.rand(k, generator=generator))
        row.index_add_(0, index, factor.double())
    error, deviation = sums.mean(0) - 1, sums.std(0) / draws**0.5
    assert (error.abs() <= 4.5 * deviation + 1e-5).all()


def test_where_the_winners_are_all_there_is_nothing_is_drawn() -> None:
    p = torch.zeros(20)
    p[:5] = 0.2
    index, factor = sampled(p, torch.rand(12, generator=torch.Generator().manual_seed(0)))
    assert sorted(index[factor > 0].tolist()) == [0, 1, 2, 3, 4]
    assert torch.equal(factor[factor > 0], torch.ones(5))


def test_the_gradient_is_unbiased(record_property: Record) -> None:
    """The mean of many lies within four and a half standard errors of the exact one, in every element."""
    model = small()
    names = [name for name, _ in model.named_parameters()]
    exact = flattened(exact_gradient(small(1), batch()), names)
    captured = captured_by(Backprop(), model, batch())
    found = torch.stack([flattened(g, names) for g in gradients(captured, batch(), 250)]).double()
    record_property("standard errors", z := standard_errors(found, exact, 1e-5))
    assert z <= 4.5
    assert float(found.std(0).max()) > 0


def test_bias_and_input_gradients_are_exact() -> None:
    (found,) = gradients(captured_by(Backprop(), small(), batch()), batch(), 1)
    exact = exact_gradient(small(1), batch())
    assert torch.allclose(found["0.bias"], exact["0.bias"], atol=1e-6)
    assert torch.allclose(found["2.bias"], exact["2.bias"], atol=1e-6)
    assert not torch.allclose(found["0.weight"], exact["0.weight"], rtol=1e-2)


def test_only_the_chosen_rows_are_kept() -> None:
    """In the graph: of 640 rows, the weight's gradient reads 64, gathered in the forward pass."""
    x = torch.randn(640, 6, generator=torch.Generator().manual_seed(1))
    peaks = []
    for share in (1.0, 0.1):
        model = network(*(nn.Linear(6, 6) for _ in range(6)))
        if share < 1:
            assert use_wta_crs(model, share) == tuple("012345")
        graph = captured_by(Backprop(), model, (x, x), loss="mse").graph
        plan = plain_plan(graph, DEVICE)
        peaks.append(plan.peak_bytes)
        shapes = {name: graph.value[name].shape for op in graph.ops for name in (*op.inputs, *op.outputs)}
        (product,) = [
            op for op in graph.ops if op.layer == "3" and [shapes[n] for n in op.outputs] == [(6, 6)]
        ]
        loss = next(i for i, op in enumerate(graph.ops) if op.outputs == graph.outputs)
        forward = {name for op in graph.ops[:loss] for name in op.outputs}
        kept = [shapes[n] for n in product.inputs if n in forward]
        assert kept == [(round(640 * share), 6)]
    assert peaks[1] < 0.5 * peaks[0]


def test_a_planned_step_has_the_bits_of_the_plain_one() -> None:
    """Rows are drawn by counters, so recomputing them draws the same."""
    plain, *others = states_under_random_plans(captured_by(Backprop(), small(), batch()), batch(), steps=3)
    assert all(torch.equal(plain[name], other[name]) for other in others for name in plain)


def test_it_is_an_ordinary_layer_in_evaluation_and_on_few_rows() -> None:
    layer = nn.Linear(6, 3)
    drop_in = WtaCrsLinear.like(layer, 0.1)
    x = torch.randn(2, 32, 6)
    assert drop_in.weight is layer.weight
    assert torch.equal(drop_in.eval()(x), layer(x))
    assert torch.equal(drop_in.train()(x), layer(x))
    assert rows_kept(8, 0.1) == 8
    few = x[0, :8]
    few_gradient = torch.autograd.grad(drop_in(few).sum(), layer.weight)[0]
    assert torch.equal(few_gradient, torch.autograd.grad(layer(few).sum(), layer.weight)[0])


@pytest.mark.parametrize("share", [0.0, 1.5, float("nan")])
def test_a_share_out_of_range(share: float) -> None:
    with pytest.raises(UsageError, match=r"`share` is .*; it must be above 0 and at most 1"):
        WtaCrsLinear.like(nn.Linear(2, 2), share)


def test_a_path_without_linear_layers() -> None:
    with pytest.raises(UsageError, match=r"no linear layer below `1`. The model has: `0`, `2`"):
        use_wta_crs(small(1), 0.1, below=("1",))
