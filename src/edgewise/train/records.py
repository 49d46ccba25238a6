"""The lines and files of a run directory; plain structs, so that reading a run needs no torch.

| file | what it holds |
|---|---|
| `recipe.toml` | the recipe as it was run |
| `environment.json` | `Environment`: versions, platform, threads, and the device the plan was made for |
| `graph.json`, `plan.json` | what was planned, and the plan |
| `metrics.jsonl` | a `StepLine` for each step and an `EpochLine` for each epoch |
| `memory.json` | `MemoryFile`: what one step was measured to hold |
| `checkpoint.safetensors`, `checkpoint.json` | where `resume` goes on |
| `summary.json` | `RunSummary`: the figures of the run |
"""

from typing import Any

import msgspec

from edgewise.plan import Objective
from edgewise.plan.nouns import Status

MEMORY_FORMAT = "edgewise.memory/1"
ENVIRONMENT_FORMAT = "edgewise.environment/1"
SUMMARY_FORMAT = "edgewise.summary/1"


class StepLine(msgspec.Struct, frozen=True, tag="step", tag_field="type"):
    """One training step in `metrics.jsonl`. A loss that is no number is `None`."""

    step: int
    epoch: int = 0
    loss: float | None = None
    seconds: float | None = None
    peak_bytes: int | None = None


class EpochLine(msgspec.Struct, frozen=True, tag="epoch", tag_field="type"):
    """One epoch in `metrics.jsonl`; epoch 0 is the model before training.

    `test_accuracy` is for targets that are classes, `test_mse` and `test_mae` for those that are numbers.
    """

    epoch: int
    train_loss: float | None = None
    test_accuracy: float | None = None
    test_mse: float | None = None
    test_mae: float | None = None


MetricLine = StepLine | EpochLine


class MemoryFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`memory.json`: the peak of the live bytes that the executor measured during each step of the plan.

    All of one training step, number `step`. `process_bytes` is how far the process's own high-water mark rose
    in it; 0 where the kernel does not tell.
    """

    format: str
    live_bytes: tuple[int, ...]
    step: int | None = None
    process_bytes: int | None = None


class Environment(msgspec.Struct, frozen=True):
    """`environment.json`: where the run took place. `device` is the profile, as builtins."""

    format: str
    versions: dict[str, str]
    platform: str
    threads: int
    device: dict[str, Any]


class RunSummary(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`summary.json`: what the run needed and what it learned.

    Attributes:
        format: `edgewise.summary/1`.
        model: the recipe's `model.name`.
        device: name of the device profile.
        minimize: what the planner minimized.
        status: `optimal` or `feasible`; `gap` says how much of the overhead a better plan could save.
        solver: name of the solver that found the plan.
        plain_peak_bytes: peak of plain training, with every value kept until its last use.
        budget_ram_bytes: what the plan had to fit in.
        planned_peak_bytes: the plan's own claim.
        certified_peak_bytes: what the independent check found.
        measured_peak_bytes: the most that the executor counted in any step of this call.
        process_bytes: the most that the process's high-water mark rose in a step of this call, but for the
            first, which also loads libraries; 0 where the kernel does not tell.
        evaluation_peak_bytes: what evaluation held: parameters, resident states, one chunk, its activations.
        plain_seconds: one step of plain training on the device, predicted; `plain_joules` likewise.
        planned_seconds: one planned step on the device, predicted; `planned_joules` likewise.
        recomputed: executions of ops beyond the first.
        paged_out: values copied to the slower tier in a step; `paged_in` likewise.
        measured_seconds: mean of a step on this machine; `None` if none was run.
        accuracy_before: on the test samples, before training; `None` where targets are numbers.
        accuracy_after: after the last finished epoch.
        mse_before: mean squared error likewise, where targets are numbers; `mae_before` mean absolute error.
        training_seconds: wall time of this call's steps and evaluations.
        epochs: epochs finished, over all calls.
        steps: steps finished, over all calls.
        interrupted: whether Ctrl-C ended the run; it can be resumed.
        checkpoint: the checkpoint's file, relative to the run directory; `None` if there is none yet.
        method: how the steps got their gradients, as `method_text` writes it.
        diverged_at: the first step of the run whose loss was no number; `None` if all were.
    """

    format: str
    model: str
    device: str
    minimize: Objective
    status: Status
    gap: float
    solver: str
    plain_peak_bytes: int
    budget_ram_bytes: int
    planned_peak_bytes: int
    certified_peak_bytes: int
    measured_peak_bytes: int | None
    process_bytes: int | None
    evaluation_peak_bytes: int | None
    plain_seconds: float
    planned_seconds: float
    plain_joules: float
    planned_joules: float
    recomputed: int
    paged_out: int
    paged_in: int
    measured_seconds: float | None
    accuracy_before: float | None
    accuracy_after: float | None
    mse_before: float | None
    mse_after: float | None
    mae_before: float | None
    mae_after: float | None
    training_seconds: float
    epochs: int
    steps: int
    interrupted: bool
    checkpoint: str | None
    method: str = "backprop"
    diverged_at: int | None = None
