"""What a step costs on several devices, by their profiles: the rows of a table of energy."""

from collections.abc import Iterable, Mapping

from edgewise.devices import load_device
from edgewise.graph import Graph
from edgewise.plan import plain_plan
from edgewise.report.units import joules_text

DEVICES = ("rpi4", "jetson-tx2", "stm32f7")
"""Profiles that energy is given for: of two boards with an operating system, and of a controller."""


def joules(graph: Graph, steps: int = 1) -> dict[str, float]:
    """Energy of so many steps by the plain plan, by device."""
    return {name: steps * plain_plan(graph, load_device(name)).joules for name in DEVICES}


def energy_table(first: str, rows: Iterable[tuple[str, Mapping[str, float]]]) -> str:
    """A line for each `(cells in front, joules by device)`; `first` names the cells in front."""
    fronts = first.count("|") + 1
    head = f"| {first} | {' | '.join(DEVICES)} |\n|{'---|' * fronts}{'---:|' * len(DEVICES)}"
    lines = (f"| {cells} | {' | '.join(joules_text(of[name]) for name in DEVICES)} |" for cells, of in rows)
    return "\n".join((head, *lines))
