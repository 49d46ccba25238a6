"""`edgewise check`: is a plan what it claims to be."""

from pathlib import Path
from typing import Any

import msgspec
from cyclopts import App

from edgewise.cli.loops import loop_entries, write_loops
from edgewise.cli.output import Facts, write_facts, write_json
from edgewise.cli.params import AsJson
from edgewise.cli.words import arena_words, count_words, gap_words, limit_words
from edgewise.devices import Device, load_device
from edgewise.errors import CorruptArtifact
from edgewise.graph import Graph, load_graph
from edgewise.plan import Certificate, Plan, load_plan
from edgewise.plan import check as check_plan
from edgewise.report.loops import Loop, exact_words, loops, traffic_words
from edgewise.report.units import exact_bytes, joules_text, seconds_text

EXAMPLE = """\
The plan is replayed step by step: every operand present, nothing recomputed that must not be, no \
update twice or left out, RAM within the budget, no address used twice at once, and peak, time and \
energy as claimed.

Without --device, the device is the run's own, or device.toml beside the plan, or the profile of the \
name that the plan gives.

Example:
  edgewise check plan.json
  edgewise check runs/digits --json
  edgewise check plan.json --graph tiny.json --device my-board.toml"""

app = App(name="check", help_epilogue=EXAMPLE)


@app.default
def check(
    source: Path, /, *, graph: Path | None = None, device: str | None = None, as_json: AsJson = False
) -> None:
    """Check a plan, independently of whoever made it: exit code 5 if it breaks a rule.

    Args:
        source: File of a plan, or a run directory.
        graph: File of the graph it was made for; graph.json beside the plan if not given.
        device: Name or .toml file of the device it was made for. See below.
        as_json: Print the result as JSON.
    """
    path = source / "plan.json" if source.is_dir() else source
    plan = load_plan(path)
    target = load_device(device) if device else _device_beside(path, plan)
    step = load_graph(graph or path.parent / "graph.json")
    certificate = check_plan(plan, step, target)
    found = loops(plan, step, target)
    if as_json:
        write_json(_payload(path, plan, certificate, found))
        return
    write_facts(_facts(plan, step, certificate, target, found), title=f"{path}: certified")
    write_loops(found, plan)


def _device_beside(path: Path, plan: Plan) -> Device:
    """The device that a run wrote down, or the profile beside the plan, or the one that the plan names."""
    own = path.parent / "environment.json"
    if not own.is_file():
        profile = path.parent / "device.toml"
        return load_device(profile if profile.is_file() else plan.device)
    try:
        return msgspec.convert(msgspec.json.decode(own.read_bytes())["device"], Device)
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise CorruptArtifact(
            f"{own}: no device can be read from it ({error}). Name it with `--device`."
        ) from error


def _payload(path: Path, plan: Plan, certificate: Certificate, found: tuple[Loop, ...]) -> dict[str, Any]:
    claims = {"graph": plan.graph, "device": plan.device, "status": plan.status, "gap": plan.gap}
    counted = msgspec.structs.asdict(certificate)
    series = ("ram_bytes", "live_bytes")
    figures = {name: value for name, value in counted.items() if name not in series}
    figures["streamed"] = loop_entries(found)
    return {"path": str(path), "certified": True, **claims, "ram_bytes": plan.budget.ram_bytes, **figures}


def _facts(
    plan: Plan, graph: Graph, certificate: Certificate, device: Device, found: tuple[Loop, ...]
) -> Facts:
    return [
        ("graph", plan.graph),
        ("device", device.name),
        ("budget", f"{exact_bytes(plan.budget.ram_bytes)}{limit_words(plan.budget)}"),
        ("peak", exact_bytes(certificate.peak_bytes)),
        ("highest address", arena_words(plan, certificate)),
        ("plan", count_words(plan)),
        ("quality, as claimed", gap_words(plan.status, plan.gap)),
        ("traffic", traffic_words(certificate, found, device)),
        ("result", exact_words(plan, graph) if found else ""),
        ("time of a step", seconds_text(certificate.seconds)),
        ("energy of a step", joules_text(certificate.joules)),
    ]
