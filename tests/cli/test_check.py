"""`edgewise check`: certifies what is sound, refuses what is not, and finds graph and device by itself."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgewise.devices import load_device, save_device
from edgewise.train import ENVIRONMENT_FORMAT, Environment
from tests.cli.conftest import Run


@pytest.fixture
def plan_file(run: Run, graph_file: Path, tmp_path: Path) -> Path:
    assert run("plan", graph_file, "--device", "nrf52840", "--ram", "0.95x", "-o", "plan.json").code == 0
    return tmp_path / "plan.json"


def test_a_sound_plan_is_certified(run: Run, plan_file: Path) -> None:
    said = run("check", plan_file)
    assert said.code == 0
    assert said.out.startswith(f"{plan_file}: certified\n")
    found = run("check", plan_file, "--json").json
    plan = json.loads(plan_file.read_text())
    assert found["certified"] is True
    assert found["peak_bytes"] == plan["peak_bytes"]
    assert found["arena_bytes"] >= found["peak_bytes"]
    assert found["ram_bytes"] == plan["budget"]["ram_bytes"]


def test_a_plan_that_streams(run: Run, loops_file: Path) -> None:
    made = run("plan", loops_file, "--device", "rpi4", "--ram", "3500", "-o", "plan.json", "--json").json
    found = run("check", "plan.json", "--json").json
    assert (found["streamed"], found["exact"]) == (made["streamed"], False)
    said = run("check", "plan.json").out
    assert ", 5 ops streamed\n" in said
    assert "of it in slices\n" in said
    assert "the sums of 1 op may be taken in another order, each within 1e-6 relative\n" in said
    assert said.count("rows 8") == 5


@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        (lambda step: step.__setitem__(2, "rows 9"), "by `rows 9`, which it does not offer"),
        (lambda step: step.__setitem__(3, ["ga"]), "streams `ga`, which that does not offer"),
        (lambda step: step.__setitem__(3, []), "without its operand"),
    ],
)
def test_a_loop_that_was_tampered_with_is_refused(
    tamper: Callable[[list[Any]], Any], said: str, run: Run, loops_file: Path, tmp_path: Path
) -> None:
    assert run("plan", loops_file, "--device", "rpi4", "--ram", "3500", "-o", "plan.json").code == 0
    plan = json.loads((tmp_path / "plan.json").read_text())
    tamper(next(step for step in plan["steps"] if step[:2] == ["compute", "back_c"]))
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    found = run("check", "plan.json")
    assert (found.code, found.out) == (5, "")
    assert said in found.err


def change(plan: dict[str, Any], key: str, value: Any) -> None:
    plan[key] = value


@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        (
            lambda plan: plan["steps"].pop(0),
            "Step 0 of the plan computes `to_b` without its operand `a` in RAM",
        ),
        (lambda plan: plan["steps"].insert(0, ["free", "ghost"]), "names `ghost`, which is not in the graph"),
        (lambda plan: change(plan, "peak_bytes", 5), "The plan claims a peak of 5 B"),
        (lambda plan: change(plan, "joules", 0.0), "The plan claims 0 J, but takes"),
        (lambda plan: plan["budget"].update(ram_bytes=100), "budget"),
        (lambda plan: change(plan, "graph_sha256", "0" * 64), "This plan was made for another graph"),
        (lambda plan: plan["addresses"].update(a=[0]), "overlaps|address"),
        (lambda plan: change(plan, "format", "edgewise.plan/9"), "edgewise.plan/9"),
        (lambda plan: plan.pop("steps"), "steps"),
        (lambda plan: change(plan, "mood", "good"), "mood"),
    ],
)
def test_a_plan_that_was_tampered_with_is_refused(
    tamper: Callable[[dict[str, Any]], Any], said: str, run: Run, plan_file: Path
) -> None:
    plan = json.loads(plan_file.read_text())
    tamper(plan)
    plan_file.write_text(json.dumps(plan))
    found = run("check", plan_file)
    assert (found.code, found.out) == (5, "")
    assert re.search(said, found.err)


def test_no_plan(run: Run) -> None:
    said = run("check", "none.json")
    assert said.code == 2
    assert "Cannot read none.json: No such file or directory." in said.err


def test_a_graph_elsewhere(run: Run, plan_file: Path, graph_file: Path) -> None:
    (plan_file.parent / "graph.json").unlink()
    said = run("check", plan_file)
    assert said.code == 2
    assert "Cannot read the graph file" in said.err
    assert run("check", plan_file, "--graph", graph_file).code == 0


def slower() -> Any:
    board = load_device("nrf52840")
    compute = msgspec.structs.replace(board.compute, flops_per_second=1.0)
    return msgspec.structs.replace(board, compute=compute)


def test_another_device_is_refused(run: Run, plan_file: Path, tmp_path: Path) -> None:
    assert "was made for device `nrf52840`, not `rpi4`" in run("check", plan_file, "--device", "rpi4").err
    save_device(slower(), tmp_path / "slower.toml")
    said = run("check", plan_file, "--device", tmp_path / "slower.toml")
    assert said.code == 5, "same name, other figures: other seconds than the plan claims"


def test_a_profile_beside_the_plan_is_its_device(run: Run, plan_file: Path, tmp_path: Path) -> None:
    save_device(slower(), tmp_path / "device.toml")
    assert run("check", plan_file).code == 5


def test_a_run_says_what_its_device_was(run: Run, plan_file: Path, tmp_path: Path) -> None:
    device = msgspec.to_builtins(load_device("nrf52840"))
    environment = Environment(ENVIRONMENT_FORMAT, {}, "here", 1, device)
    (tmp_path / "environment.json").write_bytes(msgspec.json.encode(environment))
    assert run("check", tmp_path, "--json").json["path"] == str(plan_file)
    (tmp_path / "environment.json").write_bytes(
        msgspec.json.encode(msgspec.structs.replace(environment, device=msgspec.to_builtins(slower())))
    )
    assert run("check", tmp_path).code == 5
    assert run("check", tmp_path, "--device", "nrf52840").code == 0


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"device": 3}', '{"device": {"name": "x"}}', "\xff"])
def test_an_environment_without_a_device(text: str, run: Run, plan_file: Path, tmp_path: Path) -> None:
    (tmp_path / "environment.json").write_bytes(text.encode("latin-1"))
    said = run("check", tmp_path)
    assert said.code == 5
    assert "no device can be read from it" in said.err
    assert "Name it with `--device`." in said.err
