"""Reading a run or a plan: what is missing is not there, what is damaged is refused by its name."""

import hashlib
import json
from pathlib import Path

import msgspec
import pytest

from edgewise.devices import Compute, Device, Memory, Ram, encode_device
from edgewise.errors import CorruptArtifact, PlanRejected, UsageError
from edgewise.graph import Graph
from edgewise.plan import Budget, Plan, check
from edgewise.report import load, load_report
from tests.report.inputs import (
    BOARD,
    epoch_line,
    graph_of,
    plan_at_random,
    step_line,
    write_json,
    write_plan,
    write_run,
)

OWN = Device("own-board", "a board of somebody's", Compute(1e7, 1e-9), Memory(Ram(2**20)))


def test_a_run(run_dir: Path, graph: Graph, plan: Plan) -> None:
    data = load_report(run_dir)

    assert (data.graph, data.plan, data.device) == (graph, plan, BOARD)
    assert data.certificate == check(plan, graph, BOARD)
    assert data.is_run
    assert data.memory == data.certificate.ram_bytes
    assert data.measured_peak_bytes == data.certificate.peak_bytes
    assert data.process_bytes == 77_777
    assert len(data.steps) == 30
    assert data.accuracies == ((0, 0.0975), (1, 0.9625))
    assert data.recipe == 'description = "a recipe for tests"\n'
    assert data.environment is not None
    assert data.environment.platform == "Linux for tests"


def test_a_plan_alone(tmp_path: Path, graph: Graph, plan: Plan) -> None:
    data = load_report(write_plan(tmp_path, graph, plan))

    assert not data.is_run
    assert data.device == BOARD
    assert (data.memory, data.measured_peak_bytes, data.steps, data.recipe) == ((), None, (), None)
    assert [digest.name for digest in data.digests] == ["plan.json", "graph.json"]


def test_a_plan_in_a_run_directory_is_shown_without_the_run(run_dir: Path) -> None:
    data = load_report(run_dir / "plan.json")

    assert not data.is_run
    assert data.steps == ()


@pytest.mark.parametrize(
    "name", ["metrics.jsonl", "memory.json", "recipe.toml", "environment.json", "checkpoint.safetensors"]
)
def test_what_a_run_lacks_is_left_out(run_dir: Path, name: str) -> None:
    (run_dir / name).unlink()

    assert name not in {digest.name for digest in load_report(run_dir).digests}


def test_digests_are_those_of_the_files(run_dir: Path) -> None:
    found = {digest.name: digest for digest in load_report(run_dir).digests}

    assert set(found) == {path.name for path in run_dir.iterdir()}
    for path in run_dir.iterdir():
        assert found[path.name].sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert found[path.name].bytes == path.stat().st_size


@pytest.mark.parametrize(("name", "what"), [("plan.json", "the plan"), ("graph.json", "the plan's graph")])
def test_a_run_without_its_plan(run_dir: Path, name: str, what: str) -> None:
    (run_dir / name).unlink()

    with pytest.raises(UsageError) as caught:
        load_report(run_dir)
    assert str(caught.value) == (
        f"Cannot read {what} {run_dir / name}: No such file or directory. Give a run directory, or a "
        "plan.json with its graph.json beside it."
    )


def test_a_file_that_cannot_be_read(run_dir: Path) -> None:
    (run_dir / "recipe.toml").unlink()
    (run_dir / "recipe.toml").mkdir()

    with pytest.raises(UsageError, match=r"Cannot read .*recipe\.toml: Is a directory\. Mend or remove it\."):
        load_report(run_dir)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("plan.json", r"plan\.json is not a plan file: .*\. Plan again\."),
        ("graph.json", r"graph\.json is not a graph file: .*\. Expected format `edgewise\.graph/1`\."),
        ("environment.json", r"environment\.json is not an environment file: .*\. Run or plan again\."),
        ("memory.json", r"memory\.json is not a memory file: .*\. Run or plan again\."),
        ("summary.json", r"summary\.json is not a run's summary: .*\. Run or plan again\."),
        ("recipe.toml", r"recipe\.toml is not text in UTF-8: .*\. Restore the file\."),
        ("metrics.jsonl", r"metrics\.jsonl, line 1: .*\. Restore the file or run again\."),
    ],
)
@pytest.mark.parametrize("data", [b"\xff\xfe\n", b'{"format": \xc3\x28}\n', b"[" * 100_000 + b"\xff\n"])
def test_a_damaged_file_is_named(run_dir: Path, name: str, message: str, data: bytes) -> None:
    (run_dir / name).write_bytes(data)

    with pytest.raises(CorruptArtifact, match=message):
        load_report(run_dir)


@pytest.mark.parametrize("name", ["plan.json", "graph.json", "environment.json", "memory.json"])
def test_another_format_is_refused(run_dir: Path, name: str) -> None:
    fields = json.loads((run_dir / name).read_text())
    write_json(run_dir / name, **{**fields, "format": "edgewise.other/9"})

    with pytest.raises(
        CorruptArtifact, match=r"format `edgewise\.other/9` is not `edgewise\..*`, the one this version"
    ):
        load_report(run_dir)


def test_a_tampered_plan_is_refused(run_dir: Path, plan: Plan) -> None:
    text = (run_dir / "plan.json").read_text()
    (run_dir / "plan.json").write_text(text.replace(str(plan.peak_bytes), str(plan.peak_bytes - 1)))

    with pytest.raises(PlanRejected, match="claims a peak of"):
        load_report(run_dir)


def test_a_plan_of_another_graph_is_refused(run_dir: Path, plan: Plan) -> None:
    write_plan(run_dir, graph_of(4, name="other"), plan)

    with pytest.raises(PlanRejected, match="made for another graph"):
        load_report(run_dir)


def test_measurements_of_another_plan_are_refused(run_dir: Path, plan: Plan) -> None:
    write_json(run_dir / "memory.json", format="edgewise.memory/1", live_bytes=[1, 2])

    with pytest.raises(CorruptArtifact) as caught:
        load_report(run_dir)
    assert str(caught.value) == (
        f"{run_dir / 'memory.json'} has 2 figures, but the plan has {len(plan.steps)} steps. It belongs to "
        "another plan; run again or remove it."
    )


def summary(plan: Plan, **changes: object) -> dict[str, object]:
    fields: dict[str, object] = {
        "format": "edgewise.summary/1", "model": "net", "device": plan.device, "minimize": "joules",
        "status": "feasible", "gap": 0.25, "solver": "test", "plain_peak_bytes": 1, "budget_ram_bytes": 1,
        "planned_peak_bytes": 1, "certified_peak_bytes": plan.peak_bytes, "measured_peak_bytes": None,
        "process_bytes": 88_888, "evaluation_peak_bytes": 4096, "plain_seconds": 1.0, "planned_seconds": 1.0,
        "plain_joules": 1.0, "planned_joules": 1.0, "recomputed": 0, "paged_out": 0, "paged_in": 0,
        "measured_seconds": None, "accuracy_before": None, "accuracy_after": None, "mse_before": None,
        "mse_after": None, "mae_before": None, "mae_after": None, "training_seconds": 12.0, "epochs": 1,
        "steps": 1, "interrupted": True, "checkpoint": None,
    }  # fmt: skip
    return fields | changes


def test_a_summary_is_read(run_dir: Path, plan: Plan) -> None:
    write_json(run_dir / "summary.json", **summary(plan))

    assert load_report(run_dir).process_bytes == 88_888


def test_a_summary_of_another_plan_is_refused(run_dir: Path, plan: Plan) -> None:
    write_json(run_dir / "summary.json", **summary(plan, certified_peak_bytes=7))

    with pytest.raises(CorruptArtifact) as caught:
        load_report(run_dir)
    assert str(caught.value) == (
        f"{run_dir / 'summary.json'} states a certified peak of 7 B, but the plan has {plan.peak_bytes:,} B. "
        "It belongs to another plan; run again or remove it."
    )


def test_a_file_that_is_too_large(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "MAX_FILE_BYTES", 10)

    with pytest.raises(
        CorruptArtifact, match=r"plan\.json: [\d,]+ bytes are more than a report reads \(10\)"
    ):
        load_report(run_dir)


def test_a_line_that_was_cut_off_is_left_out(run_dir: Path) -> None:
    with (run_dir / "metrics.jsonl").open("a") as file:
        file.write('{"type": "step", "st')

    assert len(load_report(run_dir).steps) == 30


def test_a_resumed_run_counts_the_later_line(tmp_path: Path, graph: Graph, plan: Plan) -> None:
    lines = [step_line(1, 9.0), step_line(2, 8.0), epoch_line(1, 0.1), step_line(2, 5.0), epoch_line(1, 0.2)]
    data = load_report(write_run(tmp_path / "run", graph, plan, lines))

    assert [(line.step, line.loss) for line in data.steps] == [(1, 9.0), (2, 5.0)]
    assert data.accuracies == ((1, 0.2),)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (step_line(3, 1e301), "1e+301 is no possible `loss`"),
        (step_line(3, -1e301), "-1e+301 is no possible `loss`"),
        (step_line(3, 1.0, -1), "-1 is no possible `peak_bytes`"),
        (step_line(3, 1.0, 2**63), "9223372036854775808 is no possible `peak_bytes`"),
        (step_line(3, 1.0, 10**400), f"1{'0' * 22}\N{HORIZONTAL ELLIPSIS} is no possible `peak_bytes`"),
        (step_line(-3, 1.0), "-3 is no possible `step`"),
        (epoch_line(1, 1.01), "1.01 is no possible `test_accuracy`"),
        (epoch_line(1, -0.5), "-0.5 is no possible `test_accuracy`"),
        (epoch_line(1, None, test_mse=1e308), "1e+308 is no possible `test_mse`"),
    ],
)
def test_a_figure_that_no_run_writes(
    tmp_path: Path, graph: Graph, plan: Plan, line: dict[str, object], message: str
) -> None:
    folder = write_run(tmp_path / "run", graph, plan, [step_line(1, 1.0), line])

    with pytest.raises(CorruptArtifact) as caught:
        load_report(folder)
    assert str(caught.value) == (
        f"{folder / 'metrics.jsonl'}, line 2: {message}. Restore the file or run again."
    )


@pytest.mark.parametrize("size", [-1, 2**63])
def test_a_size_that_is_none(run_dir: Path, plan: Plan, size: int) -> None:
    sizes = [size] * len(plan.steps)
    write_json(run_dir / "memory.json", format="edgewise.memory/1", live_bytes=sizes)

    with pytest.raises(
        CorruptArtifact, match=r"memory\.json: .* is no possible `live_bytes`\. Restore the file"
    ):
        load_report(run_dir)


def test_a_budget_that_is_none(tmp_path: Path, graph: Graph, plan: Plan) -> None:
    endless = msgspec.structs.replace(plan, budget=Budget(10**400))

    with pytest.raises(CorruptArtifact, match=r"plan\.json: 1000.* is no possible `ram_bytes`\. Restore the"):
        load_report(write_plan(tmp_path, graph, endless))


class TestDevice:
    """Where the device is found."""

    def plan(self, tmp_path: Path, device: Device) -> Path:
        graph = graph_of(2)
        return write_plan(tmp_path, graph, plan_at_random(graph, page=0.0, device=device))

    def test_it_is_given(self, tmp_path: Path) -> None:
        assert load_report(self.plan(tmp_path, OWN), OWN).device == OWN

    def test_it_is_beside_the_plan(self, tmp_path: Path) -> None:
        paths = ("compute.flops_per_second", "compute.joules_per_flop", "memory.ram.bytes")
        stated = msgspec.structs.replace(OWN, sources=dict.fromkeys(paths, "its data sheet"))
        (tmp_path / "device.toml").write_text(encode_device(stated))

        assert load_report(self.plan(tmp_path, stated)).device == stated

    def test_a_damaged_profile(self, tmp_path: Path) -> None:
        (tmp_path / "device.toml").write_text("name = ")

        with pytest.raises(CorruptArtifact, match=r"device\.toml is not TOML"):
            load_report(self.plan(tmp_path, OWN))

    def test_it_is_nowhere(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError) as caught:
            load_report(self.plan(tmp_path, OWN))
        assert str(caught.value) == (
            "The plan is for device `own-board`, and there is no profile of that name. Put its device.toml "
            "beside the plan, or pass `--device`."
        )

    def test_the_one_of_a_run_is_no_device(self, run_dir: Path) -> None:
        environment = json.loads((run_dir / "environment.json").read_text())
        write_json(run_dir / "environment.json", **{**environment, "device": {"name": "x"}})

        with pytest.raises(
            CorruptArtifact, match=r"environment\.json: `device` is not a device: .*\. Run again\."
        ):
            load_report(run_dir)

    def test_the_one_of_a_run_divides_by_zero(self, run_dir: Path) -> None:
        environment = json.loads((run_dir / "environment.json").read_text())
        environment["device"]["compute"]["flops_per_second"] = 0
        write_json(run_dir / "environment.json", **environment)

        with pytest.raises(
            CorruptArtifact, match=r"`compute\.flops_per_second` is 0; a rate or a size must be above"
        ):
            load_report(run_dir)


def test_a_budget_below_the_peak_is_refused(tmp_path: Path, graph: Graph, plan: Plan) -> None:
    small = msgspec.structs.replace(plan, budget=Budget(plan.peak_bytes - 1))

    with pytest.raises(PlanRejected, match="its budget is"):
        load_report(write_plan(tmp_path, graph, small))
