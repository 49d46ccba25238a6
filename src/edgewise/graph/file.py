"""`graph.json`: read and write a Graph (DESIGN.md section 6). Reading is strict and executes nothing."""

from pathlib import Path

import msgspec

from edgewise.errors import CorruptArtifact, UsageError
from edgewise.graph.nouns import Graph, Op, Value, validate

FORMAT = "edgewise.graph/1"
MAX_FILE_BYTES = 256 * 2**20


class _GraphFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    name: str
    values: tuple[Value, ...]
    ops: tuple[Op, ...]
    outputs: tuple[str, ...]


def encode_graph(graph: Graph) -> bytes:
    """`graph` as the bytes of a `graph.json`."""
    file = _GraphFile(FORMAT, graph.name, graph.values, graph.ops, graph.outputs)
    return msgspec.json.format(msgspec.json.encode(file), indent=1)


def decode_graph(data: bytes, *, where: str = "graph") -> Graph:
    """Graph from the bytes of a `graph.json`; `where` names the source in errors.

    Raises:
        CorruptArtifact: not JSON, an unknown version or field, a wrong type, or a rule of Graph is broken.
    """
    if len(data) > MAX_FILE_BYTES:
        raise CorruptArtifact(
            f"{where}: {len(data):,} bytes is more than a graph file may have ({MAX_FILE_BYTES:,})."
        )
    try:
        file = msgspec.json.decode(data, type=_GraphFile)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptArtifact(f"{where} is not a graph file: {error}. Expected format `{FORMAT}`.") from error
    if file.format != FORMAT:
        raise CorruptArtifact(
            f"{where}: format `{file.format}` is not `{FORMAT}`, the one this version reads."
        )
    return validate(Graph(file.name, file.values, file.ops, file.outputs))


def save_graph(graph: Graph, path: Path) -> None:
    """Write `graph` to `path` as `graph.json`."""
    path.write_bytes(encode_graph(graph))


def load_graph(path: Path) -> Graph:
    """Graph from the file at `path`.

    Raises:
        UsageError: there is no such file.
        CorruptArtifact: see `decode_graph`.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"Cannot read the graph file {path}: {error.strerror}. Check the path.") from error
    return decode_graph(data, where=str(path))
