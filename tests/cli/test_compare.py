"""`edgewise compare`: a real comparison of a user's own module, and what is said of rows by hand."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

import edgewise.train.compare
from edgewise.errors import UsageError
from edgewise.train import Recipe
from edgewise.train.comparison import Comparison, encode_comparison
from tests.cli.conftest import Run
from tests.report.comparisons import comparison, row, unfit, unserved

GOOD = (0.1, 0.5, 0.8, 0.9, 0.95)

OWN = '''\
"""A user's module."""

from torch import Tensor, nn


def build() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
'''


def test_a_model_of_ones_own(run: Run, tmp_path: Path) -> None:
    (tmp_path / "own_net.py").write_text(OWN)
    words = ("compare", "own_net:build@8x6", "--device", "rpi4", "--methods", "backprop,every-block,spsa")
    more = ("--steps", "4", "--lr", "0.1,spsa=0.01", "-o", "mine")
    found = run(*words, *more, "--json")
    assert found.code == 0
    assert found.err == "", "quiet where stderr is no terminal"
    said = found.json
    assert [entry["outcome"] for entry in said["rows"]] == ["trained"] * 3
    assert said["rows"][2]["search"] == {"lr": 0.01, "trials": []}
    assert (said["exit_code"], said["folder"]) == (0, "mine")
    assert said["report"] == str(Path("mine") / "compare.html")
    assert said["verdict"]
    assert {"cost", "marks", "peak_bytes", "score", "joules_to_level"} <= said["rows"][0].keys()
    assert (tmp_path / "mine" / "compare.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    table = run(*words, *more)
    assert table.code == 0
    assert "own_net:build on rpi4" in table.out
    assert run("report", Path("mine") / "spsa").code == 0
    assert run("compare", *words[1:], "--steps", "5", "-o", "mine").code == 2


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `compare_methods` was called with; it returns `calls["found"]` instead of training."""
    seen: dict[str, Any] = {"found": comparison(row("backprop", 1, GOOD))}

    def compare_methods(recipe: Recipe, contenders: Any, folder: Path, **options: Any) -> Comparison:
        seen.update(recipe=recipe, contenders=contenders, folder=folder, **options)
        folder.mkdir(parents=True, exist_ok=True)
        if isinstance(seen["found"], BaseException):
            raise seen["found"]
        (folder / "comparison.json").write_bytes(encode_comparison(seen["found"]))
        return seen["found"]

    monkeypatch.setattr(edgewise.train.compare, "compare_methods", compare_methods)
    return seen


def test_flags_change_the_recipe(run: Run, calls: dict[str, Any]) -> None:
    words = ("--device", "a board", "--ram", "0.5x", "--set", "train.batch=7", "--lr", "spsa=1e-3, 0.5")
    assert run("compare", "digits", *words, "--methods", "spsa,spsa:directions=2").code == 0
    recipe = calls["recipe"]
    assert (recipe.device.name, recipe.device.ram, recipe.train.batch) == ("a board", "0.5x", 7)
    assert [contender.name for contender in calls["contenders"]] == ["spsa", "spsa:directions=2"]
    assert calls["lr"] == {"spsa": 1e-3, "": 0.5}
    assert (calls["steps"], calls["seconds"]) == (None, None)
    assert calls["folder"] == Path("comparisons/digits")


def test_all_are_compared_by_default(run: Run, calls: dict[str, Any]) -> None:
    run("compare", "digits", "--seconds", "10min", "-o", "here")
    names = [contender.name for contender in calls["contenders"]]
    assert names[:3] == ["backprop", "every-block", "square-root"]
    assert {"spsa", "sign-spsa", "forward-gradient", "elastic"} <= set(names)
    assert calls["seconds"].number == 600
    assert calls["folder"] == Path("here")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--steps", "3", "--seconds", "3"), "`--steps` and `--seconds` both say how long. Leave one out."),
        (("--steps", "0"), "`--steps 0` must be at least 1."),
        (("--methods", "spas"), "No method `spas`. Did you mean `spsa`?"),
        (("--methods", ""), "`--methods` names none."),
        (("--lr", "fast"), "`--lr fast`: `fast` is no number."),
        (("--lr", "0"), "`--lr 0`: a learning rate must be above zero."),
        (("--lr", "spas=1"), "No method `spas`. Did you mean `spsa`?"),
        (("--lr", "spsa=1", "--methods", "backprop"), "`--lr` names `spsa`, which is not compared."),
        (("--set", "train.batsh=1"), "unknown key `train.batsh`; did you mean `batch`?"),
    ],
)
def test_what_is_refused(words: tuple[str, ...], message: str, run: Run, calls: dict[str, Any]) -> None:
    said = run("compare", "digits", *words)
    assert said.code == 2
    assert message in said.err


def test_a_graph_cannot_be_trained(run: Run, graph_file: Path) -> None:
    said = run("compare", graph_file)
    assert said.code == 2
    assert "is a graph, which cannot be trained. Name a recipe or a model." in said.err


def test_the_table_and_the_answer(run: Run, calls: dict[str, Any]) -> None:
    rows = (
        row("backprop", 1.12, GOOD, recomputed=2),
        row("spsa", 0.7, (0.1, 0.2)),
        unfit("elastic", 90_000),
        unserved("forward-gradient", "body.0: it cannot"),
    )
    calls["found"] = comparison(*rows)
    said = run("compare", "digits")
    lines = said.out.splitlines()
    assert said.code == 0
    assert lines[0] == "net on board"
    head = next(line for line in lines if line.startswith("method"))
    assert "energy to 94%" in head
    planned = next(line for line in lines if line.startswith("backprop"))
    assert " ".join(planned.split()) == "backprop 58.6 KiB 1.12 J +12% 224 ms 95% 44.8 J 8.96 s"
    other = next(line for line in lines if line.startswith("spsa"))
    assert other.split()[-3:] == ["20%", "-", "-"]
    assert "Planned backprop fits 64 KiB at +12% energy" in said.out
    assert "  - elastic does not fit: it needs at least 87.9 KiB" in said.out
    assert "  - forward-gradient cannot serve this model: body.0: it cannot" in said.out
    assert lines[-1] == f"report: {Path('comparisons') / 'digits' / 'compare.html'}"


def test_none_that_fits_is_exit_code_3(run: Run, calls: dict[str, Any]) -> None:
    calls["found"] = comparison(unfit("backprop", 90_000), unfit("spsa", 70_000), unserved("elastic", "a: b"))
    said = run("compare", "digits", "--json")
    assert said.code == 3
    assert (said.json["min_ram_bytes"], said.json["op"], said.json["exit_code"]) == (70_000, "fc1:mm", 3)
    assert said.json["use"] is None
    words = "Nothing fits 64 KiB. The least is 68.4 KiB, by spsa: try `--ram 70000`."
    assert said.err == f"edgewise: {words}\n"
    assert words in run("compare", "digits").out


def test_none_that_can_serve_is_exit_code_4(run: Run, calls: dict[str, Any]) -> None:
    calls["found"] = comparison(unserved("spsa", "a: b"))
    said = run("compare", "digits", "--json")
    assert (said.code, said.json["exit_code"]) == (4, 4)
    assert said.json["rows"][0]["parts"] == ["a: b"]


def test_one_that_fits_is_enough(run: Run, calls: dict[str, Any]) -> None:
    calls["found"] = comparison(unfit("backprop", 90_000), row("spsa", 1, GOOD))
    assert run("compare", "digits").code == 0


def test_ctrl_c_says_what_is_kept_and_how_to_go_on(run: Run, calls: dict[str, Any], monkeypatch) -> None:
    monkeypatch.setattr("sys.argv", ["edgewise", "compare", "my recipe.toml"])
    half = msgspec.structs.replace(row("spsa", 1, GOOD), outcome="unfinished")
    calls["found"] = comparison(row("backprop", 1, GOOD), half)
    said = run("compare", "digits", "-o", "here")
    assert said.code == 130
    assert said.err == (
        "edgewise: interrupted; 1 method done, kept in here. "
        "Continue with `edgewise compare 'my recipe.toml'`.\n"
    )
    calls["found"] = KeyboardInterrupt()
    again = run("compare", "digits", "-o", "here")
    assert (again.code, again.out, again.err) == (130, "", said.err)
    assert "0 methods done" in run("compare", "digits", "-o", "new").err


def test_what_comparing_refuses(run: Run, calls: dict[str, Any]) -> None:
    calls["found"] = UsageError("another setting")
    assert run("compare", "digits") == (2, "", "edgewise: another setting\n")
