"""Every error Edgewise raises on purpose, sorted by who can act on it.

    EdgewiseError
    |-- UsageError          2   the call or the recipe is wrong            the caller
    |-- BudgetInfeasible    3   no plan fits the budget                    the caller, with a larger budget
    |-- ModelUnsupported    4   the model has parts we cannot handle       the author of the model
    |-- CorruptArtifact     5   a file is damaged or not what it claims    whoever wrote the file
    |   `-- PlanRejected        a plan failed the independent check
    |-- UntrustedArtifact   5   a file is intact but not to be trusted     whoever sent the file
    `-- DeviceError         6   the device, disk or link failed            whoever runs the device

The number is the exit code of the command line (DESIGN.md section 7). A bug of ours is exit code 1.
"""

from typing import ClassVar


class EdgewiseError(Exception):
    """Base of all errors that Edgewise raises on purpose; catch this one to catch them all."""

    exit_code: ClassVar[int] = 1


class UsageError(EdgewiseError):
    """The call, an option or a recipe is wrong."""

    exit_code = 2


class BudgetInfeasible(EdgewiseError):
    """No plan fits the budget.

    Attributes:
        min_ram_bytes: least RAM in bytes with which a plan exists, other limits unchanged;
            `None` where RAM is not what stands in the way.
        op: name of the op whose working set sets that least RAM, if one does.
    """

    exit_code = 3

    def __init__(self, message: str, *, min_ram_bytes: int | None = None, op: str | None = None) -> None:
        super().__init__(message)
        self.min_ram_bytes = min_ram_bytes
        self.op = op


class ModelUnsupported(EdgewiseError):
    """The model has parts that cannot be captured.

    Attributes:
        parts: each offending part as `module.path: op: reason`.
    """

    exit_code = 4

    def __init__(self, message: str, *, parts: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.parts = parts


class CorruptArtifact(EdgewiseError):
    """A file is damaged, of an unknown version, or not what it claims to be."""

    exit_code = 5


class PlanRejected(CorruptArtifact):
    """A plan failed the independent check: it breaks a rule, or does not do what it claims."""


class UntrustedArtifact(EdgewiseError):
    """A file is intact, but its origin or age makes it unfit to be used."""

    exit_code = 5


class DeviceError(EdgewiseError):
    """The device, its storage or its link failed."""

    exit_code = 6
