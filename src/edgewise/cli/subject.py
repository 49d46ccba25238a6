"""What a command is about: a graph file, or a model or recipe of which one training step is captured."""

import re
from pathlib import Path
from typing import Any, NamedTuple

from edgewise.cli.output import note
from edgewise.errors import UsageError
from edgewise.graph import Graph, load_graph
from edgewise.train import list_recipes, load_recipe

BATCH = 8
OPTIMIZER = "SGD without momentum; name a recipe for another"
_SHAPED = re.compile(r"(?P<batch>\d+)(x(?P<sample>.+))?")


class Subject(NamedTuple):
    """A training step: its graph, and what people know of it, for the head of a table."""

    graph: Graph
    facts: tuple[tuple[str, str], ...]


class CapturedSubject(NamedTuple):
    """A captured training step that can be executed, and what people know of it."""

    captured: Any
    facts: tuple[tuple[str, str], ...]


def find_subject(text: str) -> Subject:
    """The graph in the file `text` (`.json`), or of a training step of the model or recipe (`.toml`) `text`.

    A model is a zoo name or `package.module:factory`; behind an `@` stand its batch size and, if it does not
    say what it takes, the shape of one sample: `resnet18@4`, `net:build@4x3x32x32`, `net:bert@2x128:int64`.
    A recipe decides batch, optimizer and loss; it is a file, or one that comes along.

    Raises:
        UsageError: no such file, model or recipe, or the model fails.
        CorruptArtifact: the file is no graph, or the data of the recipe is damaged.
        ModelUnsupported: the model has parts that cannot be captured.
    """
    if text.endswith(".json"):
        return Subject(load_graph(Path(text)), (("graph", text),))
    found = capture_subject(text)
    return Subject(found.captured.graph, found.facts)


def capture_subject(text: str) -> CapturedSubject:
    """The captured training step of the model or recipe `text`, as in `find_subject`.

    Raises:
        UsageError: no such model or recipe, or the model fails.
        CorruptArtifact: the data of the recipe is damaged.
        ModelUnsupported: the model has parts that cannot be captured.
    """
    if text.endswith(".json"):
        raise UsageError(f"{text} is a graph, without the model's code. Name a model or a recipe.")
    if text.endswith(".toml") or text in list_recipes():
        return _from_recipe(text)
    name, batch, sample = parse_model(text)
    note(f"capturing {text}")
    facts = (("model", text), ("batch", str(batch)), ("optimizer", OPTIMIZER))
    return CapturedSubject(_capture(name, batch, sample), facts)


def parse_model(text: str) -> tuple[str, int, str | None]:
    """Name, batch size, and shape of a sample: `net@4x3x32x32` is `("net", 4, "3x32x32")`.

    Raises:
        UsageError: what stands behind the `@` is neither a batch size nor a shape.
    """
    name, at, shape = text.partition("@")
    if not at:
        return name, BATCH, None
    match = _SHAPED.fullmatch(shape.replace(" ", ""))
    if match is None or not name:
        raise UsageError(
            f"`{text}` is no model. Write its batch size behind an `@`, as in `resnet18@4`, and the shape of "
            "one sample behind that if need be, as in `package.module:factory@4x3x32x32`."
        )
    return name, int(match["batch"]), match["sample"]


def _from_recipe(text: str) -> CapturedSubject:
    recipe = load_recipe(text)

    from edgewise.train.data import load_data  # noqa: PLC0415  -- imports numpy and torch
    from edgewise.train.loop import capture_task  # noqa: PLC0415

    note(f"capturing {recipe.model.name}")
    captured = capture_task(recipe, load_data(recipe.data))
    kind = str(recipe.train.optimizer.__struct_config__.tag)
    head = (("recipe", text), ("model", recipe.model.name), ("batch", str(recipe.train.batch)))
    return CapturedSubject(captured, (*head, ("optimizer", kind)))


def _capture(name: str, batch: int, sample: str | None) -> Any:
    from edgewise.capture import SGD, capture  # noqa: PLC0415
    from edgewise.zoo import resolve_task  # noqa: PLC0415

    task: Any = resolve_task(name, batch=batch, input_spec=sample)
    return capture(task.model, task.loss, SGD(lr=0.01), task.example_batch, name=name)
