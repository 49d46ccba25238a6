"""What cannot be captured is refused with every offending part and its module path in one message."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgewise.capture import SGD, capture
from edgewise.errors import ModelUnsupported, UsageError
from tests.numerics.eager import relative_difference, train_eagerly
from tests.run.training import plain, train

X, Y = torch.randn(4, 12, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 1])


def refusal(model: nn.Module, loss: object = "cross_entropy") -> ModelUnsupported:
    with pytest.raises(ModelUnsupported) as caught:
        capture(model, loss, SGD(0.1), (X, Y))
    assert caught.value.exit_code == 4
    return caught.value


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 0 else x


class Item(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x.detach().mean().item()


class Nonzero(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + x[x > 0].sum() + torch.nonzero(x).sum()


class Gumbel(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.empty_like(x).exponential_()


class Multinomial(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.multinomial(x.softmax(1), 12, replacement=True)


class Complex(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.ifft(torch.fft.fft(x)).real


class Fine(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.relu()


def around(**parts: nn.Module) -> nn.Module:
    model = nn.Sequential(nn.Linear(12, 12))
    for name, part in parts.items():
        model.add_module(name, part)
    return model.append(nn.Linear(12, 3))


LOOKS = "reads a value out of a tensor, so the graph would depend on the data"
SHAPES = "has a result whose shape depends on the data"
DRAWS = "draws random numbers in a way that cannot be repeated"
COMPLEX = "dtype torch.complex64 is not supported"


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (Branching(), LOOKS), (Item(), LOOKS), (Nonzero(), SHAPES),
        (Gumbel(), DRAWS), (Multinomial(), DRAWS), (Complex(), COMPLEX),
    ],
    ids=lambda p: type(p).__name__,
)  # fmt: skip
def test_the_offending_part_is_named_with_its_module_path(part: nn.Module, reason: str) -> None:
    parts = refusal(around(fine=Fine(), odd=nn.Sequential(Fine(), part))).parts
    assert parts
    assert all(named.startswith("odd.1: ") for named in parts)
    assert any(reason in named for named in parts)


def test_all_parts_are_named_at_once() -> None:
    error = refusal(around(a=Branching(), b=Fine(), c=Nonzero(), d=Item()))
    assert {part.split(":")[0] for part in error.parts} == {"a", "c", "d"}
    text = str(error)
    assert text.startswith(
        f"Sequential cannot be captured because of {len(error.parts)} part(s):\n  a: aten."
    )
    assert all(f"\n  {part}" in text for part in error.parts)
    assert text.endswith("\nReplace these, or keep them out of the trained model.")


def test_all_parts_that_draw_are_named_at_once() -> None:
    error = refusal(around(a=Gumbel(), b=Multinomial(), c=Complex(), d=nn.Dropout()))
    assert {part.split(":")[0] for part in error.parts} == {"a", "b", "c"}


def test_the_survey_leaves_model_and_generator_alone() -> None:
    model = around(norm=nn.BatchNorm1d(12), odd=Branching(), drop=nn.Dropout())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    generator = torch.random.get_rng_state()
    refusal(model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), generator)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_loss_may_be_the_offender() -> None:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(out, y) * (2 if out.sum() > 0 else 1)

    assert refusal(nn.Linear(12, 3), loss).parts == (
        f"the model itself: aten._local_scalar_dense.default: {LOOKS}",
    )


def test_a_model_that_fails_says_how() -> None:
    class Wrong(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x @ x

    (part,) = refusal(around(wrong=Wrong())).parts
    assert part.startswith("wrong: RuntimeError: mat1 and mat2 shapes cannot be multiplied")


@pytest.mark.parametrize(("loss", "found"), [(lambda out, _: out, "[4, 3]"), (lambda out, _: 1.0, "float")])
def test_a_loss_that_is_no_number_is_refused(loss: object, found: str) -> None:
    with pytest.raises(UsageError) as caught:
        capture(nn.Linear(12, 3), loss, SGD(0.1), (X, Y))
    assert str(caught.value) == (
        f"The loss returns {found}, not one number. Take its mean or sum over the batch."
    )


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return 2 * ctx.saved_tensors[0] * gradient


class Custom(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return Square.apply(x)


def test_a_custom_backward_is_captured_as_it_is() -> None:
    model = around(square=Custom())
    theirs = train_eagerly(model, "cross_entropy", SGD(0.1), [(X, Y)] * 2)[1]
    captured = capture(model, "cross_entropy", SGD(0.1), (X, Y))
    ours = train(captured, plain(captured), [(X, Y)] * 2).state
    assert all(relative_difference(ours[name], theirs[name]) < 1e-6 for name in ours)


def test_storages_that_overlap_without_being_the_same_tensor() -> None:
    model = nn.Sequential(nn.Linear(12, 12), nn.Linear(12, 3))
    model[1].weight = nn.Parameter(model[0].weight.detach()[:3])
    assert refusal(model).parts == (
        "1.weight: tensor: shares its storage with `0.weight` without being the same tensor",
    )


def test_names_that_edgewise_uses_itself() -> None:
    model = nn.Linear(12, 3)
    model.register_buffer("step", torch.zeros(()))
    assert refusal(model).parts == (
        "step: tensor: Edgewise uses this name itself; rename the parameter or buffer",
    )


def test_other_devices() -> None:
    (part, _) = refusal(nn.Linear(12, 3, device="meta")).parts
    assert part == "weight: tensor: lives on meta; move the model to the CPU before capturing it"


@pytest.mark.parametrize("model", [nn.ReLU(), nn.Linear(12, 3).requires_grad_(False)])
def test_nothing_to_train(model: nn.Module) -> None:
    with pytest.raises(UsageError) as caught:
        capture(model, "cross_entropy", SGD(0.1), (X, Y))
    name = type(model).__name__
    assert str(caught.value) == f"{name} has no parameter that requires a gradient: nothing can be trained."


@pytest.mark.parametrize("batch", [X, (X,), (X, Y, Y), [X, Y]])
def test_a_batch_that_is_no_pair(batch: object) -> None:
    with pytest.raises(UsageError) as caught:
        capture(nn.Linear(12, 3), "cross_entropy", SGD(0.1), batch)
    assert str(caught.value) == (
        "An example batch is a pair `(inputs, targets)`; inputs may be a tensor, a tuple or a dict."
    )
