"""`edgewise train` and `report`: real runs on the digits, and what is said when one is cut short."""

import re
import shlex
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

import edgewise.train.loop
from edgewise.cli import train as train_command
from edgewise.errors import UsageError
from edgewise.methods.settings import Spsa
from edgewise.train import Recipe, RunSummary, Watch, load_recipe
from tests.cli.conftest import Run

QUICK = ("--set", "train.epochs=1", "--set", "device.time_limit_seconds=2", "--ram", "0.9x")


def test_a_run_says_what_it_needed_and_what_it_learned(run: Run, tmp_path: Path) -> None:
    said = run("train", "digits-mlp", *QUICK, "--device", "rpi4")
    assert said.code == 0
    assert said.err == "", "quiet where stderr is no terminal"
    words = dict(line.split("  ", 1) for line in said.out.splitlines()[1:])
    assert list(words) == [
        "plain training needs",
        "budget",
        "plan",
        "quality",
        "peak of a step",
        "memory of the process",
        "time of a step",
        "energy of a step",
        "trained",
        "accuracy",
        "report",
    ]
    assert "90% of that" in words["budget"]
    assert re.fullmatch(r"planned (.*), certified \1, measured \1", words["peak of a step"].strip())
    folder = tmp_path / "runs" / "digits-mlp"
    assert words["report"].strip() == str(Path("runs") / "digits-mlp" / "report.html")
    assert (folder / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert run("check", folder).code == 0
    assert run("report", folder, "-o", "again.html").out == "again.html\n"
    assert run("report", folder, "--json").json == {"path": str(folder / "report.html")}


def test_a_run_below_the_largest_op_says_what_became_of_the_bits(run: Run, tmp_path: Path) -> None:
    said = run(
        "train", "digits-mlp", *QUICK[:-2], "--ram", "24KiB", "--device", "rpi4", "-o", tmp_path / "small"
    )
    words = dict(line.split("  ", 1) for line in said.out.splitlines()[1:])
    assert re.search(r", \d+ ops streamed$", words["plan"])
    planned, certified, measured = re.findall(r"([\d,]+) B", words["peak of a step"])
    assert planned == certified
    assert int(measured.replace(",", "")) <= int(planned.replace(",", "")) <= 24 * 1024
    assert words["result of a step"].strip().startswith("that of the unplanned step, but the sums of ")
    assert "Ops that ran as loops" in (tmp_path / "small" / "report.html").read_text()


def test_json_is_the_summary_and_the_run_goes_on_where_it_was(run: Run, tmp_path: Path) -> None:
    first = run("train", "digits-mlp", *QUICK, "-o", "here", "--json").json
    assert first["certified_peak_bytes"] == first["measured_peak_bytes"] <= first["budget_ram_bytes"]
    assert (first["run_dir"], first["report"]) == ("here", str(Path("here") / "report.html"))
    assert first["accuracy_after"] > first["accuracy_before"]
    again = run("train", "here", "--resume", "--set", "train.epochs=2", "--json").json
    assert (first["epochs"], again["epochs"]) == (1, 2)
    assert again["steps"] == 2 * first["steps"]


def test_a_run_is_not_trained_over(run: Run, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "recipe.toml").write_text("")
    said = run("train", "here")
    assert said.code == 2
    assert (
        "here is a run. Continue it with `--resume`, or train anew by its recipe, here/recipe.toml."
        in said.err
    )
    assert run("train", "here", "--resume", "-o", "there").code == 2


def summary(**changes: Any) -> RunSummary:
    fields = {field.name: None for field in msgspec.structs.fields(RunSummary) if field.required}
    sizes = dict.fromkeys(("plain_peak_bytes", "planned_peak_bytes", "certified_peak_bytes"), 2048)
    counts = dict.fromkeys(("recomputed", "paged_out", "paged_in", "epochs"), 1)
    costs = dict.fromkeys(("plain_seconds", "planned_seconds", "plain_joules", "planned_joules"), 1.0)
    rest = {"model": "mlp", "device": "rpi4", "status": "optimal", "solver": "search", "gap": 0.0, "steps": 0}
    more = {"budget_ram_bytes": 1024, "training_seconds": 2.0, "interrupted": False, "minimize": "joules"}
    return RunSummary(**{**fields, **sizes, **counts, **costs, **rest, **more, **changes})


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `train_run` was called with; it returns `calls["summary"]` instead of training."""
    seen: dict[str, Any] = {"summary": summary()}

    def train_run(recipe: Recipe, run_dir: Path, *, resume: bool, watch: Watch) -> RunSummary:
        seen.update(recipe=recipe, run_dir=run_dir, resume=resume)
        found = seen["summary"]
        if isinstance(found, BaseException):
            raise found
        return found

    monkeypatch.setattr(edgewise.train.loop, "train_run", train_run)
    monkeypatch.setattr(train_command, "write_report", lambda folder: folder / "report.html")
    return seen


def test_flags_change_the_recipe(run: Run, calls: dict[str, Any]) -> None:
    words = ("--set", "train.seed=7", "--device", "a board", "--ram", "0.5x", "--set", "model.args.width=3")
    assert run("train", "digits", *words).code == 0
    recipe = calls["recipe"]
    plain = load_recipe("digits")
    assert recipe.train == msgspec.structs.replace(plain.train, seed=7)
    assert (recipe.device.name, recipe.device.ram) == ("a board", "0.5x")
    assert recipe.model.args["width"] == 3
    assert (calls["run_dir"], calls["resume"]) == (Path("runs/digits"), False)


def test_a_key_that_does_not_exist(run: Run, calls: dict[str, Any]) -> None:
    said = run("train", "digits", "--set", "train.epoch=7")
    assert said.code == 2
    assert "unknown key `train.epoch`; did you mean `epochs`?" in said.err


def test_each_run_has_a_folder_of_its_own(run: Run, calls: dict[str, Any], tmp_path: Path) -> None:
    for expected in ("runs/digits", "runs/digits-2", "runs/digits-3"):
        run("train", "digits")
        assert calls["run_dir"] == Path(expected)
        (tmp_path / expected).mkdir(parents=True)
    run("train", "digits", "--resume")
    assert calls["run_dir"] == Path("runs/digits-3")
    run("train", "digits", "--run-dir", "mine", "--resume")
    assert (calls["run_dir"], calls["resume"]) == (Path("mine"), True)


def test_the_folder_is_named_after_the_recipes_file(run: Run, calls: dict[str, Any], tmp_path: Path) -> None:
    run("recipes", "cp", "digits", "my recipe.toml")
    run("train", "my recipe.toml")
    assert calls["run_dir"] == Path("runs/my recipe")


@pytest.mark.parametrize(
    "ending", [summary(interrupted=True, steps=3, checkpoint="checkpoint.safetensors"), KeyboardInterrupt()]
)
def test_ctrl_c_says_where_the_checkpoint_is_and_how_to_go_on(
    ending: RunSummary | KeyboardInterrupt, run: Run, calls: dict[str, Any], tmp_path: Path
) -> None:
    calls["summary"] = ending
    (tmp_path / "my runs").mkdir()
    (tmp_path / "my runs" / "checkpoint.safetensors").touch()
    said = run("train", "digits", "-o", "my runs")
    assert said.code == 130
    checkpoint = Path("my runs") / "checkpoint.safetensors"
    assert said.err == (
        f"edgewise: interrupted; the checkpoint is {checkpoint}. "
        "Continue with `edgewise train 'my runs' --resume`.\n"
    )
    assert shlex.split("edgewise train 'my runs' --resume")[2] == "my runs"


def test_an_interrupted_run_has_its_summary(run: Run, calls: dict[str, Any]) -> None:
    calls["summary"] = summary(interrupted=True, steps=3)
    found = run("train", "digits", "--json")
    assert (found.code, found.json["interrupted"]) == (130, True)


def test_ctrl_c_before_the_first_step(run: Run, calls: dict[str, Any]) -> None:
    calls["summary"] = summary(interrupted=True)
    said = run("train", "digits")
    assert said.code == 130
    assert said.err == "edgewise: interrupted; there is no checkpoint yet. Start again.\n"
    assert "report" not in said.out
    calls["summary"] = KeyboardInterrupt()
    assert run("train", "digits") == (130, "", said.err)


def test_what_training_refuses(run: Run, calls: dict[str, Any]) -> None:
    calls["summary"] = UsageError("the data has no labels")
    assert run("train", "digits") == (2, "", "edgewise: the data has no labels\n")


def test_a_number_is_judged_by_its_error(run: Run, calls: dict[str, Any]) -> None:
    calls["summary"] = summary(mse_before=2.0, mse_after=0.25, measured_seconds=0.01, steps=1, diverged_at=0)
    said = run("train", "digits")
    assert "the loss of step 0 was no number; try a smaller `train.optimizer.lr`" in said.out
    assert "2 before, 0.25 after" in said.out
    assert "accuracy" not in said.out
    assert "1 epoch, 1 step in 2 s, 10 ms a step on this machine" in said.out
    assert "measured nothing" in said.out


def test_what_a_run_leaves_can_be_read(run: Run, tmp_path: Path) -> None:
    run("train", "digits-mlp", *QUICK, "-o", "here")
    recipe = tomllib.loads((tmp_path / "here" / "recipe.toml").read_text(encoding="utf-8"))
    assert recipe["train"]["epochs"] == 1
    assert recipe["device"]["ram"] == "0.9x"


def test_no_report_without_a_run(run: Run, tmp_path: Path) -> None:
    said = run("report", tmp_path)
    assert said.code == 2
    assert "Cannot read the plan" in said.err


def test_a_report_of_a_plan(run: Run, graph_file: Path, tmp_path: Path) -> None:
    run("plan", graph_file, "--device", "rpi4", "--ram", "0.95x", "-o", "plan.json")
    assert run("report", "plan.json").out == "plan.html\n"
    assert "rpi4" in (tmp_path / "plan.html").read_text(encoding="utf-8")
    said = run("report", "plan.json", "--device", "nrf52840")
    assert said.code == 5
    assert "was made for device `rpi4`" in said.err


IN_THE_FOREGROUND = """\
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from edgewise.cli import main
sys.exit(main(sys.argv[1:]))
"""
"""Tests that run in the background inherit that SIGINT is ignored; the run must not."""


def test_ctrl_c_in_earnest(run: Run, tmp_path: Path) -> None:
    words = [sys.executable, "-c", IN_THE_FOREGROUND, "train", "digits-mlp", *QUICK[2:]]
    words += ["--set", "train.epochs=100000", "-o", "here"]
    metrics = tmp_path / "here" / "metrics.jsonl"
    with subprocess.Popen(
        words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while process.poll() is None and not (metrics.exists() and metrics.read_text().count("step") > 2):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert process.returncode == 130, err
    assert "the checkpoint is here/checkpoint.safetensors" in err
    assert "`edgewise train here --resume`" in err
    assert "accuracy" in out
    done = msgspec.json.decode((tmp_path / "here" / "summary.json").read_bytes(), type=RunSummary)
    resumed = run("train", "here", "--resume", "--set", f"train.epochs={done.epochs + 1}", "--json")
    assert resumed.code == 0
    assert resumed.json["epochs"] == done.epochs + 1
    assert resumed.json["steps"] > done.steps


def test_a_method_in_words(run: Run, calls: dict[str, Any]) -> None:
    calls["summary"] = summary(method="spsa:directions=4")
    said = run("train", "digits", "--method", "spsa:directions=4")
    assert calls["recipe"].method == Spsa(directions=4)
    assert (
        dict(line.split("  ", 1) for line in said.out.splitlines()[1:])["method"].strip()
        == "spsa:directions=4"
    )
    assert run("train", "digits", "--method", "spas").code == 2
    calls["summary"] = summary(method="backprop")
    assert "method" not in run("train", "digits").out
