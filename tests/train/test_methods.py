"""Runs by every method: trained, interrupted, resumed to the same bits; what a run says of its method."""

from pathlib import Path

import msgspec
import pytest

from edgewise.errors import ModelUnsupported, UsageError
from edgewise.graph import load_graph
from edgewise.plan import load_plan
from edgewise.report import write_report
from edgewise.train import load_recipe
from edgewise.train.loop import train_run
from edgewise.train.method_names import is_complete, method_kinds, method_text, parse_method
from tests.train.test_loop import Seen, assert_same_bits, ctrl_c, without_time

REFUSED = {
    "activity-perturbation": "norm: BatchNorm1d: it mixes the samples of a batch",
    "forward-forward": "norm: what it makes goes elsewhere than into the next layer",
    "sparse-update": "neither `weights` nor `biases` names anything to be trained",
    "fixed-point": "Use `sgd` without momentum",
}
"""What methods say of the recipe's model and optimizer that cannot serve it as it is."""

METHODS = [kind for kind in method_kinds() if is_complete(kind) and kind not in ("backprop", *REFUSED)]


def by(make_recipe, name: str, *overrides: str):
    return msgspec.structs.replace(make_recipe(*overrides), method=parse_method(name))


@pytest.mark.usefixtures("quick_plans")
@pytest.mark.parametrize("name", METHODS)
def test_ctrl_c_then_resume_gives_the_bits_of_an_unbroken_run(name: str, make_recipe, tmp_path: Path) -> None:
    recipe = by(make_recipe, name, "train.epoch_steps=3")
    whole = train_run(recipe, tmp_path / "whole")
    assert (whole.steps, whole.epochs, whole.method) == (6, 2, method_text(recipe.method))
    broken = train_run(recipe, tmp_path / "broken", watch=Seen(3, ctrl_c))
    assert (broken.interrupted, broken.steps) == (True, 4)
    train_run(recipe, tmp_path / "broken", resume=True)
    assert (
        load_plan(tmp_path / "broken" / "plan.json").steps
        != load_plan(tmp_path / "whole" / "plan.json").steps
    )
    assert_same_bits(tmp_path / "whole", tmp_path / "broken")
    assert without_time(tmp_path / "whole") == without_time(tmp_path / "broken")
    assert load_recipe(tmp_path / "whole" / "recipe.toml") == recipe


@pytest.mark.usefixtures("quick_plans")
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_serve_the_model_says_why_and_changes_nothing(
    name: str, make_recipe, tmp_path: Path
) -> None:
    with pytest.raises((UsageError, ModelUnsupported), match=REFUSED[name]):
        train_run(by(make_recipe, name), tmp_path / "run")
    assert not list((tmp_path / "run").iterdir())


@pytest.mark.usefixtures("quick_plans")
def test_a_run_is_not_resumed_by_another_method(make_recipe, tmp_path: Path) -> None:
    recipe = make_recipe("train.epochs=1", "train.epoch_steps=1")
    train_run(recipe, tmp_path / "run")
    other = msgspec.structs.replace(recipe, method=parse_method("spsa"))
    with pytest.raises(UsageError, match=r"`method\.kind` is absent there and 'spsa' here"):
        train_run(other, tmp_path / "run", resume=True)


@pytest.mark.usefixtures("quick_plans")
def test_the_report_names_the_method(make_recipe, tmp_path: Path) -> None:
    recipe = by(make_recipe, "sign-spsa", "train.epochs=1", "train.epoch_steps=1")
    train_run(recipe, tmp_path / "run")
    assert "Gradients are by spsa:sign=true" in write_report(tmp_path / "run").read_text()
    train_run(make_recipe("train.epochs=1", "train.epoch_steps=1"), tmp_path / "plain")
    assert "Gradients are by" not in write_report(tmp_path / "plain").read_text()


@pytest.mark.usefixtures("quick_plans")
def test_a_method_that_cannot_serve_says_so_before_training(make_recipe, tmp_path: Path) -> None:
    recipe = by(make_recipe, 'elastic:head=["tail"]')
    with pytest.raises((UsageError, ModelUnsupported), match="`tail` in `head` has no trainable parameters"):
        train_run(recipe, tmp_path / "run")
    assert not list((tmp_path / "run").iterdir())


def test_a_solver_by_name(make_recipe, tmp_path: Path) -> None:
    recipe = make_recipe("train.epochs=1", "train.epoch_steps=1", "device.solver=square-root")
    assert train_run(recipe, tmp_path / "run").solver == "square-root"
    other = make_recipe("train.epochs=2", "train.epoch_steps=1", "device.solver=every-block")
    assert train_run(other, tmp_path / "run", resume=True).solver == "every-block"
    again = make_recipe("train.epochs=2", "train.epoch_steps=1")
    assert train_run(again, tmp_path / "run", resume=True).solver not in ("every-block", "square-root")


def test_a_plan_can_be_handed_over(make_recipe, tmp_path: Path, quick_plans) -> None:
    recipe = make_recipe("train.epochs=1", "train.epoch_steps=1")
    train_run(recipe, tmp_path / "one")
    plan = load_plan(tmp_path / "one" / "plan.json")
    train_run(recipe, tmp_path / "two", plan=plan)
    assert len(quick_plans) == 1
    assert load_plan(tmp_path / "two" / "plan.json") == plan
    assert load_graph(tmp_path / "two" / "graph.json").sha256 == plan.graph_sha256
    train_run(make_recipe("train.epochs=1", "train.batch=4"), tmp_path / "three", plan=plan)
    assert len(quick_plans) == 2, "that plan was for another step"
