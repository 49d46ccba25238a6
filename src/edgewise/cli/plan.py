"""`edgewise plan`: what to keep, recompute, page or run in slices so that a training step fits a budget."""

import time
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from cyclopts import App, Parameter

from edgewise.cli.loops import loop_entries, write_loops
from edgewise.cli.output import Facts, write_facts, write_json, write_line
from edgewise.cli.params import MODEL_HELP, AsJson, OutFile, Switch
from edgewise.cli.pareto import curve_of, save_curve, write_curve
from edgewise.cli.planning import planning
from edgewise.cli.subject import Subject, find_subject
from edgewise.cli.words import against, arena_words, count_words, gap_words, limit_words
from edgewise.devices import CostModel, Device, load_device
from edgewise.errors import UsageError
from edgewise.graph import Graph, load_graph, save_graph
from edgewise.plan import (
    Budget,
    Certificate,
    Plan,
    check,
    make_plan,
    minimum_ram,
    plain_plan,
    save_plan,
)
from edgewise.report.loops import Loop, exact_words, loops, reordered, traffic_words
from edgewise.report.units import bytes_text, exact_bytes, joules_text, seconds_text
from edgewise.train.units import Amount, parse_bytes, parse_seconds

EXAMPLE = f"""\
{MODEL_HELP}

Every plan passes an independent check before it is shown. Where no plan fits: exit code 3, and the \
least RAM with which one does.

Example:
  edgewise plan resnet18@4 --device rpi4 --ram 0.5x -o plan.json
  edgewise plan graph.json --device nrf52840 --ram 192KiB --minimize seconds --json
  edgewise plan mynet:build@1x3x32x32 --device nrf52840 --minimize ram
  edgewise plan digits-cnn --device rpi4 --pareto -o plan.json"""

GRAPH_FILE = "graph.json"
"""Name of the file beside a plan from which `check` and `report` know what was planned."""

Hidden = Annotated[bool, Parameter(negative="", show=False)]
"""A switch that works but is not in the help: another word for what a flag there says."""

app = App(name="plan", help_epilogue=EXAMPLE)


class Planned(NamedTuple):
    """A plan of `graph`, what the check certified, plain training beside it, and how long the planner took.

    `loops` are the executions by tiled options.
    """

    graph: Graph
    plan: Plan
    certificate: Certificate
    plain: Plan
    loops: tuple[Loop, ...]
    solve_seconds: float


@app.default
def plan(  # noqa: PLR0913  -- eight flags, each of them an argument
    model: str,
    /,
    *,
    device: str = "host",
    ram: str | None = None,
    seconds: str | None = None,
    minimize: Literal["joules", "seconds", "ram"] = "joules",
    cost_model: CostModel = "full",
    time_limit: float = 60.0,
    pareto: Switch = False,
    min_ram: Hidden = False,
    out: OutFile = None,
    as_json: AsJson = False,
) -> None:
    """Plan one training step: what to keep, recompute, page or run in slices, in what order, where.

    Args:
        model: A built-in model, `package.module:factory`, a recipe, or a graph.json. See below.
        device: Name of a profile, or path of a .toml file.
        ram: Budget, as in `256KiB`, or `0.5x` of plain training's. All RAM of the device if not given.
        seconds: Limit for one step, as in `200ms`, or `1.5x` of plain training's.
        minimize: What to spend least of. `ram` only prints the least RAM in bytes with which a plan exists.
        cost_model: `full`: transfers take time and idle power is paid. `poet`: paging is free in time.
        time_limit: Seconds after which the best plan so far is taken.
        pareto: Plan a dozen budgets from the least to plain training's; --out gets the plan of the knee.
        min_ram: The same as `--minimize ram`.
        out: File to write the plan to; the graph goes beside it, as graph.json.
        as_json: Print the result as JSON.
    """
    ram_amount = None if ram is None else parse_bytes(ram)
    seconds_amount = None if seconds is None else parse_seconds(seconds)
    _check_time_limit(time_limit)
    target = load_device(device)
    subject = find_subject(model)
    if pareto:
        _check_pareto(ram, minimize, min_ram=min_ram)
    if min_ram or minimize == "ram":
        _print_minimum(subject, target, cost_model, time_limit, as_json=as_json)
        return
    if out:
        _check_place(out, subject)
    plain = plain_plan(subject.graph, target, minimize=minimize, cost_model=cost_model)
    if pareto:
        _plan_curve(subject, target, plain, seconds_amount, time_limit, out, as_json=as_json)
        return
    budget = _budget(target, plain, ram_amount, seconds_amount)
    found = _solve(subject, target, budget, plain, time_limit)
    if out:
        _save(found.plan, subject, out)
    if as_json:
        write_json(_payload(found, out))
        return
    write_facts([*subject.facts, *_facts(found, target), ("written to", str(out) if out else "")])
    write_loops(found.loops, found.plan)


def _check_pareto(ram: str | None, minimize: str, *, min_ram: bool) -> None:
    if ram is not None or min_ram or minimize == "ram":
        other = "--ram" if ram is not None else "--min-ram" if min_ram else "--minimize ram"
        raise UsageError(
            f"`--pareto` plans many budgets of RAM, so `{other}` has no place beside it. Leave one out."
        )


def _plan_curve(
    subject: Subject,
    device: Device,
    plain: Plan,
    seconds: Amount | None,
    time_limit: float,
    out: Path | None,
    *,
    as_json: bool,
) -> None:
    """Print the trade-off curve; with `out`, keep it and the plan at its knee."""
    found = curve_of(
        subject,
        device,
        seconds=None if seconds is None else seconds.of(plain.seconds),
        minimize=plain.minimize,
        cost_model=plain.cost_model,
        time_limit=time_limit,
    )
    if out:
        _save(found.plans[found.curve.knee], subject, out)
        save_curve(found.curve, out.parent)
    write_curve(found, subject, plain, out, as_json=as_json)


def _check_time_limit(time_limit: float) -> None:
    if not time_limit > 0:
        raise UsageError(f"`--time-limit {time_limit:g}` must be above zero seconds.")


def _budget(device: Device, plain: Plan, ram: Amount | None, seconds: Amount | None) -> Budget:
    return Budget(
        device.memory.ram.bytes if ram is None else int(ram.of(plain.peak_bytes)),
        None if seconds is None else seconds.of(plain.seconds),
    )


def _solve(subject: Subject, device: Device, budget: Budget, plain: Plan, time_limit: float) -> Planned:
    started = time.perf_counter()
    with planning(plain.minimize) as progress:
        plan = make_plan(
            subject.graph,
            device,
            budget,
            minimize=plain.minimize,
            cost_model=plain.cost_model,
            time_limit=time_limit,
            progress=progress,
        )
    took = time.perf_counter() - started
    graph = subject.graph
    return Planned(graph, plan, check(plan, graph, device), plain, loops(plan, graph, device), took)


def _print_minimum(
    subject: Subject, device: Device, cost_model: CostModel, time_limit: float, *, as_json: bool
) -> None:
    found = minimum_ram(subject.graph, device, cost_model=cost_model, time_limit=time_limit)
    if as_json:
        write_json({"min_ram_bytes": found.ram_bytes, "op": found.op, "exact": found.exact})
    else:
        write_line(str(found.ram_bytes))


def _check_place(out: Path, subject: Subject) -> None:
    """Refuse a place where the plan would take the graph of another plan away, or cannot be written."""
    graph_path = out.parent / GRAPH_FILE
    if not out.parent.is_dir():
        raise UsageError(f"Cannot write {out}: there is no folder {out.parent}. Make it first.")
    if out.name == GRAPH_FILE:
        raise UsageError(f"{out} is where the graph goes. Name the plan otherwise, as in `-o plan.json`.")
    if graph_path.exists() and not out.exists() and load_graph(graph_path).sha256 != subject.graph.sha256:
        raise UsageError(
            f"{graph_path} is the graph of something else, and a plan keeps its graph there. "
            "Write the plan into another folder."
        )


def _save(plan: Plan, subject: Subject, out: Path) -> None:
    try:
        save_plan(plan, out)
        save_graph(subject.graph, out.parent / GRAPH_FILE)
    except OSError as error:
        raise UsageError(f"Cannot write {out}: {error.strerror}. Choose another place.") from error


def _payload(found: Planned, out: Path | None) -> dict[str, Any]:
    plan, certificate, plain = found.plan, found.certificate, found.plain
    return {
        "graph": plan.graph,
        "device": plan.device,
        "status": plan.status,
        "gap": plan.gap,
        "minimize": plan.minimize,
        "cost_model": plan.cost_model,
        "solver": plan.solver,
        "ram_bytes": plan.budget.ram_bytes,
        "seconds_limit": plan.budget.seconds,
        "peak_bytes": plan.peak_bytes,
        "certified_peak_bytes": certificate.peak_bytes,
        "arena_bytes": certificate.arena_bytes,
        "seconds": plan.seconds,
        "joules": plan.joules,
        "plain_peak_bytes": plain.peak_bytes,
        "plain_seconds": plain.seconds,
        "plain_joules": plain.joules,
        "solve_seconds": found.solve_seconds,
        "recomputed": certificate.recomputed,
        "paged_out": certificate.paged_out,
        "paged_in": certificate.paged_in,
        "bytes_written": certificate.bytes_written,
        "bytes_read": certificate.bytes_read,
        "streamed": loop_entries(found.loops),
        "bytes_streamed": sum(loop.bytes_read + loop.bytes_written for loop in found.loops),
        "exact": certificate.exact,
        "reordered": reordered(plan, found.graph),
        "path": None if out is None else str(out),
    }


def _facts(found: Planned, device: Device) -> Facts:
    plan, certificate, plain = found.plan, found.certificate, found.plain
    budget = plan.budget
    return [
        ("device", f"{device.name}: {device.description}"),
        ("plain training", f"{bytes_text(plain.peak_bytes)} of RAM"),
        ("budget", f"{bytes_text(budget.ram_bytes)} of RAM{limit_words(budget)}"),
        ("planned peak", f"{exact_bytes(plan.peak_bytes)} ({bytes_text(plan.peak_bytes)})"),
        ("certified peak", exact_bytes(certificate.peak_bytes)),
        ("highest address", arena_words(plan, certificate)),
        ("plan", count_words(plan)),
        (
            "quality",
            f"{gap_words(plan.status, plan.gap)} ({plan.solver}, {seconds_text(found.solve_seconds)})",
        ),
        ("time of a step", against(plan.seconds, plain.seconds, seconds_text)),
        ("energy of a step", against(plan.joules, plain.joules, joules_text)),
        ("traffic", traffic_words(certificate, found.loops, device)),
        ("result", exact_words(plan, found.graph) if found.loops else ""),
    ]
