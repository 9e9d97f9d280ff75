"""Samples from more than the prior."""

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Vaectl
from vaectl.evaluation import fitted
from vaectl.pictures import views
from vaectl.pictures.canvas import Figure
from vaectl.runs.directory import RunDir
from vaectl.runs.trained import Trained, load

needs_sklearn = pytest.mark.skipif(
    find_spec("sklearn") is None, reason="the extra `mixture` is not installed: it is large"
)


@pytest.fixture(scope="module")
def model(trained_runs: Path) -> Trained:
    return load(RunDir(trained_runs / "z2"))


def test_codes_of_the_aggregate_posterior_are_those_of_training_images(model: Trained) -> None:
    mu, log_var = model.encode(model.split("train").images)
    cold = model.codes(50, origin="aggregate", temperature=0.0)
    nearest = np.abs(cold[:, None] - mu).max(axis=-1)
    assert nearest.min(axis=1).max() < 1e-4
    assert len(set(nearest.argmin(axis=1))) == 50  # each of another image
    codes = model.codes(5000, origin="aggregate", seed=1)
    expected = mu.var(axis=0) + np.exp(log_var).mean(axis=0)
    np.testing.assert_allclose(codes.var(axis=0), expected, rtol=0.15)
    np.testing.assert_array_equal(model.codes(7, seed=3, origin="aggregate"), codes_again(model))
    assert model.codes(0, origin="aggregate").shape == (0, 2)
    assert model.sample(3, origin="aggregate").shape == (3, 28, 28)
    np.testing.assert_array_equal(model.codes(4, seed=2), model.prior(4, seed=2))


def codes_again(model: Trained) -> np.ndarray:
    return load(model.rundir).codes(7, seed=3, origin="aggregate")


@needs_sklearn
def test_a_mixture_is_fitted_to_codes(rng: np.random.Generator) -> None:
    centres = np.array([[-4.0, 0.0], [4.0, 1.0]])
    codes = centres[rng.integers(2, size=4000)] + rng.standard_normal((4000, 2)) * [0.5, 1.0]
    found = fitted.fit(codes.astype(np.float32))
    assert len(found.mu) == 10
    # each step of expectation maximization keeps the first two moments of the codes
    mean = found.weights @ found.mu
    np.testing.assert_allclose(mean, codes.mean(axis=0), rtol=1e-5)
    of_each, apart = found.factors, found.mu - mean
    cov = np.einsum("k,kil,kjl->ij", found.weights, of_each, of_each)
    cov += np.einsum("k,ki,kj->ij", found.weights, apart, apart)
    np.testing.assert_allclose(cov, np.cov(codes.T, bias=True) + 1e-4 * np.eye(2), rtol=1e-5)
    drawn = found.sample(4000, seed=0)
    assert (np.abs(drawn[:, 0]) < 1.5).mean() < 0.02  # nothing between the two
    assert len(np.unique(found.sample(400, seed=0, temperature=0.0), axis=0)) <= len(found.mu)
    one, same = (fitted.fit(codes[:100].astype(np.float32)) for _ in range(2))
    for each, again in zip(one, same, strict=True):
        np.testing.assert_array_equal(each, again)
    few = fitted.fit(codes[:5].astype(np.float32))
    assert np.isfinite(few.sample(10, seed=0)).all()


def test_codes_of_a_mixture_have_its_moments_and_a_temperature() -> None:
    factors = np.array([[[1.0, 0.0], [2.0, 0.5]], [[0.3, 0.0], [-0.2, 0.1]]])
    mixture = fitted.Fitted(np.array([0.2, 0.8]), np.array([[-9.0, 1.0], [9.0, 2.0]]), factors)
    for temperature in (1.0, 0.5):
        drawn = mixture.sample(40_000, seed=0, temperature=temperature)
        first = drawn[:, 0] < 0
        np.testing.assert_allclose(first.mean(), 0.2, atol=0.01)
        for of, mu, factor in zip((first, ~first), mixture.mu, factors, strict=True):
            cov = temperature**2 * factor @ factor.T
            np.testing.assert_allclose(np.cov(drawn[of].T), cov, rtol=0.06)
            np.testing.assert_allclose(drawn[of].mean(axis=0), mu, atol=0.08)
    assert (mixture.sample(9, seed=0) == mixture.sample(9, seed=0, temperature=1.0)).all()


@needs_sklearn
def test_samples_of_a_mixture_are_drawn(vaectl: Vaectl, runs: Path) -> None:
    found = ("sample", "z2", "--from", "mixture", "--count", 9, "--save-arrays", "a.npz")
    assert vaectl(*found).code == 0
    with np.load("a.npz", allow_pickle=False) as arrays:
        again = load(RunDir(runs / "z2")).codes(9, origin="mixture")
        np.testing.assert_array_equal(arrays["z"], again)


def test_without_scikit_learn_the_command_says_what_to_install(
    vaectl: Vaectl, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert runs.is_dir()
    for name in [*sys.modules, "sklearn"]:
        if name.partition(".")[0] == "sklearn":
            monkeypatch.setitem(sys.modules, name, None)
    code, out, err = vaectl("sample", "z2", "--from", "mixture")
    assert (code, out) == (2, "")
    assert "pip install 'vaectl[mixture]'" in err


@pytest.mark.parametrize("origin", ["prior", "aggregate"])
def test_the_heading_says_what_the_samples_are_of(origin: str, model: Trained) -> None:
    view = views.sample(
        model,
        count=4,
        temperature=1.0,
        draw="mean",
        seed=0,
        origin=origin,  # type: ignore[arg-type]
    )
    assert isinstance(view.figure, Figure)
    heading = " ".join(words.get_text() for words in view.figure.texts)
    assert ("training" in heading) == (origin != "prior")
