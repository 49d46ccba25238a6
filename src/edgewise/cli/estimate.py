"""`edgewise estimate`: what training a model plainly needs, before anything is planned."""

from typing import Any

from cyclopts import App

from edgewise.cli.needs import KINDS, Heavy, has_loops, heaviest, peak_by_kind
from edgewise.cli.output import write_facts, write_json, write_table
from edgewise.cli.params import MODEL_HELP, AsJson
from edgewise.cli.subject import Subject, find_subject
from edgewise.devices import load_device
from edgewise.errors import UsageError
from edgewise.plan import Minimum, Plan, minimum_ram, plain_plan
from edgewise.report.units import bytes_text, exact_bytes, figure, joules_text, percent, seconds_text

EXAMPLE = f"""\
{MODEL_HELP}

Example:
  edgewise estimate resnet18@1 --device nrf52840
  edgewise estimate mynet:build@8x3x32x32 --json"""

LARGEST = 5

app = App(name="estimate", help_epilogue=EXAMPLE)


@app.default
def estimate(
    model: str, /, *, device: str = "host", time_limit: float = 60.0, as_json: AsJson = False
) -> None:
    """What plain training of a model needs, and the least RAM it could be planned for.

    Args:
        model: A built-in model, `package.module:factory`, a recipe, or a graph.json. See below.
        device: Name of a profile, or path of a .toml file.
        time_limit: Seconds to search for the least RAM.
        as_json: Print the result as JSON.
    """
    if not time_limit > 0:
        raise UsageError(f"`--time-limit {time_limit:g}` must be above zero seconds.")
    target = load_device(device)
    subject = find_subject(model)
    plain = plain_plan(subject.graph, target)
    least = minimum_ram(subject.graph, target, time_limit=time_limit)
    kinds = peak_by_kind(plain, subject.graph, target)
    largest = heaviest(subject.graph, target, LARGEST)
    if as_json:
        write_json(_payload(subject, plain, least, kinds, largest))
        return
    _write(subject, plain, least, kinds, largest)


def _payload(
    subject: Subject, plain: Plan, least: Minimum, kinds: dict[str, int], largest: list[Heavy]
) -> dict[str, Any]:
    return {
        "graph": plain.graph,
        "device": plain.device,
        "ops": len(subject.graph.ops),
        "plain_peak_bytes": plain.peak_bytes,
        "plain_peak_bytes_by_kind": kinds,
        "flops": sum(op.flops for op in subject.graph.ops),
        "plain_seconds": plain.seconds,
        "plain_joules": plain.joules,
        "min_ram_bytes": least.ram_bytes,
        "min_ram_op": least.op,
        "min_ram_exact": least.exact,
        "whole_ram_bytes": max([heavy.working_bytes for heavy in largest], default=0),
        "whole_ram_op": largest[0].op.name if largest else None,
        "largest_ops": [_entry(heavy) for heavy in largest],
    }


def _entry(heavy: Heavy) -> dict[str, Any]:
    return {
        "op": heavy.op.name,
        "layer": heavy.op.layer,
        "kind": heavy.op.kind,
        "working_bytes": heavy.working_bytes,
        "least_bytes": heavy.least_bytes,
        "flops": heavy.op.flops,
        "seconds": heavy.cost.seconds,
        "joules": heavy.cost.joules,
    }


def _write(
    subject: Subject, plain: Plan, least: Minimum, kinds: dict[str, int], largest: list[Heavy]
) -> None:
    flops = sum(op.flops for op in subject.graph.ops)
    words = {**KINDS, "workspace": "workspace of the op"}
    parts = [(f"  {words[kind]}", bytes_text(size)) for kind, size in kinds.items() if size]
    least_words = f"{bytes_text(least.ram_bytes)} ({exact_bytes(least.ram_bytes)})"
    least_words += f", set by `{least.op}`" if least.op else ""
    write_facts(
        [
            *subject.facts,
            ("device", plain.device),
            ("ops", f"{len(subject.graph.ops):,}"),
            ("RAM of plain training", f"{bytes_text(plain.peak_bytes)}, at its peak:"),
            *parts,
            (
                "least RAM",
                least_words if least.exact else f"at most {least_words}; less may do",
            ),
            ("of whole ops", _whole_words(subject, largest)),
            ("arithmetic of a step", f"{figure(flops / 1e6)} MFLOP"),
            ("time of a step", seconds_text(plain.seconds)),
            ("energy of a step", joules_text(plain.joules)),
        ]
    )
    _write_largest(largest, flops, slices=has_loops(subject.graph))


def _whole_words(subject: Subject, largest: list[Heavy]) -> str:
    """What a plan would need that runs no op as a loop; nothing where there is no loop to run."""
    if not largest or not has_loops(subject.graph):
        return ""
    size = largest[0].working_bytes
    return f"at least {bytes_text(size)} ({exact_bytes(size)}), set by `{largest[0].op.name}`"


def _write_largest(largest: list[Heavy], flops: int, *, slices: bool) -> None:
    """The table of the largest ops; with `slices`, also what they need as loops."""
    heads = {"largest ops": False, "layer": False, "in RAM": True}
    heads |= {"in slices": True} if slices else {}
    rows = [
        (
            heavy.op.name,
            heavy.op.layer,
            bytes_text(heavy.working_bytes),
            *((bytes_text(heavy.least_bytes),) if slices else ()),
            percent(heavy.op.flops / flops) if flops else "",
            seconds_text(heavy.cost.seconds),
        )
        for heavy in largest
    ]
    write_table({**heads, "of the flops": True, "time": True}, rows)
