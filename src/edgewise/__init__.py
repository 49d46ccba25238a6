"""Edgewise: train PyTorch models inside a memory, time and energy budget.

Every public name is here, and its room is imported when it is first asked for, so that `import edgewise` and
`edgewise --help` cost nothing and import no torch. `capture_step` is `edgewise.capture.capture`: a package
cannot have a function and a room of the same name.

    import edgewise as ew

    task = ew.resolve_task("digits_cnn", batch=32)
    step = ew.capture_step(task.model, task.loss, ew.SGD(0.1), task.example_batch)
    device = ew.load_device("rpi4")
    plan = ew.make_plan(step.graph, device, ew.Budget(ram_bytes=400_000))
    with ew.Executor(step, plan, device) as executor:
        result = executor.step(task.example_batch, 0)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgewise.capture import SGD, AdamW, Captured
    from edgewise.capture import capture as capture_step
    from edgewise.devices import Device, list_devices, load_device, probe_host
    from edgewise.errors import (
        BudgetInfeasible,
        CorruptArtifact,
        DeviceError,
        EdgewiseError,
        ModelUnsupported,
        PlanRejected,
        UntrustedArtifact,
        UsageError,
    )
    from edgewise.graph import Graph, Op, Option, Value, load_graph, save_graph
    from edgewise.plan import (
        Budget,
        Certificate,
        Plan,
        check,
        load_plan,
        make_plan,
        minimum_ram,
        plain_plan,
        save_plan,
    )
    from edgewise.report import write_report
    from edgewise.run import Executor, StepResult
    from edgewise.train import Recipe, list_recipes, load_recipe
    from edgewise.train.loop import train_run
    from edgewise.zoo import Task, resolve_task, zoo_names

__version__ = "0.1.0"

__all__ = [
    "SGD",
    "AdamW",
    "Budget",
    "BudgetInfeasible",
    "Captured",
    "Certificate",
    "CorruptArtifact",
    "Device",
    "DeviceError",
    "EdgewiseError",
    "Executor",
    "Graph",
    "ModelUnsupported",
    "Op",
    "Option",
    "Plan",
    "PlanRejected",
    "Recipe",
    "StepResult",
    "Task",
    "UntrustedArtifact",
    "UsageError",
    "Value",
    "__version__",
    "capture_step",
    "check",
    "list_devices",
    "list_recipes",
    "load_device",
    "load_graph",
    "load_plan",
    "load_recipe",
    "make_plan",
    "minimum_ram",
    "plain_plan",
    "probe_host",
    "resolve_task",
    "save_graph",
    "save_plan",
    "train_run",
    "write_report",
    "zoo_names",
]

_ROOMS = {
    "errors": (
        "BudgetInfeasible",
        "CorruptArtifact",
        "DeviceError",
        "EdgewiseError",
        "ModelUnsupported",
        "PlanRejected",
        "UntrustedArtifact",
        "UsageError",
    ),
    "graph": ("Graph", "Op", "Option", "Value", "load_graph", "save_graph"),
    "devices": ("Device", "list_devices", "load_device", "probe_host"),
    "zoo": ("Task", "resolve_task", "zoo_names"),
    "plan": (
        "Budget",
        "Certificate",
        "Plan",
        "check",
        "load_plan",
        "make_plan",
        "minimum_ram",
        "plain_plan",
        "save_plan",
    ),
    "capture": ("AdamW", "Captured", "SGD", "capture_step"),
    "run": ("Executor", "StepResult"),
    "train": ("Recipe", "list_recipes", "load_recipe"),
    "train.loop": ("train_run",),
    "report": ("write_report",),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}
_ALIASES = {"capture_step": "capture"}


def __getattr__(name: str) -> Any:
    if name not in _ROOM_OF:
        raise AttributeError(f"module `edgewise` has no attribute `{name}`")
    found = getattr(import_module(f"edgewise.{_ROOM_OF[name]}"), _ALIASES.get(name, name))
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
