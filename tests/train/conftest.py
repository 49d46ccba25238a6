"""Small data and a planner that does not think: what the tests of training share."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edgewise.plan import Budget, Plan
from edgewise.plan.schedule import plain_order
from edgewise.train import Recipe, decode_recipe
from edgewise.train.loop import train_run
from tests.support import plan_of, random_order

MakeRecipe = Callable[..., Recipe]


RECIPE = """
[model]
name = "tests.train.models:Small"
[data]
kind = "npz"
path = "{points}"
[train]
epochs = 2
batch = 8
[train.optimizer]
kind = "adamw"
lr = 0.02
[device]
name = "rpi4"
"""


@pytest.fixture(scope="session")
def points(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """50 points of 6 numbers in three classes that a line can tell apart."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 50)
    x = rng.standard_normal((50, 6)).astype(np.float32) + 2 * np.eye(3, 6)[labels].astype(np.float32)
    path = tmp_path_factory.mktemp("data") / "points.npz"
    np.savez(path, x_train=x, y_train=labels)
    return path


@pytest.fixture(scope="session")
def make_recipe(points: Path) -> MakeRecipe:
    """The recipe of a small run on `points`, of 5 steps an epoch; overrides as on a command line."""
    return lambda *overrides: decode_recipe(RECIPE.format(points=points), overrides=overrides)


@pytest.fixture
def quick_plans(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Plans at random, with pages, recomputations and homes; returns the calls that were made."""
    return plan_quickly(monkeypatch)


@pytest.fixture(scope="session")
def unbroken(make_recipe: MakeRecipe, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The directory of a run of `make_recipe(*overrides)` that nothing disturbed."""
    done: dict[tuple[str, ...], Path] = {}

    def run(*overrides: str) -> Path:
        if overrides not in done:
            done[overrides] = tmp_path_factory.mktemp("unbroken") / "run"
            with pytest.MonkeyPatch.context() as patch:
                plan_quickly(patch)
                train_run(make_recipe(*overrides), done[overrides])
        return done[overrides]

    return run


def plan_quickly(patch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = []

    def make_plan(graph: Any, device: Any, budget: Budget, *, minimize: Any, **options: Any) -> Plan:
        calls.append({"budget": budget, "minimize": minimize, **options})
        order, homes = random_order(graph, random.Random(len(calls)), forget=0.3, page=0.5)
        plan = plan_of(order, graph, device, homes)
        return msgspec.structs.replace(plan, budget=budget, minimize=minimize)

    def plain_plan(graph: Any, device: Any, **_: Any) -> Plan:
        return plan_of(plain_order(graph), graph, device)

    patch.setattr("edgewise.train.planning.make_plan", make_plan)
    patch.setattr("edgewise.train.planning.plain_plan", plain_plan)
    return calls
