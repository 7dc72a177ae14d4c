"""An experiment that is deleted ends in order; the signal is sent to this very process."""

import os
import signal
import sys

import pytest
from artiq.experiment import TerminationRequested

from diqkd_node.run.deletion import DeletionGuard

posix_only = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")


def send_signal() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@posix_only
def test_a_call_that_waits_for_the_master_is_given_up():
    with DeletionGuard() as guard:
        assert guard.ask(lambda: 3, otherwise=4) == 3
        guard.raise_if_deleted()
        assert guard.ask(send_signal, otherwise=4) == 4
        with pytest.raises(TerminationRequested):
            guard.raise_if_deleted()
        assert guard.ask(pytest.fail, "called a master that does not answer any more", otherwise=5) == 5
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@posix_only
def test_the_signal_interrupts_nothing_but_calls_to_the_master():
    with DeletionGuard() as guard:
        send_signal()
        assert guard.deleted


def test_the_exit_that_a_master_answers_with_is_a_deletion():
    with DeletionGuard() as guard:
        assert guard.ask(sys.exit, otherwise=True) is True
        assert guard.deleted


@posix_only
def test_an_existing_handler_stays():
    received = []
    previous = signal.signal(signal.SIGTERM, lambda *_: received.append(1))
    try:
        with DeletionGuard() as guard:
            send_signal()
        assert received == [1] and not guard.deleted
    finally:
        signal.signal(signal.SIGTERM, previous)


def test_other_errors_come_through():
    with DeletionGuard() as guard, pytest.raises(ValueError, match="wrong"):
        guard.ask(int, "wrong")
