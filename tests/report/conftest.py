"""One small run, loaded once: most tests only look at it."""

from pathlib import Path

import pytest

from edgewise.graph import Graph
from edgewise.plan import Plan
from edgewise.report import ReportData, load_report
from tests.report.inputs import graph_of, plan_at_random, plan_in_slices, write_run
from tests.support import looped


@pytest.fixture(scope="session")
def graph() -> Graph:
    return graph_of(4)


@pytest.fixture(scope="session")
def plan(graph: Graph) -> Plan:
    return plan_at_random(graph)


@pytest.fixture
def run_dir(tmp_path: Path, graph: Graph, plan: Plan) -> Path:
    return write_run(tmp_path / "run", graph, plan)


@pytest.fixture(scope="session")
def loop_graph(graph: Graph) -> Graph:
    return looped(graph, reordered=("backward2",))


@pytest.fixture(scope="session")
def loop_plan(loop_graph: Graph) -> Plan:
    return plan_in_slices(loop_graph)


@pytest.fixture(scope="session")
def loop_data(tmp_path_factory: pytest.TempPathFactory, loop_graph: Graph, loop_plan: Plan) -> ReportData:
    return load_report(write_run(tmp_path_factory.mktemp("loops") / "run", loop_graph, loop_plan))


@pytest.fixture(scope="session")
def run_data(tmp_path_factory: pytest.TempPathFactory, graph: Graph, plan: Plan) -> ReportData:
    return load_report(write_run(tmp_path_factory.mktemp("runs") / "run", graph, plan))
