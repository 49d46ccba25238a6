"""Taking a run directory: a new run never touches an old one, and only the same recipe may go on in it."""

from collections.abc import Iterator
from pathlib import Path

from edgewise.errors import UsageError
from edgewise.train.checkpoint import POSITION, TENSORS, Position, load_position
from edgewise.train.metrics import FILE as METRICS
from edgewise.train.recipe import Recipe
from edgewise.train.recipe_file import decode_recipe

RECIPE, ENVIRONMENT, MEMORY, SUMMARY = "recipe.toml", "environment.json", "memory.json", "summary.json"
GRAPH, PLAN = "graph.json", "plan.json"
OWN_FILES = (RECIPE, ENVIRONMENT, GRAPH, PLAN, METRICS, MEMORY, TENSORS, POSITION, SUMMARY)


def take(folder: Path, recipe: Recipe, *, resume: bool) -> Position | None:
    """Make `folder` if need be, and find where training of `recipe` stands in it; `None` is the very start.

    Raises:
        UsageError: it holds a run, and `resume` is false; or none, or one of another recipe, and it is true.
        CorruptArtifact: the checkpoint in it is damaged.
    """
    if resume:
        return _resume(folder, recipe)
    found = [name for name in OWN_FILES if (folder / name).exists()]
    if found:
        raise UsageError(
            f"{folder} holds a run already ({', '.join(found)}). Resume it with `--resume`, or name another "
            "directory. Nothing was changed."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"Cannot make the run directory {folder}: {error.strerror}. Choose another place."
        ) from error
    return None


def check_position(position: Position, steps_per_epoch: int, folder: Path) -> None:
    """Refuse a position that cannot be, given the data as it is now.

    Raises:
        UsageError: the data has changed.
    """
    first = position.epoch * steps_per_epoch
    if not first <= position.step <= first + steps_per_epoch:
        raise UsageError(
            f"{folder}: checkpoint is at step {position.step} after {position.epoch} epochs, but an epoch "
            f"has {steps_per_epoch} steps now. The data has changed: restore it, or start a new run."
        )


def _resume(folder: Path, recipe: Recipe) -> Position | None:
    path = folder / RECIPE
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError as error:
        raise UsageError(f"{folder} holds no run to resume. Start one without `--resume`.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"Cannot read {path}: {error}. Restore it, or start a new run.") from error
    before = decode_recipe(text, where=str(path))
    if before.digest != recipe.digest:
        raise UsageError(
            f"{folder} holds a run of another recipe: {'; '.join(_differences(before, recipe))}. "
            "Resume with the recipe of the run, or start a new run in another directory. Nothing was changed."
        )
    position = load_position(folder)
    if position is not None and position.recipe != recipe.digest:
        raise UsageError(
            f"The checkpoint in {folder} is of another recipe (digest {position.recipe[:12]}) than its "
            f"{RECIPE} ({recipe.digest[:12]}). Restore the one that belongs there, or start a new run."
        )
    return position


def _differences(before: Recipe, now: Recipe) -> Iterator[str]:
    """What differs of all that decides the weights, key by key."""
    old, new = before.decisive, now.decisive
    for key in {**old, **new}:
        if old.get(key) != new.get(key):
            there, here = (repr(keys[key]) if key in keys else "absent" for keys in (old, new))
            yield f"`{key}` is {there} there and {here} here"
