"""`edgewise plan --pareto`: the trade-off curve as a table or JSON, and the plan at its knee."""

import sys
from pathlib import Path
from typing import Any

import msgspec

from edgewise.cli.output import write_facts, write_json, write_line, write_table
from edgewise.cli.subject import Subject
from edgewise.devices import CostModel, Device
from edgewise.errors import UsageError
from edgewise.plan import Curve, Objective, Plan, TradeOff, encode_curve, trade_off
from edgewise.report.units import bytes_text, joules_text, percent, seconds_text

PARETO_FILE = "pareto.json"
"""Name of the file beside a plan from which `report` draws the curve."""

HEADS = {
    "RAM": True,
    "energy": True,
    "against plain": True,
    "time": True,
    "recomputed": True,
    "page-ins": True,
    "streamed": True,
    "written": True,
    "may save": True,
    "": False,
}
"""Columns of the table; without any op that is streamed, the column of their number is left out."""


def curve_of(
    subject: Subject,
    device: Device,
    *,
    seconds: float | None,
    minimize: Objective,
    cost_model: CostModel,
    time_limit: float,
) -> TradeOff:
    """The curve; which of its budgets is planned stands on stderr if that is a terminal."""
    return trade_off(
        subject.graph,
        device,
        seconds=seconds,
        minimize=minimize,
        cost_model=cost_model,
        time_limit=time_limit,
        told=_tell if sys.stderr.isatty() else None,
    )


def _tell(done: int, total: int) -> None:
    sys.stderr.write(f"\rplanned {done} of {total} budgets" + ("\n" if done == total else ""))
    sys.stderr.flush()


def save_curve(curve: Curve, folder: Path) -> None:
    """Write `pareto.json` into `folder`."""
    path = folder / PARETO_FILE
    try:
        path.write_bytes(encode_curve(curve))
    except OSError as error:
        raise UsageError(f"Cannot write {path}: {error.strerror}. Choose another place.") from error


def write_curve(found: TradeOff, subject: Subject, plain: Plan, out: Path | None, *, as_json: bool) -> None:
    """The curve on stdout."""
    curve = found.curve
    if as_json:
        write_json(_payload(curve, plain, out))
        return
    write_facts([*subject.facts, ("device", curve.device), ("minimized", curve.minimize)])
    streams = any(point.streamed for point in curve.points)
    heads = {name: number for name, number in HEADS.items() if streams or name != "streamed"}
    write_table(heads, _rows(curve, plain, streams=streams))
    if out is not None:
        write_line(f"plan of the knee written to {out}, the curve to {out.parent / PARETO_FILE}")


def _payload(curve: Curve, plain: Plan, out: Path | None) -> dict[str, Any]:
    return {
        **msgspec.structs.asdict(curve),
        "plain_peak_bytes": plain.peak_bytes,
        "plain_seconds": plain.seconds,
        "plain_joules": plain.joules,
        "path": None if out is None else str(out),
    }


def _rows(curve: Curve, plain: Plan, *, streams: bool) -> list[list[str]]:
    rows = []
    for index, point in enumerate(curve.points):
        by_joules = curve.minimize == "joules"
        cost, base = (point.joules, plain.joules) if by_joules else (point.seconds, plain.seconds)
        rows.append(
            [
                bytes_text(point.ram_bytes),
                joules_text(point.joules),
                percent(cost / base - 1, signed=True) if base > 0 else "",
                seconds_text(point.seconds),
                f"{point.recomputed:,}",
                f"{point.paged_in:,}",
                *((f"{point.streamed:,}",) if streams else ()),
                bytes_text(point.bytes_written),
                "nothing" if point.gap <= 0 else f"{percent(point.gap)} of that",
                "<- knee" if index == curve.knee else "",
            ]
        )
    return rows
