"""Comparison: what each method made of one model on one device within one budget; `comparison.json`.

Plain structs without torch, so that a page or a table of a comparison is quick. Seconds, joules, flops and
bytes are those of the device's cost model for the plan that was executed; accuracy was measured.
"""

from pathlib import Path
from typing import Any, Literal

import msgspec

from edgewise.errors import CorruptArtifact
from edgewise.plan import Objective

FORMAT = "edgewise.comparison/1"
FILE = "comparison.json"
MAX_FILE_BYTES = 1 << 24

Outcome = Literal["trained", "unfinished", "does not fit", "cannot serve"]
Metric = Literal["accuracy", "mean squared error", "training loss"]


class Cost(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One training step on the device; `bytes_moved` to and from the slower tier, both together."""

    seconds: float
    joules: float
    flops: int
    bytes_moved: int


class Trial(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A learning rate that was tried for `steps` steps: their mean loss in the end, and its standard error.

    `loss` is `None` where it diverged.
    """

    lr: float
    steps: int
    loss: float | None
    error: float = 0.0


class Search(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a learning rate comes from: the best of some trials, or given (without any)."""

    lr: float
    trials: tuple[Trial, ...] = ()

    @property
    def steps(self) -> int:
        """Training steps that the search took."""
        return sum(trial.steps for trial in self.trials)

    @property
    def is_edge(self) -> Literal["", "least", "largest"]:
        """Whether a rate beyond those that were tried may be better."""
        rates = [trial.lr for trial in self.trials]
        if len(rates) < 2 or min(rates) < self.lr < max(rates):
            return ""
        return "least" if self.lr <= min(rates) else "largest"


class Mark(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a method had learnt after `step` steps, on the test samples and, by the loss, while it trained.

    What is not measured, or no number, is `None`.
    """

    step: int
    accuracy: float | None = None
    mse: float | None = None
    train_loss: float | None = None


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One contender: a method and the solver that plans its step.

    Attributes:
        name: as it was asked for.
        method: as `method_text` writes it.
        solver: `auto`, or a baseline's.
        outcome: whether it was trained, and why not.
        reason: the error, where it was not.
        min_ram_bytes: least RAM that a plan is known to need, where none fits; `op` and `layer` set it.
        parts: what of the model the method cannot serve, with module paths.
        search: where the learning rate comes from.
        cost: of one planned step.
        gap: share of the overhead that a better plan could save at most; 0 where `status` is `optimal`.
        peak_bytes: certified; `measured_peak_bytes` in the run, `None` if the run was another's.
        recomputed: executions beyond the first; `streamed`: ops in slices; `paged_in`: values.
        reordered: whether some sums are taken in another order than without a plan.
        run: folder of the run, in that of the comparison; another's where `same_bits` as that one.
        marks: what was learnt by when.
        wall_seconds: the run and the search on this machine.
    """

    name: str
    method: str
    solver: str
    outcome: Outcome
    reason: str = ""
    min_ram_bytes: int | None = None
    op: str | None = None
    layer: str = ""
    parts: tuple[str, ...] = ()
    search: Search | None = None
    cost: Cost | None = None
    status: str = ""
    gap: float = 0.0
    peak_bytes: int | None = None
    measured_peak_bytes: int | None = None
    recomputed: int = 0
    paged_in: int = 0
    streamed: int = 0
    reordered: bool = False
    run: str | None = None
    same_bits: bool = False
    marks: tuple[Mark, ...] = ()
    wall_seconds: float = 0.0

    @property
    def steps(self) -> int:
        """Steps after which the last mark was made."""
        return self.marks[-1].step if self.marks else 0

    @property
    def is_exact(self) -> bool:
        """Whether its gradients are those of backpropagation."""
        return self.method.partition(":")[0] == "backprop"


class Setting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What all methods share; a folder holds comparisons of one setting only.

    `recipe` is the digest of the recipe, `device` the profile as builtins, `steps` and `seconds` how long
    each method trains (steps, or seconds on the device), `lr` what was given instead of a search.
    """

    recipe: str
    device: dict[str, Any]
    ram_bytes: int
    minimize: Objective
    steps: int | None
    seconds: float | None
    lr: dict[str, float] = {}


class Comparison(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`comparison.json`.

    `plain` is one step of plain backprop on a device with RAM enough, `plain_peak_bytes` what that would be;
    `None` where the model cannot be trained by backprop.
    """

    format: str
    model: str
    data: str
    optimizer: str
    batch: int
    test_samples: int
    setting: Setting
    plain: Cost | None
    plain_peak_bytes: int | None
    rows: tuple[Row, ...] = ()

    @property
    def trained(self) -> tuple[Row, ...]:
        """Rows with a curve."""
        return tuple(row for row in self.rows if row.outcome == "trained" and row.marks)

    @property
    def metric(self) -> Metric:
        """What all rows have been judged by."""
        marks = [mark for row in self.rows for mark in row.marks]
        if any(mark.accuracy is not None for mark in marks):
            return "accuracy"
        return "mean squared error" if any(mark.mse is not None for mark in marks) else "training loss"

    def score(self, mark: Mark) -> float | None:
        """The metric at `mark`."""
        match self.metric:
            case "accuracy":
                return mark.accuracy
            case "mean squared error":
                return mark.mse
            case _:
                return mark.train_loss

    @property
    def device(self) -> str:
        """Name of the device."""
        return str(self.setting.device.get("name", ""))


def encode_comparison(comparison: Comparison) -> bytes:
    """`comparison` as JSON that `decode_comparison` reads back."""
    return msgspec.json.format(msgspec.json.encode(comparison), indent=1) + b"\n"


def load_comparison(path: Path) -> Comparison:
    """The comparison in the file `path`.

    Raises:
        CorruptArtifact: it is none, or of another version, or far too large.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise CorruptArtifact(f"{path}: more bytes than a comparison may have ({MAX_FILE_BYTES:,}).")
    try:
        found = msgspec.json.decode(data, type=Comparison)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptArtifact(
            f"{path} is no comparison: {error}. Restore it, or compare anew in another folder."
        ) from error
    if found.format != FORMAT:
        raise CorruptArtifact(
            f"{path}: format `{found.format}` is not `{FORMAT}`, the one this version reads."
        )
    return found
