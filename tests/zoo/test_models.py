import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from edgewise.errors import UsageError
from edgewise.zoo import build_model, resolve_loss, resolve_task, zoo_names
from edgewise.zoo.mobilenetv2 import scaled
from edgewise.zoo.models import ZOO

SMALL: dict[str, dict[str, Any]] = {
    "mcunet": {"size": 32},
    "mobilenetv2": {"size": 32},
    "resnet18": {},
    "transformer": {"depth": 1},
    "tied-lm": {"depth": 1},
}
PARAMETERS = {"resnet18": 11_173_962, "resnet8": 78_042}


def make(name: str, seed: int = 0) -> nn.Module:
    return build_model(name, SMALL.get(name), seed=seed)


def test_names_are_sorted() -> None:
    assert list(zoo_names()) == sorted(ZOO)


@pytest.mark.parametrize("name", zoo_names())
def test_every_model_learns_in_one_eager_step(name: str) -> None:
    task = resolve_task(name, batch=2, args=SMALL.get(name))
    model, loss = task.model, resolve_loss(task.loss)
    inputs, targets = task.example_batch
    assert model.training
    model.eval()  # the same numbers drop out before and after
    before = loss(model(inputs), targets)
    before.backward()
    gradients = {key: p.grad for key, p in model.named_parameters()}
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients.values())
    assert any(gradient.any() for gradient in gradients.values() if gradient is not None)
    torch.optim.SGD(model.parameters(), lr=1e-3).step()
    assert loss(model(inputs), targets) < before


@pytest.mark.parametrize("name", zoo_names())
def test_every_model_describes_itself(name: str) -> None:
    model: Any = make(name)
    inputs, targets = model.example_batch(3)
    assert len(inputs) == len(targets) == 3
    assert targets.dtype == torch.int64
    assert type(model).__doc__
    again, _ = model.example_batch(3)
    assert torch.equal(inputs, again)
    with torch.no_grad():
        output = model.eval()(inputs)
    assert output.shape[0] == 3


@pytest.mark.parametrize("name", [name for name in zoo_names() if name != "resnet18"])
def test_the_seed_decides_the_weights(name: str) -> None:
    state = torch.random.get_rng_state()
    one, two, other = make(name), make(name), make(name, seed=1)
    assert torch.equal(torch.random.get_rng_state(), state), "the global generator was touched"
    pairs = list(zip(one.parameters(), two.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    assert any(not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_mcunet_is_as_large_as_its_zoo_says() -> None:
    """Of `mcunet-in1` for 96x96 pixels and 1,000 classes it says 0.64 M parameters and 12.8 M products."""
    model = build_model("mcunet", {"size": 96, "classes": 1000}).eval()
    assert round(sum(p.numel() for p in model.parameters()), -4) == 640_000
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(model.example_batch(1)[0])  # type: ignore[operator]
    assert round(counter.get_total_flops() / 2, -5) == 12_800_000


@pytest.mark.parametrize(("name", "count"), PARAMETERS.items())
def test_published_sizes(name: str, count: int) -> None:
    assert sum(p.numel() for p in make(name).parameters()) == count


def test_tied_weights_are_one_tensor() -> None:
    language: Any = make("tied-lm")
    assert language.head.weight is language.embed.weight
    classifier: Any = build_model("text-classifier", {"tied": True})
    assert classifier.first.weight is classifier.second.weight


def test_a_language_model_sees_no_token_after_its_own() -> None:
    model: Any = make("tied-lm").eval()
    tokens = torch.randint(128, (1, 8))
    changed = tokens.clone()
    changed[0, 5:] = (changed[0, 5:] + 1) % 128
    with torch.no_grad():
        one, two = model(tokens), model(changed)
    assert torch.equal(one[:, :5], two[:, :5])
    assert not torch.equal(one[:, 5:], two[:, 5:])


def test_padding_does_not_count() -> None:
    model: Any = make("text-classifier").eval()
    tokens = torch.randint(1, 1000, (2, 10))
    padded = torch.cat([tokens, torch.zeros(2, 6, dtype=torch.int64)], dim=1)
    with torch.no_grad():
        assert torch.allclose(model(tokens), model(padded), atol=1e-6)
        assert model(torch.zeros_like(tokens)).isfinite().all()


@pytest.mark.parametrize("shape", [(2, 8, 4), (2, 1, 8, 4)])
def test_a_transformer_of_numbers_reads_images_row_by_row(shape: tuple[int, ...]) -> None:
    model = build_model("transformer", {"features": 4, "length": 8, "depth": 1}).eval()
    x = torch.randn(2, 8, 4)
    with torch.no_grad():
        assert torch.equal(model(x.reshape(shape)), model(x))
    inputs, _ = model.example_batch(2)  # type: ignore[operator]
    assert inputs.shape == (2, 8, 4)


@pytest.mark.parametrize(
    ("channels", "width", "expected"), [(32, 0.35, 16), (16, 0.35, 8), (24, 0.5, 16), (96, 1.0, 96)]
)
def test_channels_are_scaled_as_in_the_paper(channels: int, width: float, expected: int) -> None:
    assert scaled(channels, width) == expected
    assert scaled(channels, width) % 8 == 0
    assert scaled(channels, width) >= 0.9 * channels * width


# -- a user's own model ----------------------------------------------------------------------------

OWN = """
import torch
class Net(torch.nn.Linear):
    def __init__(self, width=3):
        super().__init__(width, 2)
def make():
    return Net()
def broken():
    raise ValueError("no luck")
def nothing():
    return 3
ready = Net()
number = 3
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_models.py").write_text(OWN)
    (tmp_path / "my_broken.py").write_text("import not_installed_anywhere")
    (tmp_path / "my_crash.py").write_text("1 / 0")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_models", raising=False)


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("name", "args", "width"), [("my_models:make", {}, 3), ("my_models:Net", {"width": 5}, 5)]
)
def test_a_users_model_is_found_in_the_current_folder(name: str, args: dict[str, int], width: int) -> None:
    model = build_model(name, args)
    assert isinstance(model, nn.Linear)
    assert model.in_features == width


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mpl", "No model `mpl` in the zoo. Did you mean `mlp`? Your own model is `package.module:factory`."),
        ("zzz", "No model `zzz` in the zoo. The zoo has: digits-cnn, local-mixer, "),
        (":make", "Model `:make` is not of the form `package.module:factory`."),
        ("my_models:", "Model `my_models:` is not of the form `package.module:factory`."),
        ("my_models:mak", "Did you mean `my_models:make`?"),
        ("my_models:qqqq", "has no `qqqq`. Check the name after the colon."),
        ("my_models:number", "`my_models:number` is a int, not a factory. Name a class or a function"),
        ("my_models:ready", "`my_models:ready` is a Net, not a factory."),
        (
            "my_models:nothing",
            "`my_models:nothing` returned a int, not a torch.nn.Module. Return the model itself.",
        ),
        ("my_models:broken", "Model `my_models:broken`: calling it with () raised ValueError: no luck"),
        ("my_model:make", "No module `my_model`: `my_model` is neither in "),
        ("my_broken:make", "Module `my_broken` imports `not_installed_anywhere`, which is not installed."),
        ("my_crash:make", "Importing `my_crash` raised ZeroDivisionError: division by zero"),
    ],
)
def test_a_model_that_is_not_there(name: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        build_model(name)
    assert message in str(caught.value)


def test_arguments_that_the_factory_does_not_take() -> None:
    with pytest.raises(
        UsageError, match=r"Model `mlp`: calling it with \(widht=3\) raised TypeError: .*'widht'"
    ):
        build_model("mlp", {"widht": 3})


class Raises(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        raise UsageError("It says so itself.")

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_an_error_of_ours_is_passed_on() -> None:
    with pytest.raises(UsageError, match=r"^It says so itself\.$"):
        build_model(f"{__name__}:Raises") if __name__ in sys.modules else build_model(
            "tests.zoo.test_models:Raises"
        )


def test_names_need_no_model_to_be_built() -> None:
    code = "import sys, edgewise.zoo.models; sys.exit('edgewise.zoo.resnet' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
