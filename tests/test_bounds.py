"""Bounds on log p(x), and the best posteriors, where log p(x) and the posteriors are known."""

from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import multivariate_normal, norm

from tests.test_contracts import _linear
from vaectl.evaluation import amortization, annealed
from vaectl.evaluation.amortization import Posterior
from vaectl.evaluation.annealed import Origin
from vaectl.priors.base import Prior
from vaectl.priors.mixture import MixturePrior
from vaectl.priors.standard_normal import StandardNormal
from vaectl.priors.vamp import Vamp
from vaectl.vae.vae import Network


class Known(NamedTuple):
    """A linear network, with its prior as a mixture of Gaussians."""

    network: Network
    matrix: np.ndarray
    bias: np.ndarray
    parts: list[tuple[float, np.ndarray, np.ndarray]]
    shift: np.ndarray
    """The pixels that each class adds."""

    def log_p(self, x: jax.Array, y: jax.Array | None = None) -> np.ndarray:
        """Return log p(x), or log p(x|y), which is a mixture of Gaussians, too."""
        pixels = np.asarray(x).reshape(len(x), -1)
        if y is not None:
            pixels = pixels - y @ self.shift
        noise = 0.25 * np.eye(len(self.bias))
        densities = [
            w
            * multivariate_normal(
                self.matrix @ mu + self.bias, self.matrix @ np.diag(var) @ self.matrix.T + noise
            ).pdf(pixels)
            for w, mu, var in self.parts
        ]
        return np.asarray(np.log(np.sum(densities, axis=0)))


@cache
def known(prior: Prior, classes: int = 0) -> Known:
    network = _linear(prior, classes)
    decoder, p = network.module.decoder, network.prior
    parts = [(1.0, np.zeros(2), np.ones(2))]
    if not prior.standard:
        arrays = (jnp.exp(p.log_weights), p.mu, jnp.exp(p.log_var))  # type: ignore[attr-defined]
        weights, mu, var = (np.asarray(each, np.float64) for each in arrays)
        parts = list(zip(weights.tolist(), mu, var, strict=True))
    kernel, bias = np.asarray(decoder.kernel[...]), np.asarray(decoder.bias[...])
    return Known(network, kernel[:2].T, bias, parts, classes**0.5 * kernel[2:])


PRIORS = [StandardNormal(), MixturePrior(components=3, spread=2.0), Vamp(components=4)]


ROWS = [(0, "prior")]
MORE = [(0, "posterior"), (1, "prior"), (1, "posterior"), (2, "prior"), (2, "posterior")]


@pytest.mark.parametrize(
    ("number", "origin"), [*ROWS, *(pytest.param(*row, marks=pytest.mark.full) for row in MORE)]
)
def test_annealing_finds_the_likelihood_of_a_linear_model(number: int, origin: Origin) -> None:
    """The model is told classes if the prior is normal, and its arrays are on another device."""
    model, first, second = known(PRIORS[number], 0 if number else 3), *jax.devices()[:2]
    x = 0.5 * jax.random.normal(jax.random.key(2), (60, 2, 2, 1))
    y = None if number else jax.nn.one_hot(jnp.arange(60) % 3, 3)
    variables = jax.device_put(model.network.variables, second)
    found = annealed.annealed(
        *(model.network.vae, variables, *jax.device_put((x, y), first), jax.random.key(5)),
        chains=16,
        temperatures=100,
        origin=origin,
    )
    wrong = np.asarray(found.log_p) - model.log_p(x, y)
    error = wrong.std() / np.sqrt(len(wrong))
    assert abs(wrong.mean()) < 4 * error
    assert error < 0.05
    assert 0.5 < found.acceptance.mean() < 0.8
    assert 8 < found.effective.mean() <= 16


@pytest.mark.parametrize("origin", ["prior", "posterior"])
def test_a_path_goes_from_its_origin_to_the_joint_density(origin: Origin) -> None:
    network, matrix, bias, *_ = known(StandardNormal())
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
    """The path leads from N(0, 1) to N(1, 1/4), whose log density is not a number beyond a wall."""
    b, key, wall = 0.25, jax.random.key(3), 1.5
    size = np.array([0.1, 0.6, 1.0], np.float32)
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
    assert 3 < taken[(chance > 0.05) & (chance < 0.95)].sum() < 15
    np.testing.assert_allclose(share, chance.mean(axis=0), rtol=1e-4)
    expected = np.where(taken[..., None], z, start)
    for found, right in zip(moved, at(expected), strict=True):
        np.testing.assert_allclose(found, right, atol=1e-4)


@pytest.mark.parametrize("origin", ["prior", "posterior"])
def test_weights_and_step_sizes_are_added_up_along_the_path(
    origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transitions are known, and tell the size and the unit of their steps."""
    network, matrix, bias, *_ = known(StandardNormal())
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
    runs: list[tuple[int, float, bool, bool]] = []
    keys: set[bytes] = set()
    starts: set[bytes] = set()

    def anneal(*given: Any) -> Any:
        _, _, x, classes, z, key, count, steps, adapt, back, origin = given
        assert (classes == y).all()
        assert origin == "posterior"
        starts.add(bytes(np.asarray(z)))
        size = np.exp(np.asarray(steps)).mean().round(4)
        runs.append((int(count), float(size), bool(adapt), bool(back)))
        keys.add(bytes(np.asarray(jax.random.key_data(key))))
        log_w = jnp.where(back, -2.0, 3.0)
        return jnp.full((2, 3), log_w), jnp.zeros(len(x)), steps + jnp.log(2.0)

    monkeypatch.setattr(annealed, "compiled_anneal", anneal)
    network, y = known(StandardNormal(), 3).network, jnp.eye(3)
    given = (network.vae, network.variables, 3, y, jax.random.key(0))
    found = annealed.bracket(*given, chains=2, temperatures=temperatures, origin="posterior")
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
    model, key = known(prior, 3 if prior.standard else 0), jax.random.key(6)
    vae = model.network.vae
    variables = jax.device_put(model.network.variables, jax.devices()[0])  # as they are loaded
    y = jax.nn.one_hot(jnp.arange(80) % 3, 3) if prior.standard else None
    # as `bracket` draws them
    x, _ = annealed.compiled_simulate(vae, variables, y, jax.random.split(key, 3)[0], 80)
    exact = model.log_p(x, y)
    gaps: list[float] = []
    programs = annealed.compiled_anneal._cache_size()  # type: ignore[attr-defined]
    for temperatures in (3, 200):
        found = annealed.bracket(
            vae, variables, 80, y, key, chains=8, temperatures=temperatures, origin="prior"
        )
        below, above = exact - np.asarray(found.lower), np.asarray(found.upper) - exact
        for each in (below, above):
            assert each.mean() > -4 * each.std() / np.sqrt(len(each))
        gaps.append((below + above).mean())
    assert gaps[0] > gaps[1] + 0.2
    assert abs(gaps[1]) < 0.15
    assert annealed.compiled_anneal._cache_size() == programs + 1  # type: ignore[attr-defined]


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
    network, matrix, bias, *_ = known(StandardNormal())
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
