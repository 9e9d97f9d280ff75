"""Where the nats go: against models whose log p(x) and posteriors are known."""

import errno
import json
import signal
import subprocess
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import Mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import multivariate_normal, norm, sem

from tests import apart
from tests.conftest import Vaectl, mlp
from tests.test_contracts import _linear
from vaectl import config, experiment
from vaectl.base import devices, seals
from vaectl.base.errors import DataError
from vaectl.base.files import Folder
from vaectl.data.arrays import Dataset, Split
from vaectl.evaluation import aggregate, amortization, annealed, likelihoods, mismatch, work
from vaectl.evaluation import diagnose as diagnosing
from vaectl.evaluation.advice import advice
from vaectl.evaluation.aggregate import Posteriors
from vaectl.evaluation.amortization import Posterior
from vaectl.evaluation.annealed import Origin
from vaectl.evaluation.diagnose import diagnose
from vaectl.evaluation.samples import broken, broken_share
from vaectl.evaluation.work import Plan
from vaectl.pictures import style
from vaectl.pictures.waterfall import waterfall
from vaectl.priors.base import Prior
from vaectl.priors.mixture import MixturePrior
from vaectl.priors.standard_normal import StandardNormal
from vaectl.priors.vamp import Vamp
from vaectl.runs import environment, trained
from vaectl.runs.diagnosis import Diagnosis, Nats, Samples
from vaectl.runs.directory import RunDir
from vaectl.runs.record import Estimate
from vaectl.runs.saved import Info
from vaectl.runs.trained import Trained
from vaectl.runs.unfinished import Unfinished
from vaectl.training import footprint
from vaectl.vae.vae import Network

SMALL = ("--images", 6, "--chains", 3, "--temperatures", 10, "--importance-samples", 8)

SMALL_PLAN = Plan(images=6, chains=3, temperatures=10, importance_samples=8, prior_samples=50)
TWO_BATCHES = SMALL_PLAN._replace(images=10)


class Known(NamedTuple):
    """A linear network, with its prior as a mixture of Gaussians."""

    network: Network
    matrix: np.ndarray
    bias: np.ndarray
    parts: list[tuple[float, np.ndarray, np.ndarray]]

    def log_p(self, x: jax.Array) -> np.ndarray:
        """Return log p(x), which is a mixture of Gaussians, too."""
        noise = 0.25 * np.eye(len(self.bias))
        densities = [
            w
            * multivariate_normal(
                self.matrix @ mu + self.bias, self.matrix @ np.diag(var) @ self.matrix.T + noise
            ).pdf(np.asarray(x).reshape(len(x), -1))
            for w, mu, var in self.parts
        ]
        return np.asarray(np.log(np.sum(densities, axis=0)))


@cache
def known(prior: Prior) -> Known:
    network = _linear(prior)
    decoder, p = network.module.decoder, network.prior
    parts = [(1.0, np.zeros(2), np.ones(2))]
    if not prior.standard:
        arrays = (jnp.exp(p.log_weights), p.mu, jnp.exp(p.log_var))  # type: ignore[attr-defined]
        weights, mu, var = (np.asarray(each, np.float64) for each in arrays)
        parts = list(zip(weights.tolist(), mu, var, strict=True))
    return Known(network, np.asarray(decoder.kernel[...]).T, np.asarray(decoder.bias[...]), parts)


PRIORS = [StandardNormal(), MixturePrior(components=3, spread=2.0), Vamp(components=4)]


ROWS = [(0, "prior")]
MORE = [(0, "posterior"), (1, "prior"), (1, "posterior"), (2, "prior"), (2, "posterior")]


@pytest.mark.parametrize(
    ("number", "origin"), [*ROWS, *(pytest.param(*row, marks=pytest.mark.full) for row in MORE)]
)
def test_annealing_finds_the_likelihood_of_a_linear_model(number: int, origin: Origin) -> None:
    model = known(PRIORS[number])
    x = 0.5 * jax.random.normal(jax.random.key(2), (60, 2, 2, 1))
    found = annealed.annealed(
        *(model.network.vae, model.network.variables, x, None, jax.random.key(5)),
        chains=16,
        temperatures=100,
        origin=origin,
    )
    wrong = np.asarray(found.log_p) - model.log_p(x)
    error = wrong.std() / np.sqrt(len(wrong))
    assert abs(wrong.mean()) < 4 * error
    assert error < 0.05
    assert 0.5 < found.acceptance.mean() < 0.8
    assert 8 < found.effective.mean() <= 16


@pytest.mark.parametrize("origin", ["prior", "posterior"])
def test_a_path_goes_from_its_origin_to_the_joint_density(origin: Origin) -> None:
    network, matrix, bias, _ = known(StandardNormal())
    x = 0.5 * jax.random.normal(jax.random.key(2), (3, 2, 2, 1))
    mu, log_var = network.encode(x)
    mean, deviation = (0.0, 1.0) if origin == "prior" else (mu, np.exp(log_var / 2))
    key, chains = jax.random.key(4), 10_000
    z, _ = annealed.compiled_start(network.vae, network.variables, x, None, key, chains, origin)
    np.testing.assert_allclose((z - mean).mean(axis=0) / deviation, np.zeros((3, 2)), atol=0.05)
    np.testing.assert_allclose(z.std(axis=0) / deviation, np.ones((3, 2)), atol=0.03)
    first, last = annealed._ends(network, x, mu, log_var, origin)
    z = z[:50]
    expected = norm.logpdf(z, mean, deviation).sum(axis=-1)
    np.testing.assert_allclose(jax.jit(first)(z), expected, rtol=1e-4, atol=1e-4)
    pixels = norm.logpdf(x.reshape(3, 4), z @ matrix.T + bias, 0.5).sum(axis=-1)
    expected = norm.logpdf(z).sum(axis=-1) + pixels
    np.testing.assert_allclose(jax.jit(last)(z), expected, rtol=1e-4, atol=1e-4)


def test_temperatures_follow_a_logistic_function() -> None:
    share = np.linspace(0, 1, 11)
    start, end = expit([-4, 4])
    expected = (expit(4 * (2 * share - 1)) - start) / (end - start)
    found = jax.jit(jax.vmap(annealed._temperature))(np.float32(share))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_weights_are_averaged_and_counted(rng: np.random.Generator) -> None:
    log_w = rng.normal(-800, 2, (5, 3)).astype(np.float32)
    w = np.exp(log_w.astype(np.float64) + 800)
    log_p, effective = annealed.compiled_sum_up(log_w)
    np.testing.assert_allclose(log_p, np.log(w.mean(axis=0)) - 800, rtol=1e-6)
    np.testing.assert_allclose(effective, w.sum(axis=0) ** 2 / (w**2).sum(axis=0), rtol=1e-3)


def test_a_transition_is_that_of_hamiltonian_dynamics_by_hand(rng: np.random.Generator) -> None:
    """Between N(0, 1) and N(1, 1/4), whose log density is not a number beyond a wall."""
    b, key, wall = 0.25, jax.random.key(3), 1.5
    size = np.array([0.1, 0.4, 0.8], np.float32)
    unit = np.array([[1, 2], [0.5, 1], [1, 0.5]], np.float32)
    start = np.minimum(rng.normal(size=(40, 3, 2)), 1.4).astype(np.float32)

    def at(z: Any) -> annealed._Point:
        first, last = -jnp.square(z).sum(axis=-1) / 2, -2 * jnp.square(z - 1).sum(axis=-1)
        beyond = z[..., 0] > wall
        return annealed._Point(z, first, jnp.where(beyond, jnp.nan, last), -z, -4 * (z - 1))

    def slope(z: np.ndarray) -> np.ndarray:
        return z * (1 - b) + 4 * (z - 1) * b

    def energy(z: np.ndarray, momentum: np.ndarray) -> np.ndarray:
        potential = z**2 / 2 * (1 - b) + 2 * (z - 1) ** 2 * b
        whole = (potential + momentum**2 / 2).sum(axis=-1)
        return np.where(z[..., 0] > wall, np.inf, whole)

    move = jax.jit(annealed._transition, static_argnums=0)
    moved, share = move(at, at(start), jnp.float32(b), size, unit, key)

    keys = jax.random.split(key, 3)
    momentum = faster = np.asarray(jax.random.normal(keys[0], start.shape), np.float64)
    spread = np.asarray(jax.random.uniform(keys[1], (40, 3), minval=-1))
    step = (size * (1 + 0.2 * spread))[..., None] * unit
    z = start
    for _ in range(5):
        faster = faster - step / 2 * slope(z)
        z = z + step * faster
        faster = faster - step / 2 * slope(z)
    chance = np.minimum(np.exp(energy(start, momentum) - energy(z, faster)), 1)
    taken = jax.random.uniform(keys[2], (40, 3)) < chance
    assert (chance == 0).any()
    np.testing.assert_allclose(share, chance.mean(axis=0), rtol=1e-4)
    expected = np.where(taken[..., None], z, start)
    for found, right in zip(moved, at(expected), strict=True):
        np.testing.assert_allclose(found, right, atol=1e-4)


@pytest.mark.parametrize("origin", ["prior", "posterior"])
def test_weights_and_step_sizes_are_added_up_along_the_path(
    origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand, with transitions that are known and tell the size and the unit of their steps."""
    network, matrix, bias, _ = known(StandardNormal())
    x = 0.5 * jax.random.normal(jax.random.key(2), (3, 2, 2, 1))
    mu, log_var = map(np.asarray, network.encode(x))
    start = jax.random.normal(jax.random.key(3), (5, 3, 2))
    rng, count = np.random.default_rng(0), 100
    sizes = rng.normal(-1, 0.5, (64, 3))

    def told(at: Any, point: Any, b: Any, size: Any, unit: Any, _: Any) -> Any:
        return at(0.9 * point.z + 0.1 * b), unit[:, 0] / (1 + size * unit[:, 1])

    def ratio(z: np.ndarray) -> np.ndarray:
        mean, deviation = (0.0, 1.0) if origin == "prior" else (mu, np.exp(log_var / 2))
        pixels = norm.logpdf(np.reshape(x, (3, 4)), z @ matrix.T + bias, 0.5)
        last = norm.logpdf(z).sum(axis=-1) + pixels.sum(axis=-1)
        return np.asarray(last - norm.logpdf(z, mean, deviation).sum(axis=-1))

    monkeypatch.setattr(annealed, "_transition", told)

    @jax.jit
    def anneal(adapt: Any, back: Any) -> Any:
        given = (network.vae, network.variables, x, None, start, jax.random.key(0))
        return annealed.anneal(*given, jnp.int32(count), jnp.float32(sizes), adapt, back, origin)

    for adapt, back in ((True, False), (False, True)):
        found = anneal(jnp.bool(adapt), jnp.bool(back))
        shares = np.linspace(0, 1, count + 1)[:: -1 if back else 1]
        b = (expit(4 * (2 * shares - 1)) - expit(-4)) / (expit(4) - expit(-4))
        z, steps, log_w, accepted = np.asarray(start), sizes.copy(), 0.0, 0.0
        for t in range(count):
            log_w = log_w + (b[t + 1] - b[t]) * ratio(z)
            precision = np.exp(-log_var)
            at_first = 1 if origin == "prior" else precision
            unit = ((1 - b[t + 1]) * at_first + b[t + 1] * precision) ** -0.5
            part = min(int(np.float32(shares[t + 1]) * 64), 63)
            chance = unit[:, 0] / (1 + np.exp(steps[part]) * unit[:, 1])
            if adapt:
                steps[part:] = steps[part] + 0.2 * (chance - 0.65)
            z, accepted = 0.9 * z + 0.1 * b[t + 1], accepted + chance / count
        for each, expected in zip(found, map(np.asarray, (log_w, accepted, steps)), strict=True):
            np.testing.assert_allclose(each, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("temperatures", "few"), [(10, 10), (100, 64), (1000, 250)])
def test_step_sizes_are_found_in_a_short_run_and_then_kept(
    temperatures: int, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chains whose steps follow the acceptance, or where they begin, would not be unbiased."""
    runs, keys, starts = [], set(), set()

    def anneal(*given: Any) -> Any:
        _, _, x, _, z, key, count, steps, adapt, back, _ = given
        starts.add(bytes(np.asarray(z)))
        size = np.exp(np.asarray(steps)).mean().round(4)
        runs.append((int(count), float(size), bool(adapt), bool(back)))
        keys.add(bytes(np.asarray(jax.random.key_data(key))))
        log_w = jnp.where(back, -2.0, 3.0)
        return jnp.full((2, 3), log_w), jnp.zeros(len(x)), steps + jnp.log(2.0)

    monkeypatch.setattr(annealed, "compiled_anneal", anneal)
    network = known(StandardNormal()).network
    given = (network.vae, network.variables, 3, None, jax.random.key(0))
    found = annealed.bracket(*given, chains=2, temperatures=temperatures)
    assert runs == [
        (few, 0.5, True, False),
        (temperatures, 1.0, False, False),
        (temperatures, 1.0, False, True),
    ]
    assert len(keys) == len(starts) == 3
    np.testing.assert_allclose(found.lower, 3, rtol=1e-6)
    np.testing.assert_allclose(found.upper, 2, rtol=1e-6)


@pytest.mark.parametrize(
    "prior", [PRIORS[0], pytest.param(PRIORS[1], marks=pytest.mark.full)], ids=repr
)
def test_simulated_images_are_bracketed(prior: Prior) -> None:
    model, key = known(prior), jax.random.key(6)
    vae, variables = model.network.vae, model.network.variables
    # as `bracket` draws them
    x, _ = annealed.compiled_simulate(vae, variables, None, jax.random.split(key, 3)[0], 80)
    exact = model.log_p(x)
    gaps = []
    for temperatures in (3, 200):
        found = annealed.bracket(
            vae, variables, 80, None, key, chains=8, temperatures=temperatures, origin="prior"
        )
        below, above = exact - np.asarray(found.lower), np.asarray(found.upper) - exact
        for each in (below, above):
            assert each.mean() > -4 * each.std() / np.sqrt(len(each))
        gaps.append((below + above).mean())
    assert gaps[0] > gaps[1] + 0.2
    assert abs(gaps[1]) < 0.15


@pytest.mark.parametrize("shift", [0.0, 6.0])
def test_the_best_gaussian_of_a_linear_model_is_found(shift: float) -> None:
    """It has the mean of the posterior, and the diagonal of its precision.

    Also where the encoder's means and log-variances are far off.
    """
    model = known(StandardNormal())
    vae, variables, matrix = model.network.vae, model.network.variables, model.matrix
    variables["encoder"]["layers"][1]["bias"] += shift
    x = 0.5 * jax.random.normal(jax.random.key(2), (30, 2, 2, 1))
    precision = np.eye(2) + matrix.T @ matrix / 0.25
    mean = (np.asarray(x).reshape(30, 4) - model.bias) @ matrix / 0.25 @ np.linalg.inv(precision)
    best = amortization.compiled_best_posterior(vae, variables, x, None, jax.random.key(0))
    np.testing.assert_allclose(best.mu, mean, atol=0.05)
    expected = np.broadcast_to(-np.log(np.diag(precision)), (30, 2))
    np.testing.assert_allclose(best.log_var, expected, atol=0.2)
    # log p(x) - L[q*] = KL(q* || p(z|x)) = 1/2 (sum_j log precision_jj - log |precision|)
    gap = 0.5 * (np.log(np.diag(precision)).sum() - np.linalg.slogdet(precision)[1])
    assert gap > 0.1
    bound, ours = (
        amortization.compiled_bound(
            vae, variables, x, None, q, jax.random.key(1), jnp.int32(400)
        ).elbo
        for q in (best, Posterior(*model.network.encode(x)))
    )
    np.testing.assert_allclose((model.log_p(x) - bound).mean(), gap, atol=0.02)
    assert (np.asarray(bound - ours) > -0.02).all()


def test_a_bound_is_the_mean_over_all_samples(rng: np.random.Generator) -> None:
    network, matrix, bias, _ = known(StandardNormal())
    x = 0.5 * jax.random.normal(jax.random.key(2), (4, 2, 2, 1))
    mu, log_var = rng.normal(size=(2, 4, 2)).astype(np.float32)
    key, chunks = jax.random.key(1), jnp.int32(3)
    q = Posterior(jnp.asarray(mu), jnp.asarray(log_var))
    found = amortization.compiled_bound(network.vae, network.variables, x, None, q, key, chunks)
    keys = [jax.random.fold_in(key, chunk) for chunk in range(3)]
    noise = np.concatenate([jax.random.normal(each, (8, 4, 2)) for each in keys])
    pixels = (mu + np.exp(log_var / 2) * noise) @ matrix.T + bias
    nll = -norm.logpdf(np.reshape(x, (4, 4)), pixels, 0.5).sum(axis=-1).mean(axis=0)
    kl = 0.5 * (mu**2 + np.exp(log_var) - 1 - log_var).sum(axis=-1)
    for part, expected in ((found.nll, nll), (found.kl, kl), (found.elbo, -(nll + kl))):
        np.testing.assert_allclose(part, expected, rtol=1e-4)


def test_the_best_gaussian_is_better_than_the_encoders_with_other_priors() -> None:
    model = known(PRIORS[1])
    vae, variables = model.network.vae, model.network.variables
    x = 0.5 * jax.random.normal(jax.random.key(2), (30, 2, 2, 1))
    best = amortization.compiled_best_posterior(vae, variables, x, None, jax.random.key(0))
    bound, ours = (
        amortization.compiled_bound(
            vae, variables, x, None, q, jax.random.key(1), jnp.int32(400)
        ).elbo
        for q in (best, Posterior(*model.network.encode(x)))
    )
    assert (np.asarray(bound - ours) > -0.05).all()
    assert (bound < model.log_p(x) + 0.05).all()


@pytest.mark.parametrize("size", [1, 20])
def test_the_divergence_of_the_aggregate_posterior_is_bracketed(
    size: int, rng: np.random.Generator
) -> None:
    """q(z) = N(0, 1.5^2 + 0.5^2) in each dimension, whose KL from N(0, 1) is known."""
    mu = (1.5 * rng.standard_normal((2000, size))).astype(np.float32)
    log_var = np.full(mu.shape, 2 * np.log(0.5), np.float32)
    z = mu + 0.5 * rng.standard_normal(mu.shape).astype(np.float32)
    log_p = -0.5 * (z**2 + np.log(2 * np.pi)).sum(axis=1)
    posteriors = Posteriors(mu, log_var, np.zeros(2000, int))
    found = aggregate.divergence(z, np.arange(2000), posteriors, log_p)
    variance = 1.5**2 + 0.5**2
    exact = size * 0.5 * (variance - 1 - np.log(variance))
    least, most = Estimate.of(found.least), Estimate.of(found.most)
    assert least.mean < exact + 3 * least.standard_error
    assert most.mean > exact - 3 * most.standard_error
    assert least.mean > 0.7 * exact
    if size == 1:  # few dimensions are known well
        assert most.mean - least.mean < 0.2
    else:
        kl = 0.5 * (mu**2 + np.exp(log_var) - 1 - log_var).sum(axis=1)
        assert kl.mean() - most.mean <= np.log(2000) + 0.1


@pytest.mark.parametrize(("images", "classes"), [(10, 1), (2, 10), (50, 2)])
def test_the_lower_bound_is_one_on_few_images(images: int, classes: int) -> None:
    """Of a population whose q(z|y) is the prior, so that there is no divergence."""
    found = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        total = images * classes
        mu = (np.sqrt(0.9) * rng.standard_normal((total, 20))).astype(np.float32)
        log_var = np.full(mu.shape, np.log(0.1), np.float32)
        posteriors = Posteriors(mu, log_var, np.repeat(np.arange(classes), images))
        own = rng.permutation(total)
        z = (mu[own] + np.sqrt(0.1) * rng.standard_normal(mu.shape)).astype(np.float32)
        log_p = norm.logpdf(z).sum(axis=1)
        found.append(aggregate.divergence(z, own, posteriors, log_p).least.mean())
    assert np.mean(found) < 3 * sem(found)


def test_wider_components_leave_the_width_of_the_mixture(rng: np.random.Generator) -> None:
    """A code that is no image's sees a mixture of its class with the same mean and variance."""
    mu = rng.standard_normal((40, 1)).astype(np.float32)
    log_var = rng.standard_normal((40, 1)).astype(np.float32) - 2
    posteriors = Posteriors(mu, log_var, np.arange(40) % 2)
    grid = np.linspace(-15, 15, 3001, dtype=np.float32)[:, None]
    cell, nobody = grid[1, 0] - grid[0, 0], np.full(len(grid), -1)
    for each in range(2):
        told = np.full(len(grid), each)
        moments = []
        for width in aggregate.WIDTHS:
            found = aggregate.under(grid, nobody, told, posteriors, width)
            p = np.exp(np.asarray(found.others, np.float64)) * cell
            mean = p @ grid[:, 0]
            moments.append((p.sum(), mean, p @ np.square(grid[:, 0] - mean)))
        np.testing.assert_allclose(moments, [moments[0]] * len(moments), rtol=1e-3)
    np.testing.assert_allclose(
        p, norm.pdf(grid[:, 0], mean, moments[-1][2] ** 0.5) * cell, atol=1e-6
    )


def test_a_code_is_compared_with_the_posteriors_of_its_class(rng: np.random.Generator) -> None:
    """They are those of a mixture that has no others."""
    mu, log_var = rng.standard_normal((2, 60, 2)).astype(np.float32)
    classes = np.arange(60) % 2
    z, own = rng.standard_normal((60, 2)).astype(np.float32), np.arange(60)
    found = aggregate.under(z, own, classes, Posteriors(mu, log_var, classes))
    for each in range(2):
        of = classes == each
        alone = Posteriors(mu[of], log_var[of], np.zeros(30, int))
        expected = aggregate.under(z[of], np.arange(30), np.zeros(30, int), alone)
        np.testing.assert_allclose(found.whole[of], expected.whole, rtol=1e-5)
        np.testing.assert_allclose(found.others[of], expected.others, rtol=1e-5)


def _log_density(
    z: np.ndarray, own: np.ndarray, told: np.ndarray, of: Posteriors, width: float = 0.0
) -> np.ndarray:
    """Return log q(z|y) of codes, under wider posteriors of other images than their own."""
    found = []
    for code, image, each in zip(z, own, told, strict=True):
        others = (of.classes == each) & (np.arange(len(of.mu)) != image)
        mu, var = (np.float64(part[others]) for part in (of.mu, np.exp(of.log_var)))
        mean, variance = mu.mean(axis=0), mu.var(axis=0) + var.mean(axis=0)
        mu = mean + np.sqrt(1 - width**2) * (mu - mean)
        var = (1 - width**2) * var + width**2 * variance
        found.append(np.log(norm.pdf(code, mu, np.sqrt(var)).prod(axis=-1).mean()))
    return np.asarray(found)


def test_half_of_the_codes_choose_the_width_by_which_the_other_half_gives_the_bound(
    rng: np.random.Generator,
) -> None:
    mu, log_var = rng.normal(size=(2, 31, 2)).astype(np.float32)
    # a mixture with long tails is no Gaussian, which the largest width makes of it
    posteriors = Posteriors(3 * mu**3, log_var - 1, np.arange(31) % 2)
    own, nobody = rng.permutation(31), np.full(31, -1)
    z, told = _drawn(posteriors, own, rng), posteriors.classes[own]
    log_p = norm.logpdf(z).sum(axis=1)
    found = aggregate.divergence(z, own, posteriors, log_p)
    widths = aggregate.WIDTHS
    values = np.array([_log_density(z, own, told, posteriors, each) - log_p for each in widths])
    best, others = (part.mean(axis=1).argmax() for part in (values[:, :15], values[:, 15:]))
    assert 0 < best < others
    assert found.width == aggregate.WIDTHS[best]
    np.testing.assert_allclose(found.least, values[best, 15:], rtol=1e-4, atol=1e-4)
    whole = _log_density(z, nobody, told, posteriors)
    np.testing.assert_allclose(found.most, whole - log_p, rtol=1e-4, atol=1e-4)
    # of a code that is no image's, every image is another one
    for each in aggregate.under(z, nobody, told, posteriors):
        np.testing.assert_allclose(each, whole, rtol=1e-4, atol=1e-4)


@pytest.fixture
def coded(rng: np.random.Generator, tmp_path: Path) -> tuple[Trained, Posteriors]:
    """An untrained model, and posteriors of images; the last one is alone in its class."""
    vae = mlp((2, 3, 1), code_size=2, hidden_size=8)
    variables = jax.tree.map(lambda leaf: 2 * leaf, vae.init(jax.random.key(0)))
    info = Info(epoch=1, step=1, score=None)
    model = Trained(RunDir(tmp_path / "r"), config.Config(), info, variables, vae)
    mu, log_var = rng.normal(size=(2, 60, 2)).astype(np.float32)
    mu[1], log_var[1] = (-3.5, 0), 2  # where no other is
    return model, Posteriors(
        mu + np.asarray([2, 0], np.float32), log_var - 2, np.array([0, 1] * 29 + [0, 2])
    )


def _drawn(posteriors: Posteriors, own: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    noise = rng.standard_normal((len(own), 2))
    codes = posteriors.mu[own] + np.exp(posteriors.log_var[own] / 2) * noise
    return np.asarray(codes, np.float32)


def test_the_divergence_is_by_a_code_of_each_image_that_has_others(
    coded: tuple[Trained, Posteriors],
) -> None:
    model, posteriors = coded
    found = mismatch.divergence(model, posteriors, seed=3)
    assert (found.posteriors, found.codes) == (60, 59)
    rng = np.random.default_rng(3)
    own = rng.permutation(59)
    z = _drawn(posteriors, own, rng)
    expected = aggregate.divergence(z, own, posteriors, norm.logpdf(z).sum(axis=1))
    assert found.width == expected.width
    for estimate, values in ((found.least, expected.least), (found.most, expected.most)):
        assert estimate.mean == pytest.approx(values.mean(), rel=1e-4)
        assert estimate.standard_error == pytest.approx(sem(values), rel=1e-3)


def test_so_many_codes_at_most_are_compared_in_the_shapes_that_are_told(
    coded: tuple[Trained, Posteriors], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, posteriors = coded
    monkeypatch.setattr(mismatch, "CODES", 40)
    expected = [(each.shape, each.dtype) for each in jax.tree.leaves(mismatch.shapes(60, 2))]
    of, calls = aggregate.compiled_densities, 0

    def densities(*arrays: Any) -> Any:
        nonlocal calls
        calls += 1
        assert [(each.shape, each.dtype) for each in jax.tree.leaves(arrays)] == expected
        return of(*arrays)

    monkeypatch.setattr(aggregate, "compiled_densities", densities)
    assert mismatch.divergence(model, posteriors, seed=3).codes == 40
    assert calls == len(aggregate.WIDTHS) + 1


def test_classes_of_one_image_have_no_others_to_compare_with(
    coded: tuple[Trained, Posteriors],
) -> None:
    model, posteriors = coded
    pairs = posteriors._replace(classes=np.arange(60) // 2)
    assert mismatch.divergence(model, pairs, seed=3).codes == 60
    for twins, images in ((0, 0), (1, 2)):  # one code for each mean has no standard error
        alone = posteriors._replace(classes=np.maximum(np.arange(60), twins))
        with pytest.raises(DataError, match=f"only {images} images share"):
            mismatch.divergence(model, alone, seed=3)
    alike = posteriors._replace(classes=np.maximum(np.arange(60), 3))
    assert mismatch.divergence(model, alike, seed=3).codes == 4


def test_samples_are_counted_by_what_is_wrong_with_them(
    coded: tuple[Trained, Posteriors], rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, posteriors = coded
    # of codes of the posteriors, so that samples from the prior are broken more often
    images = model.decode(_drawn(posteriors, rng.choice(60, 300), rng)).reshape(300, 2, 3, 1)
    train, held_out = (Split(part, None) for part in np.split((255 * images).astype(np.uint8), 2))
    dataset = Dataset("", (2, 3, 1), train, held_out, held_out)
    monkeypatch.setattr(Trained, "dataset", lambda _: dataset)
    found = mismatch.samples(model, posteriors, 0.6, held_out, count=2000, seed=4)
    assert found.images == broken_share(held_out, dataset)
    rng = np.random.default_rng(4)
    own = rng.choice(59, 2000)
    real, codes = _drawn(posteriors, own, rng), model.prior(2000, seed=4)
    ours, theirs = (broken(model.decode(z).reshape(2000, 6), dataset) for z in (codes, real))
    told = posteriors.classes[own]
    rare = np.quantile(_log_density(real, own, told, posteriors, 0.6), 0.01)
    wrong = ours.either
    holes = wrong & (_log_density(codes, np.full(2000, -1), told, posteriors, 0.6) < rare)
    assert found.count == 2000
    assert (found.prior, found.aggregate) == (wrong.sum(), theirs.either.sum())
    assert (found.ink, found.holes) == (ours.ink.sum(), holes.sum())
    assert len({found.prior, found.aggregate, found.ink, found.holes, 0}) == 5


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
