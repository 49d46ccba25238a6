import pytest
import torch

from edgewise.capture import SGD
from edgewise.plan import plain_plan
from edgewise.run import Executor
from edgewise.train.comparison import Search, Trial
from edgewise.train.data import load_data
from edgewise.train.loop import capture_task
from edgewise.train.rate_search import LEAST_STEPS, TRIALS, Adjustable, best_of, search_rate
from tests.support import DEVICE


def trial(lr: float, loss: float | None, error: float = 0.0) -> Trial:
    return Trial(lr, 16, loss, error)


@pytest.mark.parametrize(
    ("trials", "best"),
    [
        ([trial(1, 2.0), trial(0.1, 1.0), trial(0.01, 1.5)], 0.1),
        ([trial(1, None), trial(0.1, 1.04, 0.03), trial(0.01, 1.0, 0.03)], 0.1),
        ([trial(1, None), trial(0.1, 1.05, 0.03), trial(0.01, 1.0, 0.03)], 0.01),
        ([trial(1, None), trial(0.1, None)], 0.1),
    ],
)
def test_the_largest_rate_within_one_standard_error(trials: list[Trial], best: float) -> None:
    assert best_of(trials) == best


@pytest.mark.parametrize(("lr", "edge"), [(1.0, "largest"), (0.1, ""), (0.01, "least")])
def test_a_rate_at_the_edge(lr: float, edge: str) -> None:
    assert Search(lr, (trial(1.0, 1.0), trial(0.1, 1.0), trial(0.01, 1.0))).is_edge == edge
    assert Search(lr).is_edge == ""


def test_trials_start_from_the_same_weights_and_leave_them(make_recipe) -> None:
    recipe = make_recipe('train.optimizer={kind="sgd",lr=0.1,momentum=0.5}')
    optimizer = Adjustable(SGD(lr=0.1, momentum=0.5))
    dataset = load_data(recipe.data)
    captured = capture_task(recipe, dataset, optimizer)
    heard = []
    with Executor(captured, plain_plan(captured.graph, DEVICE), DEVICE) as executor:
        before = executor.state()
        found = search_rate(recipe, dataset, 30, executor, optimizer, lambda *said: heard.append(said))
        after = executor.state()
        again = search_rate(recipe, dataset, 30, executor, optimizer, lambda *_: None)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert again == found
    assert len(found.trials) == len(heard) == TRIALS
    assert [said[:2] for said in heard] == [(i, TRIALS) for i in range(TRIALS)]
    assert found.trials[0].lr == pytest.approx(1.0)
    assert all(t.steps <= LEAST_STEPS for t in found.trials)
    assert found.trials[4].lr < found.lr < 10, "a rate that learns nothing is not taken"
    assert found.steps == sum(t.steps for t in found.trials)


def test_a_trial_that_diverges_ends_early(make_recipe) -> None:
    recipe = make_recipe('train.optimizer={kind="sgd",lr=1e4}')
    optimizer = Adjustable(SGD(lr=1e4))
    dataset = load_data(recipe.data)
    captured = capture_task(recipe, dataset, optimizer)
    with Executor(captured, plain_plan(captured.graph, DEVICE), DEVICE) as executor:
        found = search_rate(recipe, dataset, 30, executor, optimizer, lambda *_: None)
    assert found.trials[0].loss is None
    assert found.trials[0].steps < LEAST_STEPS
    assert found.lr < 1e4
