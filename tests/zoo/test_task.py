import re
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from edgewise.errors import UsageError
from edgewise.zoo import LOSSES, build_model, resolve_loss, resolve_task
from edgewise.zoo.inputs import DTYPES, InputSpec, derive_targets, parse_input_spec, random_inputs
from edgewise.zoo.losses import cross_entropy, logits_of, mse

# -- input specs -----------------------------------------------------------------------------------


@given(
    st.lists(st.integers(1, 99), min_size=1, max_size=4),
    st.sampled_from(sorted(DTYPES)),
    st.none() | st.integers(1, 99_999),
)
def test_specs_say_what_they_mean(shape: list[int], dtype: str, below: int | None) -> None:
    bound = below if "int" in dtype else None
    text = "x".join(map(str, shape)) + f":{dtype}" + (f"<{bound}" if bound else "")
    assert parse_input_spec(text) == InputSpec(tuple(shape), DTYPES[dtype], bound or 100)


def test_spaces_and_defaults() -> None:
    assert parse_input_spec(" 3 x 32 x 32 ") == InputSpec((3, 32, 32), torch.float32)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "",
            "Input `` is not a shape. Write the shape of one sample, as in `3x32x32`,",
        ),
        ("3,32", "Input `3,32` is not a shape."),
        (":int64", "Input `:int64` is not a shape."),
        ("3x", "Input `3x` is not a shape."),
        (
            "3:int65",
            "Input `3:int65`: no dtype `int65`. There are: float32, float64, ",
        ),
        ("3:float32<5", "Input `3:float32<5`: a bound after `<` is for integers, not float32."),
        ("3x0", "Input `3x0`: every length, and the bound after `<`, must be at least 1."),
        ("3:int64<0", "Input `3:int64<0`: every length, and the bound after `<`, must be at least 1."),
    ],
)
def test_specs_that_are_none(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_input_spec(text)
    assert str(caught.value).startswith(message)


def test_random_inputs_keep_to_their_bound() -> None:
    spec = InputSpec((50,), torch.int64, 7)
    found = random_inputs(spec, 4)
    assert set(found.flatten().tolist()) == set(range(7))
    assert torch.equal(found, random_inputs(spec, 4))
    assert not torch.equal(found, random_inputs(spec, 4, seed=1))


# -- losses ----------------------------------------------------------------------------------------


class Output(NamedTuple):
    logits: Tensor


@pytest.mark.parametrize(
    ("scores", "targets", "axis"),
    [((4, 3), (4,), 1), ((4, 5, 3), (4, 5), 2), ((4, 3, 6, 7), (4, 6, 7), 1), ((4, 3, 6), (4, 6), 1)],
)
def test_cross_entropy_is_the_mean_over_everything(scores, targets, axis) -> None:
    x, y = torch.randn(scores), torch.randint(3, targets)
    expected = -x.log_softmax(axis).gather(axis, y.unsqueeze(axis)).mean()
    assert torch.allclose(cross_entropy(x, y), expected)
    assert torch.allclose(cross_entropy(Output(x), y), expected)


@pytest.mark.parametrize("output", [(4, 1), (4,)])
def test_mse(output) -> None:
    x, y = torch.randn(output), torch.randn(4)
    assert torch.allclose(mse(x, y), ((x.flatten() - y) ** 2).mean())


@pytest.mark.parametrize(
    ("loss", "output", "targets", "message"),
    [
        (
            "cross_entropy",
            (4, 3),
            (5,),
            "Loss `cross_entropy`: scores [4, 3] and targets [5] do not fit. It wants",
        ),
        ("cross_entropy", (4,), (4,), "Loss `cross_entropy`: scores [4] and targets [4] do not fit."),
        ("mse", (4, 2), (4,), "Loss `mse`: output [4, 2] and targets [4] differ in shape."),
        ("mse", (4,), (4, 1), "Loss `mse`: output [4] and targets [4, 1] differ in shape."),
    ],
)
def test_shapes_that_do_not_fit(loss, output, targets, message) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        LOSSES[loss](torch.randn(output), torch.zeros(targets, dtype=torch.int64))


def test_numbers_are_no_classes() -> None:
    with pytest.raises(
        UsageError, match=r"targets are float32, not class indices \(int64\)\. For numbers use the"
    ):
        cross_entropy(torch.randn(4, 3), torch.randn(4))


def test_an_output_without_scores() -> None:
    with pytest.raises(
        UsageError, match=r"The model returns a dict, neither a tensor nor something with `logits`\."
    ):
        logits_of({})


@pytest.mark.parametrize(
    ("name", "hint"),
    [("msee", "No loss `msee`. Did you mean `mse`?"), ("zz", "No loss `zz`. There are: cross_entropy, mse.")],
)
def test_a_loss_that_is_not_there(name: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve_loss(name)
    assert str(caught.value) == hint


def test_a_callable_is_a_loss() -> None:
    assert resolve_loss(mse) is mse


@pytest.mark.parametrize(
    ("logits", "targets"), [((2, 5), (2,)), ((2, 7, 5), (2, 7)), ((2, 5, 3, 3), (2, 3, 3))]
)
def test_targets_are_derived_from_scores(logits, targets) -> None:
    found = derive_targets(torch.randn(logits), "cross_entropy")
    assert found.shape == targets
    assert 0 <= found.min() <= found.max() < 5
    assert derive_targets(torch.randn(logits), "mse").shape == logits


@pytest.mark.parametrize("logits", [torch.randn(3), torch.zeros(2, 3, dtype=torch.int64), torch.randn(0, 3)])
def test_what_is_no_set_of_scores(logits: Tensor) -> None:
    with pytest.raises(
        UsageError, match=r"The model's output \[.*\] \(\w+\) is no set of class scores \[B, C, "
    ):
        derive_targets(logits, "cross_entropy")


# -- tasks -----------------------------------------------------------------------------------------


class Bare(nn.Module):
    """Knows neither its input nor a loss."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.layer(x)
        return found


class OddBatch(Bare):
    def example_batch(self, batch: int) -> Any:
        return torch.randn(batch, 3)


class OddLoss(Bare):
    loss = 3


class OwnLoss(Bare):
    def loss(self, output: Tensor, targets: Tensor) -> Tensor:
        return (output.sum(dim=1) - targets).abs().mean()

    def example_batch(self, batch: int) -> tuple[Tensor, Tensor]:
        return torch.randn(batch, 3), torch.ones(batch)


class NamedLoss(Bare):
    loss = "mse"


HERE = "tests.zoo.test_task"


def test_a_task_of_real_data() -> None:
    batch = torch.randn(4, 3), torch.zeros(4, dtype=torch.int64)
    task = resolve_task(f"{HERE}:Bare", example_batch=batch)
    assert task.example_batch is batch
    assert (task.name, task.loss, task.model.training) == (f"{HERE}:Bare", "cross_entropy", True)


@pytest.mark.parametrize(("name", "dtype"), [("Bare", torch.int64), ("NamedLoss", torch.float32)])
def test_a_task_of_a_spec(name: str, dtype: torch.dtype) -> None:
    task = resolve_task(f"{HERE}:{name}", batch=5, input_spec="3")
    inputs, targets = task.example_batch
    assert isinstance(inputs, Tensor)
    assert (inputs.shape, targets.dtype) == ((5, 3), dtype)
    assert resolve_loss(task.loss)(task.model(inputs), targets).isfinite()
    assert task.model.training


def test_a_models_own_loss_and_targets() -> None:
    task = resolve_task(f"{HERE}:OwnLoss", batch=5, input_spec="3")
    assert callable(task.loss)
    assert task.example_batch[1].tolist() == [1] * 5
    assert resolve_task(f"{HERE}:OwnLoss", loss="mse").loss == "mse"


def test_a_task_of_the_zoo_is_the_model_built_with_its_seed() -> None:
    task = resolve_task("mlp", batch=2, args={"hidden": [4]}, seed=3)
    other = build_model("mlp", {"hidden": [4]}, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(task.model.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "mlp", "batch": 0}, "Batch size 0 is less than 1."),
        ({"name": f"{HERE}:Bare"}, f"The input of `{HERE}:Bare` is not known. "),
        (
            {"name": f"{HERE}:OddBatch"},
            "`example_batch` must return (inputs, targets), targets being a tensor.",
        ),
        (
            {"name": f"{HERE}:OddLoss"},
            "its `loss` is a int. Make it a method `loss(output, targets)` or the name",
        ),
        ({"name": "mlp", "loss": "mes"}, "No loss `mes`. Did you mean `mse`?"),
        (
            {"name": "mlp", "input_spec": "65"},
            "Model `mlp` does not take an input of `65` at batch 8: RuntimeError:",
        ),
        ({"name": "mlp", "input_spec": "64x"}, "Input `64x` is not a shape."),
    ],
)
def test_tasks_that_do_not_fit(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve_task(**options)
    assert message in str(caught.value)
