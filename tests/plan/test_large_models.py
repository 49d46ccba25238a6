"""The benchmark of large models: the partitioner's splits become plans, and the page says what was found."""

import pytest

from benchmarks._large_models_page import cheapest, measured_table, page_of
from benchmarks._networks import Training
from benchmarks._partitioner import order_of, splits
from edgewise.capture import SGD, capture
from edgewise.plan import Budget
from edgewise.plan.problem import Problem, judge
from edgewise.zoo import resolve_loss, resolve_task
from tests.plan.graphs import DISKLESS


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_every_split_of_the_partitioner_is_a_plan() -> None:
    task = resolve_task("resnet8", batch=2)
    training = Training(task.model, resolve_loss(task.loss), task.example_batch, "")
    graph = capture(task.model, task.loss, SGD(0.1), task.example_batch).graph
    problem = Problem(graph, DISKLESS, Budget(1 << 62), "seconds", "full")
    overheads = []
    for split in splits(training, (1.0, 0.5, 0.0)):
        assert split.saved <= set(graph.value)
        candidate = judge(problem, order_of(problem, split.saved))
        assert candidate is not None
        overheads.append(candidate.overhead)
    assert overheads == sorted(overheads)
    assert overheads[-1] > 0


def model(**row: float) -> dict[str, object]:
    point = {"peak_bytes": 60, "share": 0.6, "overhead": 0.3, "recomputed": 3}
    ours = {
        "device": "server-core",
        "budget_bytes": 70,
        "asked": 0.7,
        "cpu_seconds": 5.0,
        "wall_seconds": 6.0,
    }
    return {
        "name": "net", "words": "8x8", "ops": 10, "carried_bytes": 0, "activation_bytes": 100, "working": 0.2,
        "capture_seconds": 1.0, "every_block": [point], "memory_budget": [{"budget": 0.5, **point}],
        "ours": [{**ours, **row}],
    }  # fmt: skip


def test_page_of_a_plan_that_is_cheaper() -> None:
    text = page_of([model(overhead=0.1, gap=0.2, recomputed=2)], "", 60.0)
    assert "| net | 70% | **10.0%** | 20% | 2 | 5 s | 6 s | 30.0% | 30.0% |" in text
    assert "A plan was found in 1 of 1 cases" in text
    assert "less overhead in 1 of the 1 cases in which both fit" in text


def test_page_of_a_budget_that_is_too_small() -> None:
    text = page_of([model(budget_bytes=50, asked=0.5, least_bytes=55)], "", 60.0)
    assert "| net | 50% | needs 55% | - | - | 5 s | 6 s | needs 60% | needs 60% |" in text


def test_a_loss_is_said() -> None:
    text = page_of([model(least_bytes=None)], "", 60.0)
    assert "In 1 cases only that peer has a plan." in text


def test_measured_table() -> None:
    row = {"name": "net", "way": "ours", "peak_bytes": 2**20, "process_bytes": 2**21, "seconds": 0.5}
    assert "| net | ours | - | 1.0 MiB | 2.0 MiB | 0.50 s |" in measured_table([row])
    assert not measured_table([])


def test_cheapest_is_the_least_overhead_that_fits() -> None:
    points = [{"peak_bytes": 5, "overhead": 0.3}, {"peak_bytes": 9, "overhead": 0.1}]
    assert cheapest(points, 8) == points[0]
    assert cheapest(points, 4) is None
