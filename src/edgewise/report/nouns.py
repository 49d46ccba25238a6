"""ReportData: everything a page is made of, loaded and checked."""

from pathlib import Path

import msgspec

from edgewise.devices import Device
from edgewise.graph import Graph
from edgewise.plan import Certificate, Curve, Plan
from edgewise.train import Environment, EpochLine, MemoryFile, RunSummary, StepLine


class Digest(msgspec.Struct, frozen=True):
    """Name, size and SHA-256 of a file the report was made from."""

    name: str
    bytes: int
    sha256: str


class ReportData(msgspec.Struct, frozen=True):
    """A checked plan and, where it was run, what the run left behind. Absent pieces are `None` or empty.

    `certificate` is what `check` found for `plan`; `plain` is the same graph with every op once and every
    value kept until its last use, replayed on the same device under the same cost model.
    """

    source: Path
    graph: Graph
    device: Device
    plan: Plan
    certificate: Certificate
    plain: Certificate
    digests: tuple[Digest, ...] = ()
    is_run: bool = False
    memory_file: MemoryFile | None = None
    steps: tuple[StepLine, ...] = ()
    epochs: tuple[EpochLine, ...] = ()
    recipe: str | None = None
    environment: Environment | None = None
    summary: RunSummary | None = None
    curve: Curve | None = None

    @property
    def memory(self) -> tuple[int, ...]:
        """Measured peak of live bytes in each step of the plan; empty if nothing was measured."""
        return self.memory_file.live_bytes if self.memory_file else ()

    @property
    def measured_peak_bytes(self) -> int | None:
        """The most bytes that any step of the run was measured to hold; `None` if nothing was measured."""
        peaks = [line.peak_bytes for line in self.steps if line.peak_bytes is not None]
        return max([*peaks, *self.memory], default=None)

    @property
    def process_bytes(self) -> int | None:
        """How far the process's high-water mark rose in a step; `None` where the kernel did not tell."""
        whole = self.summary.process_bytes if self.summary else None
        one = self.memory_file.process_bytes if self.memory_file else None
        return whole or one or None

    @property
    def accuracies(self) -> tuple[tuple[int, float], ...]:
        """`(epoch, test accuracy)` for each epoch that has one."""
        return tuple((e.epoch, e.test_accuracy) for e in self.epochs if e.test_accuracy is not None)

    @property
    def errors(self) -> tuple[tuple[int, float], ...]:
        """`(epoch, mean squared error)` for each epoch that has one: where targets are numbers."""
        return tuple((e.epoch, e.test_mse) for e in self.epochs if e.test_mse is not None)
