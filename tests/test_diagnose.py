"""Where the nats go: the diagnosis of a run, its parts, and its advice."""

import errno
import json
import signal
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import sem

from tests import apart
from tests.conftest import Vaectl
from vaectl import config, experiment
from vaectl.base import devices, seals
from vaectl.base.files import Folder
from vaectl.evaluation import aggregate, amortization, annealed, likelihoods, work
from vaectl.evaluation import diagnose as diagnosing
from vaectl.evaluation.advice import advice
from vaectl.evaluation.annealed import Origin
from vaectl.evaluation.diagnose import diagnose
from vaectl.evaluation.work import Plan
from vaectl.pictures import style
from vaectl.pictures.waterfall import waterfall
from vaectl.runs import environment, trained
from vaectl.runs.diagnosis import Diagnosis, Nats, Samples
from vaectl.runs.directory import RunDir
from vaectl.runs.record import Estimate
from vaectl.runs.unfinished import Unfinished
from vaectl.training import footprint

SMALL = ("--images", 6, "--chains", 3, "--temperatures", 10, "--importance-samples", 8)

SMALL_PLAN = Plan(images=6, chains=3, temperatures=10, importance_samples=8, prior_samples=50)
TWO_BATCHES = SMALL_PLAN._replace(images=10)


def _estimate(mean: float, error: float = 0.01) -> Estimate:
    return Estimate(mean=mean, standard_error=error)


@pytest.fixture(scope="module")
def told(trained_runs: Path) -> Diagnosis:
    """A diagnosis of a small run."""
    model = trained.load(RunDir(trained_runs / "z5"))
    return diagnose(model, "test", SMALL_PLAN)


def _changed(nats: Nats, amortization: float, approximation: float) -> Nats:
    log_p = nats.elbo.mean + amortization + approximation
    return nats.model_copy(
        update={
            "amortization": _estimate(amortization),
            "approximation": _estimate(approximation),
            "log_p": _estimate(log_p),
        }
    )


@pytest.mark.parametrize(
    ("change", "settings", "key"),
    [
        ({}, {}, "balanced"),
        ({"encoder_overfitting": _estimate(3.0)}, {}, "model.dropout, optimizer.weight_decay"),
        (
            {"encoder_overfitting": _estimate(3.0)},
            {"model": {"name": "conv"}},
            "patience, optimizer.weight_decay",
        ),
        ({"encoder_overfitting": _estimate(3.0, 2.0)}, {}, "balanced"),
        ({"decoder_overfitting": _estimate(3.0)}, {}, "early_stopping.patience"),
        ({"amortization": 4.0}, {}, "model.hidden_size, or epochs above 50"),
        ({"amortization": 4.0}, {"model": {"name": "conv"}}, "a larger encoder,"),
        ({"approximation": 4.0}, {}, "iwae"),
        ({"approximation": 4.0}, {"model": {"normalization": "batch", "dropout": 0.1}}, "iwae"),
        ({"approximation": 4.0}, {"objective": {"name": "iwae", "samples": 5}}, "balanced"),
        ({"least": 4.0}, {}, "vamp"),
        ({"least": 4.0}, {"model": {"condition": "label"}}, "prior.name mixture;"),
        ({"least": 4.0}, {"model": {"normalization": "batch"}}, "prior.name mixture;"),
        ({"least": 4.0}, {"prior": {"name": "mixture"}}, "prior.components above 100"),
        ({"active_units": 2}, {}, "free_nats"),
    ],
)
def test_advice_names_a_key(
    change: dict[str, object], settings: dict[str, object], key: str, told: Diagnosis
) -> None:
    given = advice(_told(told, change), config.Config.model_validate(settings))
    assert len(given) == 1
    assert key in given[0]


def _told(told: Diagnosis, change: Mapping[str, object]) -> Diagnosis:
    """Return a diagnosis without anything to advise, but for what changes."""
    change = dict(change)
    gaps: Any = change.pop("amortization", 0.5), change.pop("approximation", 0.5)
    least: Any = change.pop("least", 0.2)
    update = {
        "held_out": _changed(told.held_out, *gaps),
        "train": _changed(told.train, *gaps),
        "encoder_overfitting": _estimate(0.1),
        "decoder_overfitting": _estimate(0.1),
        "active_units": told.code_size,
        "samples": None,
        "aggregate": told.aggregate.model_copy(update={"least": _estimate(least)}),
        **change,
    }
    return told.model_copy(update=update)


def _samples(prior: int, aggregate: int) -> Samples:
    return Samples(count=100, prior=prior, aggregate=aggregate, ink=0, holes=0)


@pytest.mark.parametrize(
    ("balanced", "large", "words"),
    [
        ({"encoder_overfitting": _estimate(1.0)}, {"encoder_overfitting": _estimate(1.1)}, "1.1"),
        ({"decoder_overfitting": _estimate(1.0)}, {"decoder_overfitting": _estimate(1.1)}, "1.1"),
        ({"amortization": 2.0}, {"amortization": 2.1}, "by 2.1 nats"),
        ({"approximation": 2.0}, {"approximation": 2.1}, "by 2.1 nats"),
        ({"least": 1.0}, {"least": 1.1}, "least 1.1 nats"),
        ({"samples": _samples(25, 20)}, {"samples": _samples(26, 20)}, "6% more"),
        ({"samples": _samples(0, 50)}, {"samples": _samples(90, 50), "least": 2.0}, "and 40% more"),
        ({"active_units": 15}, {"active_units": 14}, "6 of 20 dimensions"),
        ({"active_units": 15}, {"active_units": 14}, "such as 14"),
        ({"active_units": 15}, {"active_units": 0}, "such as 1"),
    ],
)
def test_advice_begins_above_its_threshold(
    balanced: dict[str, object], large: dict[str, object], words: str, told: Diagnosis
) -> None:
    told = told.model_copy(update={"code_size": 20})
    before, after = (
        advice(_told(told, {"active_units": 20} | change), config.Config())
        for change in (balanced, large)
    )
    assert "balanced" in before[0]
    (only,) = after
    assert words in only


@pytest.mark.parametrize(
    ("least", "samples", "far", "broken"),
    [
        (2.0, None, True, False),
        (2.0, (25, 20), True, False),
        (0.2, (26, 20), False, True),
        (2.0, (26, 20), True, True),
    ],
)
def test_advice_on_the_prior_has_the_reasons_that_apply(
    least: float, samples: tuple[int, int] | None, far: bool, broken: bool, told: Diagnosis
) -> None:
    change = {"least": least, "samples": samples and _samples(*samples)}
    (only,) = advice(_told(told, change), config.Config())
    assert ("nats away" in only, "are broken" in only) == (far, broken)


def test_a_large_number_that_is_uncertain_is_no_advice(told: Diagnosis) -> None:
    unsure = _estimate(9.0, 4.6)
    nats = told.train.model_copy(update={"amortization": unsure, "approximation": unsure})
    change = {
        "held_out": nats,
        "train": nats,
        "encoder_overfitting": unsure,
        "decoder_overfitting": unsure,
        "aggregate": told.aggregate.model_copy(update={"least": unsure}),
    }
    (only,) = advice(_told(told, change), config.Config())
    assert "balanced" in only


def test_at_most_three_pieces_of_advice_in_the_order_of_the_rules(told: Diagnosis) -> None:
    update = {
        "held_out": _changed(told.held_out, 5.0, 7.0),
        "train": _changed(told.train, 5.0, 7.0),
        "encoder_overfitting": _estimate(30.0),
        "decoder_overfitting": _estimate(2.0),
        "aggregate": told.aggregate.model_copy(update={"least": _estimate(0.0)}),
        "samples": None,
        "active_units": 0,
    }
    given = advice(told.model_copy(update=update), config.Config())
    assert len(given) == 3
    assert "encoder by 30.0" in given[0]
    assert "decoder by 2.0" in given[0]
    assert "5.0" in given[1]
    assert "epochs" not in given[1]  # which a model that overfits has too many of
    assert "7.0" in given[2]


def test_chains_start_where_the_bounds_are_nearer(
    trained_runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # by every other image, the first of them; the bounds are of those between
    gaps = {"prior": [3.0, 0.0], "posterior": [2.0, 1.0]}

    def bracket(*_: object, origin: Origin, **_how: object) -> annealed.Bracket:
        lower = jnp.arange(6.0)
        return annealed.Bracket(lower, lower + jnp.array(3 * gaps[origin]))

    monkeypatch.setattr(annealed, "bracket", bracket)
    model = trained.load(RunDir(trained_runs / "z5"))
    found = diagnose(model, "test", SMALL_PLAN)
    assert (found.origin, found.bracket.gap.mean) == ("posterior", 1.0)
    assert found.bracket.images == 3
    found = diagnose(model, "test", SMALL_PLAN._replace(origin="prior"))
    assert (found.bracket.gap.mean, found.bracket.images) == (1.5, 6)
    assert any("uncertain" in warning for warning in found.warnings)


def test_parts_add_up_to_the_whole(told: Diagnosis) -> None:
    for nats in (told.held_out, told.train):
        parts = -(nats.nll.mean + nats.kl.mean) + nats.amortization.mean + nats.approximation.mean
        assert nats.log_p.mean == pytest.approx(parts)
        assert nats.amortization.mean > 0


def test_the_error_of_a_sum_is_of_the_same_images(rng: np.random.Generator) -> None:
    """By means of many data sets, whose images with a low ELBO have a large gap."""
    sums, errors = [], []
    for _ in range(2000):
        elbo = rng.normal(-80, 5, size=40)
        gaps = 3 - 0.4 * (elbo + 80) + rng.normal(size=40)
        each = elbo[:10], gaps[:10]
        sums.append(elbo.mean() + gaps[:10].mean())
        errors.append(diagnosing._error_of_sum(Estimate.of(elbo), *each, 40))
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(sums), rel=0.05)
    error = diagnosing._error_of_sum(Estimate.of(elbo), elbo, gaps, 40)
    assert error == pytest.approx(sem(elbo + gaps))


def test_the_command_prints_writes_and_draws(vaectl: Vaectl, runs: Path) -> None:
    assert (runs / "z5").is_dir()
    code, out, err = vaectl("diagnose", "z5", *SMALL, "--prior-samples", 50)
    assert code == 0, err
    *_, file, picture = out.splitlines()
    assert Path(file) == Path("runs/z5/diagnosis.json")
    assert Path(picture).read_bytes().startswith(b"\x89PNG")
    found = Diagnosis.model_validate_json(Path(file).read_bytes())
    assert f"{found.held_out.log_p.mean:.2f}" in out
    assert found.samples is not None
    assert found.samples.count == 50
    assert all(sentence in out for sentence in found.advice)
    # the same again, and as JSON
    answer = vaectl(
        "diagnose", "z5", *SMALL, "--prior-samples", 50, "--json", "-q", "--out", "a.svg"
    )
    again = json.loads(answer.out)
    assert Path("a.svg").exists()
    assert again | {"seconds": 0} == found.model_dump(mode="json") | {"seconds": 0}
    seals.check(Path(file).read_bytes())


def test_too_many_chains_are_refused_before_they_start(
    vaectl: Vaectl, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert runs.is_dir()
    monkeypatch.setattr(devices, "memory_of", lambda _: 2**18)
    code, out, err = vaectl("diagnose", "z2", *SMALL)
    assert (code, out) == (2, "")
    assert "--chains" in err


@pytest.mark.parametrize(
    ("program", "told"),
    [
        (annealed.compiled_anneal, "--chains 3"),
        (amortization.compiled_best_posterior, "--images 6"),
        (amortization.compiled_bound, "--images 6"),
        (likelihoods.compiled_weighting, "--images 6"),
        (likelihoods.compiled_bound, "250 images"),
        (aggregate.compiled_densities, "250 images"),
    ],
)
def test_a_program_that_does_not_fit_is_refused_before_any_runs(
    program: object, told: str, vaectl: Vaectl, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert runs.is_dir()
    monkeypatch.setattr(
        footprint, "excess", lambda _, function, *__: "is too much" * (function is program)
    )
    for name in ("bracket", "annealed"):
        monkeypatch.setattr(annealed, name, None)
    code, out, err = vaectl("diagnose", "z2", *SMALL)
    assert (code, out) == (2, "")
    assert told in err


def test_many_images_are_encoded_some_at_a_time(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts, encode = [], trained.Trained.encode

    def counted(self: trained.Trained, given: Any, *rest: Any) -> Any:
        counts.append(len(given))
        return encode(self, given, *rest)

    monkeypatch.setattr(trained.Trained, "encode", counted)
    model = trained.load(RunDir(runs / "z5"))
    found = diagnose(model, "test", SMALL_PLAN._replace(prior_samples=600))
    assert found.samples is not None
    assert found.samples.count == 600
    assert max(counts) == 250


@pytest.mark.full
@pytest.mark.parametrize("objective", ["iwae", "beta"])
@pytest.mark.parametrize("prior", ["mixture", "vamp"])
@pytest.mark.parametrize("likelihood", ["gaussian", "continuous_bernoulli"])
def test_every_likelihood_and_prior_is_diagnosed(
    likelihood: str, prior: str, objective: str, vaectl: Vaectl
) -> None:
    sizes: dict[str, object] = {"train_size": 500, "validation_size": 50, "test_size": 60}
    settings = config.Config.model_validate(
        {
            "epochs": 1,
            "data": sizes | {"binarization": "none"},
            "model": {"code_size": 2, "hidden_size": 16},
            "likelihood": {"name": likelihood},
            "prior": {"name": prior, prior: {"components": 5}},
            "objective": {"name": objective},
        }
    )
    experiment.run(settings, runs_dir=Path("runs"), name="a")
    code, out, err = vaectl("diagnose", "a", *SMALL, "--prior-samples", 20)
    assert code == 0, err
    assert "advice: " in out


@pytest.mark.parametrize("looks", [{}, {"width": "column"}, {"theme": "dark"}])
def test_the_waterfall_has_room_for_its_numbers(looks: dict[str, str], told: Diagnosis) -> None:
    figure = waterfall(told, title="a", style=style.parse(**looks))  # type: ignore[arg-type]
    figure.draw_without_rendering()
    assert len(figure.axes) == 2
    for axes in figure.axes:
        for words in axes.texts:
            assert words.get_window_extent().x1 <= figure.bbox.x1


def _numbers(diagnosis: Diagnosis) -> Diagnosis:
    return diagnosis.model_copy(update={"seconds": 0.0})


_SIX = 6
"""Images at once, as many as in the other tests, for which JAX compiles."""


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Diagnose ten images in two batches."""
    monkeypatch.setattr(work, "BATCH", _SIX)


@pytest.fixture(scope="module")
def whole(trained_runs: Path) -> Diagnosis:
    """A diagnosis in two batches, without an interrupt."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "BATCH", _SIX)
        return _numbers(diagnose(trained.load(RunDir(trained_runs / "z5")), "test", TWO_BATCHES))


def _kept(model: trained.Trained, split: str = "test", **plan: Any) -> Unfinished:
    """Open the parts of a diagnosis that was interrupted."""
    inputs = diagnosing.inputs(model, split, TWO_BATCHES._replace(**plan))
    return Unfinished(model.rundir, inputs, print)


def _stop(finished: Unfinished, after: int) -> work.Watch:
    """Return a function that interrupts a diagnosis once so many parts are finished."""

    def watch(*_: object) -> None:
        if len(finished) == after:
            raise KeyboardInterrupt

    return watch


@pytest.mark.usefixtures("small_batches")
def test_an_interrupted_diagnosis_continues_with_the_same_numbers(
    runs: Path, whole: Diagnosis, capsys: pytest.CaptureFixture[str]
) -> None:
    model = trained.load(RunDir(runs / "z5"))
    parts = ["simulated-posterior", "simulated-prior", "test-0", "test-6", "train-0", "train-6"]
    for after in (1, 4):
        finished = _kept(model)
        with pytest.raises(KeyboardInterrupt):
            diagnose(model, "test", TWO_BATCHES, _stop(finished, after), finished)
        finished = _kept(model)
        assert len(finished) == after
        watch = Mock()
        assert _numbers(diagnose(model, "test", TWO_BATCHES, watch, finished)) == whole
        shown = [call.args[1] for call in watch.call_args_list]
        assert sorted(finished) == parts
        assert shown[0] > 0
        assert sorted(shown) == shown
        assert shown[-1] == 100
        finished.remove()
        assert not (runs / "z5/unfinished").exists()
    assert capsys.readouterr().out == ""


def test_a_figure_that_cannot_be_written_costs_no_part(runs: Path, vaectl: Vaectl) -> None:
    few = ("--prior-samples", 0, "-q")
    answer = vaectl("diagnose", "z5", *SMALL, *few, "--out", "gone/a.png")
    assert answer.code == 4
    assert len([*(runs / "z5/unfinished").iterdir()]) == 4
    # a run that cannot be written costs no figure elsewhere
    (runs / "z5/diagnosis.json").symlink_to("nowhere")
    assert vaectl("diagnose", "z5", *SMALL, *few, "--out", "a.png").code == 4
    assert Path("a.png").exists()
    (runs / "z5/diagnosis.json").unlink()
    assert vaectl("diagnose", "z5", *SMALL, *few).code == 0
    assert not (runs / "z5/unfinished").exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content.replace(b"0.25", b"0.26", 1),
        lambda content: b"\0" * len(content),
        lambda _: b"",
        lambda _: b"[" * 100_000,
    ],
)
def test_a_damaged_part_is_not_used(
    damage: Callable[[bytes], bytes], runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = trained.load(RunDir(runs / "z5"))
    part = np.full((7, 6), 0.25, np.float32)
    _kept(model).update({"simulated-prior": part[:2], "test-0": part})
    (file,) = (runs / "z5/unfinished").glob("*-test-0.json")
    file.write_bytes(damage(file.read_bytes()))
    (file.parent / f".{file.name}.0123abcd").write_bytes(b'{"format_version": 1, "ke')
    found = _kept(model)
    assert found.keys() == {"simulated-prior"}
    assert str(file) in capsys.readouterr().out
    found["test-0"] = part
    again = _kept(model)
    np.testing.assert_array_equal(again["test-0"], part)
    again.remove()
    assert not file.parent.exists()


def test_parts_of_another_diagnosis_are_not_used(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model, other = (trained.load(RunDir(runs / "z5")) for _ in range(2))
    other.checkpoint = other.checkpoint.model_copy(update={"digest": "another"})
    folder, part = runs / "z5/unfinished", np.zeros((7, 6), np.float32)
    _kept(model)["test-0"] = part
    (file,) = folder.iterdir()
    changes: list[dict[str, Any]] = [{"seed": 1}, {"chains": 4}, {"images": 7}, {"origin": "prior"}]
    theirs = [_kept(other), _kept(model, "validation"), *(_kept(model, **each) for each in changes)]
    for name in ("versions", "describe"):
        with monkeypatch.context() as patch:
            module = environment if name == "versions" else devices
            patch.setattr(module, name, lambda *_: {"jax": "0.0.1", "host": "a"})
            theirs.append(_kept(model))
    assert not any(theirs)
    # nor where they have the name of those of another one
    theirs[0]["test-0"] = part
    (its,) = set(folder.iterdir()) - {file}
    its.write_bytes(file.read_bytes())
    assert not _kept(other)
    assert str(its) in capsys.readouterr().out
    # the others stay until they are finished, or their run is removed
    theirs[0].remove()
    assert [*folder.iterdir()] == [file]
    assert len(_kept(model)) == 1
    assert model.rundir.remove() == []
    assert not folder.exists()


@pytest.mark.usefixtures("small_batches")
def test_numbers_that_do_not_fit_are_computed_again(runs: Path, whole: Diagnosis) -> None:
    finished = {"simulated-prior": np.zeros((2, 3)), "test-0": np.zeros((6, 6))}
    model = trained.load(RunDir(runs / "z5"))
    assert _numbers(diagnose(model, "test", TWO_BATCHES, finished=finished)) == whole


def test_a_diagnosis_that_cannot_be_kept_is_made_all_the_same(
    vaectl: Vaectl, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "replacing", full)
        code, out, err = vaectl("diagnose", "z5", *SMALL, "--prior-samples", 0)
    assert code == 4  # it is printed, but cannot be written
    assert "log p(x)" in out
    assert err.count("warning: ") == 1
    assert runs.is_dir()


@pytest.mark.full
def test_a_signal_ends_a_diagnosis_at_once_and_the_command_continues(runs: Path) -> None:
    command = ["-m", "vaectl", "diagnose", "z5", "--images", "6", "--start=prior"]
    command += ["--temperatures", "1000000", "--json"]
    for number, kept in ((signal.SIGINT, 0), (signal.SIGTERM, 1)):
        if kept:
            model = trained.load(RunDir(runs / "z5"))
            plan = Plan(images=6, temperatures=1_000_000, origin="prior")
            inputs = diagnosing.inputs(model, "test", plan)
            Unfinished(model.rundir, inputs, print)["simulated-prior"] = np.ones((2, 6), np.float32)
        running = apart.start(*command, cwd=runs.parent, stderr=subprocess.PIPE)
        with pytest.raises(subprocess.TimeoutExpired):
            running.wait(15)
        running.send_signal(number)
        _, err = running.communicate(timeout=2)
        assert running.returncode == 130
        assert ("the same command, which continues" in err) == bool(kept)
