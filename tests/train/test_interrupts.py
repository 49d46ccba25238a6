import os
import signal
import threading

import pytest

from edgewise.train.interrupts import Interrupts


def ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_the_first_ctrl_c_waits_and_the_second_does_not() -> None:
    with Interrupts() as interrupts:
        assert not interrupts.requested
        ctrl_c()
        assert interrupts.requested
        with pytest.raises(KeyboardInterrupt):
            ctrl_c()


def test_the_handler_of_before_is_put_back_even_after_an_error() -> None:
    before = signal.getsignal(signal.SIGINT)
    inside = []

    def fail() -> None:
        inside.append(signal.getsignal(signal.SIGINT))
        raise ValueError("some error")

    with pytest.raises(ValueError, match="some error"), Interrupts():
        fail()
    assert inside[0] is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            ctrl_c()
            assert not interrupts.requested
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_another_thread_leaves_signals_alone() -> None:
    before, seen = signal.getsignal(signal.SIGINT), []

    def enter() -> None:
        with Interrupts() as interrupts:
            seen.append((interrupts.requested, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [(False, before)]
