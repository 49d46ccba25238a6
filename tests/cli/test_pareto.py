"""`edgewise plan --pareto`: the curve as a table and as JSON, and its files."""

from pathlib import Path

import pytest

from edgewise.cli import pareto as command
from edgewise.devices import load_device
from edgewise.graph import load_graph
from edgewise.plan import TradeOff, check, decode_curve, load_plan, trade_off
from edgewise.report import load_report
from tests.cli.conftest import Run, tiny_graph


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four budgets in this process: the other processes are `plan`'s to test."""

    def few(*arguments: object, **options: object) -> TradeOff:
        return trade_off(*arguments, **{**options, "points": 4, "processes": 1})  # type: ignore[arg-type]

    monkeypatch.setattr(command, "trade_off", few)


def test_a_table_with_a_row_for_each_budget(run: Run, graph_file: Path) -> None:
    said = run("plan", graph_file, "--device", "rpi4", "--pareto")
    assert said.code == 0
    assert said.err == ""
    assert "against plain" in said.out
    assert said.out.count("<- knee") == 1
    assert "nothing" in said.out.splitlines()[-1]  # plain training


def test_json(run: Run, graph_file: Path) -> None:
    found = run("plan", graph_file, "--device", "rpi4", "--pareto", "--json").json
    assert {"points", "knee", "minimize", "plain_peak_bytes", "plain_joules", "path"} <= set(found)
    costs = [point["joules"] for point in found["points"]]
    assert costs == sorted(costs, reverse=True)
    assert found["points"][-1]["ram_bytes"] == found["plain_peak_bytes"]
    assert costs[-1] == found["plain_joules"]


def test_the_curve_is_kept_beside_the_plan_of_its_knee(run: Run, graph_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "plan.json"
    said = run("plan", graph_file, "--device", "rpi4", "--pareto", "--minimize", "seconds", "-o", out)
    assert str(out) in said.out
    curve = decode_curve((tmp_path / "pareto.json").read_bytes())
    plan, graph = load_plan(out), load_graph(tmp_path / "graph.json")
    assert curve.minimize == "seconds"
    assert plan.budget.ram_bytes == curve.points[curve.knee].ram_bytes
    assert check(plan, graph, load_device("rpi4")).peak_bytes == curve.points[curve.knee].peak_bytes
    assert graph == tiny_graph()
    assert load_report(out).curve == curve


def test_a_curve_that_goes_below_what_whole_ops_need(run: Run, loops_file: Path) -> None:
    said = run("plan", loops_file, "--device", "rpi4", "--pareto")
    assert "page-ins  streamed" in said.out
    points = run("plan", loops_file, "--device", "rpi4", "--pareto", "--json").json["points"]
    assert points[0]["ram_bytes"] < 8000, "the largest op whole"
    assert points[0]["streamed"] > 0
    assert points[0]["bytes_written"] > 0
    assert (points[-1]["streamed"], points[-1]["bytes_written"]) == (0, 0)


def test_a_curve_without_streams_has_no_column_for_them(run: Run, graph_file: Path) -> None:
    out = run("plan", graph_file, "--device", "rpi4", "--pareto").out
    assert "streamed" not in out
    assert "written" in out


@pytest.mark.parametrize(
    ("more", "other"),
    [(("--ram", "1MB"), "--ram"), (("--min-ram",), "--min-ram"), (("--minimize", "ram"), "--minimize ram")],
)
def test_flags_that_have_no_place_beside_it(
    run: Run, graph_file: Path, more: tuple[str, ...], other: str
) -> None:
    said = run("plan", graph_file, "--device", "rpi4", "--pareto", *more)
    assert said.code == 2
    assert f"so `{other}` has no place beside it. Leave one out." in said.err


def test_a_place_that_cannot_be_written(run: Run, graph_file: Path, tmp_path: Path) -> None:
    (tmp_path / "pareto.json").mkdir()
    said = run("plan", graph_file, "--device", "rpi4", "--pareto", "-o", tmp_path / "plan.json")
    assert said.code == 2
    assert "pareto.json" in said.err


def test_progress_at_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    command._tell(1, 2)
    command._tell(2, 2)
    assert capsys.readouterr().err == "\rplanned 1 of 2 budgets\rplanned 2 of 2 budgets\n"


def test_least_ram_by_either_name(run: Run, graph_file: Path) -> None:
    words = ("plan", graph_file, "--device", "rpi4")
    assert run(*words, "--minimize", "ram").out == run(*words, "--min-ram").out
