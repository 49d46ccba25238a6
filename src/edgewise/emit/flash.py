"""Weights that never change, as constants in flash: no RAM, no store, and read where they lie.

What a training step reads and never changes (the body of a network whose head is trained, say) is a constant
of the program as long as there is flash for it. In the graph that is planned such a value has no bytes.
"""

import dataclasses
import hashlib
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from operator import itemgetter

import msgspec

from edgewise.capture import Captured
from edgewise.emit.contents import initial
from edgewise.emit.statements import aligned
from edgewise.graph import Op, Option, validate

SOURCE = """\
/* {count} tensors that training does not change. Written by Edgewise. */
#include <stdint.h>

extern const uint8_t model_flash[{size}];
const uint8_t model_flash[{size}] __attribute__((aligned(8))) = {{
{rows}
}};
"""
ROW_BYTES = 24


@dataclass(frozen=True)
class Flash:
    """Which values lie in flash: where each begins, and the bytes of all."""

    offsets: Mapping[str, int] = field(default_factory=dict)
    contents: bytes = b""

    def source(self) -> str:
        """flash.c."""
        starts = range(0, len(self.contents), ROW_BYTES)
        rows = ("    " + ", ".join(map(str, self.contents[at : at + ROW_BYTES])) + "," for at in starts)
        return SOURCE.format(count=len(self.offsets), size=len(self.contents), rows="\n".join(rows))

    def digests(self) -> dict[str, str]:
        """What each value holds, in short."""
        begins = sorted(self.offsets.items(), key=itemgetter(1))
        bounds = itertools.pairwise([*begins, ("", len(self.contents))])
        return {name: _digest(self.contents[at:end]) for (name, at), (_, end) in bounds}

    def of_model(self) -> "Flash":
        """Without what only one trace knows: another one may call another tensor so."""
        named = {n: at for n, at in self.offsets.items() if not n.startswith(("constant.", "loss."))}
        return Flash(named, self.contents)


def _digest(contents: bytes) -> str:
    return hashlib.sha256(contents.ljust(aligned(len(contents)), b"\0")).hexdigest()


def is_constant(captured: Captured, name: str, digest: str) -> bool:
    """Whether the value `name` of `captured` is still the one whose digest that was."""
    return name in captured.graph.value and _digest(initial(captured, name)) == digest


def flash_of(captured: Captured, limit_bytes: int) -> Flash:
    """What of `captured` never changes, the largest first, as far as it fits within `limit_bytes`."""
    graph = captured.graph
    frozen = [v for v in graph.sources() if v.kind in ("parameter", "state") and v.name not in graph.carries]
    offsets: dict[str, int] = {}
    contents = bytearray()
    for value in sorted(frozen, key=lambda value: -value.bytes):
        raw = initial(captured, value.name)
        if len(contents) + aligned(len(raw)) <= limit_bytes:
            offsets[value.name] = len(contents)
            contents += raw.ljust(aligned(len(raw)), b"\0")
    return Flash(offsets, bytes(contents))


def without(captured: Captured, names: Iterable[str]) -> Captured:
    """`captured` with values that take no RAM and that nobody streams."""
    gone, graph = frozenset(names), captured.graph
    values = tuple(msgspec.structs.replace(v, bytes=0) if v.name in gone else v for v in graph.values)
    ops = tuple(_without(op, gone) for op in graph.ops)
    return dataclasses.replace(
        captured, graph=validate(msgspec.structs.replace(graph, values=values, ops=ops))
    )


def _without(op: Op, gone: frozenset[str]) -> Op:
    if not gone & set(op.inputs):
        return op
    return msgspec.structs.replace(op, options=tuple(_unstreamed(option, gone) for option in op.options))


def _unstreamed(option: Option, gone: frozenset[str]) -> Option:
    streams = tuple(stream for stream in option.streams if stream.value not in gone)
    return msgspec.structs.replace(option, streams=streams)
