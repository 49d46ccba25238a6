"""`edgewise recipes`: the recipes that come along."""

from pathlib import Path

from cyclopts import App

from edgewise.cli.output import write_json, write_line, write_table
from edgewise.cli.params import AsJson
from edgewise.train import copy_recipe, list_recipes

EXAMPLE = """\
Example:
  edgewise recipes
  edgewise recipes cp digits my-recipe.toml"""

EXAMPLE_CP = """\
Example:
  edgewise recipes cp digits my-recipe.toml
  edgewise train my-recipe.toml"""

app = App(name="recipes", help_epilogue=EXAMPLE)


@app.default
def recipes(*, as_json: AsJson = False) -> None:
    """Recipes that come along. Without a command: list them.

    Args:
        as_json: Print the result as JSON.
    """
    ls(as_json=as_json)


@app.command(help_epilogue="Example:\n  edgewise recipes ls")
def ls(*, as_json: AsJson = False) -> None:
    """List the recipes that come along.

    Args:
        as_json: Print the result as JSON.
    """
    found = list_recipes()
    if as_json:
        write_json([{"name": name, "description": text} for name, text in found.items()])
        return
    write_table({"recipe": False, "what": False}, found.items())


@app.command(help_epilogue=EXAMPLE_CP)
def cp(name: str, dest: Path = Path(), /, *, as_json: AsJson = False) -> None:
    """Copy a recipe, to change it. A file that is there already is not overwritten.

    Args:
        name: Name of a recipe.
        dest: File or folder to copy it to; the current folder if not given.
        as_json: Print the result as JSON.
    """
    path = copy_recipe(name, dest)
    if as_json:
        write_json({"name": name, "path": str(path)})
    else:
        write_line(str(path))
