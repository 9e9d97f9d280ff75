import itertools

import numpy as np
import pytest
from scipy import stats

from vaectl.base.errors import ConfigError
from vaectl.pictures import latent


def _array(values: list[float]) -> np.ndarray:
    return np.asarray(values, np.float32)


def test_linear_coordinates_are_equally_far_apart() -> None:
    np.testing.assert_allclose(latent.axis(5, -3.0, 3.0, "linear"), [-3, -1.5, 0, 1.5, 3])
    assert latent.axis(20, -3.0, 3.0, "linear").shape == (20,)
    np.testing.assert_allclose(latent.axis(3, -1.0, 4.0, "linear"), [-1, 1.5, 4])
    assert latent.axis(1, -3.0, 3.0, "linear").tolist() == [0]
    assert latent.axis(1, -1.0, 4.0, "quantile").tolist() == [1.5]


@pytest.mark.parametrize("spacing", ["linear", "quantile"])
def test_coordinates_are_of_the_type_and_the_range_of_the_code(spacing: latent.Spacing) -> None:
    """The quantiles of float32 probabilities would lie outside, far from the middle."""
    for limit in (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0):
        coordinates = latent.axis(5, -limit, limit, spacing)
        assert coordinates.dtype == np.float32
        assert (abs(coordinates) <= limit).all()
    assert latent.axis(1, -2.0, 2.0, spacing).dtype == np.float32


def test_quantile_coordinates_are_equally_probable() -> None:
    coordinates = latent.axis(9, -2.0, 2.0, "quantile")
    expected = stats.norm.ppf(np.linspace(stats.norm.cdf(-2), stats.norm.cdf(2), 9))
    np.testing.assert_allclose(coordinates, expected, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(coordinates[[0, -1]], [-2, 2], rtol=1e-6)
    steps = np.diff(stats.norm.cdf(coordinates))
    np.testing.assert_allclose(steps, steps[0], rtol=1e-3)


@pytest.mark.parametrize("ends", [(6.0, 8.0), (-8.0, -6.0), (40.0, 50.0), (-7.0, 9.0), (0.0, 20.0)])
def test_quantile_coordinates_are_told_apart_in_the_tails_too(ends: tuple[float, float]) -> None:
    found = latent.axis(5, *ends, "quantile")
    assert found[[0, -1]].tolist() == list(ends)
    assert (np.diff(found) > 0).all()
    if ends == (6.0, 8.0):
        tails = stats.norm.sf(np.asarray(found, np.float64))
        np.testing.assert_allclose(np.diff(tails), np.diff(tails)[0], rtol=1e-3)


def test_coordinates_within_a_range_have_equal_numbers_of_codes(rng: np.random.Generator) -> None:
    codes = rng.exponential(1.0, 20_000)
    found = latent.within(codes, 5, 1.0, 3.0)
    assert found[[0, -1]].tolist() == [1, 3]
    counts, _ = np.histogram(codes, found)
    assert np.ptp(counts) < 5
    assert 1 < latent.within(codes, 1, 1.0, 3.0)[0] < 2
    with pytest.raises(ConfigError, match="it has 0 of 20,000 codes"):
        latent.within(codes, 5, -2.0, -1.0)


def test_a_plane_has_the_coordinates_that_it_says() -> None:
    coordinates = _array([-1, 0, 2])
    anchor = _array([9, 8, 7, 6])
    codes = latent.plane(coordinates, coordinates + 1, (2, 0), anchor)
    assert codes.shape == (3, 3, 4)
    assert latent.plane(coordinates, coordinates, (2, 0), anchor.astype(float)).dtype == np.float32
    # dims[0] grows to the right, dims[1] upwards, the others stay
    assert codes[0, 0].tolist() == [3, 8, -1, 6]
    assert codes[0, 2].tolist() == [3, 8, 2, 6]
    assert codes[2, 0].tolist() == [0, 8, -1, 6]
    assert latent.plane(coordinates, coordinates[:2], (2, 0), anchor).shape == (2, 3, 4)


def test_coordinates_span_the_codes(rng: np.random.Generator) -> None:
    codes = rng.normal(4, 0.5, 20_000)
    linear, quantile = latent.spread(codes, 5, "linear"), latent.spread(codes, 5, "quantile")
    assert linear.dtype == quantile.dtype == np.float32
    np.testing.assert_allclose(linear[[0, -1]], np.quantile(codes, (0.005, 0.995)), rtol=1e-6)
    assert len(linear) == len(quantile) == 5
    np.testing.assert_allclose(np.diff(linear), np.diff(linear)[0], rtol=1e-5)
    shares = np.searchsorted(np.sort(codes), quantile) / len(codes)
    np.testing.assert_allclose(np.diff(shares), 0.99 / 4, atol=1e-3)
    assert latent.spread(codes, 1, "linear").tolist() == [np.float32(np.median(codes))]


@pytest.mark.parametrize("count", [1, 2, 500])
def test_the_density_of_an_aggregate_posterior_is_one(count: int, rng: np.random.Generator) -> None:
    z = np.linspace(-30, 30, 6001)
    mu, log_var = rng.normal(1, 2, count), rng.normal(-4, 1, count)
    found = latent.density(mu, log_var, z)
    assert (found >= 0).all()
    np.testing.assert_allclose(found.sum() * (z[1] - z[0]), 1, rtol=1e-3)
    np.testing.assert_allclose((found * z).sum() * (z[1] - z[0]), mu.mean(), rtol=1e-3)
    if count == 500:  # that of the means is known; it is smooth
        expected = stats.norm.pdf(z, 1, np.sqrt(4 + np.exp(-4 + 0.5)))
        np.testing.assert_allclose(found, expected, atol=0.03)
        steps = np.sign(np.diff(found[found > 1e-3]))
        assert (np.diff(steps) != 0).sum() <= 5
    if count == 1:
        width = np.exp(0.5 * log_var[0])
        np.testing.assert_allclose(found, stats.norm.pdf(z, mu[0], width), atol=1e-9)


@pytest.mark.parametrize("drawn", ["uniform", "standard_t"])
def test_a_density_is_smoothed_by_the_rule_of_silverman(
    drawn: str, rng: np.random.Generator
) -> None:
    """By the deviation or by the quartiles, whichever is less: one of the two for each of these."""
    mu = rng.uniform(-2, 2, 200) if drawn == "uniform" else rng.standard_t(2, 200)
    log_var = rng.normal(-4, 1, 200)
    z = np.linspace(-5, 5, 101)
    width = 0.9 * min(mu.std(), stats.iqr(mu) / 1.34) / 200 ** (1 / 5)
    each = stats.norm.pdf(z[:, None], mu, np.sqrt(np.exp(log_var) + width**2))
    np.testing.assert_allclose(latent.density(mu, log_var, z), each.mean(axis=1), rtol=1e-6)


@pytest.mark.parametrize("path", ["linear", "spherical"])
def test_a_way_starts_and_ends_at_its_ends(path: latent.Path, rng: np.random.Generator) -> None:
    start, end = rng.normal(size=(2, 20)).astype(np.float32)
    points = latent.way(start, end, 13, path)
    assert points.shape == (13, 20)
    np.testing.assert_allclose(points[0], start, atol=1e-6)
    np.testing.assert_allclose(points[-1], end, atol=1e-6)


def test_a_linear_way_goes_straight_and_a_spherical_one_keeps_the_length() -> None:
    start, end = _array([3, 0]), _array([0, 3])
    np.testing.assert_allclose(latent.way(start, end, 3, "linear")[1], [1.5, 1.5])
    round_way = latent.way(start, end, 7, "spherical")
    np.testing.assert_allclose(np.linalg.norm(round_way, axis=1), 3, rtol=1e-6)
    # equal angles
    angles = np.arctan2(round_way[:, 1], round_way[:, 0])
    np.testing.assert_allclose(np.diff(angles), np.pi / 12, rtol=1e-5)


@pytest.mark.parametrize("degrees", [20, 60, 130, 170])
@pytest.mark.parametrize("length", [0.1, 1.0, 7.0])
def test_a_spherical_way_turns_by_equal_angles(degrees: float, length: float) -> None:
    turn = np.deg2rad(degrees)
    start = length * _array([0, 1, 0])
    end = length * _array([0, np.cos(turn), np.sin(turn)])
    points = latent.way(start, end, 5, "spherical")
    assert points.dtype == np.float32
    angles = turn * np.linspace(0, 1, 5)
    expected = np.stack([np.zeros(5), np.cos(angles), np.sin(angles)], axis=1)
    np.testing.assert_allclose(points, length * expected, rtol=1e-5, atol=length * 1e-6)


def test_parallel_codes_have_a_spherical_way_though_their_cosine_rounds_beyond_one(
    rng: np.random.Generator,
) -> None:
    for code in rng.normal(size=(40, 5)).astype(np.float32):
        for scale in (3.0, -3.0):
            points = latent.way(code, np.float32(scale) * code, 3, "spherical")
            np.testing.assert_allclose(points[1], (1 + scale) / 2 * code, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("end", [[2.0, 0.0], [-2.0, 0.0], [0.0, 0.0]])
def test_where_a_spherical_way_is_not_defined_it_is_linear(end: list[float]) -> None:
    start = _array([2, 0])
    spherical = latent.way(start, _array(end), 5, "spherical")
    np.testing.assert_allclose(spherical, latent.way(start, _array(end), 5, "linear"))


def test_images_can_be_morphed_too(rng: np.random.Generator) -> None:
    start, end = rng.random((2, 4, 3)).astype(np.float32)
    points = latent.way(start, end, 5, "linear")
    np.testing.assert_allclose(points[2], (start + end) / 2, rtol=1e-6)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_chain_goes_on_where_it_stopped_and_changes_class(
    classes: int, rng: np.random.Generator
) -> None:
    labels = rng.integers(0, classes, size=50).astype(np.int32)
    pairs = latent.chain(30, 50, labels, seed=1)
    assert len(pairs) == 30
    for (_, end), (start, _) in itertools.pairwise(pairs):
        assert end == start
    assert all(labels[a] != labels[b] for a, b in pairs)
    assert pairs == latent.chain(30, 50, labels, seed=1)
    assert pairs != latent.chain(30, 50, labels, seed=2)


@pytest.mark.parametrize("labels", [None, np.zeros(4, np.int32)])
def test_a_chain_without_classes_still_changes_images(labels: np.ndarray | None) -> None:
    pairs = latent.chain(20, 4, labels, seed=0)
    assert len(pairs) == 20
    assert all(a != b for a, b in pairs)


@pytest.mark.parametrize(("rows", "images"), [(1, 2), (4, 4), (7, 4), (8, 4)])
def test_a_chain_has_as_many_pairs_as_asked_for(rows: int, images: int) -> None:
    pairs = latent.chain(rows, images, None, seed=0)
    assert len(pairs) == rows
    assert {i for pair in pairs for i in pair} <= set(range(images))


def test_the_most_active_dimensions_come_by_kl() -> None:
    assert latent.most_active(np.array([0.1, 2.0, 0.0, 1.0])) == (1, 3)
