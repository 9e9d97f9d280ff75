from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cdist

from tests.conftest import mlp
from vaectl import config, data
from vaectl.base import streams
from vaectl.base.errors import DataError, DivergedError
from vaectl.data.arrays import Dataset, Split
from vaectl.evaluation import likelihoods
from vaectl.evaluation import means as evaluation
from vaectl.evaluation.assess import assess
from vaectl.evaluation.means import Estimator
from vaectl.evaluation.samples import broken, broken_share
from vaectl.evaluation.weights import Weights
from vaectl.objectives.elbo import ELBO
from vaectl.priors.standard_normal import Normal
from vaectl.runs.directory import RunDir
from vaectl.runs.saved import Info
from vaectl.runs.trained import Trained
from vaectl.vae.posterior import Codes
from vaectl.vae.vae import Variables, unit

pytestmark = pytest.mark.usefixtures("strict_types")

VAE = mlp((2, 3, 1), code_size=2, hidden_size=8)
PRIOR = Normal(2)
ONE = Estimator(VAE, ELBO(), samples=1)


@pytest.mark.parametrize("count", [1, 999, 1000, 2001])
def test_every_image_counts_once_whatever_the_batches(count: int, rng: np.random.Generator) -> None:
    """The KL needs no noise, so the mean over batches must be that over all images at once."""
    variables = VAE.init(jax.random.key(0))
    images = jnp.asarray(255 * rng.integers(0, 2, size=(count, 6)), jnp.uint8)
    means = evaluation.split_means(ONE, variables, images, jnp.uint32(0), 0, 0.0)
    mu, log_var = VAE.network(variables).encode(VAE.unit(images))
    expected = np.mean(PRIOR.kl(Codes.draw(mu, log_var, jnp.zeros((1, count, 2)))))
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
    flat = jnp.arange(36, dtype=jnp.uint8).reshape(2, 3, 6)  # whatever stands before the pixels
    images = VAE.unit(flat)
    assert (images.shape, images.dtype) == ((2, 3, 2, 3, 1), jnp.float32)
    np.testing.assert_allclose(images.ravel() * 255, range(36), atol=1e-5)


def _iw(variables: Variables, images: jax.Array, samples: int, seed: int = 0) -> np.ndarray:
    key, k = jax.random.key(seed), jnp.int32(samples)
    return np.asarray(
        likelihoods.compiled_weighted_bound(VAE, variables, VAE.unit(images), None, key, k)
    )


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


def test_streaming_is_the_log_mean_of_the_weights_and_their_effective_number(
    rng: np.random.Generator,
) -> None:
    """K that is no multiple of the chunk: the samples beyond K weigh nothing."""
    _, images = _random(rng, 3)
    variables = VAE.init(jax.random.key(0))  # by which many samples count
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
    codes = Codes.draw(mu, log_var, noise)
    log_w = network.log_prob(codes.z, x) + PRIOR.log_ratio(codes)
    weights = np.exp(np.asarray(log_w, np.float64))
    k = jnp.int32(3 * chunk + 1)
    bound, effective = likelihoods.compiled_weighting(VAE, variables, x, None, jax.random.key(0), k)
    np.testing.assert_allclose(bound, np.log(weights.mean(axis=0)), rtol=1e-5)
    expected = weights.sum(axis=0) ** 2 / np.square(weights).sum(axis=0)
    np.testing.assert_allclose(effective, expected, rtol=1e-3)


@pytest.mark.parametrize("size", [-75.0, -700.0, -7400.0, 300.0])
def test_many_weights_are_added_up_at_any_size(size: float, rng: np.random.Generator) -> None:
    """As many as of K = 80,000, whose logarithms are known to 5e-4 at -7,400, in any order."""
    log_w = (size + rng.normal(size=(20_000, 4, 3))).astype(np.float32)
    log_w[:, :, 1] = np.sort(log_w[:, :, 1].ravel()).reshape(20_000, 4)
    log_w[0, :, 2] = -np.inf

    def add(chunk: jax.Array, weights: Weights) -> Weights:
        return weights.add(jnp.asarray(log_w)[chunk])

    found = jax.jit(lambda: jax.lax.fori_loop(0, len(log_w), add, Weights.none(3)))()
    w = np.exp(log_w.astype(np.float64).reshape(-1, 3) - size)
    np.testing.assert_allclose(found.log_mean(80_000), np.log(w.mean(axis=0)) + size, atol=1e-3)
    expected = w.sum(axis=0) ** 2 / np.square(w).sum(axis=0)
    np.testing.assert_allclose(found.effective, expected, rtol=1e-3)


def test_weights_of_zero_are_a_mean_of_zero() -> None:
    found = Weights.none(2).add(jnp.asarray([[-jnp.inf, -jnp.inf], [-jnp.inf, -800.0]]))
    np.testing.assert_allclose(found.log_mean(2), [-np.inf, -800 - np.log(2)], rtol=1e-6)


def test_every_k_is_one_program(rng: np.random.Generator) -> None:
    variables, images = _random(rng, 3)
    _iw(variables, images, 3)
    before = likelihoods.compiled_weighted_bound._cache_size()  # type: ignore[attr-defined]
    _iw(variables, images, 1000)
    assert likelihoods.compiled_weighted_bound._cache_size() == before  # type: ignore[attr-defined]


@pytest.mark.parametrize("count", [3, likelihoods.IMPORTANCE_BATCH + 1])
def test_likelihoods_are_those_of_each_image(count: int, rng: np.random.Generator) -> None:
    """Against sums in NumPy, with the noise of each batch: by the seed and where it begins."""
    variables, images = _random(rng, count)
    seen = []
    found = likelihoods.likelihoods(
        VAE,
        variables,
        np.asarray(images),
        samples=2,
        importance_samples=5,
        seed=9,
        watch=lambda done, total: seen.append((done, total)),
    )
    batch, chunk = likelihoods.IMPORTANCE_BATCH, likelihoods.IMPORTANCE_CHUNK
    # the noise of an image depends on them: with others, no number is found again
    assert (batch, chunk, ONE.batch_size) == (250, 4, 1000)
    assert seen == [(min(done, count), count) for done in range(batch, count + batch, batch)]
    starts = range(0, count, batch)
    keys = [jax.random.fold_in(streams.key(9, "evaluate"), start) for start in starts]

    def noise(of_batch: Callable[[jax.Array], np.ndarray]) -> np.ndarray:
        return np.concatenate([of_batch(key) for key in keys], axis=1)[:, :count]

    def normal(key: jax.Array, samples: int) -> np.ndarray:
        return np.asarray(jax.random.normal(key, (samples, batch, 2)))

    def weights_noise(key: jax.Array) -> np.ndarray:
        return np.concatenate([normal(jax.random.fold_in(key, i), chunk) for i in range(2)])[:5]

    @jax.jit  # once: each operation on its own compiles too
    def by_hand(x: jax.Array, *noises: jax.Array) -> tuple[jax.Array, ...]:
        network = VAE.network(variables)
        mu, log_var = network.encode(x)
        results = []
        for noise in noises:
            codes = Codes.draw(mu, log_var, noise)
            results += [network.log_prob(codes.z, x), PRIOR.log_ratio(codes)]
        return mu, PRIOR.kl_by_dimension(codes), *results

    x = VAE.unit(images)
    mu, kl, *each = (
        np.asarray(a, np.float64)
        for a in by_hand(x, noise(lambda key: normal(key, 2)), noise(weights_noise))
    )
    np.testing.assert_allclose(found.mu, mu, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.kl, kl.sum(axis=1), rtol=1e-4)
    np.testing.assert_allclose(found.kl_by_dimension, kl.mean(axis=0), rtol=1e-4)
    assert found.kl_by_dimension.dtype == np.float64  # sums of many images stay exact
    log_prob, _, log_prob_of_weights, ratio = each
    np.testing.assert_allclose(found.nll, -log_prob.mean(axis=0), rtol=1e-4)
    weights = np.exp(log_prob_of_weights + ratio)
    assert found.iw is not None
    np.testing.assert_allclose(found.iw, np.log(weights.mean(axis=0)), rtol=1e-4)
    # from Python, of images in [0, 1]: the same numbers
    again = likelihoods.weighted_bounds(VAE, variables, x, None, 5, 9)
    np.testing.assert_allclose(again, found.iw, rtol=1e-5)


def test_no_importance_samples_are_no_bound_and_no_images_none(rng: np.random.Generator) -> None:
    variables, images = _random(rng, 3)
    found = likelihoods.likelihoods(
        VAE, variables, np.asarray(images), samples=1, importance_samples=0, seed=0
    )
    assert found.iw is None
    empty = likelihoods.weighted_bounds(VAE, variables, jnp.empty((0, 2, 3, 1)), None, 5, 0)
    assert empty.shape == (0,)
    assert empty.dtype == np.float32


def test_a_split_in_host_memory_comes_in_parts_of_one_shape(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None of them larger than is allowed, each of whole batches, the last one filled up."""
    images = rng.integers(0, 256, size=(43, 6)).astype(np.uint8)
    estimator = replace(ONE, batch_size=5, part_bytes=10 * 6 + 1)
    parts: list[tuple[np.ndarray, int, int]] = []

    def note(_a: object, _b: object, part: jax.Array, *more: int) -> dict[str, jax.Array]:
        parts.append((np.asarray(part), more[-2], more[-1]))
        return {"kl": jnp.ones(2), "nll": jnp.zeros(2)}

    monkeypatch.setattr(evaluation, "compiled_sums", note)
    means = evaluation.split_means(estimator, {}, images, jnp.uint32(0), 0, 0.0)
    assert means["kl"] == 10 / 43
    assert [more for _, *more in parts] == [[0, 10], [10, 10], [20, 10], [30, 10], [40, 3]]
    assert {part.shape for part, *_ in parts} == {(10, 6)}
    together = np.concatenate([np.asarray(part)[:count] for part, _, count in parts])
    np.testing.assert_array_equal(together, images)
    # fewer images than a part holds, or a part that holds no batch
    for room, size in ((10**6, 43), (1, 5)):
        parts.clear()
        estimator = replace(ONE, batch_size=5, part_bytes=room)
        evaluation.split_means(estimator, {}, images, jnp.uint32(0), 0, 0.0)
        assert {len(part) for part, *_ in parts} == {size}


class _Told(ELBO):
    """Reports the epoch that it is told. No plug: it has no name of its own."""

    def terms(self, network: Any, x: Any, noise: Any, epoch: Any) -> Any:
        loss, terms = super().terms(network, x, noise, epoch)
        return loss, {**terms, "told": jnp.broadcast_to(epoch, loss.shape)}


def test_the_objective_is_told_the_epoch_where_it_is_evaluated(rng: np.random.Generator) -> None:
    variables, images = _random(rng, 7)
    estimator = Estimator(VAE, _Told(), samples=1)
    means = evaluation.split_means(estimator, variables, images, jnp.uint32(0), 30, 2.5)
    assert means["told"] == 2.5


def test_an_assessment_is_the_mean_of_each_image_with_its_standard_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    count = 11
    variables, images = _random(rng, count)
    # the second dimension of the code says nothing of an image
    kernel = variables["encoder"]["heads"]["kernel"]
    variables["encoder"]["heads"]["kernel"] = kernel.at[:, 1].set(0.0)
    info = Info(epoch=3, step=40, beyond=4, score=None)
    settings = config.Config.model_validate({"data": {"threshold": 0.25}})
    model = Trained(RunDir(tmp_path / "r"), settings, info, variables, VAE)
    asked = []

    def split(_: Trained, name: str) -> Split:
        asked.append(name)
        return Split(np.asarray(images).reshape(count, 2, 3, 1), None)

    monkeypatch.setattr(Trained, "split", split)
    done = []
    found = assess(
        model,
        "validation",
        samples=3,
        importance_samples=5,
        seed=2,
        watch=lambda *numbers: done.append(numbers),
    )
    assert asked == ["validation"]
    assert done == [(count, count)]
    each = likelihoods.likelihoods(
        VAE, variables, np.asarray(images), samples=3, importance_samples=5, seed=2
    )
    assert each.iw is not None
    for estimate, values in (
        (found.elbo, -(each.kl + each.nll)),
        (found.kl, each.kl),
        (found.nll, each.nll),
        (found.log_likelihood, each.iw),
    ):
        assert estimate is not None
        assert estimate.mean == pytest.approx(values.mean(), rel=1e-5)
        assert estimate.standard_error == pytest.approx(stats.sem(values), rel=1e-4)
    assert found.activity == pytest.approx(each.mu.var(axis=0), rel=1e-4)
    assert found.activity[0] > 0.01 > found.activity[1]
    assert found.active_units == 1
    assert found.kl_by_dimension == pytest.approx(each.kl_by_dimension)
    said = (found.run, found.epoch, found.step, found.where, found.split, found.images)
    assert said == ("r", 3, 40, "epoch 3 + 4 steps", "validation", count)
    assert (found.samples, found.importance_samples, found.seed) == (3, 5, 2)
    assert found.code_size == 2
    assert "0.25" in found.binarization
    assert 0 <= found.seconds < 60
    assert (found.prior_samples, found.broken_samples) == (0, None)
    alike = (255 * model.sample(300, seed=5)).astype(np.uint8).reshape(300, 2, 3, 1)
    halves = Split(alike[:150], None), Split(alike[150:], None)
    dataset = Dataset("", (2, 3, 1), *halves, halves[0])
    monkeypatch.setattr(Trained, "dataset", lambda _: dataset)
    without = assess(model, "test", samples=3, importance_samples=0, seed=2, prior_samples=300)
    drawn = [model.sample(300, seed=seed).reshape(300, 6) for seed in (2, 0)]
    counts = [int(broken(images, dataset).either.sum()) for images in drawn]
    of_images = broken(alike[:150].reshape(150, 6) / np.float32(255), dataset).either.mean()
    assert without.broken_images == pytest.approx(of_images)
    assert found.broken_images is None
    assert (without.prior_samples, without.broken_samples) == (300, counts[0])
    assert 0 < counts[0] != counts[1] > 0
    assert without.log_likelihood is None
    assert without.elbo == found.elbo
    rounded = assess(model, "test", samples=3, importance_samples=5, seed=2, precision="bfloat16")
    assert (rounded.precision, found.precision) == ("bfloat16", "float32")
    assert rounded.log_likelihood is not None
    assert found.log_likelihood is not None
    assert rounded.log_likelihood != found.log_likelihood
    assert rounded.log_likelihood.mean == pytest.approx(found.log_likelihood.mean, rel=2**-8)
    # nothing else is rounded
    assert (rounded.elbo, rounded.kl, rounded.activity) == (found.elbo, found.kl, found.activity)


def _of_a_run(
    variables: Variables, images: jax.Array, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Trained:
    """A model as a run would give it, each of whose splits has these images."""
    info = Info(epoch=3, step=40, score=None)
    split = Split(np.asarray(images).reshape(len(images), 2, 3, 1), None)
    monkeypatch.setattr(Trained, "split", lambda *_: split)
    return Trained(RunDir(folder / "r"), config.Config(), info, variables, VAE)


@pytest.mark.parametrize("layer", ["encoder", "decoder"])
def test_an_assessment_that_is_not_finite_is_refused(
    layer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    variables, images = _random(rng, 11)
    hidden = variables[layer]["hidden"]
    variables[layer]["hidden"] = {**hidden, "bias": hidden["bias"].at[0].set(jnp.nan)}
    model = _of_a_run(variables, images, tmp_path, monkeypatch)
    with pytest.raises(DivergedError, match="not finite on the test split") as error:
        assess(model, "test", samples=3, importance_samples=0, seed=2)
    assert "--checkpoint" in error.value.hint


@pytest.mark.parametrize("name", ["kl", "nll", "mu", "iw"])
def test_one_number_that_is_not_finite_is_enough(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    variables, images = _random(rng, 11)
    model = _of_a_run(variables, images, tmp_path, monkeypatch)
    kl, nll, iw, mu = (np.ones(shape, np.float32) for shape in (11, 11, 11, (11, 2)))
    found = likelihoods.Likelihoods(kl, nll, iw, mu, np.ones(2))
    getattr(found, name)[3] = -np.inf
    monkeypatch.setattr("vaectl.evaluation.assess.likelihoods", lambda *_, **_how: found)
    with pytest.raises(DivergedError, match="not finite"):
        assess(model, "test", samples=3, importance_samples=5, seed=2)


def test_one_image_has_no_standard_error_and_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    for count in (1, 2):
        variables, images = _random(rng, count)
        model = _of_a_run(variables, images, tmp_path, monkeypatch)
        if count == 2:
            found = assess(model, "test", samples=3, importance_samples=0, seed=2)
            assert found.elbo.standard_error > 0
        else:
            with pytest.raises(DataError, match="one test image is too few") as error:
                assess(model, "test", samples=3, importance_samples=0, seed=2)
            assert "data.test_size" in error.value.hint


def test_a_sample_is_broken_beyond_the_quantiles_of_the_data(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vaectl.evaluation.samples.MOST_TRAINING", 600)
    monkeypatch.setattr("vaectl.evaluation.samples.MOST_VALIDATION", 300)
    train, validation = (rng.integers(256, size=(n, 2, 3, 1), dtype=np.uint8) for n in (700, 400))
    train[600:] = validation[300:] = 0  # images that are not looked at
    held_out = Split(validation, None)
    dataset = Dataset("", (2, 3, 1), Split(train, None), held_out, held_out)
    near, far = (
        part[:count].reshape(count, 6) / 255 for part, count in ((train, 600), (validation, 300))
    )
    decoded = rng.uniform(size=(510, 6)) * rng.choice([0.7, 1.0, 1.4], size=(510, 1))
    # as close to the limits as tells quantiles apart
    edges = np.sort(near.sum(axis=1))
    ink = np.linspace(edges[[0, -2]], edges[[1, -1]], 50).ravel()
    decoded[:100] *= (ink / decoded[:100].sum(axis=1))[:, None]
    found = broken(decoded.astype(np.float32), dataset)
    least, most = np.quantile(near.sum(axis=1), [0.001, 0.999])
    inside = (decoded.sum(axis=1) >= least) & (decoded.sum(axis=1) <= most)
    np.testing.assert_array_equal(found.ink, ~inside)
    farthest = np.quantile(cdist(far, near).min(axis=1), 0.99)
    np.testing.assert_array_equal(found.far, cdist(decoded, near).min(axis=1) > farthest)
    assert 10 < found.ink.sum() != found.far.sum() > 10


def test_a_sample_looks_broken_by_its_ink_or_its_distance_to_the_data(
    rng: np.random.Generator,
) -> None:
    digits = data.load(config.Data(train_size=2000))
    real = np.asarray(digits.test.flat) / np.float32(255)
    assert broken(real, digits).either.mean() < 0.03
    noise = np.zeros((len(real), 784), np.float32)
    for row in noise:
        row[rng.choice(784, size=100, replace=False)] = 1
    for wrong in (1 - real, np.full_like(real, 0.5), np.zeros_like(real), noise):
        assert broken(wrong, digits).either.all()
    for near in (0.9 * real, real[:, ::-1]):  # what a blur or a rotation leaves is no noise
        assert broken(near, digits).either.mean() < 0.6
    # of images that nobody drew there are a few, too
    for split in (digits.test, digits.validation):
        judged = np.asarray(split.flat[:1000]) / np.float32(255)
        share = broken_share(split, digits)
        assert 0 < share == pytest.approx(broken(judged, digits).either.mean())
    assert broken_share(digits.validation, digits) < 0.02
    # each is judged for itself
    few = np.concatenate([real[:300], 1 - real[:2]])
    np.testing.assert_array_equal(
        broken(few, digits).either[:300], broken(real, digits).either[:300]
    )
