"""The picture of the trade-off curve: there if a curve lies beside the plan, and only if it is the plan's."""

import re
from pathlib import Path

import msgspec
import pytest

from edgewise.errors import CorruptArtifact
from edgewise.graph import Graph
from edgewise.plan import Curve, Plan, Point, encode_curve
from edgewise.report import load_report, render_report
from edgewise.report.units import bytes_text, joules_text
from tests.report.inputs import Page, write_plan

TITLE = "What more or less RAM would cost"


def _point(plan: Plan, ram: int, factor: float) -> Point:
    return Point(ram, ram, ram, plan.seconds * factor, plan.joules * factor, "feasible", 0.5, 3, 7)


@pytest.fixture
def curve(plan: Plan) -> Curve:
    points = tuple(_point(plan, ram, factor) for ram, factor in ((10_000, 3.0), (20_000, 2.0), (60_000, 1.5)))
    return Curve(plan.graph, plan.graph_sha256, plan.device, "joules", plan.cost_model, None, 1, points)


def _page(folder: Path, graph: Graph, plan: Plan, curve: Curve | None) -> Page:
    path = write_plan(folder, graph, plan)
    if curve is not None:
        (folder / "pareto.json").write_bytes(encode_curve(curve))
    return Page(render_report(load_report(path)))


def test_there_is_a_picture_with_a_dot_for_each_budget(
    tmp_path: Path, graph: Graph, plan: Plan, curve: Curve
) -> None:
    page = _page(tmp_path, graph, plan, curve)
    assert TITLE in page.text
    assert f"The marked one, {bytes_text(20_000)}, is the knee" in page.text
    assert "Plans of least energy for 3 budgets of RAM, from" in page.text
    assert sum("trade-off" in (found.get("id") or "") for found in page.named("div")) == 1
    assert [found["class"] for found in page.named("circle")].count("knee") == 1
    assert f"at {joules_text(curve.points[0].joules)}" in page.text
    assert "pareto.json" in page.text  # among the files that the page was made from


@pytest.mark.parametrize(("streamed", "words"), [(0, ""), (1, ", 1 op streamed"), (9, ", 9 ops streamed")])
def test_a_budget_below_what_whole_ops_need(
    streamed: int, words: str, tmp_path: Path, graph: Graph, plan: Plan, curve: Curve
) -> None:
    first = msgspec.structs.replace(curve.points[0], streamed=streamed, bytes_written=5)
    curve = msgspec.structs.replace(curve, points=(first, *curve.points[1:]))
    path = write_plan(tmp_path, graph, plan)
    (tmp_path / "pareto.json").write_bytes(encode_curve(curve))
    html = render_report(load_report(path))
    assert ("to plain training&#x27;s. In 1 of them, ops run in slices." in html) is (streamed > 0)
    tips = list(re.findall(r"3 ops recomputed, 7 page-ins[^\"\\]*", html))
    assert tips == [f"3 ops recomputed, 7 page-ins{words}", *["3 ops recomputed, 7 page-ins"] * 2]


def test_there_is_none_without_a_curve(tmp_path: Path, graph: Graph, plan: Plan) -> None:
    assert TITLE not in _page(tmp_path, graph, plan, None).text


def test_a_limit_and_what_was_minimized_are_said(
    tmp_path: Path, graph: Graph, plan: Plan, curve: Curve
) -> None:
    limited = msgspec.structs.replace(curve, minimize="seconds", seconds_limit=2.0)
    assert (
        "Plans of least time for 3 budgets of RAM, each within 2 s, from"
        in _page(tmp_path, graph, plan, limited).text
    )


def test_one_point_is_a_curve_too(tmp_path: Path, graph: Graph, plan: Plan, curve: Curve) -> None:
    lonely = msgspec.structs.replace(curve, points=curve.points[:1], knee=0)
    assert TITLE in _page(tmp_path, graph, plan, lonely).text


@pytest.mark.parametrize("field", ["graph_sha256", "device", "cost_model"])
def test_the_curve_of_something_else_is_refused(
    tmp_path: Path, graph: Graph, plan: Plan, curve: Curve, field: str
) -> None:
    other = msgspec.structs.replace(curve, **{field: "poet" if field == "cost_model" else "another"})
    with pytest.raises(CorruptArtifact, match="is the curve of another graph, device or cost model"):
        _page(tmp_path, graph, plan, other)


def test_impossible_figures_are_refused(tmp_path: Path, graph: Graph, plan: Plan, curve: Curve) -> None:
    wild = msgspec.structs.replace(curve.points[0], joules=1e305)
    with pytest.raises(CorruptArtifact, match="is no possible `joules`"):
        _page(tmp_path, graph, plan, msgspec.structs.replace(curve, points=(wild, *curve.points[1:])))
