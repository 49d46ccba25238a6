"""ReportData: everything a page is made of, loaded and checked; and the lines of a run's files."""

from pathlib import Path
from typing import Any

import msgspec

from edgewise.devices import Device
from edgewise.graph import Graph
from edgewise.plan import Certificate, Plan

MEMORY_FORMAT = "edgewise.memory/1"


class StepLine(msgspec.Struct, frozen=True, tag="step", tag_field="type"):
    """One training step in `metrics.jsonl`. A loss that is no number is `None`."""

    step: int
    epoch: int = 0
    loss: float | None = None
    seconds: float | None = None
    peak_bytes: int | None = None


class EpochLine(msgspec.Struct, frozen=True, tag="epoch", tag_field="type"):
    """One epoch in `metrics.jsonl`; epoch 0 is the model before training."""

    epoch: int
    train_loss: float | None = None
    test_accuracy: float | None = None


MetricLine = StepLine | EpochLine


class MemoryFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`memory.json`: the peak of the live bytes that the executor measured during each step of the plan."""

    format: str
    live_bytes: tuple[int, ...]


class Digest(msgspec.Struct, frozen=True):
    """Name, size and SHA-256 of a file the report was made from."""

    name: str
    bytes: int
    sha256: str


class ReportData(msgspec.Struct, frozen=True):
    """A checked plan and, where it was run, what the run left behind. Absent pieces are `None` or empty.

    `certificate` is what `check` found for `plan`; `plain` is the same graph with every op once and every value
    kept until its last use, replayed on the same device under the same cost model.
    """

    source: Path
    graph: Graph
    device: Device
    plan: Plan
    certificate: Certificate
    plain: Certificate
    is_run: bool = False
    memory: tuple[int, ...] | None = None
    steps: tuple[StepLine, ...] = ()
    epochs: tuple[EpochLine, ...] = ()
    recipe: str | None = None
    environment: dict[str, Any] | None = None
    digests: tuple[Digest, ...] = ()

    @property
    def measured_peak_bytes(self) -> int | None:
        """The most bytes that any step of the run was measured to hold; `None` if nothing was measured."""
        peaks = [line.peak_bytes for line in self.steps if line.peak_bytes is not None]
        return max([*peaks, *(self.memory or ())], default=None)

    @property
    def accuracies(self) -> tuple[tuple[int, float], ...]:
        """`(epoch, test accuracy)` for each epoch that has one."""
        return tuple((e.epoch, e.test_accuracy) for e in self.epochs if e.test_accuracy is not None)
