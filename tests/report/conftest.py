"""One small run, loaded once: most tests only look at it."""

from pathlib import Path

import pytest

from edgewise.graph import Graph
from edgewise.plan import Plan
from edgewise.report import ReportData, load_report
from tests.report.inputs import graph_of, plan_at_random, write_run


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
def run_data(tmp_path_factory: pytest.TempPathFactory, graph: Graph, plan: Plan) -> ReportData:
    return load_report(write_run(tmp_path_factory.mktemp("runs") / "run", graph, plan))
