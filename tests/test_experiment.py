import signal
from pathlib import Path

import pytest

from vaectl import config, experiment
from vaectl.base.errors import ConfigError, DivergedError, InterruptedRunError, RunError
from vaectl.config.naming import name_of
from vaectl.runs.directory import RunDir
from vaectl.runs.saved import kept
from vaectl.training import events


def _settings(**changes: object) -> config.Config:
    small: dict[str, object] = {
        "epochs": 4,
        "data": {"train_size": 200, "validation_size": 50},
        "model": {"code_size": 2, "hidden_size": 16, "activation": "tanh"},
        "checkpoint": {"every": 2},
    }
    return config.Config.model_validate({**small, **changes})


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("digits-5k", "digits-5k-z2-sgd-s7"),
        ("tfds:mnist", "mnist-z2-sgd-s7"),
        ("tfds:emnist/balanced", "emnist-balanced-z2-sgd-s7"),
        ("idx:/data/My Digits!/", "My-Digits-z2-sgd-s7"),
        ("npz:/data/glyphs.npz", "glyphs-z2-sgd-s7"),
        ("npz:/data/数字.npz", "data-z2-sgd-s7"),
    ],
)
def test_default_names_say_data_code_optimizer_and_seed(source: str, name: str) -> None:
    settings = _settings(seed=7, data={"source": source}, optimizer={"name": "sgd"})
    assert name_of(settings) == name


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "digits-5k-z20-adam-s0"),
        ({"model": {"activation": "tanh"}}, "digits-5k-z20-adam-s0"),
        ({"model": {"name": "conv"}}, "digits-5k-conv-z20-adam-s0"),
        ({"likelihood": {"name": "continuous_bernoulli"}, "objective": {"name": "iwae"}},
         "digits-5k-z20-continuous-bernoulli-iwae-adam-s0"),
        ({"objective": {"name": "beta", "beta": {"beta": 0.5}}}, "digits-5k-z20-beta0.5-adam-s0"),
    ],
)  # fmt: skip
def test_default_names_say_which_parts_are_not_the_default(
    changes: dict[str, object], name: str
) -> None:
    assert name_of(config.Config.model_validate(changes)) == name


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"optimizer": {"schedule": {"warmup_epochs": 1e9}}}, "optimizer.schedule.warmup_epochs"),
        ({"epochs": 10**6}, "epochs"),
    ],
)
def test_more_steps_than_can_be_counted_are_refused_before_anything_is_written(
    changes: dict[str, object], key: str, tmp_path: Path
) -> None:
    data = {"train_size": 3000, "validation_size": 50}
    with pytest.raises(ConfigError, match=f"^{key} .* steps, at 3,000 an epoch"):
        experiment.run(_settings(**changes, data=data, batch_size=1), runs_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_saves_the_state_and_the_figures(tmp_path: Path) -> None:
    def watch(event: events.Event) -> None:
        if getattr(event, "epoch", None) == 3:
            signal.raise_signal(signal.SIGTERM)

    # the signal comes while epoch 3 is being told of, so the run stops there
    with pytest.raises(InterruptedRunError, match="interrupted after epoch 3 of 100") as error:
        experiment.run(_settings(epochs=100), runs_dir=tmp_path, name="a", watch=watch)
    assert error.value.exit_code == 130
    run = RunDir(tmp_path / "a")
    assert run.read_record().status == "interrupted"
    assert run.read_record().epoch == 3
    assert [row.epoch for row in run.read_metrics()] == [1, 1, 2, 2, 3, 3]
    assert kept(run.checkpoints)[-1].epoch == 3
    assert (run.path / "figures" / "elbo.png").is_file()


def test_a_signal_in_the_last_epoch_interrupts_too_and_a_resume_finishes(tmp_path: Path) -> None:
    def watch(event: events.Event) -> None:
        if getattr(event, "epoch", None) == 4:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(InterruptedRunError, match="interrupted after epoch 4 of 4"):
        experiment.run(_settings(), runs_dir=tmp_path, name="a", watch=watch)
    result = experiment.resume(RunDir(tmp_path / "a"), _settings())
    assert result.record.status == "finished"
    assert result.record.epoch == 4


def test_a_second_signal_in_the_last_epoch_leaves_at_once_and_as_interrupted(
    tmp_path: Path,
) -> None:
    def watch(event: events.Event) -> None:
        if getattr(event, "epoch", None) == 4:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(InterruptedRunError, match="interrupted after epoch 4 of 4"):
        experiment.run(_settings(), runs_dir=tmp_path, name="a", watch=watch)
    assert RunDir(tmp_path / "a").read_record().status == "interrupted"


def test_a_run_that_diverges_keeps_its_best_state_and_says_where(tmp_path: Path) -> None:
    """The learning rate warms up slowly from nothing to far too much."""
    optimizer = {
        "name": "sgd",
        "sgd": {"learning_rate": 1e6},
        "schedule": {"warmup_epochs": 1e7},
    }
    settings = _settings(epochs=2000, optimizer=optimizer, checkpoint={"every": 1000})
    with pytest.raises(
        DivergedError, match=r"diverged: the ELBO is .* at epoch 2, step 4, on the val"
    ) as error:
        experiment.run(settings, runs_dir=tmp_path, name="a")
    run = RunDir(tmp_path / "a")
    record = run.read_record()
    assert record.status == "failed"
    assert record.error == error.value.message
    assert record.best is not None
    assert [info.epoch for info in kept(run.checkpoints)] == [record.best.epoch]


def test_the_best_epoch_is_kept_though_it_falls_between_saves(tmp_path: Path) -> None:
    # a learning rate that soon overshoots: the best epoch is an early one
    optimizer = {"adam": {"learning_rate": 0.03}}
    settings = _settings(epochs=40, optimizer=optimizer, checkpoint={"every": 1000})
    result = experiment.run(settings, runs_dir=tmp_path)
    rows = [row for row in RunDir(result.path).read_metrics() if row.split == "validation"]
    top = max(rows, key=lambda row: row.terms["elbo"])
    assert 1 < top.epoch < 40
    infos = kept(RunDir(result.path).checkpoints)
    assert [info.epoch for info in infos] == [top.epoch, 40]
    assert infos[0].score == pytest.approx(top.terms["elbo"], abs=1e-5)
    assert result.record.best is not None
    assert result.record.best.epoch == top.epoch


def test_a_bug_leaves_the_run_as_failed(tmp_path: Path) -> None:
    def watch(event: events.Event) -> None:
        if getattr(event, "epoch", None) == 2:
            raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError):
        experiment.run(_settings(), runs_dir=tmp_path, name="a", watch=watch)
    record = RunDir(tmp_path / "a").read_record()
    assert (record.status, record.error) == ("failed", "a bug")


def test_an_error_of_the_disk_keeps_its_hint_and_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RunError("no room", hint="make some")

    monkeypatch.setattr(RunDir, "write_metrics", fail)
    with pytest.raises(RunError, match="no room") as error:
        experiment.run(_settings(), runs_dir=tmp_path / "my runs", name="a")
    path = tmp_path / "my runs" / "a"
    assert error.value.hint == f"make some; then vaectl train --resume '{path}'"


def test_grey_levels_as_probabilities_are_explained(tmp_path: Path) -> None:
    notes = []
    settings = _settings(
        epochs=1, data={"train_size": 200, "validation_size": 50, "binarization": "none"}
    )

    def watch(event: events.Event) -> None:
        if isinstance(event, events.Note):
            notes.append(event.text)

    result = experiment.run(settings, runs_dir=tmp_path, watch=watch)
    assert "cross-entropy" in notes[0]
    assert "cross-entropy" in result.record.metrics["binarization"]


def test_a_run_may_keep_its_images_in_host_memory_and_says_so(tmp_path: Path) -> None:
    here, there = (
        experiment.run(_settings(), runs_dir=tmp_path, name=f"stream-{stream}", stream=stream)
        for stream in (False, True)
    )
    assert here.record.device["images"] == "on the device"
    assert there.record.device["images"] == "streamed from host memory"
    assert list(here.train.terms) == list(here.validation.terms) == ["elbo", "kl", "nll"]
    assert here.train.terms == pytest.approx(there.train.terms, rel=1e-4)
    assert here.validation.terms == pytest.approx(there.validation.terms, rel=1e-4)
