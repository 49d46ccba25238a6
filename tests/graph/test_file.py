"""`graph.json`: what is written is what was read; a strict reader; a digest that holds still."""

import contextlib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.errors import CorruptArtifact, UsageError
from edgewise.graph import Graph, Op, Option, Value, decode_graph, encode_graph, load_graph, save_graph
from edgewise.graph import file as graph_file
from tests.graph.graphs import graphs

DESIGNED = b"""\
{"format": "edgewise.graph/1", "name": "tiny",
 "values": [{"name": "x", "bytes": 4096, "kind": "input"},
            {"name": "h", "bytes": 8192, "kind": "activation"}],
 "ops": [{"name": "fc1", "inputs": ["x"], "outputs": ["h"], "flops": 1048576, "kind": "matmul",
          "seconds": null, "joules": null, "recomputable": true}],
 "outputs": ["h"]}
"""
"""The example in the description of the format."""

TINY = Graph(
    "tiny",
    (Value("x", 4096, "input"), Value("h", 8192)),
    (Op("fc1", ("x",), ("h",), flops=1048576, kind="matmul"),),
    ("h",),
)


def test_the_example_of_the_format_is_read() -> None:
    assert decode_graph(DESIGNED) == TINY


def test_kinds_are_optional() -> None:
    text = DESIGNED.replace(b', "kind": "activation"', b"").replace(b', "kind": "matmul"', b"")
    found = decode_graph(text)
    assert found.value["h"].kind == "activation"
    assert found.op["fc1"].kind == "other"


@given(graphs())
def test_what_is_written_is_what_was_read(graph: Graph) -> None:
    again = decode_graph(encode_graph(graph))
    assert again == graph
    assert again.sha256 == graph.sha256


def test_save_and_load(tmp_path: Path) -> None:
    path = tmp_path / "graph.json"
    save_graph(TINY, path)
    assert load_graph(path) == TINY
    assert path.read_bytes().count(b"\n") > 10, "one line for each thing, so that a person can read it"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"outputs": ["h"]}', "", "g.json is not a graph file: .* Expected format `edgewise.graph/1`"),
        (
            "graph/1",
            "graph/2",
            "g.json: format `edgewise.graph/2` is not `edgewise.graph/1`, the one this version",
        ),
        ('"format": "edgewise.graph/1", ', "", "missing required field `format`"),
        ('"name": "tiny"', '"name": 3', r"Expected `str`, got `int` - at `\$.name`"),
        ('"name": "tiny"', '"name": "tiny", "owner": "me"', "unknown field `owner`"),
        ('"bytes": 4096', '"bytes": "4096"', r"Expected `int`, got `str` - at `\$.values\[0\].bytes`"),
        ('"bytes": 4096', '"bytes": 4096.5', r"Expected `int`, got `float`"),
        ('"bytes": 4096', '"size": 4096', r"unknown field `size` - at `\$.values\[0\]`"),
        ('"kind": "input"', '"kind": "view"', "Invalid enum value 'view'"),
        ('"recomputable": true', '"recomputable": 1', "Expected `bool`, got `int`"),
        ('"seconds": null', '"seconds": "fast"', r"got `str` - at `\$.ops\[0\].seconds`"),
        ('"inputs": ["x"]', '"inputs": "x"', r"Expected `array`, got `str`"),
        ('"bytes": 4096', '"bytes": -1', "Graph `tiny`: value `x` has -1 bytes"),
        ('"inputs": ["x"]', '"inputs": ["q"]', "op `fc1` names `q`, which is not in its values"),
    ],
)
def test_each_fault_has_its_own_words(old: str, new: str, said: str) -> None:
    text = DESIGNED.decode()
    assert old in text
    with pytest.raises(CorruptArtifact, match=said):
        decode_graph(text.replace(old, new, 1).encode(), where="g.json")


@pytest.mark.parametrize(
    "data", [b"", b"null", b"[]", b"\xff\xfe", b'"\xed\xa0\x80"', b"[" * 200_000, b'{"format":' * 50_000]
)
def test_rubbish_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptArtifact, match="graph is not a graph file"):
        decode_graph(data)


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    with pytest.raises(CorruptArtifact):
        decode_graph(data)


@given(st.integers(0, len(DESIGNED) - 1), st.integers(0, 255))
def test_a_changed_byte_is_read_or_refused(at: int, byte: int) -> None:
    with contextlib.suppress(CorruptArtifact):
        decode_graph(DESIGNED[:at] + bytes([byte]) + DESIGNED[at + 1 :])


@pytest.mark.parametrize("end", range(0, len(encode_graph(TINY)) - 1, 40))
def test_a_file_that_was_cut_off_is_refused(end: int) -> None:
    with pytest.raises(CorruptArtifact):
        decode_graph(encode_graph(TINY)[:end])


def test_a_file_may_not_be_endless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_file, "MAX_FILE_BYTES", 100)
    with pytest.raises(
        CorruptArtifact, match=r"g.json: 3\d\d bytes is more than a graph file may have \(100\)"
    ):
        decode_graph(DESIGNED, where="g.json")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"Cannot read the graph file .*none.json: No such file or directory"
    ):
        load_graph(tmp_path / "none.json")


def test_the_digest_holds_still() -> None:
    """A plan names its graph by this; if it changes, every plan ever written is refused."""
    assert TINY.sha256 == "7e00eb01bb39aef5f2d0c7ddf6e642db2069c63b4eed3d3b0b7f6c43fffa8efc"


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "other"},
        {"values": (Value("x", 4097, "input"), *TINY.values[1:])},
        {"ops": (msgspec.structs.replace(TINY.ops[0], flops=1),)},
        {"ops": (msgspec.structs.replace(TINY.ops[0], recomputable=False),)},
        {"ops": (msgspec.structs.replace(TINY.ops[0], options=(Option("whole", workspace_bytes=1),)),)},
        {"outputs": ()},
    ],
)
def test_the_digest_tells_graphs_apart(changes: dict[str, object]) -> None:
    assert msgspec.structs.replace(TINY, **changes).sha256 != TINY.sha256


def test_the_digest_does_not_depend_on_how_the_file_was_spaced() -> None:
    spaced = msgspec.json.format(DESIGNED, indent=4)
    assert decode_graph(spaced).sha256 == TINY.sha256
