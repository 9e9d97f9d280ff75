import itertools

import numpy as np
import pytest
from scipy import stats

from vaectl.pictures import latent


def _array(values: list[float]) -> np.ndarray:
    return np.asarray(values, np.float32)


def test_linear_coordinates_are_equally_far_apart() -> None:
    np.testing.assert_allclose(latent.axis(5, 3.0, "linear"), [-3, -1.5, 0, 1.5, 3])
    assert latent.axis(20, 3.0, "linear").shape == (20,)
    assert latent.axis(1, 3.0, "linear").tolist() == [0]


def test_quantile_coordinates_are_equally_probable() -> None:
    coordinates = latent.axis(9, 2.0, "quantile")
    np.testing.assert_allclose(coordinates[[0, -1]], [-2, 2], rtol=1e-6)
    steps = np.diff(stats.norm.cdf(coordinates))
    np.testing.assert_allclose(steps, steps[0], rtol=1e-3)


def test_a_plane_has_the_coordinates_that_it_says() -> None:
    coordinates = _array([-1, 0, 2])
    anchor = _array([9, 8, 7, 6])
    codes = latent.plane(coordinates, (2, 0), anchor)
    assert codes.shape == (3, 3, 4)
    # dims[0] grows to the right, dims[1] upwards, the others stay
    assert codes[0, 0].tolist() == [2, 8, -1, 6]
    assert codes[0, 2].tolist() == [2, 8, 2, 6]
    assert codes[2, 0].tolist() == [-1, 8, -1, 6]


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


@pytest.mark.parametrize("end", [[2.0, 0.0], [-2.0, 0.0], [0.0, 0.0]])
def test_where_a_spherical_way_is_not_defined_it_is_linear(end: list[float]) -> None:
    start = _array([2, 0])
    spherical = latent.way(start, _array(end), 5, "spherical")
    np.testing.assert_allclose(spherical, latent.way(start, _array(end), 5, "linear"))


def test_images_can_be_morphed_too(rng: np.random.Generator) -> None:
    start, end = rng.random((2, 4, 3)).astype(np.float32)
    points = latent.way(start, end, 5, "linear")
    np.testing.assert_allclose(points[2], (start + end) / 2, rtol=1e-6)


def test_a_chain_goes_on_where_it_stopped_and_changes_class(rng: np.random.Generator) -> None:
    labels = rng.integers(0, 3, size=50).astype(np.int32)
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


def test_the_most_active_dimensions_come_by_kl() -> None:
    assert latent.most_active(np.array([0.1, 2.0, 0.0, 1.0])) == (1, 3)
