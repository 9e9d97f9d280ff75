"""The aggregate posterior: how far it is from the prior, and the samples that this breaks."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from scipy.stats import norm, sem

from tests.conftest import mlp
from vaectl import config
from vaectl.base.errors import DataError
from vaectl.data.arrays import Dataset, Split
from vaectl.evaluation import aggregate, mismatch
from vaectl.evaluation.aggregate import Posteriors
from vaectl.evaluation.samples import broken, broken_share
from vaectl.runs.directory import RunDir
from vaectl.runs.record import Estimate
from vaectl.runs.saved import Info
from vaectl.runs.trained import Trained


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
    """The population has q(z|y) = p(z), so that there is no divergence."""
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
    """A mixture of these posteriors alone has the same densities."""
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
    under = aggregate.under(z, own, told, posteriors, found.width)
    np.testing.assert_allclose(under.others, values[best] + log_p, rtol=1e-4, atol=1e-4)
    # of a code that is no image's, every image is another one
    for each in aggregate.under(z, nobody, told, posteriors):
        np.testing.assert_allclose(each, whole, rtol=1e-4, atol=1e-4)


def test_rounding_makes_a_mixture_no_narrower_than_a_posterior() -> None:
    """All others are alike, and the own image is so far away that the sums over all round."""
    mu, var = np.zeros((31, 2), np.float32), np.array([1e-8, 1e-6], np.float32)
    mu[0] = 3e6
    posteriors = Posteriors(mu, np.log(var) + np.zeros_like(mu), np.zeros(31, int))
    own = np.zeros(31, int)
    found = aggregate.under(mu[1:2].repeat(31, axis=0), own, own, posteriors, 1.0).others
    assert (found <= norm.logpdf(0, 0, np.sqrt(var)).sum() + 1e-3).all()


def test_codes_are_compared_in_parts_of_a_size_that_memory_has() -> None:
    """A part has 80 of 1,000 codes, not all of them or one."""
    program = aggregate.compiled_densities.lower(*mismatch.shapes(10_000, 20)).compile()
    memory: Any = program.memory_analysis()
    assert 2**21 < memory.temp_size_in_bytes < 2**25


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
