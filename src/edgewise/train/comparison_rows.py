"""Rows of a comparison, made step by step: refused, planned, trained, or like another one."""

from pathlib import Path

import msgspec

from edgewise.errors import BudgetInfeasible, EdgewiseError, ModelUnsupported
from edgewise.graph import Graph
from edgewise.plan import Compute
from edgewise.train.comparison import Cost, Mark, Row
from edgewise.train.metrics import FILE as METRICS
from edgewise.train.metrics import cut_back
from edgewise.train.planning import Planned
from edgewise.train.recipe import Recipe
from edgewise.train.records import EpochLine, RunSummary


def cost_of(planned: Planned, graph: Graph) -> Cost:
    """What one step by the plan costs on its device."""
    found = planned.certificate
    flops = sum(graph.op[step.op].flops for step in planned.plan.steps if isinstance(step, Compute))
    return Cost(found.seconds, found.joules, flops, found.bytes_written + found.bytes_read)


def refused(row: Row, error: EdgewiseError, graph: Graph | None) -> Row:
    """`row` of a method that cannot serve the model, or of whose step (`graph`) no plan fits."""
    if not isinstance(error, BudgetInfeasible):
        parts = error.parts if isinstance(error, ModelUnsupported) else ()
        return msgspec.structs.replace(row, outcome="cannot serve", reason=str(error), parts=parts)
    layer = graph.op[error.op].layer if graph is not None and error.op in graph.op else ""
    return msgspec.structs.replace(
        row,
        outcome="does not fit",
        reason=str(error),
        min_ram_bytes=error.min_ram_bytes,
        op=error.op,
        layer=layer,
    )


def too_slow(row: Row, seconds: float) -> Row:
    """`row` of which not one step fits into the time of all."""
    step = row.cost.seconds if row.cost else 0.0
    reason = f"One step takes {step:.3g} s on the device, more than the {seconds:.3g} s of all training."
    return msgspec.structs.replace(row, outcome="does not fit", reason=reason)


def with_plan(row: Row, planned: Planned, graph: Graph) -> Row:
    """`row` with what a step of its plan costs."""
    found = planned.certificate
    return msgspec.structs.replace(
        row,
        cost=cost_of(planned, graph),
        status=planned.plan.status,
        gap=planned.plan.gap,
        peak_bytes=found.peak_bytes,
        recomputed=len(found.recomputed),
        paged_in=len(found.paged_in),
        streamed=len(set(found.streamed)),
        reordered=not found.exact,
    )


def with_run(row: Row, summary: RunSummary, recipe: Recipe, epoch_steps: int, run_dir: Path) -> Row:
    """`row` with what its run learnt."""
    lines = cut_back(run_dir / METRICS, step=summary.steps, epoch=summary.epochs)
    marks = tuple(
        Mark(line.epoch * epoch_steps, line.test_accuracy, line.test_mse, line.train_loss)
        for line in lines
        if isinstance(line, EpochLine)
    )
    unfinished = summary.interrupted or summary.epochs < recipe.train.epochs
    return msgspec.structs.replace(
        row,
        outcome="unfinished" if unfinished else "trained",
        reason="Interrupted." if unfinished else "",
        marks=marks,
        measured_peak_bytes=summary.measured_peak_bytes,
    )


def like(row: Row, twin: Row, last: int) -> Row:
    """`row` with what its twin had learnt by step `last`: the same bits at another price."""
    return msgspec.structs.replace(
        row,
        outcome="trained",
        search=twin.search,
        run=twin.run,
        same_bits=True,
        marks=tuple(mark for mark in twin.marks if mark.step <= last),
    )
