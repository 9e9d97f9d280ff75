import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from tests.conftest import Vaectl
from vaectl import config
from vaectl.cli import progress
from vaectl.cli.busy import busy, counted
from vaectl.data.arrays import Dataset, Split
from vaectl.studies.engine import Engine
from vaectl.training import events
from vaectl.training.fit import Chunk, Epoch
from vaectl.training.program import TrainState

STATE = TrainState({}, None, None)  # type: ignore[arg-type]


def _started(member: str, step: int = 0) -> events.Started:
    """50,000 images in 10 steps, ten times."""
    split = Split(np.zeros((50_000, 1, 1, 1), np.uint8), None)
    dataset = Dataset("", (1, 1, 1), split, split, split)
    return events.Started(
        member, config.Config(batch_size=5000, epochs=10), dataset, Path("runs/a"), step
    )


def _epoch(number: int, member: str = "a") -> Epoch:
    means = {"elbo": -90.0, "kl": 25.0, "nll": 65.0}
    return Epoch(number, 10 * number, means, means, 0.5, 0.1, STATE, member)


def _watch_all(epochs: int, *, quiet: bool = False) -> None:
    with progress.watching(quiet=quiet) as watch:
        watch(events.Phase("reading digits-5k"))
        watch(events.Note("note: something"))
        watch(events.Planned(1, epochs))
        watch(_started("a"))
        for number in range(1, epochs + 1):
            watch(_epoch(number))


def test_without_a_terminal_there_are_plain_lines_now_and_then(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _watch_all(200)
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert lines[:2] == ["reading digits-5k", "note: something"]
    assert lines[2] == "epoch 1/200  ELBO train -90.00, validation -90.00  100,000 images/s"
    assert lines[-1].startswith("epoch 200/200")
    assert len(lines) == 4
    assert "\x1b" not in err


def test_plain_lines_tell_the_time_that_is_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter(range(100, 2000, 20))
    monkeypatch.setattr("time.monotonic", lambda: next(seconds))
    with progress.watching() as watch:
        # 20 seconds an epoch; the first is not counted, for it compiled
        watch(events.Planned(1, 200))
        watch(_started("a", step=100))
        for number in (11, 12):
            watch(_epoch(number))
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("epoch 11/200  ELBO train -90.00")
    assert first.endswith("images/s")
    assert second.endswith("images/s  1:02:40 left")


def test_the_epochs_of_all_members_are_added_up(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter(range(100, 2000, 20))
    monkeypatch.setattr("time.monotonic", lambda: next(seconds))
    with progress.watching() as watch:
        watch(events.Planned(4, 40))
        watch(events.Stopped("done before", "finished", epochs=10))
        watch(_started("adam"))
        watch(_epoch(1, "adam"))  # 100 s
        watch(_started("sgd"))  # beside it
        watch(_epoch(1, "sgd"))  # 120 s
        watch(_epoch(2, "adam"))  # 140 s
        watch(events.Stopped("sgd", "failed", "it diverged"))  # as if its epochs had been
        watch(events.Planned(5, 50))
        watch(_epoch(3, "adam"))  # 160 s: all that was counted before is no pace
        watch(_epoch(4, "adam"))
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition("  ")[0] for line in lines] == [
        "adam, 11/40 epochs in all",
        "sgd, 12/40 epochs in all",
        "adam, 13/40 epochs in all",
        "adam, 23/50 epochs in all",
        "adam, 24/50 epochs in all",
    ]
    lefts = [line.partition("images/s")[2].strip() for line in lines]
    assert lefts == ["", "0:09:20 left", "0:09:00 left", "", "0:08:40 left"]


def test_a_run_that_is_interrupted_is_not_at_its_end() -> None:
    sums = progress.Sums()
    for event in (events.Planned(1, 10), _started("a"), Chunk(1, 5, 5, {}, 0.1, STATE, "a")):
        sums.add(event)
    assert sums.done == 0.5
    assert not sums.add(events.Stopped("a", "interrupted"))
    assert sums.done == 0.5
    assert sums.add(events.Stopped("a", "failed"))
    assert sums.done == 10


def test_on_a_terminal_there_is_a_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    _watch_all(3)
    out, err = capsys.readouterr()
    assert out == ""
    assert "epoch 3/3" in err
    assert "ELBO train -90.00, validation -90.00" in err
    assert "note: something" in err


@pytest.mark.parametrize("columns", [60, 80, 100, 120])
def test_a_terminal_shows_who_trains_and_the_time_left_at_any_width(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(columns))
    console = Console(stderr=True, highlight=False, color_system=None, force_terminal=True)
    bar, watch = progress.tracking(console)
    watch(events.Planned(2, 20))
    for number in range(1, 9):
        watch(_started("adam-s1000"))
        watch(_epoch(number, "adam-s1000"))
    console.print(bar.get_renderable())
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "adam" in line]
    assert len(line.rstrip()) <= columns
    assert "adam-s1000, 8/20 epochs in all" in line
    assert re.search(r"-:--:--|\d:\d\d:\d\d", line)
    assert ("━" in line) == (columns >= 70)
    assert ("-90.00" in line) == (columns >= 80)
    assert ("images/s" in line) == (columns >= 120)


def test_names_are_no_markup(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    name = "npz:[/] [bold] {0} {x.npz"
    with progress.watching() as watch:
        watch(events.Phase(name))
        watch(events.Note(name))
    with busy(name) as tell:
        tell(name, 1, 2)
    assert capsys.readouterr().err.count(name) >= 4


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    _watch_all(3, quiet=True)
    assert capsys.readouterr() == ("", "")


def test_quiet_still_warns(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.watching(quiet=True) as watch:
        watch(events.Note("a note"))
        watch(events.Phase("a phase"))
        watch(events.Warned("mind the \x1b gap"))
    assert capsys.readouterr() == ("", "warning: mind the \\u001b gap\n")


def test_work_has_a_sign_on_a_terminal_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(**how: Any) -> str:
        with busy("loading", **how) as tell:
            tell("exporting")
            assert list(counted("abc", 3, "drawing", tell)) == ["a", "b", "c"]
        out, err = capsys.readouterr()
        assert out == ""
        return str(err)

    assert work() == work(quiet=True, lines=True) == ""
    assert work(lines=True) == "loading\nexporting\ndrawing\n"
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "3/3" in work()
    assert work(after=60.0) == work(quiet=True) == ""


def test_every_picture_has_a_sign_of_its_making(
    vaectl: Vaectl, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert runs.is_dir()
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    small = ("--rows", 1, "--steps", 2, "--width", 40)
    code, out, err = vaectl("morph", "z2", "--animate", *small)
    assert (code, out) == (0, "runs/z2/figures/morph.gif\n")
    assert "loading z2" in err
    assert "2/2" in err
    for command in ("sample", "explore", "curves"):
        code, out, err = vaectl(command, "z2")
        assert (code, bool(err)) == (0, True)
        assert out.splitlines()[-1].startswith("runs/z2/figures/")


def test_slow_members_are_told_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with progress.watching(apart=True) as watch:
        watch(events.Planned(8, 80))
        for member in "abcd":
            watch(_started(member))
        for member in "abc":
            now += 4
            watch(events.Stopped(member, "finished"))
            watch(_started(member * 2))
        assert "trained for" not in capsys.readouterr().err
        for _ in range(6):
            now += 5
            watch(events.Planned(8, 80))  # as while nothing happens
    slow = capsys.readouterr().err
    told = [
        part.split()[0] for part in slow.replace("\n", "; ").split("; ") if "trained for" in part
    ]
    assert told == ["d", "aa", "bb", "cc"]
    assert "median" in slow


def test_idle_workers_are_told_after_a_while_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    told: list[events.Event] = []
    nothing: Any = None
    task: Any = SimpleNamespace(watch=told.append)
    engine = Engine(nothing, task, nothing, lambda: False)
    for idle in (0, 2, 2, 2, 2, 0, 1):
        engine._tell_idle(idle, busy=1)
        now += 6
    (note,) = told
    assert isinstance(note, events.Note)
    assert "2 workers are idle" in note.text
