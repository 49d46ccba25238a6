"""Writing the page beside what it is about."""

from pathlib import Path

import pytest

from edgewise.errors import CorruptArtifact, UsageError
from edgewise.graph import Graph
from edgewise.plan import Plan
from edgewise.report import load_report, render_report, write_report
from tests.report.inputs import write_plan


def test_a_run(run_dir: Path) -> None:
    path = write_report(run_dir)

    assert path == run_dir / "report.html"
    assert path.read_text(encoding="utf-8") == render_report(load_report(run_dir))


def test_a_second_time_it_is_the_same(run_dir: Path) -> None:
    first = write_report(run_dir).read_bytes()

    assert write_report(run_dir).read_bytes() == first


def test_a_plan(tmp_path: Path, graph: Graph, plan: Plan) -> None:
    write_plan(tmp_path, graph, plan).rename(tmp_path / "small.plan.json")

    assert write_report(tmp_path / "small.plan.json") == tmp_path / "small.plan.html"


def test_another_place(tmp_path: Path, run_dir: Path) -> None:
    assert write_report(run_dir, tmp_path / "page.html") == tmp_path / "page.html"
    assert not (run_dir / "report.html").exists()


def test_a_place_that_is_not_there(tmp_path: Path, run_dir: Path) -> None:
    out = tmp_path / "nowhere" / "page.html"

    with pytest.raises(UsageError) as caught:
        write_report(run_dir, out)
    assert (
        str(caught.value) == f"Cannot write the report {out}: No such file or directory. Name another file."
    )


def test_a_place_that_is_a_folder(tmp_path: Path, run_dir: Path) -> None:
    (tmp_path / "page").mkdir()

    with pytest.raises(
        UsageError, match=r"Cannot write the report .*page: Is a directory\. Name another file\."
    ):
        write_report(run_dir, tmp_path / "page")
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []


def test_the_old_page_stays_if_the_run_is_damaged(run_dir: Path) -> None:
    (run_dir / "report.html").write_text("the old page")
    (run_dir / "plan.json").write_text("{}")

    with pytest.raises(CorruptArtifact):
        write_report(run_dir)
    assert (run_dir / "report.html").read_text() == "the old page"
