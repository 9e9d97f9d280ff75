"""A run that was stopped and resumed is the run that never stopped."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vaectl as package
from tests.conftest import Vaectl, assert_equal_runs
from vaectl import config, experiment
from vaectl import data as images
from vaectl.base.errors import ConfigError, DataError, InterruptedRunError, RunError
from vaectl.base.files import Folder
from vaectl.config import documents
from vaectl.evaluation.assess import assess
from vaectl.runs import metrics
from vaectl.runs.directory import RunDir
from vaectl.runs.saved import best, keep_only, kept
from vaectl.training import events
from vaectl.training import fit as fitting
from vaectl.training.fit import Chunk, Epoch


def _settings(**changes: object) -> config.Config:
    small: dict[str, object] = {
        "epochs": 4,
        "batch_size": 20,
        "data": {"train_size": 300, "validation_size": 50, "test_size": 10},
        "model": {"code_size": 2, "hidden_size": 8},
        "optimizer": {"adam": {"learning_rate": 0.01}},
        "checkpoint": {"every": 2},
    }
    return config.Config.model_validate({**small, **changes})


def _stop_at(found: Callable[[events.Event], bool]) -> events.Watch:
    """Be a person who presses Ctrl-C when something happens."""

    def watch(event: events.Event) -> None:
        if found(event):
            signal.raise_signal(signal.SIGINT)

    return watch


def _interrupted(runs: Path, found: Callable[[events.Event], bool], **changes: object) -> RunDir:
    with pytest.raises(InterruptedRunError):
        experiment.run(_settings(**changes), runs_dir=runs, name="a", watch=_stop_at(found))
    return RunDir(runs / "a")


def _files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """The run that never stopped."""
    return RunDir(experiment.run(_settings(), runs_dir=tmp_path_factory.mktemp("whole")).path)


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_resumed_run_equals_one_that_never_stopped(
    epoch: int, whole: RunDir, tmp_path: Path
) -> None:
    run = _interrupted(tmp_path, lambda event: getattr(event, "epoch", None) == epoch)
    result = experiment.resume(run, _settings())
    assert result.record.status == "finished"
    (resumption,) = result.record.resumed
    assert resumption.warnings == []
    assert_equal_runs(run.path, whole.path)
    assert result.record.best == whole.read_record().best


def test_an_epoch_is_saved_inside_and_goes_on_inside(
    whole: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "CHUNK_SECONDS", 1e-9)  # each step a chunk
    run = _interrupted(tmp_path, lambda event: isinstance(event, Chunk) and event.step == 33)
    info = kept(run.checkpoints)[-1]
    assert (info.step, info.where) == (33, "epoch 2 + 3 steps")
    assert package.load(run.path, "latest").title == "a, epoch 2 + 3 steps"
    assert package.load(run.path).title == "a, epoch 2"
    model = package.load(run.path, "latest")
    evaluation = assess(model, "test", samples=1, importance_samples=0, seed=0)
    assert (evaluation.epoch, evaluation.step) == (2, 33)
    assert evaluation.where == "epoch 2 + 3 steps"
    experiment.resume(run, _settings())
    assert_equal_runs(run.path, whole.path)


def test_a_run_that_goes_on_inside_an_epoch_knows_how_the_epoch_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a low density that is nothing unusual would count as diverged after a resume."""
    monkeypatch.setattr(fitting, "CHUNK_SECONDS", 1e-9)  # each step a chunk
    monkeypatch.setattr(fitting, "HOPELESS", 0.0)
    changes = {"data": {"train_size": 60, "validation_size": 50, "test_size": 10}, "epochs": 2}
    run = _interrupted(
        tmp_path, lambda event: isinstance(event, Chunk) and event.step == 2, **changes
    )
    info = kept(run.checkpoints)[-1]
    assert info.where == "epoch 0 + 2 steps"
    limits: list[float | None] = []
    check = fitting.check_held_out

    def noted(*known: Any) -> None:
        limits.append(known[-1])
        check(*known)

    monkeypatch.setattr(fitting, "check_held_out", noted)
    assert experiment.resume(run, _settings(**changes)).record.status == "finished"
    assert len(limits) == 2
    assert limits[0] == info.began is not None


def test_every_seconds_saves_inside_an_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "CHUNK_SECONDS", 1e-9)
    steps: list[int] = []

    def watch(event: events.Event) -> None:
        if isinstance(event, Chunk | Epoch):
            steps.extend(info.step for info in kept(Folder(tmp_path / "a" / "checkpoints")))

    settings = _settings(epochs=1, checkpoint={"every_seconds": 1e-6})
    experiment.run(settings, runs_dir=tmp_path, name="a", watch=watch)
    assert {step for step in steps if step % 15}
    infos = kept(Folder(tmp_path / "a" / "checkpoints"))
    assert (infos[-1].step, best(infos)) == (15, infos[-1])


def test_more_epochs_extend_a_finished_run_to_that_of_so_many_epochs(
    whole: RunDir, tmp_path: Path
) -> None:
    experiment.run(_settings(epochs=1), runs_dir=tmp_path, name="a")
    run = RunDir(tmp_path / "a")
    result = experiment.resume(run, _settings(), extend=True)
    assert (result.record.epochs, result.record.status) == (4, "finished")
    assert run.read_config().epochs == 4
    assert_equal_runs(run.path, whole.path)
    with pytest.raises(ConfigError, match="a is at epoch 4 already, and is to end after epoch 2"):
        experiment.resume(run, _settings(epochs=2), extend=True)


def test_a_run_whose_schedule_follows_from_its_epochs_is_not_extended(tmp_path: Path) -> None:
    cosine = {"schedule": {"name": "cosine"}}
    experiment.run(_settings(epochs=1, optimizer=cosine), runs_dir=tmp_path, name="a")
    with pytest.raises(ConfigError, match=r"optimizer\.schedule\.name cosine"):
        experiment.resume(RunDir(tmp_path / "a"), _settings(optimizer=cosine), extend=True)


def test_a_finished_run_has_nothing_to_resume(whole: RunDir) -> None:
    notes: list[events.Event] = []
    result = experiment.resume(whole, _settings(), watch=notes.append)
    assert notes == [events.Note(f"{whole.name} is finished; --epochs N trains it further")]
    assert result.record == whole.read_record()


def test_another_configuration_is_refused_by_its_keys(
    vaectl: Vaectl, whole: RunDir, tmp_path: Path
) -> None:
    shutil.copytree(whole.path, tmp_path / "runs" / "a")
    answer = vaectl("train", "--resume", "a", "--seed", 1, "--set", "model.hidden_size=9")
    assert answer.code == 2
    first, seed, size, hint = answer.err.splitlines()
    assert first.startswith("error: a cannot be resumed")
    assert seed == "       seed: 0 in the run, 1 requested"
    assert size == "       model.mlp.hidden_size: 8 in the run, 9 requested"
    assert "--epochs, data.source" in hint
    Path("same.yaml").write_text(documents.dump(_settings()))
    assert vaectl("train", "same.yaml", "--resume", "a", "--seed", 0).code == 0
    Path("other.yaml").write_text(documents.dump(_settings(epochs=5)))
    answer = vaectl("train", "other.yaml", "--resume", "latest")
    assert (answer.code, "epochs: 4 in the run, 5 requested" in answer.err) == (2, True)
    assert vaectl("train", "--resume", "a", "--force").code == 2
    assert vaectl("train", "--resume", "b").code == 4
    answer = vaectl("train", "other.yaml", "--epochs", 6, "--resume", "runs/a", "--json")
    assert json.loads(answer.out)["epoch"] == 6


def test_another_data_set_is_refused(whole: RunDir, tmp_path: Path) -> None:
    shutil.copytree(whole.path, tmp_path / "a")
    run = RunDir(tmp_path / "a")
    record = run.read_record()
    run.write_record(record.model_copy(update={"data": record.data | {"fingerprint": "0" * 64}}))
    with pytest.raises(DataError, match="is not the data set"):
        experiment.resume(run, _settings(epochs=5), extend=True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"batch_size": 30}, "batch_size: 20 at the start, 30 now"),
        ({"seed": 1}, "seed: 0 at the start, 1 now"),
        (
            {"optimizer": {"adam": {"learning_rate": 0.02}}},
            "adam.learning_rate: 0.01 at the start, 0.02 now",
        ),
    ],
)
def test_a_config_that_was_changed_after_training_is_refused(
    changes: dict[str, object], said: str, whole: RunDir, tmp_path: Path
) -> None:
    shutil.copytree(whole.path, tmp_path / "a")
    run = RunDir(tmp_path / "a")
    run.write_config(documents.dump(_settings(**changes)))
    with pytest.raises(RunError, match=r"config\.yaml was changed after training") as error:
        experiment.resume(run, run.read_config().model_copy(update={"epochs": 9}), extend=True)
    assert said in error.value.message


def test_a_changed_number_of_epochs_is_refused_where_the_schedule_follows_from_it(
    tmp_path: Path,
) -> None:
    cosine = {"schedule": {"name": "cosine"}}
    experiment.run(_settings(epochs=1, optimizer=cosine), runs_dir=tmp_path, name="a")
    run = RunDir(tmp_path / "a")
    run.write_config(documents.dump(_settings(epochs=2, optimizer=cosine)))
    with pytest.raises(RunError, match=r"epochs: 1 .*, 2 now"):
        experiment.resume(run, run.read_config())


def test_an_edited_number_of_epochs_holds_with_a_warning(whole: RunDir, tmp_path: Path) -> None:
    shutil.copytree(whole.path, tmp_path / "a")
    run = RunDir(tmp_path / "a")
    run.write_config(documents.dump(_settings(epochs=5)))
    notes: list[events.Event] = []
    assert experiment.resume(run, run.read_config(), watch=notes.append).record.epochs == 5
    said = "a: epochs were 4 when it last trained, and are 5 in its config.yaml now"
    assert [note.text for note in notes if isinstance(note, events.Warned)] == [
        f"{said}: it is trained until then"
    ]
    run.write_config(documents.dump(_settings(epochs=2)))
    with pytest.raises(ConfigError, match="a is at epoch 5 already, and is to end after epoch 2"):
        experiment.resume(run, run.read_config())


def test_a_run_goes_on_after_its_data_moved(
    vaectl: Vaectl, tmp_path: Path, rng: np.random.Generator
) -> None:
    images = rng.integers(0, 256, (60, 4, 4), np.uint8)
    np.savez(tmp_path / "old.npz", x_train=images, x_test=images[:9])
    sizes = ("--set", "data.validation_size=10", "--hidden-size", 4, "--code-size", 2)
    begun = vaectl(
        "train", "--set", "data.source=npz:old.npz", *sizes, "--name", "a", "--epochs", 1
    )
    assert begun.code == 0, begun.err
    (tmp_path / "old.npz").rename("new.npz")
    assert vaectl("train", "--resume", "a", "--epochs", 2).code == 3
    moved = ("--resume", "a", "--set", f"data.source=npz:{tmp_path}/new.npz")
    assert vaectl("train", *moved, "--epochs", 2).code == 0
    run = RunDir(tmp_path / "runs" / "a")
    source = f"npz:{tmp_path}/new.npz"
    assert (run.read_config().data.source, run.read_record().data["source"]) == (source, source)
    (tmp_path / "new.npz").rename("newest.npz")
    newest = ("--resume", "a", "--set", f"data.source=npz:{tmp_path}/newest.npz")
    assert vaectl("train", *newest).code == 0
    assert vaectl("evaluate", "a", "--split", "test").code == 0
    np.savez(tmp_path / "other.npz", x_train=images[::-1], x_test=images[:9])
    other = ("--resume", "a", "--set", "data.source=npz:other.npz")
    assert "is not the data set" in vaectl("train", *other).err


def test_another_machine_or_version_is_a_warning(whole: RunDir, tmp_path: Path) -> None:
    shutil.copytree(whole.path, tmp_path / "a")
    run = RunDir(tmp_path / "a")
    record = run.read_record()
    changes = {
        "versions": record.versions | {"jax": "0.0.1"},
        "device": record.device | {"host": "elsewhere", "processor": "another"},
    }
    run.write_record(record.model_copy(update=changes))
    notes: list[events.Event] = []
    result = experiment.resume(run, _settings(epochs=5), extend=True, watch=notes.append)
    (resumption,) = result.record.resumed
    assert [warning.split(",")[0] for warning in resumption.warnings] == [
        "jax was 0.0.1",
        "host was elsewhere",
        "processor was another",
    ]
    assert events.Warned(resumption.warnings[0]) in notes
    again = experiment.resume(run, _settings(epochs=6), extend=True)
    assert again.record.resumed[1].warnings == []


def test_a_run_without_a_checkpoint_starts_from_the_beginning(
    whole: RunDir, tmp_path: Path
) -> None:
    run = _interrupted(tmp_path, lambda event: event == events.Phase("compiling"))
    assert kept(run.checkpoints) == []
    notes: list[events.Event] = []
    experiment.resume(run, _settings(), watch=notes.append)
    assert events.Note("a goes on from the beginning: there is no checkpoint") in notes
    assert_equal_runs(run.path, whole.path)


@pytest.mark.parametrize("epochs", [2, 4, 6])
@pytest.mark.parametrize("status", ["finished", "interrupted"])
def test_a_run_whose_checkpoints_were_deleted_is_not_begun_again(
    status: str, epochs: int, whole: RunDir, tmp_path: Path
) -> None:
    shutil.copytree(whole.path, tmp_path / "a")
    run = RunDir(tmp_path / "a")
    shutil.rmtree(run.checkpoints.path)
    run.write_record(run.read_record().model_copy(update={"status": status}))
    before = _files(run.path)
    if (status, epochs) == ("finished", 4):  # there is nothing to do
        experiment.resume(run, _settings(), extend=True)
    else:
        with pytest.raises(RunError, match="no checkpoint is left of the 4 epochs of a"):
            experiment.resume(run, _settings(epochs=epochs), extend=True)
    assert _files(run.path) == before


def test_a_finished_run_whose_last_checkpoint_was_deleted_says_where_it_goes_on(
    whole: RunDir, tmp_path: Path
) -> None:
    shutil.copytree(whole.path, tmp_path / "a")
    run = RunDir(tmp_path / "a")
    *others, last = kept(run.checkpoints)
    assert others
    keep_only(run.checkpoints, {info.step for info in others})
    result = experiment.resume(run, _settings(epochs=5), extend=True)
    (resumption,) = result.record.resumed
    assert f"a was at epoch {last.epoch}" in resumption.warnings[0]


@pytest.mark.parametrize("left", [("config.yaml",), ("config.yaml", ".run.json.abcd1234")])
def test_a_run_that_was_killed_before_its_record_is_resumed_and_replaced(
    left: tuple[str, ...], vaectl: Vaectl, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        with RunDir.create(tmp_path / "runs", name, "", force=False) as run:
            for file in left:
                text = documents.dump(_settings(epochs=1), "the resolved configuration of a")
                half = '{\n  "format_version": 1,\n'
                (run.path / file).write_text(half if "json" in file else text)
    assert vaectl("train", "--resume", "a", "--quiet").code == 0
    assert vaectl("train", "runs/a/config.yaml", "--name", "b", "--force", "--quiet").code == 0
    assert not list((tmp_path / "runs").rglob("*.abcd1234"))


def test_metrics_that_lack_epochs_are_refused_and_nothing_is_touched(
    whole: RunDir, tmp_path: Path
) -> None:
    shutil.copytree(whole.path, tmp_path / "a")
    run = RunDir(tmp_path / "a")
    rows = run.read_metrics()
    run.write_metrics(rows[:-1], metrics.columns(rows))
    before = (run.path / "run.json").read_bytes()
    with pytest.raises(RunError, match=r"metrics\.csv: .* epochs 1 to 4"):
        experiment.resume(run, _settings(epochs=5), extend=True)
    assert (run.path / "run.json").read_bytes() == before


def test_a_checkpoint_of_another_batch_size_is_refused(whole: RunDir, tmp_path: Path) -> None:
    shutil.copytree(whole.path, tmp_path / "a")
    run, settings = RunDir(tmp_path / "a"), _settings(epochs=9, batch_size=30)
    run.write_config(documents.dump(settings))
    run.write_record(run.read_record().model_copy(update={"settings": {}, "status": "running"}))
    with pytest.raises(RunError, match="epoch 4 is another step there"):
        experiment.resume(run, settings)


@pytest.mark.parametrize("lines", [0, 1, 8])
def test_metrics_that_a_finished_run_lost_are_missed(
    lines: int, whole: RunDir, tmp_path: Path
) -> None:
    shutil.copytree(whole.path, tmp_path / "a")
    file = tmp_path / "a" / "metrics.csv"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:lines]))
    with pytest.raises(RunError, match=r"metrics\.csv: "):
        experiment.resume(RunDir(tmp_path / "a"), _settings())


@pytest.mark.parametrize("epochs", [4, 5])
@pytest.mark.parametrize("line", [1, 2, 8])
def test_metrics_that_were_changed_are_refused(
    line: int, epochs: int, whole: RunDir, tmp_path: Path
) -> None:
    shutil.copytree(whole.path, tmp_path / "a")
    file = tmp_path / "a" / "metrics.csv"
    lines = file.read_text().splitlines(keepends=True)
    lines[line] = lines[line].replace(",-", ",-1", 1)
    file.write_text("".join(lines))
    with pytest.raises(RunError, match=r"metrics\.csv: not the numbers of this run"):
        experiment.resume(RunDir(tmp_path / "a"), _settings(epochs=epochs), extend=True)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three epochs."""
    folder = tmp_path_factory.mktemp("three")
    return experiment.run(_settings(epochs=3), runs_dir=folder, name="a").path


@pytest.mark.parametrize("tail", [b"5,75,tra", b"\0" * 100, b"5,75,train,nan,1,1,1\n", b"\xff\n"])
def test_what_a_power_cut_left_behind_the_last_checkpoint_is_cut_back(
    tail: bytes, whole: RunDir, three: Path, tmp_path: Path
) -> None:
    run = RunDir(Path(shutil.copytree(three, tmp_path / "a")))
    with (run.path / "metrics.csv").open("ab") as file:
        file.write(tail)
    experiment.resume(run, _settings(), extend=True)
    assert_equal_runs(run.path, whole.path)


def test_a_run_that_was_renamed_goes_on_under_its_new_name(whole: RunDir, tmp_path: Path) -> None:
    run = RunDir(Path(shutil.copytree(whole.path, tmp_path / "new")))
    notes: list[events.Event] = []
    result = experiment.resume(run, _settings(epochs=5), extend=True, watch=notes.append)
    assert events.Note("new goes on after epoch 4") in notes
    assert (result.record.name, run.read_record().name) == ("new", "new")


def test_a_run_that_another_process_writes_in_is_not_resumed(tmp_path: Path) -> None:
    with (
        RunDir.create(tmp_path, "a", "", force=False) as run,
        pytest.raises(RunError, match="another process writes in it"),
    ):
        experiment.resume(RunDir(run.path), _settings())


def test_a_run_goes_on_on_another_device(whole: RunDir, tmp_path: Path) -> None:
    """Two devices of a CPU stand for a CPU and a GPU; in a process of its own, to have two."""
    run = _interrupted(tmp_path, lambda event: getattr(event, "epoch", None) == 2)
    code = (
        "import sys, jax; jax.config.update('jax_num_cpu_devices', 2)\n"
        "from pathlib import Path; from vaectl import experiment; from vaectl.base import devices\n"
        "from vaectl.runs.directory import RunDir; run = RunDir(Path(sys.argv[1]))\n"
        "devices.select = lambda kind: jax.devices()[1]\n"
        "print(experiment.resume(run, run.read_config()).record.status)"
    )
    command = [sys.executable, "-W", "error", "-c", code, str(run.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("finished\n", "")
    assert_equal_runs(run.path, whole.path)


@pytest.mark.parametrize("folder", [False, True], ids=["npz", "npy"])
def test_a_run_that_was_trained_before_validation_arrays_were_read_has_its_data(
    folder: bool, tmp_path: Path, vaectl: Vaectl, rng: np.random.Generator
) -> None:
    """An older vaectl read only `x_train` and `x_test`: as if the others were not there."""
    place = tmp_path / "data"
    arrays = {
        name: rng.integers(0, 256, (count, 4, 4), np.uint8)
        for name, count in {"x_train": 90, "x_test": 20, "x_val": 30}.items()
    }
    arrays["y_train"] = np.arange(90) % 3  # and y_test missing

    def save(*names: str) -> None:
        if not folder:
            np.savez(place.with_suffix(".npz"), **{name: arrays[name] for name in names})  # type: ignore[arg-type]
            return
        place.mkdir(exist_ok=True)
        for name in names:
            np.save(place / f"{name}.npy", arrays[name])

    save("x_train", "x_test", "y_train")
    source = f"npy:{place}" if folder else f"npz:{place.with_suffix('.npz')}"
    data = {"source": source, "train_size": None, "validation_size": None, "test_size": None}
    settings = _settings(data=data, epochs=1)
    experiment.run(settings, runs_dir=tmp_path / "runs", name="a")
    before = package.load("a").split("validation")
    save("x_train", "x_test", "x_val", "y_train")
    after = package.load("a").split("validation")
    np.testing.assert_array_equal(after.images, before.images)
    assert vaectl("train", "--resume", "a", "--epochs", "2", "-q").code == 0
    # whatever they hold
    usual = arrays["x_val"]
    for odd in (np.zeros((30, 5, 5), np.uint8), np.zeros((30, 4, 4), np.float32)):
        arrays["x_val"] = odd
        save("x_train", "x_test", "x_val", "y_train")
        np.testing.assert_array_equal(package.load("a").split("validation").images, before.images)
    arrays["x_val"] = usual
    save("x_train", "x_test", "x_val", "y_train")
    # a new run has them, and an old one refuses what are really others
    assert len(images.load(settings.data).validation.images) == 30
    arrays["x_train"][0] ^= 1
    save("x_train", "x_test", "x_val", "y_train")
    assert vaectl("evaluate", "a", "-q").code == 3
