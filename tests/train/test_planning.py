"""The real planner at work: everything in test_loop.py is planned at random."""

import json
from pathlib import Path

import pytest

from edgewise.devices import load_device
from edgewise.errors import BudgetInfeasible, CorruptArtifact
from edgewise.plan import Certificate, Progress
from edgewise.train import Watch
from edgewise.train.loop import train_run
from edgewise.train.planning import budget_of
from edgewise.train.recipe import DeviceConfig

PLAIN = Certificate(1001, 2.0, 3.0, 1001, (), (), (), (), (), 0, 0)


class Planner(Watch):
    def __init__(self) -> None:
        self.said: list[Progress] = []

    def progress(self, progress: Progress) -> None:
        self.said.append(progress)


def test_a_run_in_less_memory_than_plain_training(make_recipe, tmp_path: Path) -> None:
    recipe = make_recipe("train.epochs=1", "device.ram=0.7x", "device.time_limit_seconds=5", "device.gap=0.1")
    watch = Planner()
    summary = train_run(recipe, tmp_path / "run", watch=watch)
    assert summary.budget_ram_bytes == int(0.7 * summary.plain_peak_bytes)
    assert summary.measured_peak_bytes is not None
    assert summary.measured_peak_bytes <= summary.certified_peak_bytes <= summary.budget_ram_bytes
    assert summary.planned_joules >= summary.plain_joules
    assert summary.recomputed + summary.paged_in > 0
    assert watch.said


def test_a_budget_that_nothing_fits(make_recipe, tmp_path: Path) -> None:
    with pytest.raises(BudgetInfeasible) as caught:
        train_run(make_recipe("device.ram=64B"), tmp_path / "run")
    assert caught.value.min_ram_bytes is not None
    assert caught.value.min_ram_bytes > 64
    assert caught.value.op
    assert not list((tmp_path / "run").iterdir())


@pytest.mark.parametrize(
    ("config", "ram_bytes", "seconds"),
    [
        (DeviceConfig(), 2**30, None),
        (DeviceConfig(ram="3KiB"), 3072, None),
        (DeviceConfig(ram="0.5x", seconds="1.5x"), 500, 3.0),
        (DeviceConfig(ram="1x", seconds="200ms"), 1001, 0.2),
    ],
)
def test_budgets(config: DeviceConfig, ram_bytes: int, seconds: float | None) -> None:
    budget = budget_of(config, load_device("rpi4"), PLAIN)
    assert (budget.ram_bytes, budget.seconds) == (ram_bytes, seconds)


@pytest.mark.usefixtures("quick_plans")
def test_a_plan_for_other_figures_of_the_device_is_made_anew(
    make_recipe, tmp_path: Path, quick_plans
) -> None:
    recipe, run_dir = make_recipe("train.epochs=1"), tmp_path / "run"
    train_run(recipe, run_dir)
    path = run_dir / "environment.json"
    environment = json.loads(path.read_bytes())
    environment["device"]["compute"]["flops_per_second"] *= 2
    path.write_text(json.dumps(environment))
    train_run(recipe, run_dir, resume=True)
    path.unlink()
    train_run(recipe, run_dir, resume=True)
    assert len(quick_plans) == 3
    train_run(recipe, run_dir, resume=True)
    assert len(quick_plans) == 3
    path.write_text("{")
    with pytest.raises(
        CorruptArtifact, match=r"environment\.json is no environment file: .* Restore or remove it\."
    ):
        train_run(recipe, run_dir, resume=True)
