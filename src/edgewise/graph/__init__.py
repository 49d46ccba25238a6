"""What one training step computes: values, ops with options, and their file format."""

from edgewise.graph.file import decode_graph, encode_graph, load_graph, save_graph
from edgewise.graph.nouns import WHOLE, Graph, Kind, Op, Option, Stream, Value, validate

__all__ = [
    "WHOLE",
    "Graph",
    "Kind",
    "Op",
    "Option",
    "Stream",
    "Value",
    "decode_graph",
    "encode_graph",
    "load_graph",
    "save_graph",
    "validate",
]
