import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vaectl import config
from vaectl.evaluation import means as evaluation
from vaectl.models import vae as model
from vaectl.objectives import bound as objective

pytestmark = pytest.mark.usefixtures("strict_types")

SETTINGS = config.Model(code_size=2, hidden_size=8)


@pytest.mark.parametrize("count", [1, 999, 1000, 2001])
def test_every_image_counts_once_whatever_the_batches(count: int, rng: np.random.Generator) -> None:
    """The KL needs no noise, so the mean over batches must be that over all images at once."""
    params = model.init(SETTINGS, 6, jax.random.key(0))
    graph = model.graph(SETTINGS, 6)
    images = jnp.asarray(255 * rng.integers(0, 2, size=(count, 6)), jnp.uint8)
    means = evaluation.split_means(graph, 1, params, images, jnp.uint32(0), 0)
    mu, log_var = nnx.merge(graph, params).encoder(evaluation.unit(images))
    expected = np.mean(objective.gaussian_kl(mu, log_var))
    np.testing.assert_allclose(means.kl, expected, rtol=1e-5)
    assert means.elbo == -(means.kl + means.nll)


def test_a_split_in_host_memory_has_the_same_means(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = model.init(SETTINGS, 6, jax.random.key(0))
    graph = model.graph(SETTINGS, 6)
    images = np.asarray(255 * rng.integers(0, 2, size=(43, 6)), np.uint8)
    monkeypatch.setattr(evaluation, "BATCH_SIZE", 5)
    monkeypatch.setattr(evaluation, "PART_BYTES", 10 * 6)
    there, here = (
        evaluation.split_means(graph, 1, params, split, jnp.uint32(0), 0)
        for split in (images, jnp.asarray(images))
    )
    np.testing.assert_allclose(there, here, rtol=1e-6)


def test_noise_differs_from_step_to_step_and_only_then(rng: np.random.Generator) -> None:
    params = model.init(SETTINGS, 6, jax.random.key(0))
    graph = model.graph(SETTINGS, 6)
    images = jnp.asarray(255 * rng.integers(0, 2, size=(50, 6)), jnp.uint8)

    def nll(step: int) -> float:
        return evaluation.split_means(graph, 1, params, images, jnp.uint32(0), step).nll

    assert nll(1) == nll(1)
    assert nll(1) != nll(2)


def test_more_samples_have_less_variance(rng: np.random.Generator) -> None:
    params = model.init(SETTINGS, 6, jax.random.key(0))
    graph = model.graph(SETTINGS, 6)
    images = jnp.asarray(255 * rng.integers(0, 2, size=(5, 6)), jnp.uint8)

    def spread(samples: int) -> float:
        nlls = [
            evaluation.split_means(graph, samples, params, images, jnp.uint32(0), step).nll
            for step in range(40)
        ]
        return float(np.std(nlls))

    assert spread(64) < spread(1) / 4


def test_unit_maps_bytes_onto_zero_to_one() -> None:
    values = evaluation.unit(jnp.asarray([0, 51, 255], jnp.uint8))
    np.testing.assert_allclose(values, [0.0, 0.2, 1.0], rtol=1e-6)


def _iw(params: model.Params, images: jax.Array, samples: int, seed: int = 0) -> np.ndarray:
    graph = model.graph(SETTINGS, images.shape[1])
    key, k = jax.random.key(seed), jnp.int32(samples)
    return np.asarray(evaluation.importance_weighted_bound(graph, params, images, key, k))


def _random(rng: np.random.Generator, count: int) -> tuple[model.Params, jax.Array]:
    """A model whose posterior is far from the prior, and images."""
    params = jax.tree.map(lambda leaf: 2 * leaf, model.init(SETTINGS, 6, jax.random.key(0)))
    return params, jnp.asarray(255 * rng.integers(0, 2, size=(count, 6)), jnp.uint8)


def test_iw_1_is_the_elbo_in_expectation(rng: np.random.Generator) -> None:
    params, images = _random(rng, 4)
    draws = np.stack([_iw(params, images, 1, seed) for seed in range(2000)])
    noise = jax.random.normal(jax.random.key(5), (20_000, 4, 2))
    vae = nnx.merge(model.graph(SETTINGS, 6), params)
    expected = objective.elbo(vae, evaluation.unit(images), noise).elbo
    error = draws.std(axis=0) / np.sqrt(len(draws))
    assert (np.abs(draws.mean(axis=0) - expected) < 4 * error).all()


def test_the_bound_never_falls_as_k_grows(rng: np.random.Generator) -> None:
    params, images = _random(rng, 50)
    means, errors = [], []
    for k in (1, 3, 10, 100, 1000):
        draws = np.stack([_iw(params, images, k, seed).mean() for seed in range(30)])
        means.append(draws.mean())
        errors.append(draws.std() / np.sqrt(len(draws)))
    assert (np.diff(means) > -3 * np.asarray(errors[1:])).all()
    assert means[3] > means[0] + 5 * errors[0]


@pytest.mark.parametrize("samples", [1, 2, 4, 7, 20])
def test_a_decoder_that_ignores_z_has_its_exact_likelihood(
    samples: int, rng: np.random.Generator
) -> None:
    """Where the posterior is the prior every weight is p(x), whatever K."""
    params, images = _random(rng, 5)
    params["decoder"]["hidden"]["kernel"] = jnp.zeros_like(params["decoder"]["hidden"]["kernel"])
    params["decoder"]["logits"]["bias"] = jnp.linspace(-2, 2, 6)
    params["encoder"]["heads"] = jax.tree.map(jnp.zeros_like, params["encoder"]["heads"])
    x = np.asarray(images) / 255
    logits = np.linspace(-2, 2, 6)
    exact = (x * logits - np.logaddexp(0, logits)).sum(axis=1)
    np.testing.assert_allclose(_iw(params, images, samples), exact, rtol=1e-5)


def test_a_decoder_that_ignores_z_is_found_from_any_posterior(rng: np.random.Generator) -> None:
    params, images = _random(rng, 5)
    params["decoder"]["hidden"]["kernel"] = jnp.zeros_like(params["decoder"]["hidden"]["kernel"])
    # a wide posterior off the prior's mean: weights of a finite variance
    heads = params["encoder"]["heads"]
    params["encoder"]["heads"] = {
        "kernel": jnp.zeros_like(heads["kernel"]),
        "bias": jnp.asarray([0.5, -0.5, 0.3, 0.3]),
    }
    x = np.asarray(images) / 255
    exact = -6 * np.log(2) + 0 * x.sum(axis=1)
    params["decoder"]["logits"]["bias"] = jnp.zeros(6)
    np.testing.assert_allclose(_iw(params, images, 50_000), exact, atol=0.02)


def test_streaming_is_the_log_mean_of_the_weights(rng: np.random.Generator) -> None:
    """K that is no multiple of the chunk: the samples beyond K weigh nothing."""
    params, images = _random(rng, 3)
    vae = nnx.merge(model.graph(SETTINGS, 6), params)
    x = evaluation.unit(images)
    mu, log_var = vae.encoder(x)
    chunk = evaluation.IMPORTANCE_CHUNK
    noise = jnp.concatenate(
        [
            jax.random.normal(jax.random.fold_in(jax.random.key(0), i), (chunk, 3, 2))
            for i in range(4)
        ]
    )[: 3 * chunk + 1]
    log_w = objective.log_importance_weights(
        lambda z: objective.bernoulli_log_likelihood(vae.decoder(z), x), mu, log_var, noise
    )
    expected = np.log(np.mean(np.exp(np.asarray(log_w, np.float64)), axis=0))
    np.testing.assert_allclose(_iw(params, images, 3 * chunk + 1), expected, rtol=1e-5)


def test_every_k_is_one_program(rng: np.random.Generator) -> None:
    params, images = _random(rng, 3)
    _iw(params, images, 3)
    before = evaluation.importance_weighted_bound._cache_size()  # type: ignore[attr-defined]
    _iw(params, images, 1000)
    assert evaluation.importance_weighted_bound._cache_size() == before  # type: ignore[attr-defined]


@pytest.mark.parametrize("count", [3, evaluation.IMPORTANCE_BATCH + 1])
def test_likelihoods_are_those_of_each_image(count: int, rng: np.random.Generator) -> None:
    params, images = _random(rng, count)
    graph = model.graph(SETTINGS, 6)
    seen = []
    found = evaluation.likelihoods(
        graph,
        params,
        np.asarray(images),
        samples=2,
        importance_samples=5,
        seed=0,
        watch=lambda done, total: seen.append((done, total)),
    )
    assert seen[-1] == (count, count)
    mu, log_var = nnx.merge(graph, params).encoder(evaluation.unit(images))
    np.testing.assert_allclose(found.mu, mu, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.kl, objective.gaussian_kl(mu, log_var), rtol=1e-4)
    np.testing.assert_allclose(found.kl_by_dimension.sum(), found.kl.mean(), rtol=1e-4)
    assert found.iw is not None
    assert found.nll.shape == found.iw.shape == (count,)
