"""The small siblings, each against the definition that it computes more cheaply."""

import copy

import pytest
import torch
from torch import Tensor, nn

from edgewise.capture import SGD
from edgewise.errors import UsageError
from edgewise.methods import Backprop, Extrapolated
from edgewise.methods.orepa import Orepa, fold
from edgewise.methods.phantom import FixedPoint
from edgewise.methods.steps_needed import predicted_course
from edgewise.methods.tracin import ends, scores
from edgewise.plan import plain_plan
from tests.methods.steps import captured_by, exact_gradient, gradients, network
from tests.support import DEVICE


def batch(samples: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(samples, 4, generator=generator), torch.arange(samples) % 3


# -- TracIn --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
def test_tracin_is_the_product_of_the_last_layers_gradients(bias: bool) -> None:
    """That is the definition, restricted to the last layer."""
    model = network(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3, bias=bias)).eval()
    train, test = batch(5), batch(4, seed=1)

    def gradient(x: Tensor, y: Tensor) -> Tensor:
        loss = nn.functional.cross_entropy(model(x[None]), y[None])
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model[2].parameters()))])

    expected = (
        0.1
        * torch.stack([gradient(*z) for z in zip(*train, strict=True)])
        @ torch.stack([gradient(*z) for z in zip(*test, strict=True)]).T
    )
    seen = [ends(model, "2", nn.functional.cross_entropy, samples) for samples in (train, test)]
    assert torch.allclose(scores(*seen, rate=0.1), expected, atol=1e-6)


def test_a_sample_of_another_label_speaks_against() -> None:
    """The same picture with the right label helps, with a wrong one it harms."""
    model = network(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).eval()
    x = batch(1)[0].repeat(2, 1)
    train = ends(model, "2", nn.functional.cross_entropy, (x, torch.tensor([0, 1])))
    test = ends(model, "2", nn.functional.cross_entropy, (x[:1], torch.tensor([0])))
    found = scores(train, test, rate=1.0)
    assert found[0, 0] > 0 > found[1, 0]


@pytest.mark.parametrize(("head", "text"), [("1", "`1` is ReLU, no linear"), ("0", "not the model's result")])
def test_tracin_needs_the_last_layer(head: str, text: str) -> None:
    model = network(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    with pytest.raises(UsageError, match=text):
        ends(model, head, nn.functional.cross_entropy, batch(2))


# -- phantom gradients ---------------------------------------------------------------------------------------


class Affine(nn.Module):
    """z -> A z + u, whose fixed point and its gradient are known."""

    def __init__(self) -> None:
        super().__init__()
        drawn = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
        self.A = nn.Parameter(0.6 * drawn / torch.linalg.matrix_norm(drawn, 2))

    def forward(self, z: Tensor, u: Tensor) -> Tensor:
        return z @ self.A.T + u


@pytest.mark.parametrize("damping", [0.5, 1.0])
def test_phantom_gradients_become_the_implicit_one(damping: float) -> None:
    """From tau times the gradient of one step on, by a factor of 1 - tau + tau |A| with each further step."""
    cell, weights = Affine(), torch.tensor([1.0, -2.0, 0.5, 3.0])
    errors = []
    for steps in (1, 10, 60):
        u = batch(1)[0].clone().requires_grad_()
        z = FixedPoint(cell, 100, steps, damping)(u)
        gradient = torch.autograd.grad((z * weights).sum(), u)[0][0]
        inverse = torch.linalg.inv(torch.eye(4) - cell.A.detach())
        assert torch.allclose(z.detach()[0], inverse @ u.detach()[0], atol=1e-5)
        errors.append(float((gradient - inverse.T @ weights).norm() / (inverse.T @ weights).norm()))
        if steps == 1:
            assert torch.allclose(gradient, damping * weights)
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 2 * (1 - damping + 0.6 * damping) ** 60 + 1e-5


def test_the_memory_of_phantom_gradients_does_not_grow_with_the_iterations() -> None:
    peaks = []
    for iterations in (2, 12):
        model = network(FixedPoint(Affine(), iterations, 2), nn.Linear(4, 3))
        peaks.append(plain_plan(captured_by(Backprop(), model, batch(64)).graph, DEVICE).peak_bytes)
    assert peaks[0] == peaks[1]


def test_a_fixed_point_without_steps() -> None:
    with pytest.raises(UsageError, match=r"0 steps and a damping of 0\.5 give no gradient"):
        FixedPoint(Affine(), steps=0)


# -- OREPA ---------------------------------------------------------------------------------------------------


def some_orepa(kernel: int = 3) -> Orepa:
    """One whose branches all count."""
    torch.manual_seed(0)
    made = Orepa(3, 5, kernel, stride=2, padding=kernel // 2)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return made


def test_the_branches_of_orepa_are_those_of_their_names() -> None:
    """Each weight makes what the branch makes op by op: a mean after a 1x1, a depthwise one before it, ..."""
    orepa, x = some_orepa(), torch.randn(2, 3, 9, 9)
    conv = nn.functional.conv2d
    point = conv(x, orepa.averaged[:, :, None, None])
    deep = conv(x, orepa.depthwise.flatten(0, 1).unsqueeze(1), stride=2, padding=1, groups=3)
    inner = x + conv(x, orepa.before[:, :, None, None])
    expected = [
        conv(x, orepa.square, stride=2, padding=1),
        nn.functional.avg_pool2d(point, 3, 2, 1),
        conv(conv(x, orepa.filtered[:, :, None, None]), orepa.prior.unsqueeze(1), None, 2, 1, groups=5),
        conv(inner, orepa.square, stride=2, padding=1),
        conv(x, orepa.point[:, :, None, None], stride=2),
        conv(deep, orepa.mixing.flatten(1)[:, :, None, None]),
    ]
    for weight, result in zip(orepa.branches(), expected, strict=True):
        assert torch.allclose(conv(x, weight, stride=2, padding=1), result, atol=1e-5)


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_folded_orepa_is_what_was_trained(kernel: int) -> None:
    model = nn.Sequential(some_orepa(kernel), nn.BatchNorm2d(5), nn.ReLU()).eval()
    x = torch.randn(2, 3, 9, 9)
    with torch.no_grad():
        expected = model(x)
        folded = fold(copy.deepcopy(model))
        assert torch.equal(folded(x), expected)
    assert type(folded[0]) is nn.Conv2d
    assert sum(w.numel() for w in folded[0].parameters()) == 5 * 3 * kernel**2


def test_an_even_kernel_has_no_middle() -> None:
    with pytest.raises(UsageError, match="a kernel of 2 has no middle"):
        Orepa(3, 3, 2)


# -- steps needed --------------------------------------------------------------------------------------------


def trained_losses(model: nn.Module, data: tuple[Tensor, Tensor], rate: float, steps: int) -> list[float]:
    losses = []
    for _ in range(steps):
        loss = nn.functional.mse_loss(model(data[0]), data[1])
        losses.append(float(loss.detach()))
        names = list(model.parameters())
        with torch.no_grad():
            for w, g in zip(names, torch.autograd.grad(loss, names), strict=True):
                w.sub_(rate * g)
    return losses


def regression() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(12, 4, generator=generator), torch.randn(12, 2, generator=generator)


def test_of_a_linear_model_the_course_is_exact() -> None:
    data, model = regression(), network(nn.Linear(4, 2)).double()
    data = data[0].double(), data[1].double()
    course = predicted_course(model, data, rate=0.3)
    losses = trained_losses(model, data, 0.3, 40)
    assert [course.loss(step) for step in range(40)] == pytest.approx(losses, rel=1e-9)
    for wanted in (losses[0] + 1, losses[1], losses[17] * (1 + 1e-9), losses[30] * (1 + 1e-9)):
        assert course.steps_to(wanted) == next(
            i for i, loss in enumerate(losses) if loss <= wanted * (1 + 1e-12)
        )


def test_what_cannot_be_reached_is_never_there() -> None:
    """Twelve samples are more than five weights can fit."""
    assert predicted_course(network(nn.Linear(4, 2)), regression(), rate=0.3).steps_to(1e-3) is None


def test_of_a_fine_tuned_network_the_course_is_near() -> None:
    """The paper's 20%, where residuals are small at the start: weights then hardly move."""
    (x, y), model = regression(), network(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 2))
    data = x, model(x).detach() + 0.2 * y
    course = predicted_course(model, data, rate=0.05)
    losses = trained_losses(model, data, 0.05, 150)
    for share in (0.6, 0.45):
        needed = next(i for i, loss in enumerate(losses) if loss <= share * losses[0])
        assert course.steps_to(share * losses[0]) == pytest.approx(needed, rel=0.2, abs=1)


def test_steps_needed_refuses_what_it_cannot_say() -> None:
    model = network(nn.Linear(4, 2))
    with pytest.raises(UsageError, match=r"At a rate of 50 the loss would grow. Take one below"):
        predicted_course(model, regression(), rate=50.0)
    with pytest.raises(UsageError, match="are not what the model makes"):
        predicted_course(model, (regression()[0], torch.zeros(12)), rate=0.1)


# -- extrapolation -------------------------------------------------------------------------------------------


def test_an_extrapolated_gradient_of_a_quadratic_loss_is_damped_by_its_hessian() -> None:
    """(1 - rho H) g, exactly."""
    data, model, rho = regression(), network(nn.Linear(4, 2, bias=False)), 0.2
    (found,) = gradients(captured_by(Extrapolated(rho), model, data, "mse"), data, 1)
    weight = model[0].weight.detach()
    hessian = 2 / data[1].numel() * data[0].T @ data[0]
    plain = 2 / data[1].numel() * (data[0] @ weight.T - data[1]).T @ data[0]
    assert torch.allclose(found["0.weight"], plain - rho * plain @ hessian, atol=1e-6)


def test_without_extrapolation_it_is_backprop() -> None:
    model = network(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    (found,) = gradients(captured_by(Extrapolated(0.0), model, batch(5)), batch(5), 1)
    for name, exact in exact_gradient(model, batch(5)).items():
        assert torch.allclose(found[name], exact, atol=1e-6)


def test_extrapolation_backwards() -> None:
    with pytest.raises(UsageError, match=r"`rate` is -1\.0; it must be zero or positive"):
        Extrapolated(-1.0)


def test_extrapolation_holds_the_activations_of_one_pass() -> None:
    """The second pass comes when those of the first are gone; beside them stand the weights ahead."""
    model = network(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 3))
    plain, ahead = (
        plain_plan(captured_by(m, model, batch(256), optimizer=SGD(0.1)).graph, DEVICE).peak_bytes
        for m in (Backprop(), Extrapolated())
    )
    assert ahead < plain + 1.2 * sum(w.nbytes for w in model.parameters())
