"""Sinks: what they get, and that no training is stopped, failed or changed by one."""

import contextlib
import io
import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

import vaectl as package
from tests import apart, trackers
from tests.conftest import Vaectl, assert_equal_runs, cut_off
from tests.tensorboard import curve, shown
from vaectl import config, data, experiment, sinks
from vaectl.base import plugins
from vaectl.base.errors import ConfigError, DivergedError, InterruptedRunError, RunError
from vaectl.base.files import Folder
from vaectl.follow import follow, replay
from vaectl.runs import belongings, film
from vaectl.runs.directory import RunDir
from vaectl.runs.metrics import Row
from vaectl.sinks import _identity
from vaectl.sinks.base import Log, Pictures, Results, Sink, Status, Training
from vaectl.sinks.film import Film
from vaectl.sinks.mlflow import MLflow
from vaectl.sinks.tensorboard import TensorBoard
from vaectl.training import events
from vaectl.training.fit import Epoch
from vaectl.training.program import TrainState

EXAMPLE = Path(__file__).parent.parent / "configs" / "examples" / "json_lines.py"
TINY = {
    "epochs": 4,
    "data": {"train_size": 300, "validation_size": 50},
    "model": {"code_size": 2, "hidden_size": 8},
    "checkpoint": {"every": 2},
}
OPTIONS = (
    *("--epochs", "4", "--code-size", "2", "--hidden-size", "8"),
    *("--set", "data.train_size=300", "--set", "data.validation_size=50"),
    *("--set", "checkpoint.every=2", "-q"),
)


def _settings(**changes: object) -> config.Config:
    return config.Config.model_validate({**TINY, **changes})


@pytest.fixture(autouse=True)
def _forget_what_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of the command line begins with the plugs that are built in."""
    built_in = {k: v for k, v in Sink.known.items() if v.__module__.startswith("vaectl.")}
    monkeypatch.setattr(Sink, "known", built_in)
    monkeypatch.setattr(plugins, "_files", {})


class _Sink(Sink):
    """Notes what it gets; does something at one of its calls."""

    at: str = ""
    """`open`, `write 2`, `close`, or `draw`: where `act` is called."""
    act: Callable[[], Any] = lambda: None
    calls: list[Any] = []  # noqa: RUF012  # pydantic copies it
    every: int | None = None

    @property
    def pictures_every(self) -> int | None:
        return self.every

    def open(self, training: Training) -> Log:
        self.note("open", training)
        return _Log(self, training.name)

    def note(self, call: str, what: object) -> None:
        self.calls.append((call, what))
        if call == self.at:
            self.act()


_Sink.name = "noting"


class _Log:
    def __init__(self, sink: _Sink, name: str) -> None:
        self._sink, self._name = sink, name

    def write(self, results: Results) -> None:
        self._sink.note(f"write {results.epoch}", (self._name, results))

    def close(self, status: Status) -> None:
        self._sink.note("close", (self._name, status))


def _train(
    runs: Path, name: str, sink: Sink | None, *, patience: float = 60.0, **changes: object
) -> list[str]:
    """Train with a sink; return the warnings."""
    warned: list[str] = []

    def watch(event: events.Event) -> None:
        assert threading.current_thread() is threading.main_thread()
        if isinstance(event, events.Warned):
            warned.append(event.text)

    with follow([sink] if sink else [], watch, patience=patience) as told:
        experiment.run(_settings(**changes), runs_dir=runs, name=name, watch=told)
    return warned


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs directory with one run, followed by TensorBoard, and the same one without."""
    runs = tmp_path_factory.mktemp("logged") / "runs"
    assert _train(runs, "a", TensorBoard(images_every=3)) == []
    assert _train(runs, "bare", None) == []
    return runs


def test_tensorboard_has_every_number_of_every_epoch(logged: Path) -> None:
    rows = RunDir(logged / "a").read_metrics()
    for quantity in ("elbo", "kl", "nll", "seconds"):
        for split in ("train", "validation"):
            expected = {row.step: row.flat()[quantity] for row in rows if row.split == split}
            found = curve(logged / "a" / "tensorboard", f"{quantity}/{split}")
            assert found == pytest.approx(expected, abs=1e-3)
            assert [*found] == [3, 6, 9, 12]


def test_tensorboard_has_pictures_and_hyperparameters(logged: Path) -> None:
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

    found = shown(logged / "a" / "tensorboard")
    for tag in ("samples", "reconstructions"):
        assert 12 in found[tag]  # the last epoch
        assert {*found[tag]} <= {9, 12}
        image = found[tag][12].image
        assert (image.height, image.width) == (2 * 28, 8 * 28)
        assert image.encoded_image_string.startswith(b"\x89PNG")
    start = found["_hparams_/session_start_info"][0].metadata.plugin_data.content
    told = HParamsPluginData.FromString(start).session_start_info.hparams
    assert told["model.code_size"].number_value == 2
    assert told["optimizer.name"].string_value == "adam"
    assert told["epochs"].number_value == 4
    assert "_hparams_/session_end_info" in found


def test_a_run_that_is_followed_is_the_same_run(logged: Path) -> None:
    assert_equal_runs(logged / "a", logged / "bare")
    configs = [(logged / name / "config.yaml").read_text() for name in ("a", "bare")]
    assert configs[0] == configs[1].replace("bare", "a")
    assert "tensorboard" not in (logged / "a" / "run.json").read_text()


def test_pictures_are_of_the_model_of_their_epoch(logged: Path, tmp_path: Path) -> None:
    sink = _Sink(every=4)
    _train(tmp_path, "a", sink)
    [(_, written)] = [what for call, what in sink.calls if call == "write 4"]
    model = package.load(logged / "a", "latest")
    np.testing.assert_array_equal(written.pictures.samples[..., 0], model.sample(16))
    images = np.asarray(model.split("validation").images[:8])
    np.testing.assert_array_equal(written.pictures.images, images / np.float32(255))
    made = model.reconstruct(images)
    np.testing.assert_array_equal(written.pictures.reconstructions[..., 0], made)


def test_a_sink_gets_all_of_a_training_in_order(tmp_path: Path) -> None:
    sink = _Sink()
    _train(tmp_path, "a", sink)
    calls = [call for call, _ in sink.calls]
    assert calls == ["open", *(f"write {epoch}" for epoch in range(1, 5)), "close"]
    training = sink.calls[0][1]
    assert training[:4] == ("a", tmp_path / "a", _settings(), 0)
    assert [what.step for _, (_, what) in sink.calls[1:-1]] == [3, 6, 9, 12]
    assert sink.calls[-1][1] == ("a", "finished")


STOPS: dict[str, Any] = {"epochs": 6, "early_stopping": {"patience": 2, "min_delta": 1e6}}


@pytest.mark.parametrize("every", [None, 2, 6])
def test_a_training_that_stops_early_has_pictures_of_its_last_epoch(
    every: int | None, tmp_path: Path
) -> None:
    sink = _Sink(every=every)
    _train(tmp_path, "a", sink, **STOPS)
    written = [what[1] for call, what in sink.calls if call.startswith("write")]
    if every is None:
        assert [each.epoch for each in written] == [1, 2, 3]
        return
    assert [each.epoch for each in written] == [1, 2, 3, 3]
    assert all(each.pictures is None for each in written if each.epoch in (1, 3) and each.rows)
    last = written[-1]
    assert last.rows == ()
    np.testing.assert_array_equal(
        last.pictures.samples[..., 0], package.load(tmp_path / "a", "latest").sample(16)
    )
    assert sink.calls[-1] == ("close", ("a", "finished"))


def test_every_sink_takes_pictures_after_their_epoch(tmp_path: Path) -> None:
    _train(tmp_path, "a", TensorBoard(images_every=6), **STOPS)
    found = shown(tmp_path / "a" / "tensorboard")
    assert ([*found["elbo/train"]], [*found["samples"]]) == ([3, 6, 9], [9])
    _train(tmp_path, "b", Film(frames=2), **STOPS)
    assert film.steps(Folder(tmp_path / "b" / "film"))[-1] == 9


@pytest.mark.parametrize("misses", [True, False])
def test_pictures_that_are_left_out_are_counted(
    misses: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Sink, "misses_pictures", misses)
    release = threading.Event()
    sink = _Sink(at="write 1", act=lambda: release.wait(60), every=1)
    warned: list[str] = []

    def watch(event: events.Event) -> None:
        if isinstance(event, events.Warned):
            warned.append(event.text)
        if isinstance(event, Epoch) and event.epoch == 4:
            release.set()

    with follow([sink], watch) as told:
        experiment.run(_settings(), runs_dir=tmp_path, name="a", watch=told)
    assert len(warned) == misses
    for text in warned:
        assert "pictures of 2 epochs are left out" in text
        assert "export-log RUN --to noting" in text
    drawn = [call for call, what in sink.calls if call[:5] == "write" and what[1].pictures]
    assert drawn == ["write 1", "write 4"]


def test_a_training_that_diverges_ends_its_log(tmp_path: Path) -> None:
    sink = _Sink()
    with pytest.raises(DivergedError):
        _train(tmp_path, "a", sink, optimizer={"name": "sgd", "learning_rate": 1e9})
    assert sink.calls[-1] == ("close", ("a", "failed"))


def _raise() -> None:
    raise ZeroDivisionError("a bug")


POINTS = ["open", "write 1", "write 4", "close"]


@pytest.mark.parametrize(("at", "act"), [*((at, _raise) for at in POINTS), ("write 4", sys.exit)])
def test_a_sink_that_raises_is_disabled_and_nothing_else(
    at: str, act: Callable[[], Any], logged: Path, tmp_path: Path
) -> None:
    sink = _Sink(at=at, act=act, every=1)
    warned = _train(tmp_path, "a", sink)
    assert len(warned) == 1
    assert "the sink noting failed: " in warned[0]
    assert ("ZeroDivisionError: a bug" in warned[0]) == (act is _raise)
    assert sink.calls[-1][0] == at
    assert_equal_runs(tmp_path / "a", logged / "bare")


@pytest.mark.parametrize("at", ["open", "close"])
def test_a_sink_that_hangs_is_left_behind(at: str, logged: Path, tmp_path: Path) -> None:
    release = threading.Event()
    sink = _Sink(at=at, act=release.wait)
    began = time.monotonic()
    warned = _train(tmp_path, "a", sink, patience=0.3)
    took = time.monotonic() - began
    assert not release.is_set()
    assert len(warned) == 1
    assert "did not end within 0.3 s" in warned[0]
    assert took < 300  # and not for ever
    assert RunDir(tmp_path / "a").read_record().status == "finished"
    assert_equal_runs(tmp_path / "a", logged / "bare")
    release.set()


def test_a_sink_without_the_memory_for_pictures_is_disabled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise MemoryError("RESOURCE_EXHAUSTED")

    monkeypatch.setattr("vaectl.follow._Member.model", full)
    warned = _train(tmp_path, "a", _Sink(every=2))
    assert len(warned) == 1
    assert "RESOURCE_EXHAUSTED" in warned[0]


SPLIT = data.load(config.Config.model_validate(TINY).data)


def _started(member: str, directory: Path | None, step: int = 0) -> events.Started:
    return events.Started(member, _settings(), SPLIT, directory, step)


def _epoch(member: str, epoch: int) -> Epoch:
    means = {"elbo": -90.0, "kl": 25.0, "nll": 65.0}
    state = TrainState({}, None, None)  # type: ignore[arg-type]
    return Epoch(epoch, 3 * epoch, means, means, 0.5, 0.1, state, member)


def test_members_that_train_side_by_side_are_kept_apart(tmp_path: Path) -> None:
    sink = _Sink()
    with follow([sink], events.ignore) as tell:
        tell(_started("a", tmp_path / "a"))
        tell(_started("b", tmp_path / "b", 6))
        tell(_started("without a run", None))
        for member in ("a", "b", "without a run"):
            tell(_epoch(member, 3))
        tell(events.Stopped("b", "failed", "it diverged"))
        assert sink.calls[-1] == ("close", ("b", "failed"))  # before anything is done with its run
        tell(_epoch("a", 4))
        tell(events.Stopped("without a run", "finished"))
        tell(events.Stopped("done before", "finished"))
    opened = [what[:2] + what[3:4] for call, what in sink.calls if call == "open"]
    assert opened == [("a", tmp_path / "a", 0), ("b", tmp_path / "b", 6)]
    written = [(what[0], what[1].epoch) for call, what in sink.calls if call.startswith("write")]
    assert written == [("a", 3), ("b", 3), ("a", 4)]
    assert sink.calls[-1] == ("close", ("a", "interrupted"))  # nobody said how it ended


def test_a_slow_sink_loses_epochs_and_holds_no_more_than_it_may() -> None:
    release = threading.Event()
    sink = _Sink(at="write 1", act=release.wait)
    warned: list[events.Event] = []
    with follow([sink], warned.append, most=3) as tell:
        tell(_started("a", Path("a")))
        for epoch in range(1, 50):
            tell(_epoch("a", epoch))
        release.set()
        tell(events.Stopped("a", "finished"))
    slow = [event for event in warned if isinstance(event, events.Warned)]
    assert len(slow) == 1
    assert "too slow" in slow[0].text
    assert sink.calls[-1] == ("close", ("a", "finished"))
    assert 2 <= len(sink.calls) <= 2 + 5


@pytest.mark.parametrize("full", [True, False])
def test_the_end_of_a_member_waits_once_for_a_sink_that_hangs(
    full: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock of the test: its queue takes 2 s for a job, or has no place for it."""
    now = 100.0

    def wait(seconds: float | None) -> None:
        nonlocal now
        now += seconds or 0.0

    class Slow(queue.Queue[object]):
        def put(self, item: object, block: bool = True, timeout: float | None = None) -> None:  # noqa: ARG002
            wait(timeout if full else min(timeout or 0.0, 2.0))
            if full:
                raise queue.Full

        def full(self) -> bool:
            return True

    class Never(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            wait(timeout)
            return False

    clock = SimpleNamespace(monotonic=lambda: now, time=time.time)
    for name, fake in (("Queue", Slow), ("Flag", Never), ("time", clock)):
        monkeypatch.setattr(f"vaectl.follow.{name}", fake)
    warned: list[events.Event] = []
    with follow([_Sink()], warned.append, patience=10.0) as tell:
        tell(_started("a", Path("a")))
        before = now
        tell(events.Stopped("a", "finished"))
        assert now - before == pytest.approx(10.0)
    assert any("did not end within 10 s" in str(event) for event in warned)


def test_one_sink_that_fails_leaves_another_alone(tmp_path: Path) -> None:
    bad, good = _Sink(at="open", act=_raise), _Sink()
    with follow([bad, good], events.ignore) as watch:
        experiment.run(_settings(), runs_dir=tmp_path, name="a", watch=watch)
    assert len(good.calls) == 6


def test_it_costs_the_training_no_copy_where_no_pictures_are_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[object] = []
    monkeypatch.setattr("vaectl.follow._Member.model", lambda *given: copied.append(given))
    _train(tmp_path, "a", _Sink())
    assert copied == []


def test_a_resumed_run_has_no_point_twice(tmp_path: Path) -> None:
    """It goes on twice from one checkpoint: what was logged after that is another training's."""
    sink = TensorBoard(images_every=1)

    def stop(event: events.Event) -> None:
        if isinstance(event, Epoch) and event.epoch == 2:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(InterruptedRunError), follow([sink], stop) as watch:
        experiment.run(_settings(), runs_dir=tmp_path, name="a", watch=watch)
    run = RunDir(tmp_path / "a")
    shutil.copytree(run.path / "checkpoints", tmp_path / "kept")
    for epochs in (4, 5):
        shutil.rmtree(run.path / "checkpoints")
        shutil.copytree(tmp_path / "kept", run.path / "checkpoints")
        with follow([sink], events.ignore) as watch:
            experiment.resume(run, _settings(epochs=epochs), extend=True, watch=watch)
    assert run.read_record().epoch == 5
    found = curve(run.path / "tensorboard", "elbo/validation")
    rows = [row for row in run.read_metrics() if row.split == "validation"]
    assert found == pytest.approx({row.step: row.terms["elbo"] for row in rows}, abs=1e-4)


def test_the_files_that_a_sink_declares_are_removed_with_the_run(tmp_path: Path) -> None:
    class Keeps(Sink, name="keeps"):
        """A sink with two folders of its own."""

        def open(self, training: Training) -> Log:
            raise AssertionError(training)

        leaves: ClassVar[dict[str, dict[str, bytes]]] = {
            "kept": {r"\d+\.txt": rb"mine "},
            "more": {r".*": rb"mine "},
        }

    run = tmp_path / "a"
    files = ("kept/1.txt", "kept/note.txt", "kept/2.txt", "more/x", "other/1.txt", "3.txt")
    for name in files:
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("not mine" if name == "kept/2.txt" else "mine 1")
    left = belongings.clear(Folder(run))
    assert {Path(path).relative_to(run).as_posix() for path in left} == {
        *("kept/note.txt", "kept/2.txt", "other", "3.txt")
    }
    assert not (run / "kept/1.txt").exists()
    assert not (run / "more").exists()


def test_logs_are_removed_by_whoever_has_imported_no_sink(logged: Path, tmp_path: Path) -> None:
    shutil.copytree(logged / "a", tmp_path / "a")
    code = (
        "from pathlib import Path\nfrom vaectl.base.files import Folder\n"
        "from vaectl.runs import belongings\n"
        f"print(belongings.remove_run(Folder(Path({str(tmp_path)!r})), 'a'))"
    )
    assert apart.run("-c", code).stdout == "[]\n"
    assert not (tmp_path / "a").exists()


def test_a_link_in_the_place_of_the_log_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def watch(event: events.Event) -> None:
        if isinstance(event, events.Phase) and event.text == "compiling":
            (tmp_path / "a" / "tensorboard").symlink_to(elsewhere)
        if isinstance(event, events.Warned):
            warned.append(event.text)

    warned: list[str] = []
    with follow([TensorBoard()], watch) as told:
        experiment.run(_settings(epochs=1), runs_dir=tmp_path, name="a", watch=told)
    assert "link" in warned[0]
    assert [*elsewhere.iterdir()] == []


# by the command line


def test_a_run_is_logged_by_the_command_line_and_replaced_with_its_log(vaectl: Vaectl) -> None:
    answer = vaectl("train", *OPTIONS, "--name", "a", "--log", "tensorboard:images_every=2")
    assert (answer.code, answer.err) == (0, "")
    logs = Path("runs/a/tensorboard")
    first = [*logs.iterdir()]
    assert len(first) == 1
    alien = logs / "events.out.tfevents.1700000000.mine"
    alien.write_bytes(first[0].read_bytes())
    (logs / "events.out.tfevents.0000000007.vaectl").write_text("not as vaectl begins it")
    again = vaectl("train", *OPTIONS, "--name", "a", "--force")
    assert again.code == 0
    assert not first[0].exists()
    before = [*logs.iterdir()]
    assert len(before) == 2
    for file in before:
        assert f"{file}: not vaectl's, and left alone" in again.err
    # one that goes on begins after what is there
    assert vaectl("train", "--resume", "a", "--epochs", "5", "-q", "--log", "tensorboard").code == 0
    for file in before:
        file.unlink()
    assert [*curve(logs, "elbo/train")] == [15]


def test_a_file_of_that_name_is_left_alone(vaectl: Vaectl) -> None:
    assert vaectl("train", *OPTIONS, "--name", "a").code == 0
    Path("runs/a/tensorboard").write_text("mine")
    answer = vaectl("train", *OPTIONS, "--name", "a", "--force", "--log", "tensorboard")
    assert answer.code == 0
    assert "runs/a/tensorboard: not vaectl's, and left alone" in answer.err
    assert "the sink tensorboard failed" in answer.err
    assert Path("runs/a/tensorboard").read_text() == "mine"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("tensorbord", "did you mean tensorboard?"),
        ("", "should be one of film, "),
        ("tensorboard:image_every=2", "did you mean images_every?"),
        ("tensorboard:images_every=0", "images_every: should be at least 1"),
        ("tensorboard:images_every=often", "whole number"),
        ("tensorboard:images_every", "not of the form KEY=VALUE"),
        ("tensorboard:images_every=[", "not valid YAML"),
        ("tensorboard:images_every=2,images_every=3", "images_every comes twice"),
    ],
)
@pytest.mark.parametrize(
    "command", [("train", "--log"), ("compare-optimizers", "--log"), ("export-log", "a", "--to")]
)
def test_what_is_no_sink_is_refused_before_anything_is_done(
    command: tuple[str, ...], text: str, told: str, vaectl: Vaectl
) -> None:
    answer = vaectl(*command, text)
    assert answer.code == 2
    assert f"{command[-1]} {text}: " in answer.err
    assert told in answer.err
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    "command", [("train", "--log"), ("compare-optimizers", "--log"), ("export-log", "a", "--to")]
)
def test_without_tensorboardx_it_says_what_to_install(
    command: tuple[str, ...], vaectl: Vaectl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vaectl.base.plugs.find_spec", lambda _: None)
    answer = vaectl(*command, "tensorboard")
    assert answer.code == 2
    assert "pip install 'vaectl[tensorboard]'" in answer.err
    assert not Path("runs").exists()


def test_settings_may_hold_commas_and_null() -> None:
    assert sinks.parse("tensorboard:images_every=null") == TensorBoard(images_every=None)
    assert sinks.parse("tensorboard") == TensorBoard()
    with pytest.raises(ConfigError, match=r"images_every: should be a whole number, not '2,x'"):
        sinks.parse("tensorboard:images_every=2,x")


def test_a_sink_of_ones_own_follows_resumes_and_is_filled_in(vaectl: Vaectl) -> None:
    plugin = ("--plugin", EXAMPLE)
    answer = vaectl("train", *OPTIONS, "--name", "a", *plugin, "--log", "json_lines")
    assert (answer.code, answer.err) == (0, "")
    resume = ("--resume", "a", "--epochs", "6", "-q")
    assert vaectl("train", *resume, *plugin, "--log", "json_lines").code == 0
    lines = [json.loads(line) for line in Path("runs/a/results.jsonl").read_text().splitlines()]
    run = package.open_run("a")
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4, 5, 6]
    told = [line[split]["elbo"] for line in lines for split in ("train", "validation")]
    assert told == pytest.approx(run.metrics["elbo"], abs=1e-5)
    answer = vaectl("export-log", "a", *plugin, "--to", "json_lines:file=all.jsonl", "-q")
    assert answer[:2] == (0, "runs/a\n")
    assert len(Path("runs/a/all.jsonl").read_text().splitlines()) == 6
    assert run.record.plugs == []  # the run needs it for nothing

    with Path("runs/a/results.jsonl").open("a") as file:
        file.write('{"epoch": 7, "st')  # as a crash leaves it
    again = ("--resume", "a", "--epochs", "7", "-q", *plugin, "--log", "json_lines")
    answer = vaectl("train", *again)
    assert (answer.code, answer.err) == (0, "")
    lines = [json.loads(line) for line in Path("runs/a/results.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4, 5, 6, 7]
    answer = vaectl("train", *OPTIONS, "--name", "a", "--force", *plugin)
    assert (answer.code, answer.err) == (0, "")
    assert not [*Path("runs/a").glob("*.jsonl")]


def test_a_sink_of_an_installed_package_is_found(tmp_path: Path) -> None:
    site = tmp_path / "site"
    (site / "json_lines-1.dist-info").mkdir(parents=True)
    shutil.copy(EXAMPLE, site / "installed_sink.py")
    (site / "json_lines-1.dist-info" / "METADATA").write_text("Name: json-lines\nVersion: 1\n")
    (site / "json_lines-1.dist-info" / "entry_points.txt").write_text(
        "[vaectl.sinks]\njson_lines = installed_sink:JSONLines\n"
    )
    code = "from vaectl import sinks; print(repr(sinks.parse('json_lines:file=x')))"
    done = apart.run("-c", code, env={"PYTHONPATH": f"{site}:{apart.ROOT}"})
    assert done.stdout == "JSONLines(file='x')\n"


def test_from_python(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mine, bad = _Sink(), _Sink(at="write 2", act=_raise)
    run = package.train(TINY, name="a", runs_dir=tmp_path, sinks=[mine, "tensorboard", bad])
    assert len(mine.calls) == 6
    assert [*curve(run.path / "tensorboard", "elbo/train")] == [3, 6, 9, 12]
    assert [record.message.count("ZeroDivisionError") for record in caplog.records] == [1]
    with pytest.raises(ConfigError, match="did you mean"):
        package.train(TINY, runs_dir=tmp_path, sinks=["tensorbord"])


def test_a_run_that_is_over_is_filled_in(logged: Path, vaectl: Vaectl) -> None:
    shutil.copytree(logged, "runs")
    answer = vaectl("export-log", "bare", "--to", "tensorboard")
    assert (answer.code, answer.out) == (0, "runs/bare\n")
    assert answer.err == "writing the log of bare\n"
    live, filled = (shown(Path("runs") / name / "tensorboard") for name in ("a", "bare"))
    assert {*live} == {*filled}
    for tag in ("elbo/train", "kl/validation", "nll/train", "seconds/validation"):
        theirs = {step: value.simple_value for step, value in live[tag].items()}
        ours = {step: value.simple_value for step, value in filled[tag].items()}
        if not tag.startswith("seconds"):
            assert ours == pytest.approx(theirs, abs=1e-4)
        assert [*ours] == [*theirs]
    for tag in ("samples", "reconstructions"):  # the last epoch has a checkpoint
        assert filled[tag][12] == live[tag][12]
    contents = [file.read_bytes() for file in Path("runs/bare/tensorboard").iterdir()]
    assert vaectl("export-log", "runs/bare", "--to", "tensorboard", "-q").code == 0
    assert [file.read_bytes() for file in Path("runs/bare/tensorboard").iterdir()] == contents


def test_filling_in_a_log_keeps_the_pictures_of_epochs_without_a_checkpoint(
    logged: Path, tmp_path: Path
) -> None:
    run = RunDir(Path(shutil.copytree(logged / "bare", tmp_path / "bare")))
    logs = run.path / "tensorboard"
    pictures = Pictures(*(np.full((2, 28, 28, 1), level, np.float32) for level in (0, 0.5, 1)))
    log = TensorBoard().open(Training("bare", run.path, _settings(), 0, 1e9))
    for epoch, step in ((1, 3), (4, 12), (9, 27)):  # the last one is not of this run
        log.write(Results(epoch, step, 1e9, [], pictures))
    log.close("failed")
    [old] = logs.iterdir()
    kept = shown(logs)
    # half a record at the end, as of a training that was killed
    old.write_bytes(old.read_bytes() + old.read_bytes()[:20])

    class Breaks(TensorBoard):
        """One whose last epoch cannot be written."""

        def open(self, training: Training) -> Log:
            log = super().open(training)
            write = log.write
            log.write = lambda results: _raise() if results.epoch == 4 else write(results)  # type: ignore[method-assign]
            return log

    content = old.read_bytes()
    with pytest.raises(RunError, match="ZeroDivisionError"):
        replay(run, Breaks(), events.ignore)
    assert [file.read_bytes() for file in logs.iterdir()] == [content]
    replay(run, TensorBoard(images_every=1), events.ignore)
    assert not old.exists()
    found = shown(logs)
    assert [*found["elbo/train"]] == [3, 6, 9, 12]
    for tag in ("samples", "reconstructions"):
        assert {3, 12} <= {*found[tag]} <= {3, 6, 9, 12}
        assert found[tag][3] == kept[tag][3]
        assert found[tag][12] != kept[tag][12]  # it has a checkpoint


def test_filling_in_a_log_says_what_it_cannot_have(logged: Path, vaectl: Vaectl) -> None:
    shutil.copytree(logged, "runs")
    [damaged, *_] = sorted(Path("runs/a/checkpoints").glob("*/d/*"))
    damaged.write_bytes(b"?" * damaged.stat().st_size)
    answer = vaectl("export-log", "a", "--to", "tensorboard")
    assert answer.code == 0
    assert "warning: no pictures of epoch" in answer.err
    assert [*curve(Path("runs/a/tensorboard"), "elbo/train")] == [3, 6, 9, 12]
    with RunDir(Path("runs/a")).lock():
        answer = vaectl("export-log", "a", "--to", "tensorboard")
    assert answer.code == 4
    assert "another process writes in it" in answer.err
    assert vaectl("export-log", "nothing", "--to", "tensorboard").code == 4
    text = EXAMPLE.read_text().replace("json.dumps", "1 / 0 * json.dumps")
    Path("broken.py").write_text(text.replace('"json_lines"', '"broken"'))
    answer = vaectl("export-log", "a", "--plugin", "broken.py", "--to", "broken")
    assert answer.code == 4
    assert "runs/a: the sink broken failed: ZeroDivisionError" in answer.err


@pytest.mark.parametrize("at", ["write 1", "write 4"])
def test_a_log_that_is_cut_short_is_not_marked_as_finished(at: str, logged: Path) -> None:
    sink = _Sink(at=at, act=_raise)
    with pytest.raises(RunError, match="ZeroDivisionError: a bug"):
        replay(RunDir(logged / "bare"), sink, events.ignore)
    assert sink.calls[-1] == ("close", ("bare", "failed"))


def test_a_member_that_is_damaged_leaves_the_logs_of_the_others(
    vaectl: Vaectl, finished: Path
) -> None:
    shutil.copytree(finished, "runs/c")
    for name in ("adam-s0", "sgd-s0"):
        Path(f"runs/c/{name}/run.json").write_text("{}")
    answer = vaectl("export-log", "c", "--to", "tensorboard", "-q")
    assert answer.code == 4
    assert answer.out.split() == ["runs/c/adam-s1", "runs/c/sgd-s1"]
    for name in ("adam-s0", "sgd-s0"):
        assert f"runs/c/{name}/run.json: " in answer.err


needs_mlflow = pytest.mark.skipif(
    find_spec("mlflow") is None, reason="pip install 'vaectl[mlflow]'"
)


@needs_mlflow
@pytest.mark.usefixtures("trackers")
def test_mlflow_has_every_number_and_a_resume_goes_on_in_the_same_run(tmp_path: Path) -> None:
    sink = MLflow(images_every=4)
    assert _train(tmp_path, "a", sink) == []
    run = tmp_path / "a"
    first = trackers.identity(run, "mlflow")
    cut = tmp_path / "cut"
    cut_off(run, cut, 2)
    with follow([sink], events.ignore) as told:
        experiment.resume(RunDir(cut), _settings(), watch=told)
    assert trackers.identity(cut, "mlflow") == first
    for quantity in ("elbo", "kl", "nll"):
        for split in ("train", "validation"):
            rows = RunDir(run).read_metrics()
            expected = {row.step: row.terms[quantity] for row in rows if row.split == split}
            found = trackers.mlflow_curve(cut, f"{quantity}/{split}")
            assert found == pytest.approx(expected, abs=1e-5)
    client = trackers.mlflow_client()
    held = client.get_run(first)
    assert held.info.status == "FINISHED"
    assert (held.data.params["model.code_size"], held.data.tags["epochs"]) == ("2", "4")
    assert [file.path for file in client.list_artifacts(first, "samples")] == ["samples/000004.png"]
    replay(RunDir(run), MLflow(images_every=None), events.ignore)
    assert trackers.identity(run, "mlflow") == first
    assert len(trackers.mlflow_curve(run)) == 4


@needs_mlflow
@pytest.mark.usefixtures("trackers")
def test_mlflow_goes_on_in_a_new_run_if_numbers_differ(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    training = Training("a", tmp_path / "a", _settings(), step=0, time=1.0)
    found = []
    for numbers in ((-9.0, -8.0), (-9.0, -7.0)):
        log = MLflow().open(training)
        for epoch, elbo in enumerate(numbers, 1):
            row = Row(epoch, epoch, "validation", {"elbo": elbo}, 1.0)
            log.write(Results(epoch, epoch, 2.0, [row]))
        log.close("finished")
        assert [*trackers.mlflow_curve(tmp_path / "a").values()] == [*numbers]
        held = trackers.mlflow_client().get_run(trackers.identity(tmp_path / "a", "mlflow"))
        found.append(held)
    assert found[0].info.run_id != found[1].info.run_id
    assert found[0].data.params == found[1].data.params
    assert [held.data.tags["epochs"] for held in found] == ["4", "4"]


@pytest.mark.parametrize("channels", [2, 4])
def test_pictures_of_any_channels_are_shown(channels: int, tmp_path: Path) -> None:
    """A source of a user may have others than grey and RGB."""
    images = np.full((2, 5, 6, channels), 0.5, np.float32)
    images[..., 0] = 1
    (tmp_path / "a").mkdir()
    log = TensorBoard().open(Training("a", tmp_path / "a", _settings(), step=0, time=1.0))
    log.write(Results(1, 1, 2.0, [], Pictures(images, images, images)))
    log.close("finished")
    picture = shown(tmp_path / "a" / "tensorboard")["samples"][1].image
    pixels = np.asarray(Image.open(io.BytesIO(picture.encoded_image_string)))
    assert pixels.shape == (10, 6, 3)
    assert {*np.unique(pixels).tolist()} == {int(255 * (1 + (channels - 1) / 2) / channels)}


@needs_mlflow
@pytest.mark.usefixtures("trackers")
def test_mlflow_takes_pictures_after_their_epoch(tmp_path: Path) -> None:
    assert _train(tmp_path, "a", MLflow(images_every=6), **STOPS) == []
    run, client = trackers.identity(tmp_path / "a", "mlflow"), trackers.mlflow_client()
    assert [file.path for file in client.list_artifacts(run, "samples")] == ["samples/000003.png"]
    assert len(trackers.mlflow_curve(tmp_path / "a")) == 3
    assert client.get_run(run).info.status == "FINISHED"


@needs_mlflow
@pytest.mark.parametrize("kind", ["down", "hangs"])
def test_a_server_that_does_not_answer_costs_a_warning_and_nothing_else(
    kind: str, logged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is filled in afterwards, when there is one."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        uri = f"http://127.0.0.1:{server.getsockname()[1]}"
        if kind == "down":
            server.close()
        warned = _train(tmp_path, "a", MLflow(uri=uri))
    assert len(warned) == 1
    assert "does not answer" in warned[0]
    assert "vaectl export-log RUN --to mlflow" in warned[0]
    assert_equal_runs(tmp_path / "a", logged / "bare")


@pytest.mark.full
@needs_mlflow
@pytest.mark.skipif(shutil.which("mlflow") is None, reason="there is no mlflow server")
def test_a_real_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ["mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{tmp_path}/m.db"]
    command += ["--artifacts-destination", str(tmp_path / "artifacts")]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    log = (tmp_path / "log").open("w")
    with log, subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True) as server:
        try:
            for _ in range(240):
                time.sleep(0.5)
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
            else:
                pytest.skip("mlflow-skinny alone has no server: pip install mlflow")
            assert _train(tmp_path, "a", MLflow()) == []
            assert len(trackers.mlflow_curve(tmp_path / "a")) == 4
        finally:
            os.killpg(server.pid, signal.SIGTERM)


@pytest.mark.parametrize("name", ["mlflow", "trackio"])
def test_without_a_tracker_it_says_what_to_install(
    name: str, vaectl: Vaectl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vaectl.base.plugs.find_spec", lambda _: None)
    answer = vaectl("train", "--log", name)
    assert answer.code == 2
    assert f"pip install 'vaectl[{name}]'" in answer.err
    assert not Path("runs").exists()


def test_an_identity_holds_for_its_tracker_alone_and_goes_with_the_run(tmp_path: Path) -> None:
    training = Training("a", tmp_path / "a", _settings(), 0, 0.0)
    training.directory.mkdir()
    assert _identity.recall(training, "mlflow", "here") is None
    _identity.remember(training, "mlflow", "here", "7")
    assert _identity.recall(training, "mlflow", "here") == "7"
    assert _identity.recall(training, "mlflow", "elsewhere") is None
    assert belongings.clear(Folder(training.directory)) == []
    assert list(training.directory.iterdir()) == []


def test_the_members_of_a_comparison_are_filled_in(vaectl: Vaectl, finished: Path) -> None:
    shutil.copytree(finished, "runs/c")
    answer = vaectl("export-log", "c", "--to", "tensorboard", "-q")
    assert answer.code == 0, answer.err
    members = ["adam-s0", "adam-s1", "sgd-s0", "sgd-s1"]
    assert answer.out.split() == [f"runs/c/{name}" for name in members]
    for name in members:
        assert len(curve(Path("runs/c") / name / "tensorboard", "elbo/validation")) == 2
    belongings.remove_run(Folder(Path("runs/c")), "adam-s0")
    assert not Path("runs/c/adam-s0").exists()


def test_a_run_that_is_killed_leaves_a_log_that_is_whole(tmp_path: Path) -> None:
    command = ("-m", "vaectl", "train", *OPTIONS, "--name", "a", "--epochs", "100000")
    logs = tmp_path / "runs" / "a" / "tensorboard"
    with apart.start(*command, "--log", "tensorboard:images_every=1", cwd=tmp_path) as process:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and process.poll() is None:
            if len(curve(logs, "elbo/train")) >= 10:
                break
            time.sleep(0.05)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    steps = [*curve(logs, "elbo/train")]
    assert steps == list(range(3, 3 * len(steps) + 1, 3))
    assert len(steps) >= 10


def test_a_hung_sink_does_not_keep_the_process(tmp_path: Path) -> None:
    plugin = tmp_path / "hangs.py"
    text = EXAMPLE.read_text().replace("print(json", "import time; time.sleep(1e6); print(json")
    plugin.write_text(text)
    code = (
        "import sys\nfrom vaectl import config, experiment\nfrom vaectl.base import plugins\n"
        "from vaectl.follow import follow\nfrom vaectl import sinks\nfrom pathlib import Path\n"
        f"plugins.load_file(Path({str(plugin)!r}))\n"
        "def watch(event): print(event) if type(event).__name__ == 'Warned' else None\n"
        "with follow([sinks.parse('json_lines')], watch, patience=0.2) as told:\n"
        f"    settings = config.Config.model_validate({TINY!r})\n"
        "    experiment.run(settings, runs_dir=Path('r'), watch=told)"
    )
    done = apart.run("-c", code, cwd=tmp_path, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("did not end within 0.2 s") == 1
