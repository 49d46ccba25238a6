"""Forward-forward: each layer has the gradient of its own loss, or of as many as it looks ahead."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from edgewise.capture import SGD, AdamW, contrast, philox
from edgewise.errors import ModelUnsupported, UsageError
from edgewise.methods import Backprop, ForwardForward, Method
from edgewise.plan import Budget, make_plan, plain_plan
from edgewise.run import Executor
from edgewise.zoo.task import resolve_task
from tests.methods.steps import PLAIN, captured_by, gradients, network, run
from tests.support import DEVICE

CLASSES, SAMPLES = 4, 6
MILD = {"sharpness": 2.0, "label_value": 2.0}


def mlp(depth: int = 3) -> nn.Sequential:
    hidden = [part for _ in range(depth - 1) for part in (nn.Linear(7, 7), nn.ReLU())]
    return network(nn.Linear(12, 7), nn.ReLU(), *hidden, nn.Linear(7, CLASSES))


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(SAMPLES, 12, generator=generator), torch.arange(SAMPLES) % CLASSES


def wrong(targets: Tensor, step: int = 0, classes: int = CLASSES) -> Tensor:
    """The labels that a step under seed 0 draws."""
    u = philox.uniform(tuple(targets.shape), torch.float32, step, 0, 0)
    return (targets + 1 + (u * (classes - 1)).long()) % classes


def written(x: Tensor, labels: Tensor, height: float, classes: int = CLASSES) -> Tensor:
    x = x.flatten(1).clone()
    x[:, :classes] = height * nn.functional.one_hot(labels, classes)
    return x


def normalized(x: Tensor) -> Tensor:
    return x / (x.flatten(1).square().mean(1) + 1e-8).sqrt().view(-1, *[1] * (x.dim() - 1))


def local_losses(units: Sequence[nn.Module], x: Tensor, s: ForwardForward, *, cut: bool) -> list[Tensor]:
    """The loss of each unit in turn, on samples of which the first half has right labels."""
    losses, half = [], len(x) // 2
    for unit in units:
        y = unit(x)
        above = s.sharpness * (y.flatten(1).square().mean(1) - s.threshold)
        right, false = torch.log1p((-above[:half]).exp()), torch.log1p(above[half:].exp())
        losses.append(right.mean() + false.mean())
        x = normalized(y.detach() if cut else y)
    return losses


def both(settings: ForwardForward, step: int = 0) -> Tensor:
    """What the first layer reads."""
    x, y = batch()
    samples = [written(x, labels, settings.label_value) for labels in (y, wrong(y, step))]
    return normalized(torch.cat(samples))


def units_of(model: nn.Sequential) -> list[nn.Sequential]:
    return [model[i : i + 2] for i in range(0, len(model) - 1, 2)]


def found(method: Method, model: nn.Sequential, steps: int = 1) -> list[dict[str, Tensor]]:
    return list(gradients(captured_by(method, model, batch()), batch(), steps))


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    for name, gradient in theirs.items():
        assert torch.allclose(ours[name], gradient, rtol=1e-3, atol=1e-5), name


def by_autograd(loss: Tensor, model: nn.Module) -> dict[str, Tensor]:
    names, parameters = zip(*model.named_parameters(), strict=True)
    each = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
    return {
        n: torch.zeros_like(p) if g is None else g for n, p, g in zip(names, parameters, each, strict=True)
    }


def test_each_layer_has_the_gradient_of_its_own_loss() -> None:
    model, settings = mlp(), ForwardForward(**MILD)
    for step, ours in enumerate(found(settings, model, steps=2)):
        losses = local_losses(units_of(model), both(settings, step), settings, cut=True)
        same(ours, by_autograd(sum(losses, torch.zeros(())), model))


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_of_several_wrong_labels_the_first_layer_picks_the_best(precision: str) -> None:
    """The same step as with that label alone; int8 to within its rounding."""
    model = mlp()
    settings = ForwardForward(**MILD, candidates=3, precision=precision, rounding="nearest")  # type: ignore[arg-type]
    (ours,) = found(settings, model)
    x, y = batch()
    labels = contrast.wrong_labels_of(y, torch.tensor(0), CLASSES, 3, stream=0, seed=0)
    assert torch.equal(
        labels.sort(0).values, torch.stack([torch.arange(CLASSES)[torch.arange(CLASSES) != t] for t in y], 1)
    )
    first = units_of(model)[0]
    goodness = torch.stack([first(normalized(written(x, some, 2.0))).square().mean(1) for some in labels])
    best = labels.gather(0, goodness.argmax(0, keepdim=True))[0]
    samples = normalized(torch.cat([written(x, some, 2.0) for some in (y, best)]))
    theirs = by_autograd(
        sum(local_losses(units_of(model), samples, settings, cut=True), torch.zeros(())), model
    )
    for name, gradient in theirs.items():
        error = float((ours[name] - gradient).norm())
        assert error <= (1e-4 if precision == "float32" else 0.1) * float(gradient.norm()), name


def test_wrong_labels_are_drawn_evenly() -> None:
    """Each of the others as often, no two of a sample the same, and others in another step."""
    targets = torch.arange(5).repeat(200)
    labels = contrast.wrong_labels_of(targets, torch.tensor(3), 5, 2, stream=0, seed=0)
    assert not (labels == targets).any()
    assert not (labels[0] == labels[1]).any()
    counts = torch.bincount(labels.flatten(), minlength=5)
    assert (counts - 400).abs().max() < 80
    assert not torch.equal(labels, contrast.wrong_labels_of(targets, torch.tensor(4), 5, 2, stream=0, seed=0))


def test_the_loss_is_the_sum_of_those_in_the_notes() -> None:
    model, settings = mlp(), ForwardForward(**MILD)
    losses = torch.stack(local_losses(units_of(model), both(settings), settings, cut=True)).detach()
    (result,) = run(captured_by(settings, model, batch()), batch())
    assert torch.allclose(result.notes["losses"], losses, rtol=1e-5)
    assert result.loss == pytest.approx(float(losses.sum()), rel=1e-5)


def test_nothing_flows_between_layers() -> None:
    """What later layers are makes no difference to the gradient of earlier ones."""
    model = mlp()
    (before,) = found(ForwardForward(**MILD), model)
    with torch.no_grad():
        model[2].weight.mul_(-3)
    (after,) = found(ForwardForward(**MILD), model)
    assert torch.equal(before["0.weight"], after["0.weight"])
    assert not torch.equal(before["4.weight"], after["4.weight"])
    (ahead,) = found(ForwardForward(**MILD, look_ahead=1, look_ahead_start=1.0), model)
    assert not torch.allclose(before["0.weight"], ahead["0.weight"])


@pytest.mark.parametrize("depth", [2, 5])
def test_looking_ahead_all_the_way_is_backprop_of_the_sum(depth: int) -> None:
    model, settings = (
        mlp(),
        ForwardForward(**MILD, look_ahead=depth, look_ahead_start=1.0, look_ahead_rate=0.0),
    )
    (ours,) = found(settings, model)
    losses = local_losses(units_of(model), both(settings), settings, cut=False)
    same(ours, by_autograd(sum(losses, torch.zeros(())), model))


def test_looking_ahead_by_one_sees_just_the_next_layer() -> None:
    """With lambda as it is in that epoch: dL_i/dW_i + lambda dL_{i+1}/dW_i."""
    settings = ForwardForward(
        **MILD, look_ahead=1, look_ahead_start=0.25, look_ahead_rate=0.5, steps_per_epoch=2
    )
    model = mlp()
    for step, ours in enumerate(found(settings, model, steps=5)):
        weight = 0.25 + 0.5 * (step // 2)
        losses = local_losses(units_of(model), both(settings, step), settings, cut=False)
        each = [by_autograd(loss, model) for loss in losses]
        for index, names in enumerate((("0.weight", "0.bias"), ("2.weight", "2.bias"))):
            theirs = {n: each[index][n] + weight * each[index + 1][n] for n in names}
            same(ours, theirs)
        same(ours, {n: each[2][n] for n in ("4.weight", "4.bias")})


def test_peer_normalization_is_the_variance_of_running_means() -> None:
    model, settings = mlp(), ForwardForward(**MILD, peer=5.0)
    captured = captured_by(settings, model, batch())
    x, unit, means = both(settings), units_of(model)[0], torch.zeros(7)
    with Executor(captured, plain_plan(captured.graph, DEVICE), DEVICE) as executor:
        for step in range(2):
            before = executor.state()
            x = both(settings, step)
            executor.step(batch(), step)
            after = executor.state()
            parameters = {n: before[f"0.{n}"].clone().requires_grad_() for n in ("weight", "bias")}
            layer = unit[0]
            y = nn.functional.linear(x, parameters["weight"], parameters["bias"]).relu()
            (loss,) = local_losses([nn.Identity()], y, settings, cut=True)
            new = 0.9 * means + 0.1 * y[:SAMPLES].mean(0)
            loss = loss + 5 * new.var(correction=0)
            for name, gradient in zip(
                parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True
            ):
                assert torch.allclose(
                    before[f"0.{name}"] - after[f"0.{name}"], gradient, rtol=1e-3, atol=1e-5
                )
            means = new.detach()
            assert torch.allclose(after["0.mean_activity"], means, atol=1e-6)
            assert layer is model[0]


def test_wrong_labels_are_never_right_and_all_others_have_the_same_chance() -> None:
    targets = torch.arange(4000) % CLASSES
    drawn = wrong(targets)
    assert not (drawn == targets).any()
    counts = torch.bincount((drawn - targets) % CLASSES, minlength=CLASSES)[1:]
    assert float(((counts - 4000 / 3).square() / (4000 / 3)).sum()) < 13.8  # chi square, 2 degrees, 0.1%


class Block(nn.Module):
    """A residual block: no chain inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.second(self.first(x).relu())).relu()


def convolutional() -> nn.Sequential:
    """The same weights at each call, those of the block too."""
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, CLASSES))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        block = Block(3)
    return network(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), block, *head, seed=3)


def images() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(SAMPLES, 1, 8, 8, generator=generator), torch.arange(SAMPLES) % CLASSES


def test_a_residual_block_trains_as_one_unit() -> None:
    """With its own chain rule inside, on pooled activations that were normalized."""
    model, settings = convolutional(), ForwardForward(**MILD)
    (ours,) = gradients(captured_by(settings, model, images()), images(), 1)
    x, y = images()
    samples = torch.cat([written(x, labels, settings.label_value).view(x.shape) for labels in (y, wrong(y))])
    first = model[:2](normalized(samples))
    (before,) = local_losses([nn.Identity()], first, settings, cut=True)
    (after,) = local_losses([model[3]], normalized(model[2](first.detach())), settings, cut=True)
    same(ours, by_autograd(before + after, model))


def test_a_wave_reaches_every_position() -> None:
    model, settings = convolutional(), ForwardForward(**MILD, label="wave")
    (right,) = gradients(captured_by(settings, model, images()), images(), 1)
    (corner,) = gradients(captured_by(ForwardForward(**MILD), model, images()), images(), 1)
    assert not torch.allclose(right["0.weight"], corner["0.weight"])
    from edgewise.methods.goodness import waves  # noqa: PLC0415

    every = waves(10, (1, 28, 28)).flatten(1)
    alike = torch.corrcoef(every) - torch.eye(10)
    assert every.abs().max() <= 1
    assert alike.abs().max() < 0.2


@pytest.mark.parametrize("inference", ["goodness", "readout"])
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_it_learns_to_classify(inference: str, precision: str) -> None:
    """Four far clusters, told apart by the model that the capture holds."""
    generator = torch.Generator().manual_seed(0)
    centres = 3 * torch.rand(CLASSES, 12, generator=generator)
    centres[:, :CLASSES] = 0
    y = torch.arange(64) % CLASSES
    x = centres[y] + 0.1 * torch.randn(64, 12, generator=generator)
    model = network(*model_like())
    settings = ForwardForward(precision=precision, inference=inference, sharpness=5.0)  # type: ignore[arg-type]
    captured = captured_by(settings, model, (x, y), optimizer=AdamW(lr=5e-3))
    run(captured, (x, y), steps=60)
    assert float((captured.model(x).argmax(1) == y).float().mean()) > 0.9
    assert dict(captured.model.named_parameters()).keys() == dict(model.named_parameters()).keys()
    trained = not torch.equal(model[4].weight, network(*model_like())[4].weight)
    assert trained == (inference == "readout")


def model_like() -> list[nn.Module]:
    return [nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, CLASSES)]


PLANNED = {
    "peers": ForwardForward(peer=0.1),
    "ahead": ForwardForward(look_ahead=1, look_ahead_start=0.5),
    "int8": ForwardForward(precision="int8"),
    "int8 ahead": ForwardForward(precision="int8", look_ahead=1, look_ahead_start=0.5),
}


@pytest.mark.parametrize("method", PLANNED.values(), ids=PLANNED.keys())
def test_a_planned_step_has_the_bits_of_the_plain_one(method: Method) -> None:
    optimizer = SGD(lr=0.1, momentum=0.9, weight_decay=1e-2)
    states = []
    for planned in (False, True):
        captured = captured_by(method, convolutional(), images(), optimizer=optimizer)
        plain = plain_plan(captured.graph, DEVICE)
        budget = Budget(int(0.95 * plain.peak_bytes))
        plan = make_plan(captured.graph, DEVICE, budget, time_limit=1, gap=0.5) if planned else plain
        with Executor(captured, plan, DEVICE) as executor:
            for step in range(2):
                result = executor.step(images(), step)
                assert result.peak_bytes == plan.peak_bytes
            states.append(executor.state())
    assert all(torch.equal(states[0][n], states[1][n]) for n in states[0])


def test_running_statistics_move_once_a_step() -> None:
    model = network(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 36, 4))
    run(captured_by(ForwardForward(inference="readout"), model, images()), images(), steps=3)
    assert int(model[1].num_batches_tracked) == 3


def test_activations_do_not_add_up_over_layers() -> None:
    """Six layers hold hardly more of them at once than two do; under backprop, almost twice as many."""
    peaks = {}
    for depth in (2, 6):
        layers = [part for _ in range(depth) for part in (nn.Linear(32, 32), nn.ReLU())]
        x, y = torch.rand(256, 32), torch.arange(256) % CLASSES
        for method in (ForwardForward(), Backprop()):
            model = network(*layers, nn.Linear(32, CLASSES))
            captured = captured_by(method, model, (x, y), optimizer=PLAIN)
            weights = sum(p.numel() * 4 for p in model.parameters())
            peaks[type(method), depth] = plain_plan(captured.graph, DEVICE).peak_bytes - weights
    assert peaks[ForwardForward, 6] < 1.1 * peaks[ForwardForward, 2]
    assert peaks[Backprop, 6] > 1.8 * peaks[Backprop, 2]


# -- what it cannot serve ------------------------------------------------------------------------------------


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = nn.Linear(12, 8), nn.Linear(8, 8), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.three(self.two(self.one(x).relu()).relu())


class Bare(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(CLASSES, 12))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.t()


class Last(nn.Module):
    """The last output of a recurrent layer."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 5, batch_first=True)
        self.mix = nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(self.lstm(x.view(-1, 4, 3))[0][:, -1])


def tied() -> nn.Sequential:
    layer = nn.Linear(12, 12)
    return network(layer, nn.ReLU(), layer, nn.ReLU(), nn.Linear(12, CLASSES))


def half_tied() -> nn.Sequential:
    model = network(nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, CLASSES))
    model[2].weight = model[0].weight
    return model


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (Functional(), "one: what it makes goes elsewhere than into the next layer, as it is"),
        (Bare(), "the model itself: it has no layers that are modules"),
        (network(nn.Linear(12, CLASSES)), "the model itself: it has no linear layer or convolution before"),
        (network(Last(), nn.ReLU(), nn.Linear(5, 4)), "0.lstm: LSTM: a recurrent layer has no single pass"),
        (tied(), "0: weights: they are used in two layers"),
        (half_tied(), "2: weights: they are used in two layers"),
    ],
)
def test_models_that_cannot_be_trained_layer_by_layer(model: nn.Module, text: str) -> None:
    with pytest.raises(ModelUnsupported, match=text):
        captured_by(ForwardForward(), model, batch())


def test_a_readout_must_read_the_layer_before() -> None:
    task = resolve_task("digits-cnn", batch=4)
    with pytest.raises(ModelUnsupported, match="head: a readout must read what the layer before makes"):
        captured_by(ForwardForward(inference="readout"), task.model, task.example_batch)


def test_convolutions_that_do_not_run_on_int8() -> None:
    model = network(nn.Conv2d(1, 2, 3, padding_mode="circular", padding=1), nn.Flatten(), nn.Linear(128, 4))
    with pytest.raises(ModelUnsupported, match="0: Conv2d: only Conv2d padded by zeros runs on int8"):
        captured_by(ForwardForward(precision="int8"), model, images())


def test_its_losses_are_its_own() -> None:
    with pytest.raises(UsageError, match="the loss must be `cross_entropy`"):
        captured_by(ForwardForward(), mlp(), batch(), "mse")


def test_samples_must_have_room_for_a_label() -> None:
    model = network(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, CLASSES))
    with pytest.raises(UsageError, match=r"4 classes do not fit into samples of 4 numbers"):
        captured_by(ForwardForward(), model, (torch.rand(2, 4), torch.arange(2)))
    with pytest.raises(UsageError, match="waves go into images"):
        captured_by(ForwardForward(label="wave"), mlp(), batch())


def test_samples_must_be_numbers() -> None:
    model = network(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(20, 8), nn.Linear(8, 4))
    with pytest.raises(UsageError, match="inputs must be one float tensor"):
        captured_by(ForwardForward(), model, (torch.zeros(2, 5, dtype=torch.int64), torch.arange(2)))


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"threshold": 0.0}, "`threshold` is 0.0; it must be above 0"),
        ({"sharpness": float("nan")}, "`sharpness` is nan"),
        ({"peer": -1.0}, "`peer` is -1.0; it must be zero or positive"),
        ({"look_ahead": -1}, "`look_ahead` is -1; it must be zero or positive"),
        ({"candidates": 0}, "`candidates` is 0; it must be at least 1"),
        ({"steps_per_epoch": 0}, "`steps_per_epoch` is 0; it must be at least 1"),
    ],
)
def test_settings_out_of_range(settings: dict[str, float], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        ForwardForward(**settings)  # type: ignore[arg-type]
