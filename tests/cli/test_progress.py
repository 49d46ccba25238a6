"""Progress at a terminal, and silence elsewhere."""

import io
import sys

import pytest

from edgewise.cli.output import note, write_facts
from edgewise.cli.planning import planning, progress_text
from edgewise.cli.training import Watcher
from edgewise.devices import load_device
from edgewise.plan import Certificate, Progress, plain_plan
from edgewise.train import EpochLine, StepLine
from tests.cli.conftest import tiny_graph


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Called in the test itself: pytest changes `sys.stderr` between a fixture and its test."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    return screen


@pytest.mark.parametrize(
    ("progress", "said"),
    [
        (Progress(1.4, None, None, "search"), "planning 1 s, search: no plan yet"),
        (Progress(12, 0.0034, None, "search"), "planning 12 s, search: overhead 3.4 mJ (Ctrl-C: take it)"),
        (
            Progress(12, 0.0034, 0.0031, "ti"),
            "planning 12 s, ti: overhead 3.4 mJ, at least 3.1 mJ (Ctrl-C: ",
        ),
    ],
)
def test_what_the_planner_is_doing(progress: Progress, said: str) -> None:
    assert progress_text(progress, "joules").startswith(said)


def test_an_overhead_in_seconds() -> None:
    assert "overhead 2 ms, at least 1 ms" in progress_text(Progress(0, 0.002, 0.001, "ti"), "seconds")


def test_planning_is_quiet_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with planning("joules") as progress:
        assert progress is None
    note("measuring")
    assert capsys.readouterr() == ("", "")


def test_planning_at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    note("capturing")
    with planning("seconds") as progress:
        assert progress is not None
        progress(Progress(3, 0.002, 0.001, "ti"))
    assert screen.getvalue().startswith("capturing\n")
    assert "Ctrl-C" in screen.getvalue()


def watch_a_run(watch: Watcher) -> None:
    plan = plain_plan(tiny_graph(), load_device("rpi4"))
    nothing = Certificate(0, 0.0, 0.0, 0, (), (), (), (), (), 0, 0)
    with watch:
        watch.started(10, 2, 4)
        watch.progress(Progress(1, None, None, "ti"))
        watch.planned(plan, nothing)
        watch.step(StepLine(4, 1, loss=0.5))
        watch.epoch(EpochLine(1, test_accuracy=0.75))
        watch.step(StepLine(5, 2, loss=None))
        watch.epoch(EpochLine(2, test_mse=0.125))
        watch.step(StepLine(6, 2, loss=0.25))
        watch._bar.refresh()


def test_a_run_at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    watch = Watcher()
    watch_a_run(watch)
    assert watch.done == 7
    assert watch.plan is not None
    shown = screen.getvalue()
    assert "epoch 2 of 2, loss 0.2500, squared error 0.125" in shown
    assert "7/10" in shown


def test_a_run_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    watch_a_run(Watcher())
    assert capsys.readouterr() == ("", "")


def test_a_watcher_that_was_not_entered_does_not_mind() -> None:
    watch = Watcher()
    watch.progress(Progress(1, None, None, "ti"))
    watch.step(StepLine(0))


def test_a_table_at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("TERM", "dumb")
    write_facts([("name", "[bold] is not a style"), ("empty", "")], title="title")
    assert screen.getvalue().split("\n")[0].rstrip() == "title"
    assert "[bold] is not a style" in screen.getvalue()
    assert "empty" not in screen.getvalue()
