"""The page of `large_models.py`, from its results."""

from typing import Any

from _command import machine

MIB = 2**20
Found = dict[str, Any]
TEXT = """# Large models

Training steps as captured, SGD with momentum, float32, beside the two ways that PyTorch offers to save
memory: a checkpoint around every block, and `torch.compile`'s `activation_memory_budget`.

The *activation peak* is the peak of the plain plan less what is in RAM between steps: parameters,
optimizer states, running statistics (*carried*). The plain plan runs every op once, holds each value
until its last use, and updates each parameter as soon as its gradient is there. A budget of 30% is the
carried bytes and 30% of the activation peak; what is carried stays in RAM. *Largest op*: what the op of
the largest working set needs of activations, as a share; below that, and what must be there beside it, no
plan of whole tensors exists.

| model | input | ops | carried | activation peak | largest op | captured in |
|---|---|---:|---:|---:|---:|---:|
{models}

## At a share of the activation peak

*Overhead*: seconds above those of the plain plan. All are counted by one replay (`plan/check.py`) under
one cost model: a core of a server with nothing to page to, so that recomputing is all that anyone can do;
the rates are the round figures of the shipped profile `host`. The peers' figure is that of their cheapest
plan that fits the budget; where none fits, the least share that they need. The rows without a round share
are at the least peaks of the peers. *CPU*: seconds of process time for the whole of `make_plan`, limit
{limit:.0f} s on the clock; *gap* is against its bound for every plan with this order of first executions.
Where the clock shows more than the CPU time, the machine was busy with other work, and the search had
less time.

| model | budget | overhead | gap | recomputed | CPU | clock | every block | memory budget |
|---|---:|---:|---:|---:|---:|---:|---:|---:|
{plans}

{verdict}

## With a disk to page to

The same core with a solid-state disk (500 MB/s in, 250 MB/s out, beside compute). Parameters may live
there.

| model | budget | overhead | paged in | recomputed | CPU |
|---|---:|---:|---:|---:|---:|
{paging}

## How the peers are counted

*Every block* is `solver="every-block"`: what `torch.utils.checkpoint` around each numbered block does.
*Memory budget*: PyTorch's own partitioner (min-cut and knapsack, its default solver and estimate of run
times) runs on the same joint graph, at budgets from 1 to 0 in steps of 0.05. What it saves is kept,
everything else is made again right before its first reader in the backward pass, as it does; to its
advantage, updates run as early as in our plans and ops work in place. That its peak need not fall with
its budget is known (pytorch#197838): it limits the sum of what is saved, and what is made again adds to
the peak. All its points:

| model | budget of the partitioner: activation peak, overhead |
|---|---|
{sweep}
{measured}
Measured with `python benchmarks/large_models.py --time-limit {limit:.0f}` on {machine}.
"""


def page_of(models: list[Found], measured: str, limit: float) -> str:
    rows = [(model, row) for model in models for row in model["ours"]]
    return TEXT.format(
        models="\n".join(_about(model) for model in models),
        plans="\n".join(_plan(model, row) for model, row in rows if row["device"] == "server-core"),
        paging="\n".join(_paged(model, row) for model, row in rows if row["device"] != "server-core"),
        sweep="\n".join(_sweep(model) for model in models),
        verdict=_verdict([(model, row) for model, row in rows if row["device"] == "server-core"]),
        measured=measured,
        limit=limit,
        machine=machine(),
    )


def _about(model: Found) -> str:
    cells = (
        model["name"],
        model["words"],
        f"{model['ops']:,}",
        f"{model['carried_bytes'] / MIB:,.0f} MiB",
        f"{model['activation_bytes'] / MIB:,.0f} MiB",
        f"{model['working']:.0%}",
        f"{model['capture_seconds']:.0f} s",
    )
    return f"| {' | '.join(cells)} |"


def cheapest(points: list[Found], budget_bytes: int) -> Found | None:
    """The cheapest of a peer's plans that fits."""
    fitting = [point for point in points if point["peak_bytes"] <= budget_bytes]
    return min(fitting, key=lambda point: point["overhead"], default=None)


def _peer(points: list[Found], budget_bytes: int) -> str:
    found = cheapest(points, budget_bytes)
    if found is not None:
        return f"{found['overhead']:.1%}"
    return f"needs {min(point['share'] for point in points):.0%}" if points else "no plan"


def _plan(model: Found, row: Found) -> str:
    if "overhead" in row:
        ours = (f"**{row['overhead']:.1%}**", f"{row['gap']:.0%}", f"{row['recomputed']:,}")
    else:
        ours = (_least(model, row), "-", "-")
    peers = (_peer(model[key], row["budget_bytes"]) for key in ("every_block", "memory_budget"))
    times = (f"{row['cpu_seconds']:.0f} s", f"{row['wall_seconds']:.0f} s")
    asked = f"{row['asked']:.0%}"
    return f"| {' | '.join((model['name'], asked, *ours, *times, *peers))} |"


def _least(model: Found, row: Found) -> str:
    if row.get("least_bytes") is None:
        return "no plan"
    share = (row["least_bytes"] - model["carried_bytes"]) / model["activation_bytes"]
    return f"needs {share:.0%}"


def _paged(model: Found, row: Found) -> str:
    if "overhead" in row:
        ours = (f"{row['overhead']:.1%}", f"{row['paged']:,}", f"{row['recomputed']:,}")
    else:
        ours = (_least(model, row), "-", "-")
    cells = (model["name"], f"{row['asked']:.0%}", *ours, f"{row['cpu_seconds']:.0f} s")
    return f"| {' | '.join(cells)} |"


def _sweep(model: Found) -> str:
    points: list[str] = []
    before = None
    for point in model["memory_budget"]:
        figures = f"{point['share']:.0%}, {point['overhead']:.1%}"
        if figures != before:
            points.append(f"{point['budget']:g}: {figures}")
        before = figures
    return f"| {model['name']} | {'; '.join(points)} |"


def _verdict(rows: list[tuple[Found, Found]]) -> str:
    """What of the aims was reached, counted from the rows."""
    planned = [(model, row) for model, row in rows if "overhead" in row]
    lines = [
        (
            f"A plan was found in {len(planned)} of {len(rows)} cases, within 60 s of CPU time in "
            f"{sum(row['cpu_seconds'] <= 60 for _, row in planned)} of those."
        )
    ]
    for key, name in (
        ("every_block", "a checkpoint around every block"),
        ("memory_budget", "the memory budget"),
    ):
        rivals = [(row, cheapest(model[key], row["budget_bytes"])) for model, row in planned]
        fitting = [(row, rival) for row, rival in rivals if rival is not None]
        won = sum(row["overhead"] < rival["overhead"] for row, rival in fitting)
        lines.append(
            f"Beside {name}: less overhead in {won} of the {len(fitting)} cases in which both fit, "
            f"and {len(rivals) - len(fitting)} more in which only ours does."
        )
        lost = sum(
            cheapest(model[key], row["budget_bytes"]) is not None
            for model, row in rows
            if "overhead" not in row
        )
        if lost:
            lines.append(f"In {lost} cases only that peer has a plan.")
    return "\n".join(lines)


MEASURED = """
## Measured, so that the counted peers are no straw men

Steps really run, batch and sizes small enough for it, each way in a process of its own. *Counted*: the
most bytes of live tensors above parameters and buffers; ours by the executor, the peer's by a dispatch
mode around its partitioned graphs (backend `aot_eager_decomp_partition`). The peer's gradients stay until
the optimizer's step, as they do there; ours die in their updates. *Process*: how far the kernel's
high-water mark rose in the last step. *CPU*: the fastest step, in seconds of process time.

| model | way | certified | counted | process | CPU |
|---|---|---:|---:|---:|---:|
{rows}
"""


def measured_table(rows: list[Found]) -> str:
    """The section on real steps, if there are any."""
    return MEASURED.format(rows="\n".join(_measured(row) for row in rows)) if rows else ""


def _measured(row: Found) -> str:
    certified = f"{row['certified_bytes'] / MIB:.1f} MiB" if "certified_bytes" in row else "-"
    sizes = (f"{row[key] / MIB:.1f} MiB" for key in ("peak_bytes", "process_bytes"))
    seconds = f"{row['seconds']:.2f} s"
    return f"| {' | '.join((row['name'], row['way'], certified, *sizes, seconds))} |"
