"""Theorems of the estimators: unbiased, exact where they should be, of the variance that the papers give."""

import pytest
import torch
from torch import Tensor, nn

from edgewise.capture import SGD, AdamW
from edgewise.capture.directions import direction
from edgewise.capture.integers import stochastic
from edgewise.capture.schedules import snapshot
from edgewise.errors import ModelUnsupported, UsageError
from edgewise.methods import Backprop, Elastic, Extrapolated, ForwardGradient, Method, Spsa, Svrg
from edgewise.plan import Budget, make_plan, plain_plan
from edgewise.run import Executor
from edgewise.zoo.task import resolve_task
from tests.methods.steps import (
    Record,
    captured_by,
    exact_gradient,
    flattened,
    gradients,
    network,
    run,
    standard_errors,
)
from tests.support import DEVICE

UNBIASED = [
    ForwardGradient(),
    ForwardGradient(law="rademacher"),
    ForwardGradient(directions=3),
    Spsa(),
    Spsa(directions=2, law="normal"),
    Elastic(),
]
EVERY = [
    Backprop(),
    Extrapolated(),
    *UNBIASED,
    Spsa(sign=True),
    Spsa(in_place=True),
    Spsa(svrg=Svrg(4, 1)),
]


SLICED = [m for m in EVERY if not getattr(m, "in_place", False) and not getattr(m, "svrg", None)]
"""Weights that are moved in place, and snapshots of them, are so whole."""


def small() -> nn.Sequential:
    return network(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))


def convolutional() -> nn.Sequential:
    layers = (nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 36, 3))
    return network(*layers)


def batch(samples: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(samples, 3, generator=generator), torch.arange(samples) % 3


@pytest.mark.parametrize("method", UNBIASED, ids=str)
def test_estimates_are_unbiased(method: Method, record_property: Record) -> None:
    """The mean of many lies within four standard errors of the exact gradient, in every element."""
    model = small()
    names = [name for name, _ in model.named_parameters()]
    exact = flattened(exact_gradient(model, batch()), names)
    found = torch.stack(
        [flattened(g, names) for g in gradients(captured_by(method, model, batch()), batch(), 300)]
    ).double()
    slack = 2e-3 * float(exact.norm())
    record_property("standard errors", z := standard_errors(found, exact, slack))
    assert z <= 4
    deviation = found.std(0) / len(found) ** 0.5
    assert (found.mean(0) - exact).norm() <= 3 * deviation.norm() + slack


def second_moment(method: Method, steps: int = 600) -> float:
    """Mean squared norm of the estimates, as a multiple of the gradient's."""
    model = small()
    names = [name for name, _ in model.named_parameters()]
    exact = flattened(exact_gradient(model, batch()), names)
    found = gradients(captured_by(method, model, batch()), batch(), steps)
    moments = [float(flattened(g, names).square().sum()) for g in found]
    return sum(moments) / len(moments) / float(exact.square().sum())


@pytest.mark.parametrize("directions", [1, 4])
def test_the_second_moment_is_that_of_the_analysis(directions: int) -> None:
    """(d + m + 1) / m for normal directions (arXiv 2506.21833)."""
    d = sum(p.numel() for p in small().parameters())
    expected = (d + directions + 1) / directions
    steps = 600 if directions == 1 else 200
    assert second_moment(ForwardGradient(directions=directions), steps) == pytest.approx(expected, rel=0.2)


def test_signs_have_less_variance_than_normal_numbers() -> None:
    """(d + m - 1) / m: of a direction of signs, the norm is no chance."""
    d = sum(p.numel() for p in small().parameters())
    assert second_moment(ForwardGradient(law="rademacher")) == pytest.approx(d, rel=0.2)


def test_spsa_is_the_forward_gradient_up_to_epsilon() -> None:
    """With the same directions; its finite difference errs by eps^2 only."""
    slopes = run(captured_by(ForwardGradient(law="rademacher"), small(), batch()), batch())[0]
    for epsilon, near in ((1e-1, 1e-1), (1e-2, 1e-3)):
        found = run(captured_by(Spsa(epsilon=epsilon), small(), batch()), batch())[0]
        difference = found.notes["coefficients"] - slopes.notes["coefficients"]
        assert float(difference.abs()) < near * float(slopes.notes["coefficients"].abs())


def test_sign_keeps_only_which_loss_was_larger() -> None:
    (plain,) = run(captured_by(Spsa(directions=5), small(), batch()), batch())
    (sign,) = run(captured_by(Spsa(directions=5, sign=True), small(), batch()), batch())
    assert torch.equal(sign.notes["coefficients"] * 5, plain.notes["coefficients"].sign())


def test_the_head_of_elastic_has_its_exact_gradient() -> None:
    model = small()
    exact = exact_gradient(model, batch())
    (found,) = gradients(captured_by(Elastic(epsilon=1e-3), model, batch()), batch(), 1)
    for name in ("2.weight", "2.bias"):
        assert torch.allclose(found[name], exact[name], rtol=1e-3, atol=1e-6)
    assert not torch.allclose(found["0.weight"], exact["0.weight"], rtol=1e-1)


def test_a_head_may_be_named() -> None:
    model = network(nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 3))
    exact = exact_gradient(model, batch())
    (found,) = gradients(captured_by(Elastic(head=("1", "2")), model, batch()), batch(), 1)
    assert torch.allclose(found["1.weight"], exact["1.weight"], rtol=1e-3, atol=1e-6)


def test_a_head_that_is_not_there() -> None:
    with pytest.raises(
        UsageError, match=r"`fc` in `head` has no trainable parameters. Name a module such as `2`"
    ):
        captured_by(Elastic(head=("fc",)), small(), batch())


@pytest.mark.parametrize("method", EVERY, ids=str)
@pytest.mark.parametrize(
    "optimizer", [SGD(lr=0.1, momentum=0.9, weight_decay=1e-2), AdamW()], ids=["sgd", "adamw"]
)
def test_a_planned_step_has_the_bits_of_the_plain_one(method: Method, optimizer: SGD | AdamW) -> None:
    """With every value paged out and in that can be: nothing about a method is special to the planner."""
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    batch, states = (x, torch.arange(4) % 3), []
    in_place = getattr(method, "in_place", False)
    for planned in (False, True):
        captured = captured_by(method, convolutional(), batch, optimizer=optimizer)
        plain = plain_plan(captured.graph, DEVICE)
        budget = Budget(plain.peak_bytes - (64 if in_place else 0))
        solver = "auto" if in_place else "page-everything"  # which leaves no room to move weights in place
        settings = {"solver": solver, "time_limit": 2, "gap": 0.5}
        plan = make_plan(captured.graph, DEVICE, budget, **settings) if planned else plain
        with Executor(captured, plan, DEVICE) as executor:
            for step in range(2):
                assert executor.step(batch, step).peak_bytes == plan.peak_bytes
            states.append(executor.state())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("method", SLICED, ids=str)
def test_weights_larger_than_ram_are_moved_slice_by_slice(method: Method) -> None:
    """A linear layer of 48 KiB in 20 KiB; its direction, its sum with it, and its update are loops then."""
    model = network(nn.Linear(96, 128), nn.ReLU(), nn.Linear(128, 3))
    x = torch.randn(2, 96, generator=torch.Generator().manual_seed(0))
    whole, states = 48 * 1024, []
    for ram_bytes in (1 << 20, 20 * 1024):
        captured = captured_by(method, model, (x, torch.arange(2)), optimizer=SGD(lr=0.1, momentum=0.9))
        plan = make_plan(captured.graph, DEVICE, Budget(ram_bytes), time_limit=1, gap=0.5)
        with Executor(captured, plan, DEVICE) as executor:
            before = executor.state()
            measured = executor.step((x, torch.arange(2)), 3).peak_bytes
            # A loop that draws is planned as if it drew while it updates.
            assert 0.85 * plan.peak_bytes < measured <= plan.peak_bytes
            states.append(executor.state())
            executor.load_state(before)
    assert captured.graph.value["0.weight"].bytes == whole > plan.peak_bytes
    for name, one in states[0].items():
        assert torch.allclose(one, states[1][name], rtol=1e-5, atol=1e-7), name


@pytest.mark.parametrize("method", EVERY[1:], ids=str)
def test_running_statistics_move_once_a_step(method: Method) -> None:
    model = convolutional()
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    run(captured_by(method, model, (x, torch.arange(4) % 3)), (x, torch.arange(4) % 3), steps=3)
    assert int(model[1].num_batches_tracked) == 3
    assert float(model[1].running_mean.abs().sum()) > 0


def test_zeroth_order_has_the_memory_of_inference() -> None:
    """Far less than backprop's, and hardly more for more directions."""
    peaks = {}
    for method in (Backprop(), Spsa(), Spsa(directions=4)):
        task = resolve_task("digits-cnn", batch=8)
        captured = captured_by(method, task.model, task.example_batch, task.loss)
        peaks[method] = plain_plan(captured.graph, DEVICE).peak_bytes
    one, four = peaks[Spsa()], peaks[Spsa(directions=4)]
    assert one < 0.35 * peaks[Backprop()]
    assert four < 1.01 * one


def test_dropout_is_left_out() -> None:
    """Two passes of a step must see the same network."""
    with_dropout = network(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 3))
    without = network(nn.Linear(3, 4), nn.Identity(), nn.Linear(4, 3))
    found, plain = (run(captured_by(Spsa(), m, batch()), batch())[0] for m in (with_dropout, without))
    assert found.loss == plain.loss
    assert with_dropout[1].training


def test_dropout_that_cannot_be_left_out_is_refused() -> None:
    class Always(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.dropout(x, 0.5, training=True)

    with pytest.raises(ModelUnsupported, match="1: dropout: it draws other masks in each pass of a step"):
        captured_by(Spsa(), network(nn.Linear(3, 4), Always(), nn.Linear(4, 3)), batch())


def test_noise_that_is_always_drawn_is_refused() -> None:
    class Noisy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.randn_like(x)

    with pytest.raises(
        ModelUnsupported, match="1: randn_like: it draws other numbers in each pass of a step"
    ):
        captured_by(Spsa(), network(nn.Linear(3, 4), Noisy(), nn.Linear(4, 3)), batch())


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Spsa(directions=0), "`directions` is 0; it must be at least 1"),
        (lambda: Spsa(epsilon=0.0), "`epsilon` is 0.0; it must be above 0"),
        (lambda: ForwardGradient(directions=-1), "`directions` is -1"),
        (lambda: Elastic(epsilon=float("nan")), "`epsilon` is nan"),
    ],
)
def test_settings_out_of_range(make: object, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        make()  # type: ignore[operator]


def test_an_op_of_the_trace_says_where_it_has_a_value() -> None:
    w = torch.zeros(3)
    for call in (lambda: direction(w, 0, "normal"), lambda: snapshot(w, w, 1), lambda: stochastic(w, w, w)):
        with pytest.raises(UsageError, match="has a value only in a captured step"):
            call()
