"""The captured step as C executes it.

Its sizes keep addresses aligned, ops need the workspace that C needs, and offer only what there is C for.
What has no C at all is refused here, everything at once.
"""

import dataclasses
from collections.abc import Iterator

import msgspec

from edgewise.capture import Captured
from edgewise.capture.kernels import AtenKernel
from edgewise.capture.tiling.nest import Loop
from edgewise.capture.updates import Piecewise, UpdateKernel
from edgewise.emit.calls import Unsupported
from edgewise.emit.loops import Execution
from edgewise.emit.methods import method_workspace
from edgewise.emit.render import render
from edgewise.emit.rooms import operand_bytes, operands, workspace_bytes
from edgewise.emit.rules import packet_of
from edgewise.emit.slots import Access
from edgewise.emit.statements import aligned, statements
from edgewise.emit.touched_rows import loop_body
from edgewise.emit.views import C_TYPES, View
from edgewise.errors import ModelUnsupported
from edgewise.graph import Graph, Op, Option, Stream, Value, validate


def prepare(captured: Captured) -> Captured:
    """`captured` with the graph that a plan for C is made of.

    Raises:
        ModelUnsupported: ops that there is no C for, all of them, with their layers.
    """
    parts = tuple(dict.fromkeys(_missing(captured)))
    if parts:
        listed = "\n".join(f"  {part}" for part in parts)
        raise ModelUnsupported(
            f"{captured.graph.name} cannot be emitted as C because of {len(parts)} op(s):\n{listed}\n"
            "Replace these layers, or keep them out of what is trained.",
            parts=parts,
        )
    values = tuple(_aligned(value) for value in captured.graph.values)
    ops = tuple(_for_c(captured, op) for op in captured.graph.ops)
    graph = Graph(captured.graph.name, values, ops, captured.graph.outputs)
    return dataclasses.replace(captured, graph=validate(graph))


def _missing(captured: Captured) -> Iterator[str]:
    for op in captured.graph.ops:
        strange = {captured.layouts[name].dtype for name in (*op.reads, *op.writes)} - set(C_TYPES)
        if strange:
            named = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in strange))
            yield f"{op.layer or 'the model itself'}: {_called(captured, op)}: no kernel in C for {named}"
            continue
        try:
            for call in statements(captured.kernels[op.name], op, captured.layouts, first=True, room="room"):
                render(call, lambda _: "place")
        except Unsupported as reason:
            yield f"{op.layer or 'the model itself'}: {_called(captured, op)}: {reason}"


def _called(captured: Captured, op: Op) -> str:
    """What `op` calls, as people know it."""
    kernel = captured.kernels[op.name]
    if isinstance(kernel, UpdateKernel) and kernel.producer is not None:
        kernel = kernel.producer.run
    if isinstance(kernel, AtenKernel):
        return packet_of(kernel) or str(getattr(kernel.whole.target, "__name__", op.kind))
    return op.kind


def _aligned(value: Value) -> Value:
    return msgspec.structs.replace(value, bytes=aligned(value.bytes))


def _for_c(captured: Captured, op: Op) -> Op:
    whole_bytes = _whole_workspace(captured, op)
    options = []
    for option in op.options:
        if not option.is_tiled:
            if all(_may_overwrite(captured, op, old) for old, _ in option.overwrites):
                options.append(msgspec.structs.replace(option, workspace_bytes=whole_bytes))
        elif _has_c(captured, op, option):
            own = aligned(method_workspace(captured.kernels[op.name], captured.layouts))
            options.append(_tiled(captured.loops[op.name][option.name], option, own))
    return msgspec.structs.replace(op, options=tuple(options))


def _may_overwrite(captured: Captured, op: Op, old: str) -> bool:
    """Whether the result can take the place of `old`: no call reads it after another has written there."""
    calls = statements(captured.kernels[op.name], op, captured.layouts, first=True, room="room")
    views = [[view for view in call.arguments if isinstance(view, View)] for call in calls]
    written = [any(view.value in op.outputs for view in own[:1]) for own in views]
    later = views[written.index(True) + 1 :] if True in written else []
    return all(view.value != old for own in later for view in own)


def _whole_workspace(captured: Captured, op: Op) -> int:
    """Gradients that an update makes for itself, and what a few kernels work in."""
    kernel = captured.kernels[op.name]
    if not isinstance(kernel, UpdateKernel):
        return aligned(method_workspace(kernel, captured.layouts))
    if kernel.producer is None:
        return 0
    if isinstance(kernel.producer.run, Piecewise):
        return 0  # pieces of it are on the stack
    return sum(aligned(captured.layouts[name].storage_bytes) for name in kernel.producer.op.outputs)


def _has_c(captured: Captured, op: Op, option: Option) -> bool:
    """Whether there is C for the loop, whatever of it is streamed."""
    loop = captured.loops[op.name][option.name]
    streamed = frozenset(stream.value for stream in option.streams)
    access = {name: Access(0, "EW_OLD") for name in (*streamed, *op.writes)}
    try:
        loop_body(Execution(captured, op.name, loop, streamed, True, 0, lambda _: "place", access))
    except Unsupported:
        return False
    return True


def _tiled(loop: Loop, option: Option, own_bytes: int) -> Option:
    """With the tiles and the workspace that a loop in C holds, of it `own_bytes` for the kernels."""
    tile_bytes: dict[str, int] = {}
    for operand in operands(loop):
        tile_bytes[operand.value] = tile_bytes.get(operand.value, 0) + operand_bytes(loop, operand)
    streams = tuple(
        Stream(s.value, tile_bytes.get(s.value, 0), s.moved_bytes, s.transfers) for s in option.streams
    )
    # A kernel in C makes the same bits of a row, however many it is given: only sums in parts differ.
    exact = not any(loop.is_summed(result) for result in loop.nest.results)
    room = workspace_bytes(loop) + own_bytes
    return msgspec.structs.replace(option, workspace_bytes=room, streams=streams, exact=exact)
