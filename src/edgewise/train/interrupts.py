"""Ctrl-C that waits for the end of a step: in the middle of one, parameters are part old, part new."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self


class Interrupts:
    """While entered, the first Ctrl-C only sets `requested`; a second one raises `KeyboardInterrupt` at once.

    Nothing is changed outside of the main thread, where no signal can be caught, nor where Ctrl-C is ignored.
    """

    def __init__(self) -> None:
        self.requested = False
        self._before: Any = None
        self._installed = False

    def __enter__(self) -> Self:
        ignored = (
            signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        )  # as for a job in the background of a shell
        if threading.current_thread() is threading.main_thread() and not ignored:
            self._before = signal.signal(signal.SIGINT, self._note)
            self._installed = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, self._before)
            self._installed = False

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 (a signal handler's signature)
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
