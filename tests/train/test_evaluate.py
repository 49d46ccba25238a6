from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgewise.errors import UsageError
from edgewise.train.data.samples import Arrays
from edgewise.train.evaluate import Evaluator, LiveBytes, Scores

COUNT, WIDTH = 20, 256


def samples(targets: Any) -> Arrays:
    x = np.random.default_rng(0).standard_normal((COUNT, WIDTH)).astype(np.float32)
    return Arrays(x, np.asarray(targets), np.arange(COUNT), lambda rows: rows)


class Watched(nn.Module):
    """A linear layer that remembers how it was called."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.layer = nn.Linear(WIDTH, outputs)
        self.norm = nn.BatchNorm1d(outputs)
        self.chunks: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        assert not self.training
        assert not torch.is_grad_enabled()
        self.chunks.append(len(x))
        found: Tensor = self.norm(self.layer(x))
        return found


def evaluator(model: nn.Module, targets: Any, *, free: int = 2**20, most: int = 8) -> Evaluator:
    return Evaluator(model, samples(targets), budget_bytes=free + 1000, resident_bytes=1000, most=most)


@pytest.mark.parametrize("free", [2**20, 0, -5])
def test_accuracy_is_that_of_one_big_batch(free: int) -> None:
    model, labels = Watched(3), np.arange(COUNT) % 3
    found = evaluator(model, labels, free=free).scores()
    with torch.no_grad():
        guesses = model.eval()(torch.from_numpy(samples(labels).inputs)).argmax(1)
    assert found == Scores(accuracy=float(np.mean(guesses.numpy() == labels)))


def test_errors_are_those_of_one_big_batch() -> None:
    model, numbers = Watched(1), np.linspace(-1, 1, COUNT, dtype=np.float32)
    found = evaluator(model, numbers).scores()
    with torch.no_grad():
        error = model.eval()(torch.from_numpy(samples(numbers).inputs)).squeeze(1).numpy() - numbers
    assert found.accuracy is None
    assert found.mse == pytest.approx(float(np.mean(error**2)), rel=1e-5)
    assert found.mae == pytest.approx(float(np.mean(np.abs(error))), rel=1e-5)


@pytest.mark.parametrize("was_training", [True, False])
def test_the_model_is_left_as_it_was(was_training: bool) -> None:
    model = Watched(3).train(was_training)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    evaluator(model, np.zeros(COUNT, dtype=np.int64)).scores()
    assert model.training is was_training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("free", "most", "chunks"),
    [
        (2**20, 8, [1, 8, 8, 3]),
        (2**20, 100, [1, 19]),
        (0, 8, [1] * COUNT),
        (-1000, 8, [1] * COUNT),
        (4 * (4 * WIDTH + 4 * 3 + 4 * 3), 100, [1, 4, 4, 4, 4, 3]),  # sample, scores, and scores made normal
    ],
)
def test_chunks_fit_what_is_free(free: int, most: int, chunks: list[int]) -> None:
    model = Watched(3)
    subject = evaluator(model, np.zeros(COUNT, dtype=np.int64), free=free, most=most)
    assert subject.peak_bytes is None
    subject.scores()
    assert model.chunks == chunks
    assert subject.peak_bytes == 1000 + max(chunks) * (4 * WIDTH + 24) if max(chunks) < 19 else True
    model.chunks.clear()
    subject.scores()
    assert sum(model.chunks) == COUNT
    assert max(model.chunks) == min(max(subject._chunk or 0, 1), COUNT)


def test_live_bytes_fall_when_tensors_go() -> None:
    model = nn.Linear(8, 8)
    with LiveBytes(model) as live, torch.no_grad():
        x = torch.zeros(16)
        assert live.live == live.peak == 64
        y = x + 1
        view = y.view(4, 4)
        assert live.live == 128
        del y
        assert live.live == 128, "the view still holds it"
        del view
        assert (live.live, live.peak) == (64, 128)
        weight = model.weight.t()
        assert live.live == 64, "the model's own tensors are counted elsewhere"
        x.add_(1)
        assert live.live == 64
        del x, weight
    assert (live.live, live.peak) == (0, 128)


class Says(nn.Module):
    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output

    def forward(self, x: Tensor) -> Any:
        return self.output(x)


@pytest.mark.parametrize(
    ("output", "targets"),
    [
        (lambda x: {"scores": x}, np.zeros(COUNT, dtype=np.int64)),
        (lambda x: x[:, 0], np.zeros(COUNT, dtype=np.int64)),
        (lambda x: x.unflatten(1, (16, 16)), np.zeros(COUNT, dtype=np.int64)),
        (lambda x: x[:, :2], np.zeros(COUNT, dtype=np.float32)),
        (lambda x: x[:, 0] / 0, np.zeros(COUNT, dtype=np.float32)),
    ],
    ids=["no tensor", "no classes", "another shape", "another width", "no numbers"],
)
def test_what_cannot_be_scored_has_no_score(output: Any, targets: Any) -> None:
    assert evaluator(Says(output), targets).scores() == Scores()


def test_labels_that_are_no_class_do_not_count() -> None:
    model, labels = Watched(3), np.arange(COUNT) % 3
    everything = evaluator(model, labels).scores().accuracy
    ignored = evaluator(model, np.where(np.arange(COUNT) < 12, labels, 255)).scores()
    with torch.no_grad():
        guesses = model.eval()(torch.from_numpy(samples(labels).inputs))[:12].argmax(1)
    assert ignored.accuracy == float(np.mean(guesses.numpy() == labels[:12])) != everything
    assert evaluator(model, np.full(COUNT, 255)).scores() == Scores()


def test_a_sample_that_the_model_fails_on_is_named() -> None:
    table = nn.Sequential(nn.Embedding(4, 3), nn.Flatten(), nn.Linear(6, 2))
    tokens = np.arange(8).reshape(4, 2) % 6
    found = Arrays(tokens, np.zeros(4, dtype=np.int64), np.arange(4), lambda rows: rows)
    with pytest.raises(UsageError, match="fails on test samples 2 to 2: IndexError: index out of range"):
        Evaluator(table, found, budget_bytes=0, resident_bytes=0, most=1).scores()


def test_every_token_counts() -> None:
    targets = np.tile(np.array([0, 1]), (COUNT, 1))

    def always_first(x: Tensor) -> Tensor:
        return torch.tensor([1.0, 0.0, 0.0]).expand(len(x), 2, 3)

    assert evaluator(Says(always_first), targets).scores() == Scores(accuracy=0.5)


def test_a_pause_may_stop_it_between_chunks() -> None:
    model = Watched(3)

    def pause() -> None:
        if len(model.chunks) == 2:
            raise KeyboardInterrupt

    model.train()
    with pytest.raises(KeyboardInterrupt):
        evaluator(model, np.zeros(COUNT, dtype=np.int64)).scores(pause)
    assert model.chunks == [1, 8]
    assert model.training
