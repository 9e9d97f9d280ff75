import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vaectl import config, evaluation, model, objective

pytestmark = pytest.mark.usefixtures("strict_types")

SETTINGS = config.Model(code_size=2, hidden_size=8)


@pytest.mark.parametrize("count", [1, 999, 1000, 2001])
def test_every_image_counts_once_whatever_the_batches(count: int, rng: np.random.Generator) -> None:
    """The KL needs no noise, so the mean over batches must be that over all images at once."""
    params = model.init(SETTINGS, 6, jax.random.key(0))
    graph = model.graph(SETTINGS, 6)
    images = jnp.asarray(255 * rng.integers(0, 2, size=(count, 6)), jnp.uint8)
    sums = evaluation.bound_sums(graph, 1, params, images, jnp.uint32(0), jnp.int32(0))
    mu, log_var = nnx.merge(graph, params).encoder(evaluation.unit(images))
    expected = np.mean(objective.gaussian_kl(mu, log_var))
    means = evaluation.means(sums, count)
    np.testing.assert_allclose(means.kl, expected, rtol=1e-5)
    assert means.elbo == -(means.kl + means.nll)


def test_noise_differs_from_step_to_step_and_only_then(rng: np.random.Generator) -> None:
    params = model.init(SETTINGS, 6, jax.random.key(0))
    graph = model.graph(SETTINGS, 6)
    images = jnp.asarray(255 * rng.integers(0, 2, size=(50, 6)), jnp.uint8)

    def nll(step: int) -> float:
        sums = evaluation.bound_sums(graph, 1, params, images, jnp.uint32(0), jnp.int32(step))
        return evaluation.means(sums, 50).nll

    assert nll(1) == nll(1)
    assert nll(1) != nll(2)


def test_more_samples_have_less_variance(rng: np.random.Generator) -> None:
    params = model.init(SETTINGS, 6, jax.random.key(0))
    graph = model.graph(SETTINGS, 6)
    images = jnp.asarray(255 * rng.integers(0, 2, size=(5, 6)), jnp.uint8)

    def spread(samples: int) -> float:
        nlls = [
            evaluation.means(
                evaluation.bound_sums(
                    graph, samples, params, images, jnp.uint32(0), jnp.int32(step)
                ),
                5,
            ).nll
            for step in range(40)
        ]
        return float(np.std(nlls))

    assert spread(64) < spread(1) / 4


def test_unit_maps_bytes_onto_zero_to_one() -> None:
    values = evaluation.unit(jnp.asarray([0, 51, 255], jnp.uint8))
    np.testing.assert_allclose(values, [0.0, 0.2, 1.0], rtol=1e-6)
