"""What a command is about: a graph file, or a model of which one training step is captured."""

import re
from pathlib import Path
from typing import Any, NamedTuple

from edgewise.cli.output import note
from edgewise.errors import UsageError
from edgewise.graph import Graph, load_graph

BATCH = 8
OPTIMIZER = "SGD without momentum"
_SHAPED = re.compile(r"(?P<batch>\d+)(x(?P<sample>.+))?")


class Subject(NamedTuple):
    """A training step: its graph, and how people know it. `path` is the graph's file, if it came from one."""

    graph: Graph
    text: str
    path: Path | None = None

    @property
    def facts(self) -> list[tuple[str, str]]:
        """For the head of a table."""
        return [("graph", str(self.path))] if self.path else [("model", self.text), ("optimizer", OPTIMIZER)]


def find_subject(text: str) -> Subject:
    """The graph in the file `text` (what ends in `.json`), or of one training step of the model `text`.

    A model is a zoo name or `package.module:factory`; behind an `@` stand its batch size and, if it does not
    say what it takes, the shape of one sample: `resnet18@4`, `net:build@4x3x32x32`, `net:bert@2x128:int64`.

    Raises:
        UsageError: no such file or model, or the model fails.
        CorruptArtifact: the file is no graph.
        ModelUnsupported: the model has parts that cannot be captured.
    """
    if text.endswith(".json"):
        path = Path(text)
        return Subject(load_graph(path), text, path)
    name, batch, sample = parse_model(text)
    note(f"capturing {text}")
    return Subject(_capture(name, batch, sample), text)


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


def _capture(name: str, batch: int, sample: str | None) -> Graph:
    from edgewise.capture import SGD, capture  # noqa: PLC0415
    from edgewise.zoo import resolve_task  # noqa: PLC0415

    task: Any = resolve_task(name, batch=batch, input_spec=sample)
    return capture(task.model, task.loss, SGD(lr=0.01), task.example_batch, name=name).graph
