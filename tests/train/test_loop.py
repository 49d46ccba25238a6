import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from edgewise.errors import BudgetInfeasible, CorruptArtifact, DeviceError, PlanRejected, UsageError
from edgewise.graph import load_graph
from edgewise.plan import load_plan
from edgewise.run import Executor
from edgewise.train import Environment, EpochLine, MemoryFile, RunSummary, StepLine, Watch, load_recipe
from edgewise.train.data import epoch_order, load_data
from edgewise.train.loop import train_run
from edgewise.zoo import build_model

pytestmark = pytest.mark.usefixtures("quick_plans")


class Seen(Watch):
    """Remembers what it hears, and calls `then` after step number `at`."""

    def __init__(self, at: int = -1, then: Any = None) -> None:
        self.at, self.then = at, then
        self.heard: list[Any] = []

    def started(self, steps: int, epochs: int, first_step: int) -> None:
        self.heard.append(("started", steps, epochs, first_step))

    def planned(self, plan: Any, plain: Any) -> None:
        self.heard.append(("planned", plan, plain))

    def step(self, line: StepLine) -> None:
        self.heard.append(line)
        if line.step == self.at:
            self.then()

    def epoch(self, line: EpochLine) -> None:
        self.heard.append(line)

    def finished(self, summary: RunSummary) -> None:
        self.heard.append(summary)


class Killed(BaseException):
    """What no code of ours catches: the process is gone."""


def kill() -> None:
    raise Killed


def ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    return load_file(run_dir / "checkpoint.safetensors")


def assert_same_bits(one: Path, two: Path) -> None:
    ours, theirs = weights(one), weights(two)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def lines_of(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def without_time(run_dir: Path) -> list[dict[str, Any]]:
    """What must be equal between a run and one that was cut off: another plan has other peaks."""
    return [
        {key: value for key, value in line.items() if key not in ("seconds", "peak_bytes")}
        for line in lines_of(run_dir)
    ]


def test_a_run_directory_holds_everything_about_the_run(make_recipe, tmp_path: Path) -> None:
    watch, run_dir = Seen(), tmp_path / "runs" / "one"
    recipe = make_recipe("device.ram=0.9x")
    summary = train_run(recipe, run_dir, watch=watch)

    assert load_recipe(run_dir / "recipe.toml") == recipe
    plan = load_plan(run_dir / "plan.json")
    assert plan.graph_sha256 == load_graph(run_dir / "graph.json").sha256
    environment = msgspec.json.decode((run_dir / "environment.json").read_bytes(), type=Environment)
    assert environment.format == "edgewise.environment/1"
    assert environment.device["name"] == "rpi4"
    assert environment.versions["torch"] == torch.__version__
    assert environment.threads == torch.get_num_threads()
    memory = msgspec.json.decode((run_dir / "memory.json").read_bytes(), type=MemoryFile)
    assert memory.format == "edgewise.memory/1"
    assert len(memory.live_bytes) == len(plan.steps)
    assert max(memory.live_bytes) == summary.measured_peak_bytes
    assert memory.step == 1
    assert msgspec.json.decode((run_dir / "summary.json").read_bytes(), type=RunSummary) == summary
    lines = lines_of(run_dir)
    assert [line.get("step") for line in lines] == [None, 0, 1, 2, 3, 4, None, 5, 6, 7, 8, 9, None]
    assert [line["epoch"] for line in lines] == [0, *[1] * 6, *[2] * 6]
    assert {path.name for path in run_dir.iterdir()} == {
        *("recipe.toml", "environment.json", "graph.json", "plan.json", "metrics.jsonl", "memory.json"),
        *("checkpoint.safetensors", "checkpoint.json", "summary.json"),
    }
    assert watch.heard[0] == ("started", 10, 2, 0)
    assert watch.heard[1][1] == plan
    assert watch.heard[-1] == summary
    assert sum(isinstance(said, StepLine) for said in watch.heard) == 10


def test_the_summary_agrees_with_its_sources(make_recipe, tmp_path: Path) -> None:
    summary = train_run(make_recipe("device.ram=0.9x"), tmp_path / "run")
    plan, lines = load_plan(tmp_path / "run" / "plan.json"), lines_of(tmp_path / "run")
    steps, epochs = ([line for line in lines if line["type"] == kind] for kind in ("step", "epoch"))
    assert summary.budget_ram_bytes == int(0.9 * summary.plain_peak_bytes) == plan.budget.ram_bytes
    assert summary.planned_peak_bytes == summary.certified_peak_bytes == plan.peak_bytes
    assert summary.measured_peak_bytes == max(line["peak_bytes"] for line in steps)
    assert summary.measured_peak_bytes <= summary.budget_ram_bytes
    assert summary.measured_seconds == pytest.approx(sum(line["seconds"] for line in steps) / 10)
    assert (summary.planned_seconds, summary.planned_joules) == (plan.seconds, plan.joules)
    assert (summary.status, summary.gap, summary.solver) == ("feasible", 1.0, "test")
    assert (summary.accuracy_before, summary.accuracy_after) == (
        epochs[0]["test_accuracy"],
        epochs[-1]["test_accuracy"],
    )
    assert summary.accuracy_after > summary.accuracy_before
    assert epochs[0]["train_loss"] is None
    assert epochs[2]["train_loss"] == pytest.approx(sum(line["loss"] for line in steps[5:]) / 5)
    assert (summary.epochs, summary.steps, summary.interrupted) == (2, 10, False)
    assert summary.checkpoint == "checkpoint.safetensors"
    assert summary.paged_out > 0
    assert summary.paged_in > 0
    assert summary.mse_before is summary.mae_after is None


def test_equal_recipes_give_equal_bits_whatever_the_plan(
    make_recipe, tmp_path, quick_plans, unbroken
) -> None:
    quick_plans.append({})  # the next seed
    train_run(make_recipe(), tmp_path / "run")
    assert load_plan(tmp_path / "run" / "plan.json").steps != load_plan(unbroken() / "plan.json").steps
    assert_same_bits(tmp_path / "run", unbroken())
    assert without_time(tmp_path / "run") == without_time(unbroken())


def test_another_seed_gives_other_weights(make_recipe, tmp_path: Path, unbroken) -> None:
    train_run(make_recipe("train.seed=1"), tmp_path / "run")
    ours, theirs = weights(tmp_path / "run"), weights(unbroken())
    assert not torch.equal(ours["first.weight"], theirs["first.weight"])


SGD = 'train.optimizer={kind="sgd",lr=0.1,momentum=0.9,weight_decay=0.01}'


@pytest.mark.parametrize(("at", "optimizer"), [(0, ()), (2, ()), (4, ()), (9, ()), (7, (SGD,))])
def test_ctrl_c_then_resume_gives_the_bits_of_an_unbroken_run(
    make_recipe, tmp_path, unbroken, at, optimizer
) -> None:
    recipe, whole, broken = make_recipe(*optimizer), unbroken(*optimizer), tmp_path / "broken"
    handler = signal.getsignal(signal.SIGINT)
    summary = train_run(recipe, broken, watch=Seen(at, ctrl_c))
    assert signal.getsignal(signal.SIGINT) is handler
    assert (summary.interrupted, summary.steps) == (True, at + 1)
    assert summary.checkpoint is not None
    assert (broken / summary.checkpoint).exists()
    position = json.loads((broken / "checkpoint.json").read_bytes())
    assert (position["step"], position["epoch"]) == (at + 1, at // 5)

    watch = Seen()
    resumed = train_run(recipe, broken, resume=True, watch=watch)
    assert watch.heard[0] == ("started", 10, 2, at + 1)
    assert (resumed.interrupted, resumed.steps, resumed.epochs) == (False, 10, 2)
    assert_same_bits(whole, broken)
    assert without_time(whole) == without_time(broken)


def test_resume_after_a_kill_goes_back_to_the_last_epoch(make_recipe, tmp_path: Path, unbroken) -> None:
    recipe, whole, broken = make_recipe(), unbroken(), tmp_path / "broken"
    with pytest.raises(Killed):
        train_run(recipe, broken, watch=Seen(7, kill))
    with (broken / "metrics.jsonl").open("ab") as file:
        file.write(b'{"type":"step","ste')
    watch = Seen()
    train_run(recipe, broken, resume=True, watch=watch)
    assert watch.heard[0] == ("started", 10, 2, 5)
    assert_same_bits(whole, broken)
    assert without_time(whole) == without_time(broken)


def test_resume_after_a_kill_before_any_checkpoint_starts_anew(make_recipe, tmp_path: Path, unbroken) -> None:
    recipe, whole, broken = make_recipe(), unbroken(), tmp_path / "broken"
    with pytest.raises(Killed):
        train_run(recipe, broken, watch=Seen(1, kill))
    assert not (broken / "checkpoint.json").exists()
    train_run(recipe, broken, resume=True)
    assert_same_bits(whole, broken)
    assert without_time(whole) == without_time(broken)


def test_resume_may_train_longer_on_another_device(
    make_recipe, tmp_path: Path, quick_plans, unbroken
) -> None:
    train_run(make_recipe("train.epochs=1"), tmp_path / "short")
    longer = make_recipe("train.epochs=2", "device.name=jetson-tx2")
    summary = train_run(longer, tmp_path / "short", resume=True)
    assert (summary.device, summary.epochs) == ("jetson-tx2", 2)
    assert load_recipe(tmp_path / "short" / "recipe.toml") == longer
    assert load_plan(tmp_path / "short" / "plan.json").device == "jetson-tx2"
    assert len(quick_plans) == 2
    assert_same_bits(unbroken(), tmp_path / "short")


def test_resume_of_a_finished_run_changes_no_bit(make_recipe, tmp_path: Path, quick_plans) -> None:
    recipe, run_dir = make_recipe("train.epochs=1"), tmp_path / "run"
    before = train_run(recipe, run_dir)
    kept = {
        name: (run_dir / name).read_bytes()
        for name in ("checkpoint.safetensors", "metrics.jsonl", "plan.json")
    }
    after = train_run(recipe, run_dir, resume=True)
    assert {name: (run_dir / name).read_bytes() for name in kept} == kept
    assert after.accuracy_after == before.accuracy_after
    assert (after.measured_seconds, after.measured_peak_bytes) == (None, None)
    assert len(quick_plans) == 1, "the plan was to be taken over"


def test_a_plan_that_was_tampered_with_is_refused_on_resume(make_recipe, tmp_path: Path) -> None:
    recipe, run_dir = make_recipe("train.epochs=1"), tmp_path / "run"
    train_run(recipe, run_dir)
    plan = json.loads((run_dir / "plan.json").read_bytes())
    (run_dir / "plan.json").write_text(json.dumps({**plan, "peak_bytes": plan["peak_bytes"] - 1}))
    with pytest.raises(PlanRejected):
        train_run(recipe, run_dir, resume=True)


def test_a_new_run_never_touches_an_old_one(make_recipe, tmp_path: Path) -> None:
    recipe, run_dir = make_recipe("train.epochs=1"), tmp_path / "run"
    train_run(recipe, run_dir)
    before = {path.name: path.read_bytes() for path in run_dir.iterdir()}
    with pytest.raises(
        UsageError, match=r"holds a run already \(recipe\.toml, .*\)\. Resume it with `--resume`"
    ):
        train_run(recipe, run_dir)
    assert {path.name: path.read_bytes() for path in run_dir.iterdir()} == before


def test_resume_with_another_recipe_says_what_differs(make_recipe, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    train_run(make_recipe("train.epochs=1"), run_dir)
    other = make_recipe("train.epochs=3", "train.batch=4", 'train.optimizer={kind="sgd",lr=0.1}')
    with pytest.raises(UsageError) as caught:
        train_run(other, run_dir, resume=True)
    text = str(caught.value)
    assert f"{run_dir} holds a run of another recipe: `train.batch` is 8 there and 4 here" in text
    assert "`train.optimizer.kind` is 'adamw' there and 'sgd' here" in text
    assert "`train.optimizer.momentum` is absent there and 0.0 here" in text
    assert "epochs" not in text


def test_resume_where_there_is_no_run(make_recipe, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no run to resume\. Start one without `--resume`\."):
        train_run(make_recipe(), tmp_path / "none", resume=True)


def test_resume_after_the_data_changed(make_recipe, tmp_path: Path, points: Path) -> None:
    path, run_dir = tmp_path / "points.npz", tmp_path / "run"
    path.write_bytes(points.read_bytes())
    recipe = make_recipe(f"data.path={path}")
    train_run(recipe, run_dir, watch=Seen(8, ctrl_c))
    np.savez(path, **{name: array[:20] for name, array in np.load(points).items()})
    with pytest.raises(
        UsageError, match=r"checkpoint is at step 9 after 1 epochs, .* has 2 steps now\. The data has"
    ):
        train_run(recipe, run_dir, resume=True)


def test_a_damaged_checkpoint_is_refused(make_recipe, tmp_path: Path) -> None:
    recipe, run_dir = make_recipe("train.epochs=1"), tmp_path / "run"
    train_run(recipe, run_dir)
    path = run_dir / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(CorruptArtifact, match="its SHA-256 differs"):
        train_run(recipe, run_dir, resume=True)


def test_a_second_ctrl_c_ends_the_run_at_once(make_recipe, tmp_path, monkeypatch, unbroken) -> None:
    step = Executor.step

    def slow_step(self: Executor, batch: Any, number: int) -> Any:
        if number == 6:
            ctrl_c()
            ctrl_c()
        return step(self, batch, number)

    recipe, run_dir = make_recipe(), tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(Executor, "step", slow_step)
        with pytest.raises(KeyboardInterrupt):
            train_run(recipe, run_dir)
    assert json.loads((run_dir / "checkpoint.json").read_bytes())["step"] == 5
    train_run(recipe, run_dir, resume=True)
    assert_same_bits(run_dir, unbroken())


def test_ctrl_c_during_evaluation(make_recipe, tmp_path, monkeypatch, unbroken) -> None:
    recipe, run_dir = make_recipe(), tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("edgewise.train.evaluate._sums", lambda *_: ctrl_c() or {})
        summary = train_run(recipe, run_dir)
    assert (summary.interrupted, summary.steps, summary.accuracy_before) == (True, 0, None)
    train_run(recipe, run_dir, resume=True)
    assert without_time(run_dir) == without_time(unbroken())
    assert_same_bits(run_dir, unbroken())


def test_a_run_in_a_thread_needs_no_signals(make_recipe, tmp_path: Path) -> None:
    found: list[RunSummary] = []
    recipe = make_recipe("train.epochs=1")
    thread = threading.Thread(target=lambda: found.append(train_run(recipe, tmp_path / "run")))
    thread.start()
    thread.join()
    assert found[0].steps == 5


def test_a_full_disk_keeps_the_last_checkpoint(make_recipe, tmp_path, monkeypatch) -> None:
    recipe, run_dir = make_recipe(), tmp_path / "run"

    def full() -> None:
        monkeypatch.setattr(
            "os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device"))
        )

    with pytest.raises(DeviceError, match=r"No space left on device\. What was there before is untouched"):
        train_run(recipe, run_dir, watch=Seen(6, full))
    monkeypatch.undo()


def test_nothing_is_written_before_there_is_a_plan(make_recipe, tmp_path, monkeypatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise BudgetInfeasible("No plan fits.")

    monkeypatch.setattr("edgewise.train.planning.make_plan", refuse)
    with pytest.raises(BudgetInfeasible):
        train_run(make_recipe(), tmp_path / "run")
    assert not list((tmp_path / "run").iterdir())


def test_the_planner_hears_what_the_recipe_says(make_recipe, tmp_path: Path, quick_plans) -> None:
    figures = ("ram=1GiB", "seconds=99x", "minimize=seconds", "gap=0.2", "time_limit_seconds=7")
    recipe = make_recipe("train.epochs=1", *(f"device.{figure}" for figure in figures))
    summary = train_run(recipe, tmp_path / "run")
    call = quick_plans[0]
    assert call["budget"].ram_bytes == 2**30
    assert call["budget"].seconds == pytest.approx(99 * summary.plain_seconds)
    assert (call["minimize"], call["gap"], call["time_limit"]) == ("seconds", 0.2, 7)
    assert callable(call["progress"])


def test_the_devices_ram_is_the_default_budget(make_recipe, tmp_path: Path, quick_plans) -> None:
    train_run(make_recipe("train.epochs=1"), tmp_path / "run")
    assert quick_plans[0]["budget"].ram_bytes == 2**30  # rpi4: 1 GiB


def test_targets_that_are_numbers(make_recipe, tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((50, 6)).astype(np.float32)
    np.savez(tmp_path / "numbers.npz", x_train=x, y_train=x @ np.arange(6, dtype=np.float32))
    recipe = make_recipe(f"data.path={tmp_path / 'numbers.npz'}", "model.args={classes=1, dropout=0.0}")
    summary = train_run(recipe, tmp_path / "run")
    assert summary.accuracy_before is summary.accuracy_after is None
    assert summary.mse_before is not None
    assert summary.mse_after is not None
    assert summary.mse_after < summary.mse_before
    assert summary.mae_after is not None


def test_where_training_diverged_is_said(make_recipe, tmp_path: Path) -> None:
    recipe = make_recipe("train.optimizer.lr=1e37", "train.optimizer.weight_decay=0", "train.epochs=1")
    assert train_run(recipe, tmp_path / "run").diverged_at == 1
    longer = make_recipe("train.optimizer.lr=1e37", "train.optimizer.weight_decay=0")
    assert train_run(longer, tmp_path / "run", resume=True).diverged_at == 1


def test_a_label_that_the_loss_has_no_class_for(make_recipe, tmp_path: Path) -> None:
    x, labels = np.zeros((50, 6), dtype=np.float32), np.full(50, 3)
    np.savez(tmp_path / "labels.npz", x_train=x, y_train=labels, x_test=x, y_test=labels)
    own = f"data.path={tmp_path / 'labels.npz'}", "model.name=tests.train.models:LateLoss"
    with pytest.raises(UsageError, match=r"Step 0 fails on its batch: Target 3 is out of bounds\. A label"):
        train_run(make_recipe(*own), tmp_path / "run")


def test_a_model_with_its_own_loss_and_no_scores(make_recipe, tmp_path: Path) -> None:
    recipe = make_recipe("model.name=tests.train.models:OwnLoss", "train.epochs=1")
    summary = train_run(recipe, tmp_path / "run")
    assert summary.steps == 5
    assert summary.accuracy_before is None


@pytest.mark.parametrize(
    ("override", "text"),
    [
        (
            "model.args={classes=2}",
            r"has 3 classes, but `.*` tells apart only 2\. Set `model\.args\.classes = 3`\.",
        ),
        (
            "model.name=digits-cnn",
            r"Model `digits-cnn` does not take the samples of .*, float32 \[6\]: .*Mend `model",
        ),
        ("train.loss=mse", r"Loss `mse`: output \[1, 3\] and targets \[1\] differ in shape\."),
        (
            "train.batch=41",
            r"40 training samples are less than one batch of 41\. Use a smaller `train\.batch`",
        ),
        ("train.optimizer.lr=-1", r"Optimizer: `lr` is -1\.0; it must be zero or positive\."),
        ("device.name=toaster", r"No device `toaster`"),
        ("data.path=nowhere.npz", r"Cannot read the data file nowhere\.npz: No such file"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    make_recipe, tmp_path, override, text
) -> None:
    with pytest.raises(UsageError, match=text):
        train_run(make_recipe(override), tmp_path / "run")
    assert not list((tmp_path / "run").iterdir())


def test_a_run_directory_that_cannot_be_made(make_recipe, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        UsageError, match=r"Cannot make the run directory .*file: File exists\. Choose another place"
    ):
        train_run(make_recipe(), tmp_path / "file")


def test_the_watch_may_press_ctrl_c_too(make_recipe, tmp_path: Path, unbroken) -> None:
    def press() -> None:
        raise KeyboardInterrupt

    summary = train_run(make_recipe(), tmp_path / "run", watch=Seen(3, press))
    assert (summary.interrupted, summary.steps) == (True, 4)
    train_run(make_recipe(), tmp_path / "run", resume=True)
    assert_same_bits(tmp_path / "run", unbroken())


def test_a_new_plan_makes_the_old_ones_memory_file_void(make_recipe, tmp_path: Path) -> None:
    """A report would refuse figures of steps that the plan does not have."""
    recipe, run_dir = make_recipe("train.epochs=1"), tmp_path / "run"
    train_run(recipe, run_dir)
    assert (run_dir / "memory.json").exists()
    train_run(recipe, run_dir, resume=True)
    assert (run_dir / "memory.json").exists()
    train_run(make_recipe("train.epochs=1", "device.ram=0.9x"), run_dir, resume=True)
    assert not (run_dir / "memory.json").exists()
    train_run(make_recipe("train.epochs=2", "device.ram=0.9x"), run_dir, resume=True)
    memory = msgspec.json.decode((run_dir / "memory.json").read_bytes(), type=MemoryFile)
    assert len(memory.live_bytes) == len(load_plan(run_dir / "plan.json").steps)


@pytest.mark.parametrize("name", ["plan.json", "graph.json", "environment.json"])
def test_a_run_that_was_killed_while_it_began_can_be_resumed(
    make_recipe, tmp_path, monkeypatch, unbroken, name
) -> None:
    recipe, run_dir = make_recipe(), tmp_path / "run"

    def write(path: Path, data: bytes) -> None:
        if path.name == name:
            raise Killed
        path.write_bytes(data)

    with monkeypatch.context() as patch:
        patch.setattr("edgewise.train.loop.write_whole", write)
        with pytest.raises(Killed):
            train_run(recipe, run_dir)
    train_run(recipe, run_dir, resume=True)
    assert_same_bits(run_dir, unbroken())


def test_a_paging_directory_that_is_not_there(make_recipe, tmp_path: Path) -> None:
    recipe = make_recipe(f"device.paging_dir={tmp_path / 'none'}")
    with pytest.raises(DeviceError, match=r"Cannot page to .*none: No such file or directory\."):
        train_run(recipe, tmp_path / "run")
    assert not list((tmp_path / "run").iterdir())


def test_the_checkpoint_is_the_model_that_was_evaluated(make_recipe, unbroken) -> None:
    """Running statistics and homes included: a fresh model with these tensors scores the same."""
    recipe, run_dir = make_recipe(), unbroken()
    model = build_model(recipe.model.name).eval()
    state = {name: tensor for name, tensor in weights(run_dir).items() if name in model.state_dict()}
    model.load_state_dict(state, strict=True)
    assert int(state["norm.num_batches_tracked"]) == 10
    test = load_data(recipe.data).test
    inputs, targets = test.batch(np.arange(len(test)))
    with torch.no_grad():
        accuracy = float((model(inputs).argmax(1) == targets).double().mean())
    assert accuracy == lines_of(run_dir)[-1]["test_accuracy"]


def test_training_is_that_of_pytorch(make_recipe, unbroken) -> None:
    """The same batches, an eager loop and torch's own optimizer give the same weights (no dropout here)."""
    recipe = make_recipe("model.args={dropout=0.0}")
    run_dir = unbroken("model.args={dropout=0.0}")
    model = build_model(recipe.model.name, recipe.model.args, seed=recipe.train.seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    train = load_data(recipe.data).train
    for epoch in (1, 2):
        order = epoch_order(len(train), seed=0, epoch=epoch)
        for start in range(0, 40, 8):
            inputs, targets = train.batch(order[start : start + 8])
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
    found = weights(run_dir)
    for name, tensor in model.state_dict().items():
        assert torch.allclose(found[name], tensor, rtol=1e-4, atol=1e-5), name
