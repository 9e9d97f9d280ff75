import pytest

from vaectl.cli import progress
from vaectl.training import events
from vaectl.training.fit import Epoch
from vaectl.training.program import TrainState


def _epoch(number: int) -> Epoch:
    means = {"elbo": -90.0, "kl": 25.0, "nll": 65.0}
    return Epoch(number, 10 * number, means, means, 0.5, 0.1, TrainState({}, None, None))  # type: ignore[arg-type]


def _watch_all(epochs: int, *, quiet: bool = False) -> None:
    with progress.watching(quiet=quiet) as watch:
        watch(events.Phase("reading digits-5k"))
        watch(events.Note("note: something"))
        watch(events.Training(epochs, 50_000, 10))
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
        watch(events.Training(200, 50_000, 10, 100, "adam"))
        for number in (11, 12):
            watch(_epoch(number))
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("adam, 11/200 epochs in all  ELBO train -90.00")
    assert first.endswith("images/s")
    assert second.endswith("images/s  1:02:40 left")


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


def test_names_are_no_markup(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    name = "npz:[/] [bold] {0} {x.npz"
    with progress.watching() as watch:
        watch(events.Phase(name))
        watch(events.Note(name))
    with progress.counting(name) as count:
        count(1, 2)
    with progress.saying() as say:
        say(name)
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
