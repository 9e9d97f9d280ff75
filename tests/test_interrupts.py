import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from vaectl.base.interrupts import SIGNALS, asked_to_stop


@pytest.fixture(autouse=True)
def heeded() -> Iterator[None]:
    """Heed SIGHUP, which `nohup` tells the suite to ignore, and all that it starts."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
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


def test_the_end_of_a_terminal_may_be_told_twice() -> None:
    """By the system and by the shell, at about the same time."""
    before = signal.getsignal(signal.SIGHUP)
    with asked_to_stop() as asked:
        assert not asked()
        for _ in range(3):
            signal.raise_signal(signal.SIGHUP)
            assert asked()
    assert signal.getsignal(signal.SIGHUP) == before


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
        "import signal; from vaectl.base.interrupts import leave_at_once; leave_at_once()\n"
        f"signal.raise_signal({int(number)})\nprint('still here')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "error: interrupted\n")


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("within", [True, False])
def test_a_command_says_what_is_kept_while_there_is_something(number: int, within: bool) -> None:
    now, later = (f"signal.raise_signal({int(number)})", "pass")[:: 1 if within else -1]
    code = (
        "import signal; from vaectl.base.interrupts import leave_at_once, leaving\n"
        "leave_at_once(); parts = []\n"
        f"with leaving(lambda: str(len(parts)) + ' kept'): parts.append(1); {now}\n{later}"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    words = "; 1 kept" if within else ""
    assert (done.returncode, done.stderr) == (130, f"error: interrupted{words}\n")


def test_a_command_leaves_though_nobody_reads_what_it_says() -> None:
    code = (
        "import os, signal; from vaectl.base.interrupts import leave_at_once; leave_at_once()\n"
        "os.set_blocking(2, False)\n"
        "try:\n    while True: os.write(2, b' ' * 4096)\nexcept BlockingIOError: pass\n"
        "os.set_blocking(2, True)\n"
        "signal.raise_signal(signal.SIGTERM)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
    with process:
        try:
            assert process.wait(30) == 130
        finally:
            process.kill()


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_that_was_to_be_ignored_is(number: int) -> None:
    """As SIGINT is in what a script puts into the background."""
    code = (
        "import signal, sys; from vaectl.base.interrupts import asked_to_stop, leave_at_once\n"
        f"signal.signal({int(number)}, signal.SIG_IGN); leave_at_once()\n"
        f"with asked_to_stop() as asked: signal.raise_signal({int(number)}); print(asked())\n"
        f"signal.raise_signal({int(number)}); print('still here')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "False\nstill here\n", "")
