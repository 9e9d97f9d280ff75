import os
import signal
import subprocess
import sys
import threading

import pytest

from vaectl.interrupts import SIGNALS, asked_to_stop


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_is_noted_and_the_second_does_what_it_always_did(number: int) -> None:
    caught = []
    before = signal.signal(number, lambda *_: caught.append(1))
    try:
        with asked_to_stop() as asked:
            assert not asked()
            os.kill(os.getpid(), number)
            assert asked()
            assert not caught
            os.kill(os.getpid(), number)
            assert caught == [1]
        os.kill(os.getpid(), number)
        assert caught == [1, 1]
    finally:
        signal.signal(number, before)


def test_other_threads_leave_signals_alone() -> None:
    handlers: list[object] = []

    def run() -> None:
        with asked_to_stop() as asked:
            handlers.extend([signal.getsignal(signal.SIGINT), asked()])

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert handlers == [before, False]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_command_leaves_at_once_and_without_a_traceback(number: int) -> None:
    """In a process of its own, since this one is to go on."""
    code = (
        "import signal; from vaectl.interrupts import leave_at_once; leave_at_once()\n"
        f"signal.raise_signal({int(number)})\nprint('still here')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "error: interrupted\n")
