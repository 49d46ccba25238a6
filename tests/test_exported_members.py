"""`edgewise` is what it says: one flat list of public names, each from its own room, none imported early."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import edgewise

PUBLIC = [name for name in edgewise.__all__ if name != "__version__"]


def test_the_list_is_sorted_and_without_repetition() -> None:
    def order(name: str) -> tuple[bool, bool, str]:
        return not name.isupper(), not name[0].isupper(), name

    assert edgewise.__all__ == sorted(set(edgewise.__all__), key=order)
    assert dir(edgewise) == sorted(edgewise.__all__)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_name_is_that_of_its_room(name: str) -> None:
    room = import_module(f"edgewise.{edgewise._ROOM_OF[name]}")

    assert getattr(edgewise, name) is getattr(room, edgewise._ALIASES.get(name, name))


def test_the_three_lists_agree() -> None:
    """What type checkers see, what `import *` sees, and what is looked up."""
    tree = ast.parse(Path(edgewise.__file__).read_text(encoding="utf-8"))
    seen = {
        alias.asname or alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("edgewise")
        for alias in node.names
    }

    assert seen == {name: f"edgewise.{room}" for name, room in edgewise._ROOM_OF.items()}
    assert sorted(seen) == sorted(PUBLIC)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module `edgewise` has no attribute `plann`"):
        _ = edgewise.plann


def test_importing_edgewise_imports_no_room() -> None:
    code = "import sys, edgewise; print(sorted(name for name in sys.modules if name.startswith('edgewise.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
