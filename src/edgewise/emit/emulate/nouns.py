"""What an emulated run leaves behind."""

from msgspec import Struct


class Ending(Struct, frozen=True):
    """How a program came to its end, as the emulator saw it.

    Attributes:
        code: with which it exited; `None` if the power was lost before.
        instructions: executed, where the emulator counts them itself.
        looks: how many of them whenever the program looked at its clock.
    """

    code: int | None
    instructions: int | None = None
    looks: tuple[int, ...] = ()


class Taken(Struct, frozen=True):
    """What a part of a run took: instructions, where they are counted, and bytes through the medium."""

    instructions: int | None = None
    read_bytes: int = 0
    written_bytes: int = 0


class Emulated(Struct, frozen=True):
    """What a run on an emulated board gave, and took.

    Attributes:
        board, emulator: where it ran.
        losses: of each step, as float32.
        store: the bytes of the store at the end.
        outputs: of each inference, the bytes of the model's output.
        read_back: the ranges of the arena that were asked for.
        stack_bytes: the most of the stack that was in use; `None` where that is not measured.
        instructions: executed from reset to exit; `None` where they are not counted.
        read_bytes, written_bytes: through the medium, by the store.
        by_steps: what all steps took, without the first load and the last save.
        by_inferences: what all inferences took.
        power_lost: whether the run was cut short as asked; then only `store` says something.
    """

    board: str
    emulator: str
    losses: tuple[float, ...]
    store: bytes
    outputs: tuple[bytes, ...] = ()
    read_back: tuple[bytes, ...] = ()
    stack_bytes: int | None = None
    instructions: int | None = None
    read_bytes: int = 0
    written_bytes: int = 0
    by_steps: Taken = Taken()
    by_inferences: Taken = Taken()
    power_lost: bool = False
