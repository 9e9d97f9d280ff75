from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.conftest import mlp
from vaectl.evaluation import likelihoods
from vaectl.evaluation import means as evaluation
from vaectl.evaluation.means import Estimator
from vaectl.objectives.elbo import ELBO
from vaectl.vae import posterior
from vaectl.vae.vae import Variables, unit

pytestmark = pytest.mark.usefixtures("strict_types")

VAE = mlp((2, 3, 1), code_size=2, hidden_size=8)
ONE = Estimator(VAE, ELBO(), samples=1)


@pytest.mark.parametrize("count", [1, 999, 1000, 2001])
def test_every_image_counts_once_whatever_the_batches(count: int, rng: np.random.Generator) -> None:
    """The KL needs no noise, so the mean over batches must be that over all images at once."""
    variables = VAE.init(jax.random.key(0))
    images = jnp.asarray(255 * rng.integers(0, 2, size=(count, 6)), jnp.uint8)
    means = evaluation.split_means(ONE, variables, images, jnp.uint32(0), 0, 0.0)
    mu, log_var = VAE.network(variables).encode(VAE.unit(images))
    expected = np.mean(posterior.kl(mu, log_var))
    np.testing.assert_allclose(means["kl"], expected, rtol=1e-5)
    assert means["elbo"] == -(means["kl"] + means["nll"])


def test_a_split_in_host_memory_has_the_same_means(rng: np.random.Generator) -> None:
    variables = VAE.init(jax.random.key(0))
    images = np.asarray(255 * rng.integers(0, 2, size=(43, 6)), np.uint8)
    estimator = replace(ONE, batch_size=5, part_bytes=10 * 6)
    there, here = (
        evaluation.split_means(estimator, variables, split, jnp.uint32(0), 0, 0.0)
        for split in (images, jnp.asarray(images))
    )
    assert there == pytest.approx(here, rel=1e-6)


def test_noise_differs_from_step_to_step_and_only_then(rng: np.random.Generator) -> None:
    variables = VAE.init(jax.random.key(0))
    images = jnp.asarray(255 * rng.integers(0, 2, size=(50, 6)), jnp.uint8)

    def nll(step: int) -> float:
        return evaluation.split_means(ONE, variables, images, jnp.uint32(0), step, 0.0)["nll"]

    assert nll(1) == nll(1)
    assert nll(1) != nll(2)


def test_more_samples_have_less_variance(rng: np.random.Generator) -> None:
    variables = VAE.init(jax.random.key(0))
    images = jnp.asarray(255 * rng.integers(0, 2, size=(5, 6)), jnp.uint8)

    def spread(samples: int) -> float:
        estimator = Estimator(VAE, ELBO(), samples)
        nlls = [
            evaluation.split_means(estimator, variables, images, jnp.uint32(0), step, 0.0)["nll"]
            for step in range(40)
        ]
        return float(np.std(nlls))

    assert spread(64) < spread(1) / 4


def test_unit_maps_bytes_onto_zero_to_one() -> None:
    values = unit(jnp.asarray([0, 51, 255], jnp.uint8))
    np.testing.assert_allclose(values, [0.0, 0.2, 1.0], rtol=1e-6)


def _iw(variables: Variables, images: jax.Array, samples: int, seed: int = 0) -> np.ndarray:
    key, k = jax.random.key(seed), jnp.int32(samples)
    return np.asarray(likelihoods.compiled_weighted_bound(VAE, variables, VAE.unit(images), key, k))


def _random(rng: np.random.Generator, count: int) -> tuple[Variables, jax.Array]:
    """A model whose posterior is far from the prior, and images."""
    variables = jax.tree.map(lambda leaf: 2 * leaf, VAE.init(jax.random.key(0)))
    return variables, jnp.asarray(255 * rng.integers(0, 2, size=(count, 6)), jnp.uint8)


def test_iw_1_is_the_elbo_in_expectation(rng: np.random.Generator) -> None:
    variables, images = _random(rng, 4)
    draws = np.stack([_iw(variables, images, 1, seed) for seed in range(2000)])
    noise = jax.random.normal(jax.random.key(5), (20_000, 4, 2))
    loss, _ = ELBO().terms(VAE.network(variables), VAE.unit(images), noise, jnp.zeros(()))
    expected = -loss
    error = draws.std(axis=0) / np.sqrt(len(draws))
    assert (np.abs(draws.mean(axis=0) - expected) < 4 * error).all()


def test_the_bound_never_falls_as_k_grows(rng: np.random.Generator) -> None:
    variables, images = _random(rng, 50)
    means, errors = [], []
    for k in (1, 3, 10, 100, 1000):
        draws = np.stack([_iw(variables, images, k, seed).mean() for seed in range(30)])
        means.append(draws.mean())
        errors.append(draws.std() / np.sqrt(len(draws)))
    assert (np.diff(means) > -3 * np.asarray(errors[1:])).all()
    assert means[3] > means[0] + 5 * errors[0]


@pytest.mark.parametrize("samples", [1, 2, 4, 7, 20])
def test_a_decoder_that_ignores_z_has_its_exact_likelihood(
    samples: int, rng: np.random.Generator
) -> None:
    """Where the posterior is the prior every weight is p(x), whatever K."""
    variables, images = _random(rng, 5)
    variables["decoder"]["hidden"]["kernel"] = jnp.zeros_like(
        variables["decoder"]["hidden"]["kernel"]
    )
    variables["decoder"]["logits"]["bias"] = jnp.linspace(-2, 2, 6)
    variables["encoder"]["heads"] = jax.tree.map(jnp.zeros_like, variables["encoder"]["heads"])
    x = np.asarray(images) / 255
    logits = np.linspace(-2, 2, 6)
    exact = (x * logits - np.logaddexp(0, logits)).sum(axis=1)
    np.testing.assert_allclose(_iw(variables, images, samples), exact, rtol=1e-5)


def test_a_decoder_that_ignores_z_is_found_from_any_posterior(rng: np.random.Generator) -> None:
    variables, images = _random(rng, 5)
    variables["decoder"]["hidden"]["kernel"] = jnp.zeros_like(
        variables["decoder"]["hidden"]["kernel"]
    )
    # a wide posterior off the prior's mean: weights of a finite variance
    heads = variables["encoder"]["heads"]
    variables["encoder"]["heads"] = {
        "kernel": jnp.zeros_like(heads["kernel"]),
        "bias": jnp.asarray([0.5, -0.5, 0.3, 0.3]),
    }
    x = np.asarray(images) / 255
    exact = -6 * np.log(2) + 0 * x.sum(axis=1)
    variables["decoder"]["logits"]["bias"] = jnp.zeros(6)
    np.testing.assert_allclose(_iw(variables, images, 50_000), exact, atol=0.02)


def test_streaming_is_the_log_mean_of_the_weights(rng: np.random.Generator) -> None:
    """K that is no multiple of the chunk: the samples beyond K weigh nothing."""
    variables, images = _random(rng, 3)
    network = VAE.network(variables)
    x = VAE.unit(images)
    mu, log_var = network.encode(x)
    chunk = likelihoods.IMPORTANCE_CHUNK
    noise = jnp.concatenate(
        [
            jax.random.normal(jax.random.fold_in(jax.random.key(0), i), (chunk, 3, 2))
            for i in range(4)
        ]
    )[: 3 * chunk + 1]
    z = posterior.draw(mu, log_var, noise)
    log_w = network.log_prob(z, x) + posterior.log_prior_ratio(z, log_var, noise)
    expected = np.log(np.mean(np.exp(np.asarray(log_w, np.float64)), axis=0))
    np.testing.assert_allclose(_iw(variables, images, 3 * chunk + 1), expected, rtol=1e-5)


def test_every_k_is_one_program(rng: np.random.Generator) -> None:
    variables, images = _random(rng, 3)
    _iw(variables, images, 3)
    before = likelihoods.compiled_weighted_bound._cache_size()  # type: ignore[attr-defined]
    _iw(variables, images, 1000)
    assert likelihoods.compiled_weighted_bound._cache_size() == before  # type: ignore[attr-defined]


@pytest.mark.parametrize("count", [3, likelihoods.IMPORTANCE_BATCH + 1])
def test_likelihoods_are_those_of_each_image(count: int, rng: np.random.Generator) -> None:
    variables, images = _random(rng, count)
    seen = []
    found = likelihoods.likelihoods(
        VAE,
        variables,
        np.asarray(images),
        samples=2,
        importance_samples=5,
        seed=0,
        watch=lambda done, total: seen.append((done, total)),
    )
    assert seen[-1] == (count, count)
    mu, log_var = VAE.network(variables).encode(VAE.unit(images))
    np.testing.assert_allclose(found.mu, mu, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.kl, posterior.kl(mu, log_var), rtol=1e-4)
    np.testing.assert_allclose(found.kl_by_dimension.sum(), found.kl.mean(), rtol=1e-4)
    assert found.iw is not None
    assert found.nll.shape == found.iw.shape == (count,)
