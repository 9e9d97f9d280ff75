"""Optimizers that average: whatever uses a network, and does not train it, takes the average."""

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

import vaectl as package
from tests.conftest import Vaectl, assert_equal_runs, cut_off
from tests.test_training import SHAPE, _images, _settings
from vaectl import config, data, experiment, follow
from vaectl.data.arrays import Split
from vaectl.evaluation import means as evaluation
from vaectl.exports.base import named
from vaectl.optimizers.base import Optimizer
from vaectl.runs.checkpoints import Checkpoints
from vaectl.runs.directory import RunDir
from vaectl.runs.saved import kept
from vaectl.runs.trained import Trained
from vaectl.sinks.base import Pictures
from vaectl.sinks.film import Film
from vaectl.training import compiled, population
from vaectl.training.fit import Epoch
from vaectl.training.program import Member, Program, TrainState
from vaectl.vae.vae import Variables

AVERAGING = [name for name, plug in Optimizer.known.items() if plug.averages]
SETTINGS = config.Config.model_validate(
    {
        "epochs": 3,
        "batch_size": 50,
        "data": {"train_size": 200, "validation_size": 50, "test_size": 30},
        "model": {"code_size": 2, "hidden_size": 8},
        # a large rate, so that the average is far from the parameters
        "optimizer": {
            "name": "schedule_free_adamw",
            "learning_rate": 0.02,
            "bias_learning_rate_scale": 2.0,
            "schedule": {"warmup_epochs": 0.5},
        },
        "checkpoint": {"every": 1, "keep": "all"},
    }
)
EMA = config.Config.model_validate(
    SETTINGS.model_dump(exclude={"optimizer"})
    | {"optimizer": {"name": "adam", "ema": 0.8, "learning_rate": 0.02}}
)
BOTH = pytest.mark.parametrize(("name", "settings"), [("a", SETTINGS), ("ema", EMA)])


@pytest.fixture(scope="module")
def averaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs directory with a run for each kind of average, all of whose states were saved."""
    runs = tmp_path_factory.mktemp("averaged") / "runs"
    for name, settings in (("a", SETTINGS), ("ema", EMA)):
        experiment.run(settings, runs_dir=runs, name=name)
    return runs


def _state(run: Path, settings: config.Config = SETTINGS) -> tuple[int, TrainState]:
    """The step and the state of a run's best checkpoint."""
    folder = RunDir(run).checkpoints
    step = package.load(run).checkpoint.step
    [info] = [info for info in kept(folder) if info.step == step]
    program = Program.of(settings, images=200, image_shape=(28, 28, 1))
    with Checkpoints(folder) as checkpoints:
        state: TrainState = checkpoints.restore(info, compiled.shapes(program, Member.of(settings)))
    return step, state


def _by_hand(state: TrainState) -> Variables:
    """The average, from what a checkpoint holds."""
    offset = state.optimizer.offset
    average: Variables = jax.tree.map(lambda y, w: y - 0.02 * w, state.params, offset)
    return average


def _elbo(variables: Variables, step: int) -> float:
    program = Program.of(SETTINGS, images=200, image_shape=(28, 28, 1))
    images = data.load(SETTINGS.data).validation.images
    flat = jnp.asarray(np.asarray(images).reshape(len(images), -1))
    seed, epoch = jnp.uint32(0), step / program.steps_per_epoch
    return evaluation.split_means(program.estimator, variables, flat, seed, step, epoch)["elbo"]


@BOTH
def test_validation_and_the_best_checkpoint_are_of_the_average(
    name: str, settings: config.Config, averaged: Path
) -> None:
    step, state = _state(averaged / name, settings)
    rows = [r for r in RunDir(averaged / name).read_metrics() if r.split == "validation"]
    best = max(rows, key=lambda row: row.terms["elbo"])
    assert best.step == step
    assert best.terms["elbo"] == pytest.approx(_elbo(_by_hand(state), step), abs=1e-3)
    assert abs(best.terms["elbo"] - _elbo(state.params, step)) > 0.1
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, package.load(averaged / name).variables, _by_hand(state))


def test_commands_and_exports_use_the_average(
    averaged: Path, vaectl: Vaectl, tmp_path: Path
) -> None:
    shutil.copytree(averaged, "runs")
    _, state = _state(averaged / "a")
    average = named(_by_hand(state))
    assert vaectl("export", "a", "--format", "safetensors", "-q").code == 0
    arrays = safetensors.numpy.load_file("runs/a/export/model.safetensors")
    assert {*arrays} == {*average}
    for name, array in arrays.items():
        np.testing.assert_allclose(array, average[name], rtol=1e-5, atol=1e-6)
    # a run that was made of these arrays, and was never trained
    assert vaectl("import", "runs/a/export/model.safetensors", "--name", "b").code == 0
    results, few = [], ("--importance-samples", 8)
    for run in ("a", "b"):
        file = tmp_path / f"{run}.npz"
        assert vaectl("sample", run, "--save-arrays", file).code == 0
        told = json.loads(vaectl("evaluate", run, *few, "--json", "-q").out)
        with np.load(file) as arrays:
            results.append((arrays["images"], told))
    (images, told), (again, told_again) = results
    np.testing.assert_allclose(images, again, atol=1e-5)
    for key in ("elbo", "kl", "nll"):
        assert told[key] == pytest.approx(told_again[key], rel=1e-5)


@pytest.mark.parametrize("name", ["a", "ema"])
def test_a_run_goes_on_from_what_trains(name: str, averaged: Path, vaectl: Vaectl) -> None:
    cut_off(averaged / name, Path("runs/a").absolute(), epoch=2)
    assert vaectl("train", "--resume", "a", "-q").code == 0
    assert_equal_runs(Path("runs/a"), averaged / name)


def test_sinks_draw_the_average(
    averaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Trained] = []

    def pictures(model: Trained, first: Split) -> Pictures:
        seen.append(model)
        return draw(model, first)

    draw = follow.pictures
    monkeypatch.setattr(follow, "pictures", pictures)
    with follow.follow([Film()], lambda _: None) as watch:
        experiment.run(SETTINGS, runs_dir=tmp_path, name="a", watch=watch)
    last = seen[-1]
    saved = package.load(averaged / "a", last.checkpoint.epoch)
    jax.tree.map(np.testing.assert_array_equal, last.variables, saved.variables)


@pytest.mark.parametrize(
    "how",
    [
        {"name": AVERAGING[0]},
        {"name": "adam", "ema": 0.8},
        *(pytest.param({"name": name}, marks=pytest.mark.full) for name in AVERAGING[1:]),
    ],
    ids=lambda how: how["name"],
)
def test_members_that_train_together_are_evaluated_as_those_alone(how: dict[str, Any]) -> None:
    rates = 0.02, 0.05
    each = [_settings(optimizer={**how, "learning_rate": rate}) for rate in rates]
    program = Program.of(each[0], images=40, image_shape=SHAPE)
    members = [Member.of(settings) for settings in each]
    splits = _images(40), _images(12, 1)
    strategies: tuple[population.Strategy, ...] = ("together", "in turn")
    found = [
        {
            (index, event.epoch): event.validation["elbo"]
            for index, event, _ in population.fit(program, members, splits, strategy)
            if isinstance(event, Epoch)
        }
        for strategy in strategies
    ]
    assert len(found[0]) == 6
    assert found[0] == pytest.approx(found[1], rel=1e-5)
