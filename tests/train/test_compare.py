"""Comparisons of a user's own module: rows, what goes on where it stopped, and what is refused."""

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import edgewise.train.compare
from edgewise.errors import CorruptArtifact, ModelUnsupported, UsageError
from edgewise.methods import Spsa
from edgewise.plan import load_plan
from edgewise.train import CompareWatch, StepLine, load_recipe, parse_seconds
from edgewise.train.bare import SAMPLES, STEPS, bare_recipe
from edgewise.train.compare import compare_methods
from edgewise.train.comparison import Comparison, Row, load_comparison
from edgewise.train.contenders import parse_contenders
from edgewise.train.data import load_data
from edgewise.train.rate_search import TRIALS
from tests.train.test_loop import assert_same_bits, ctrl_c

RATE = {"": 0.02}
SOME = parse_contenders("backprop,every-block,spsa")


class Seen(CompareWatch):
    """Remembers what it hears, and presses Ctrl-C after so many steps of one contender."""

    def __init__(self, stop: tuple[str, int] | None = None) -> None:
        self.stop, self.name = stop, ""
        self.heard: list[Any] = []

    def contender(self, name: str, place: int, count: int) -> None:
        self.name = name
        self.heard.append((name, place, count))

    def trial(self, done: int, count: int, lr: float) -> None:
        self.heard.append((self.name, "trial", done, count, lr))

    def row(self, row: Row) -> None:
        self.heard.append((row.name, row.outcome))

    def step(self, line: StepLine) -> None:
        if self.stop == (self.name, line.step):
            ctrl_c()


def rows_of(found: Comparison) -> dict[str, Row]:
    return {row.name: row for row in found.rows}


def quick(make_recipe, *overrides: str):
    return make_recipe("device.time_limit_seconds=2", "device.gap=0.1", *overrides)


@pytest.fixture(scope="module")
def done(make_recipe, tmp_path_factory: pytest.TempPathFactory) -> tuple[Comparison, Path]:
    folder = tmp_path_factory.mktemp("compared") / "one"
    return compare_methods(quick(make_recipe), SOME, folder, steps=12, lr=RATE), folder


def test_each_row_is_a_run_by_a_plan_of_its_own(done) -> None:
    found, folder = done
    rows = rows_of(found)
    assert [row.outcome for row in found.rows] == ["trained"] * 3
    assert load_comparison(folder / "comparison.json") == found
    assert found.metric == "accuracy"
    assert (found.model, found.batch, found.optimizer) == ("tests.train.models:Small", 8, "adamw")
    for name in ("backprop", "spsa"):
        row, run = rows[name], folder / name
        plan = load_plan(run / "plan.json")
        assert row.cost is not None
        assert (row.cost.seconds, row.cost.joules, row.peak_bytes) == (
            plan.seconds,
            plan.joules,
            plan.peak_bytes,
        )
        assert plan.budget.ram_bytes == found.setting.ram_bytes
        assert load_recipe(run / "recipe.toml").train.optimizer.lr == 0.02
        assert [mark.step for mark in row.marks] == [0, 2, 4, 6, 8, 10, 12]
        summary = json.loads((run / "summary.json").read_bytes())
        assert row.marks[-1].accuracy == summary["accuracy_after"]
        assert summary["measured_peak_bytes"] == row.measured_peak_bytes
    assert load_recipe(folder / "spsa" / "recipe.toml").method == Spsa()


def test_plans_of_one_method_share_a_run(done) -> None:
    found, folder = done
    one, two = rows_of(found)["backprop"], rows_of(found)["every-block"]
    assert (two.run, two.same_bits, two.marks) == ("backprop", True, one.marks)
    assert not (folder / "every-block").exists()
    assert two.cost is not None
    assert found.plain is not None
    assert two.cost.flops >= found.plain.flops


def test_flops_and_bytes_are_those_of_the_plan(done, make_recipe, tmp_path: Path) -> None:
    recipe = quick(make_recipe, "device.ram=0.75x")
    found = compare_methods(recipe, SOME[:1], tmp_path / "c", steps=2, lr=RATE)
    (row,), plan = found.rows, load_plan(tmp_path / "c" / "backprop" / "plan.json")
    assert row.cost is not None
    assert found.plain is not None
    assert found.plain_peak_bytes is not None
    assert found.setting.ram_bytes == int(0.75 * found.plain_peak_bytes) >= plan.peak_bytes
    assert row.cost.bytes_moved > found.plain.bytes_moved == 0
    assert row.cost.flops >= found.plain.flops
    assert row.paged_in + row.streamed + row.recomputed > 0


def test_what_is_done_is_not_done_again(done, make_recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    found, folder = done

    def never(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(edgewise.train.compare, "train_run", never)
    monkeypatch.setattr(edgewise.train.compare, "search_rate", never)
    watch = Seen()
    assert compare_methods(quick(make_recipe), SOME, folder, steps=12, lr=RATE, watch=watch) == found
    assert ("spsa", "trained") in watch.heard
    kept = compare_methods(quick(make_recipe), SOME[:1], folder, steps=12, lr=RATE)
    assert kept.rows == found.rows, "what was compared before stays"


@pytest.mark.parametrize(
    ("overrides", "steps", "different"),
    [
        ((), 13, "another steps"),
        (("train.batch=4",), 12, "another recipe"),
        (("device.ram=1MiB",), 12, "another ram_bytes"),
        (("device.name=stm32f7",), 12, "another device, another ram_bytes"),
    ],
)
def test_a_folder_is_for_one_setting(done, make_recipe, overrides, steps: int, different: str) -> None:
    _, folder = done
    before = (folder / "comparison.json").read_bytes()
    with pytest.raises(UsageError, match=f"of another setting: {different}\\. Name another folder"):
        compare_methods(quick(make_recipe, *overrides), SOME, folder, steps=steps, lr=RATE)
    assert (folder / "comparison.json").read_bytes() == before


@pytest.mark.usefixtures("quick_plans")
def test_ctrl_c_then_the_same_again(make_recipe, tmp_path: Path) -> None:
    contenders = parse_contenders("spsa,backprop")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    compare_methods(make_recipe(), contenders, whole, steps=12, lr=RATE)
    found = compare_methods(make_recipe(), contenders, broken, steps=12, lr=RATE, watch=Seen(("spsa", 5)))
    assert [(row.name, row.outcome) for row in found.rows] == [("spsa", "unfinished")]
    assert load_comparison(broken / "comparison.json") == found
    again = compare_methods(make_recipe(), contenders, broken, steps=12, lr=RATE)
    assert [(row.name, row.outcome) for row in again.rows] == [("spsa", "trained"), ("backprop", "trained")]
    for name in ("spsa", "backprop"):
        assert_same_bits(whole / name, broken / name)


@pytest.mark.usefixtures("quick_plans")
def test_rates_are_searched_by_as_many_trials_for_each(make_recipe, tmp_path: Path) -> None:
    watch = Seen()
    contenders = parse_contenders("backprop,spsa:directions=2")
    found = compare_methods(make_recipe(), contenders, tmp_path / "c", steps=3, watch=watch)
    for row in found.rows:
        assert row.search is not None
        assert len(row.search.trials) == TRIALS
        assert row.search.lr in {trial.lr for trial in row.search.trials}
        assert sum(heard[:2] == (row.name, "trial") for heard in watch.heard) == TRIALS
        recipe = load_recipe(tmp_path / "c" / str(row.run) / "recipe.toml")
        assert recipe.train.optimizer.lr == row.search.lr
    assert (tmp_path / "c" / "spsa_directions=2" / "summary.json").exists()


def test_what_does_not_fit_says_what_it_needs(make_recipe, tmp_path: Path) -> None:
    found = compare_methods(quick(make_recipe, "device.ram=64B"), SOME, tmp_path / "c", steps=2, lr=RATE)
    assert [row.outcome for row in found.rows] == ["does not fit"] * 3
    for row in found.rows:
        assert row.min_ram_bytes is not None
        assert row.min_ram_bytes > 64
        assert "64 B" in row.reason
    assert rows_of(found)["backprop"].op
    assert {path.name for path in (tmp_path / "c").iterdir()} == {"comparison.json"}


def test_what_cannot_serve_does_not_stop_the_others(make_recipe, tmp_path, monkeypatch) -> None:
    capture_task = edgewise.train.compare.capture_task

    def refusing(recipe: Any, *rest: Any) -> Any:
        if recipe.method == Spsa(directions=7):
            raise ModelUnsupported("no", parts=("body.norm: batch norm: reason",))
        return capture_task(recipe, *rest)

    monkeypatch.setattr(edgewise.train.compare, "capture_task", refusing)
    contenders = parse_contenders('elastic:head=["tail"],spsa:directions=7,backprop')
    found = compare_methods(quick(make_recipe), contenders, tmp_path / "c", steps=2, lr=RATE)
    first, second, third = found.rows
    assert (first.outcome, second.outcome, third.outcome) == ("cannot serve", "cannot serve", "trained")
    assert "`tail` in `head` has no trainable parameters" in first.reason
    assert second.parts == ("body.norm: batch norm: reason",)


def test_as_long_as_so_many_seconds_on_the_device(make_recipe, tmp_path: Path) -> None:
    seconds = parse_seconds("0.5x")
    found = compare_methods(quick(make_recipe), SOME[:1], tmp_path / "c", seconds=seconds, lr=RATE)
    (row,) = found.rows
    assert found.plain is not None
    assert found.setting.seconds == pytest.approx(0.5 * 10 * found.plain.seconds)
    assert (found.setting.steps, row.steps) == (None, 5)
    tight = parse_seconds(f"{found.plain.seconds / 2:.12f}s")
    refused = compare_methods(quick(make_recipe), SOME[:1], tmp_path / "d", seconds=tight, lr=RATE)
    assert refused.rows[0].outcome == "does not fit"
    assert "One step takes" in refused.rows[0].reason


@pytest.mark.usefixtures("quick_plans")
def test_a_row_that_learns_less_long_shares_the_marks_up_to_there(make_recipe, tmp_path, monkeypatch) -> None:
    """By seconds, a plan that costs more gets fewer steps of the same run."""
    work = edgewise.train.compare._Work
    costly = work.__dict__["_steps"]
    calls: list[int] = []

    def halved(self: Any, certificate: Any) -> int:
        calls.append(costly(self, certificate))
        return 8 if len(calls) == 1 else 5

    monkeypatch.setattr(work, "_steps", halved)
    one, two = compare_methods(
        make_recipe(), SOME[:2], tmp_path / "c", seconds=parse_seconds("1x"), lr=RATE
    ).rows
    assert [mark.step for mark in one.marks] == list(range(9))
    assert (two.same_bits, two.marks) == (True, one.marks[:6])


def test_a_folder_that_holds_something_else(make_recipe, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.toml").write_text("")
    with pytest.raises(UsageError, match="holds a run, no comparison"):
        compare_methods(make_recipe(), SOME, tmp_path / "run")
    (tmp_path / "run" / "comparison.json").write_text("{")
    with pytest.raises(CorruptArtifact, match=r"comparison\.json is no comparison: "):
        compare_methods(make_recipe(), SOME, tmp_path / "run")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="Cannot use the folder"):
        compare_methods(make_recipe(), SOME, tmp_path / "file" / "c")


def test_a_comparison_of_another_version_is_refused(done, tmp_path: Path) -> None:
    path = tmp_path / "comparison.json"
    other = msgspec.structs.replace(done[0], format="edgewise.comparison/9")
    path.write_bytes(msgspec.json.encode(other))
    with pytest.raises(
        CorruptArtifact, match=r"format `edgewise\.comparison/9` is not `edgewise\.comparison/1`"
    ):
        load_comparison(path)
    path.write_bytes(b"[" * (1 << 24) + b"[")
    with pytest.raises(CorruptArtifact, match="more bytes than a comparison may have"):
        load_comparison(path)


def test_a_model_of_the_zoo_learns_digits_if_it_takes_them(tmp_path: Path) -> None:
    recipe = bare_recipe("mlp", 8, None, tmp_path)
    assert recipe.data.test_fraction == 0.2
    assert recipe.train.epochs * (1437 // 8) >= STEPS
    assert not list(tmp_path.iterdir())


def test_a_model_whose_own_batch_is_no_digits_learns_that(tmp_path: Path) -> None:
    recipe = bare_recipe("tests.train.models:Autoencoder", 8, None, tmp_path)
    assert load_data(recipe.data).train.batch(np.arange(2))[0].shape == (2, 8)


def test_any_other_model_learns_random_samples_by_heart(tmp_path: Path) -> None:
    recipe = bare_recipe("tests.train.models:Small", 8, "6", tmp_path / "c")
    assert recipe.train.epochs == -(-STEPS // (SAMPLES // 8))
    quick_ = msgspec.structs.replace(
        recipe, device=msgspec.structs.replace(recipe.device, time_limit_seconds=2.0)
    )
    found = compare_methods(quick_, SOME[:1], tmp_path / "c", steps=2, lr=RATE)
    assert (found.test_samples, found.rows[0].outcome) == (SAMPLES, "trained")
    assert found.data == "random samples, to be learnt by heart"
    again = bare_recipe("tests.train.models:Small", 8, "6", tmp_path / "c")
    assert again == recipe
