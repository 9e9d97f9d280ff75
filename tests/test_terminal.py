"""The standard streams: closed ones, and a terminal that goes away while it is written to."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

import vaectl as package
from vaectl.base.terminal import say, secure_streams
from vaectl.cli import progress
from vaectl.cli.busy import busy
from vaectl.training import events


def test_a_terminal_that_goes_away_fails_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a window is closed: each write to it is an error from then on."""
    monkeypatch.setenv("TERM", "xterm-256color")
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        secure_streams()
        with busy("loading") as tell:
            os.close(ours)
            tell("more")
        with progress.watching() as watch:
            watch(events.Note("best validation ELBO -90.00"))
        say("note: done")
        sys.stderr.write("a warning\n")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_open_on_nothing(closed: str, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from vaectl.base.terminal import secure_streams\n"
        "secure_streams()\n"
        "assert [each.fileno() for each in (sys.stdin, sys.stdout, sys.stderr)] == [0, 1, 2]\n"
        "assert sys.stdin.read() == '' and not sys.stdin.isatty()\n"
        "for each in (sys.stdout, sys.stderr): print('text', file=each, flush=True)\n"
        "open('done', 'w').close()"
    )
    process = subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(package.__file__).parent.parent)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    assert process.returncode == 0, process.stderr
    assert (tmp_path / "done").exists()
    assert process.stdout == (b"" if ">&- 2" in closed or closed == ">&-" else b"text\n")
