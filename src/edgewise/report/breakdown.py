"""Where time and energy go: first executions, recomputation, streaming, paging, idling.

Joules are sums over the steps. A loop waits for what it streams, so all of that time counts. Seconds of
paging are those that the certified clock has beyond these: with transfers that overlap compute, only the
waiting counts.
"""

from typing import NamedTuple

from edgewise.report.nouns import ReportData
from edgewise.report.trace import Trace

PARTS = ("compute", "recompute", "streaming", "paging", "idle")
PART_WORDS = {
    "compute": "compute, first time",
    "recompute": "recompute",
    "streaming": "streaming",
    "paging": "paging",
    "idle": "idle power",
}


class Split(NamedTuple):
    """Amounts by part; they add up to the certificate's figure."""

    compute: float
    recompute: float
    streaming: float
    paging: float
    idle: float

    @property
    def total(self) -> float:
        """All parts together."""
        return sum(self)


class Breakdown(NamedTuple):
    """Seconds and joules of the plan and of plain training."""

    seconds: Split
    plain_seconds: Split
    joules: Split
    plain_joules: Split

    @property
    def extra_seconds(self) -> float:
        """Time beyond plain training, as a share of it."""
        return _extra(self.seconds.total, self.plain_seconds.total)

    @property
    def extra_joules(self) -> float:
        """Energy beyond plain training, as a share of it."""
        return _extra(self.joules.total, self.plain_joules.total)


def _extra(planned: float, plain: float) -> float:
    return planned / plain - 1 if plain > 0 else 0.0


def break_down(data: ReportData, trace: Trace) -> Breakdown:
    """Split the certified figures of the plan and of plain training."""
    seconds = dict.fromkeys(PARTS, 0.0)
    joules = dict.fromkeys(PARTS, 0.0)
    for moment in trace.moments:
        part = moment.what if moment.what in PARTS else "paging"
        seconds[part] += moment.cost.seconds
        joules[part] += moment.cost.joules
        if moment.loop is not None:
            seconds["streaming"] += moment.loop.moved.seconds
            joules["streaming"] += moment.loop.moved.joules
    idle_watts = data.device.compute.watts_idle if data.plan.cost_model == "full" else 0.0
    plan, plain = data.certificate, data.plain
    waiting = max(0.0, plan.seconds - seconds["compute"] - seconds["recompute"] - seconds["streaming"])
    plain_idle = plain.seconds * idle_watts
    return Breakdown(
        Split(**{**seconds, "paging": without_rounding(waiting, plan.seconds), "idle": 0.0}),
        Split(plain.seconds, 0.0, 0.0, 0.0, 0.0),
        Split(**{**joules, "idle": plan.seconds * idle_watts}),
        Split(plain.joules - plain_idle, 0.0, 0.0, 0.0, plain_idle),
    )


def without_rounding(amount: float, total: float) -> float:
    """`amount`, or zero where it is only the rounding of a long sum."""
    return amount if amount > 1e-9 * total else 0.0
