"""`edgewise recipes`, `ls` and `cp`."""

from pathlib import Path

from edgewise.train import list_recipes, load_recipe
from tests.cli.conftest import Run


def test_listed_with_what_they_do(run: Run) -> None:
    said = run("recipes")
    assert said.code == 0
    assert [line.split()[0] for line in said.out.splitlines()] == ["recipe", *list_recipes()]
    assert run("recipes", "ls").out == said.out
    expected = [{"name": name, "description": text} for name, text in list_recipes().items()]
    assert run("recipes", "ls", "--json").json == run("recipes", "--json").json == expected


def test_copied_to_be_changed(run: Run, tmp_path: Path) -> None:
    assert run("recipes", "cp", "digits").out == "digits.toml\n"
    assert load_recipe(tmp_path / "digits.toml") == load_recipe("digits")
    assert run("recipes", "cp", "digits", "mine.toml", "--json").json == {
        "name": "digits",
        "path": "mine.toml",
    }


def test_nothing_is_overwritten(run: Run, tmp_path: Path) -> None:
    (tmp_path / "digits.toml").write_text("mine")
    said = run("recipes", "cp", "digits")
    assert said.code == 2
    assert "digits.toml is there already and will not be overwritten" in said.err
    assert (tmp_path / "digits.toml").read_text() == "mine"


def test_no_such_recipe(run: Run) -> None:
    said = run("recipes", "cp", "digit")
    assert (said.code, said.out) == (2, "")
    assert "No recipe `digit`. Did you mean `digits`?" in said.err
