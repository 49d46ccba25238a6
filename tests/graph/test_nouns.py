"""The rules of a Graph, each with its own words, and what follows from updates."""

import pytest
from hypothesis import given

from edgewise.errors import CorruptArtifact
from edgewise.graph import WHOLE, Graph, Kind, Op, Option, Value, validate
from tests.graph.graphs import graphs

X, H, Y = Value("x", 8, "input"), Value("h", 8), Value("y", 8, "output")
W, W2, W3 = (Value(name, 4, "parameter") for name in ("w", "w2", "w3"))
A = Op("a", ("x",), ("h",))
B = Op("b", ("h",), ("y",))
GOOD = Graph("g", (X, H, Y), (A, B), ("y",))


def graph(*ops: Op, values: tuple[Value, ...] = (X, H, Y, W, W2, W3), outputs: tuple[str, ...] = ()) -> Graph:
    return Graph("g", values, ops, outputs)


def in_place(old: str, new: str) -> tuple[Option, ...]:
    return (WHOLE, Option("in_place", ((old, new),)))


def test_a_good_graph_is_returned_as_it_is() -> None:
    assert validate(GOOD) is GOOD


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (graph(values=(X, X)), "value `x` is declared twice"),
        (graph(A, Op("a", ("h",), ("y",))), "op `a` is declared twice"),
        (graph(values=(Value("x", -1),)), "value `x` has -1 bytes"),
        (graph(Op("a", ("x",), ("h",), flops=-1)), "op `a` has a negative or endless cost"),
        (graph(values=(Value("x", 2**63),)), "value `x` has 9223372036854775808 bytes"),
        (graph(Op("a", ("x",), ("h",), flops=10**400)), "op `a` has a negative or endless cost"),
        (graph(Op("a", ("x",), ("h",), seconds=float("inf"))), "op `a` has a negative or endless cost"),
        (graph(Op("a", ("x",), ("h",), joules=float("nan"))), "op `a` has a negative or endless cost"),
        (graph(Op("a", ("q",), ("h",))), "op `a` names `q`, which is not in its values"),
        (graph(Op("a", ("x",), ("q",))), "op `a` names `q`, which is not in its values"),
        (graph(B, A), "op `b` reads `h` before it is made or after it was overwritten"),
        (graph(A, Op("b", ("x",), ("h",))), "value `h` is made twice, the second time by op `b`"),
        (graph(Op("a", ("x",), ("h", "h"))), "value `h` is made twice, the second time by op `a`"),
        (graph(A, Op("u", updates=(("w", "h"),))), "value `h` is made twice, the second time by op `u`"),
        (graph(Op("u", updates=(("w", "h"),))), "op `u` updates `w` to `h`, which has another size"),
        (
            graph(Op("u", updates=(("w", "w2"),)), Op("v", ("w",))),
            "op `v` reads `w` before it is made or after it was overwritten",
        ),
        (
            graph(Op("u", updates=(("w2", "w3"),)), Op("v", updates=(("w", "w2"),))),
            "op `u` reads `w2` before",
        ),
        (graph(A, outputs=("q",)), "output `q` is not there at the end"),
        (graph(Op("u", updates=(("w", "w2"),)), outputs=("w",)), "output `w` is not there at the end"),
        (
            graph(Op("a", ("x",), ("h",), options=())),
            "op `a` must have the option `whole`, and each option once",
        ),
        (
            graph(Op("a", ("x",), ("h",), options=(WHOLE, WHOLE))),
            "op `a` must have the option `whole`, and each",
        ),
        (
            graph(Op("a", ("x",), ("h",), options=(Option("whole", workspace_bytes=-1),))),
            "option `whole` of op `a` has a negative workspace",
        ),
        (
            graph(Op("a", ("x",), ("h", "y"), options=(Option("whole", (("x", "h"), ("x", "y"))),))),
            "option `whole` of op `a` overwrites a value twice",
        ),
        (
            graph(Op("a", ("x",), ("h",), options=in_place("x", "y"))),
            "option `in_place` of op `a` overwrites `x` by `y`, not its operands",
        ),
        (
            graph(Op("a", ("x",), ("h",), options=in_place("h", "h"))),
            "option `in_place` of op `a` overwrites `h` by `h`, not its operands",
        ),
        (
            graph(Op("a", ("w",), ("h",), options=in_place("w", "h"))),
            "option `in_place` of op `a` overwrites `w` by `h` of another size",
        ),
        (
            graph(
                Op("a", ("w",), ("z",), options=in_place("w", "z")),
                values=(X, W, Value("z", 4, "activation")),
            ),
            "option `in_place` of op `a` would destroy the parameter `w`",
        ),
    ],
)
def test_each_rule_has_its_own_words(wrong: Graph, said: str) -> None:
    with pytest.raises(CorruptArtifact) as caught:
        validate(wrong)
    assert said in str(caught.value)
    assert str(caught.value).startswith("Graph `g`: ")
    assert str(caught.value).endswith(". Capture the model again, or mend the file.")


@given(graphs())
def test_random_graphs_keep_the_rules(found: Graph) -> None:
    assert validate(found) is found


def test_lookups() -> None:
    assert GOOD.value["h"] is H
    assert GOOD.op["b"] is B
    assert GOOD.producer == {"h": A, "y": B}
    assert [value.name for value in GOOD.sources()] == ["x"]
    assert A.option("whole") is WHOLE
    assert A.option("streamed") is None


def test_an_op_reads_what_it_updates_and_writes_what_that_becomes() -> None:
    op = Op("u", ("x",), ("h",), updates=(("w", "w2"),))
    assert op.reads == ("x", "w")
    assert op.writes == ("h", "w2")


def test_updates_are_followed_to_their_end() -> None:
    """`w` is updated twice in a step: the next step starts with the last of them."""
    found = graph(Op("u", updates=(("w", "w2"),)), Op("v", updates=(("w2", "w3"),)))
    assert found.carries == {"w": "w3"}
    assert found.required == {"w3"}


@pytest.mark.parametrize("kind", ["parameter", "state"])
def test_what_is_not_updated_must_still_be_there(kind: Kind) -> None:
    found = Graph("g", (X, Value("s", 4, kind), H), (A,), ("h",))
    assert validate(found).required == {"h", "s"}
    assert found.carries == {}


def test_an_input_need_not_be_there_at_the_end() -> None:
    assert GOOD.required == {"y"}


@given(graphs())
def test_carried_values_are_sources_and_their_last_versions_are_required(found: Graph) -> None:
    sources = {value.name for value in found.sources()}
    updated = {old for op in found.ops for old, _ in op.updates}
    for old, new in found.carries.items():
        assert old in sources
        assert new not in updated
        assert found.value[old].bytes == found.value[new].bytes
    assert found.required >= {*found.carries.values(), *found.outputs}
    assert not found.required & updated, "what is overwritten in the step cannot be wanted after it"
