"""Ops that a plan runs as loops, on stdout: which, by which option, and what they stream."""

from collections.abc import Sequence
from typing import Any

from edgewise.cli.output import write_line, write_table
from edgewise.plan import Plan
from edgewise.report.loops import Loop
from edgewise.report.units import bytes_text, clipped, percent, plural

SHOWN = 12
"""Loops in the table for people; JSON has all."""

NAMES = 32
"""Most characters of the names of what is streamed, in the table for people."""

HEADS = {
    "ops run as loops": False,
    "layer": False,
    "by": False,
    "streams": False,
    "in RAM": True,
    "whole": True,
    "moved": True,
    "of the time": True,
}
"""Columns of the table; that of layers is left out where the names of all ops begin with theirs."""


def loop_entries(found: Sequence[Loop]) -> list[dict[str, Any]]:
    """Every execution by a tiled option, for programs."""
    return [
        {
            "step": loop.step,
            "op": loop.op.name,
            "layer": loop.op.layer,
            "option": loop.option.name,
            "tiles": loop.option.tiles,
            "values": loop.streamed,
            "exact": loop.option.exact,
            "ram_bytes": loop.ram_bytes,
            "whole_bytes": loop.whole_bytes,
            "bytes_written": loop.bytes_written,
            "bytes_read": loop.bytes_read,
            "seconds": loop.seconds,
            "joules": loop.joules,
        }
        for loop in found
    ]


def write_loops(found: Sequence[Loop], plan: Plan) -> None:
    """A table of the loops that take most time; nothing where there is none."""
    if not found:
        return
    write_line("")
    ranked = sorted(found, key=lambda loop: -loop.seconds)
    layers = any(_names_layer(loop) for loop in ranked[:SHOWN])
    heads = {name: number for name, number in HEADS.items() if layers or name != "layer"}
    write_table(heads, [_row(loop, plan, layers=layers) for loop in ranked[:SHOWN]])
    left_out = ranked[SHOWN:]
    if left_out:
        share = sum(loop.seconds for loop in left_out) / plan.seconds if plan.seconds > 0 else 0.0
        words = f"and {plural(len(left_out), 'loop')} more, {percent(share)} of the time; --json lists all"
        write_line(words)


def _names_layer(loop: Loop) -> bool:
    """Whether the layer says more than the name of the op does."""
    return bool(loop.op.layer) and not loop.op.name.startswith(loop.op.layer)


def _short(name: str, loop: Loop) -> str:
    """`name` without the layer of the op, which stands in the same row."""
    layer = loop.op.layer
    return name.removeprefix(layer).lstrip(".:") if layer and name[len(layer) :][:1] in (".", ":") else name


def _row(loop: Loop, plan: Plan, *, layers: bool) -> list[str]:
    return [
        loop.op.name,
        *((loop.op.layer,) if layers else ()),
        loop.option.name,
        clipped(", ".join(_short(name, loop) for name in loop.streamed), NAMES) or "nothing",
        bytes_text(loop.ram_bytes),
        bytes_text(loop.whole_bytes),
        bytes_text(loop.bytes_read + loop.bytes_written),
        percent(loop.seconds / plan.seconds) if plan.seconds > 0 else "",
    ]
