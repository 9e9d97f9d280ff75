import itertools
import warnings

import numpy as np
import pytest
from scipy import stats

from vaectl.studies import statistics
from vaectl.studies.statistics import Interval


def test_the_interval_of_two_values_is_known(rng: np.random.Generator) -> None:
    """Resampled means are low, middle, high with 1/4, 1/2, 1/4: a 95 % interval is all of it."""
    found = statistics.interval(np.array([1.0, 3.0]))
    assert found == Interval(2.0, 1.0, 3.0, 2)
    many = rng.normal(5, 2, 400)
    large = statistics.interval(many)
    assert large is not None
    assert large.low is not None
    assert large.high is not None
    # the central limit theorem
    expected = stats.norm.interval(0.95, many.mean(), many.std() / np.sqrt(400))
    np.testing.assert_allclose([large.low, large.high], expected, atol=0.02)


def test_the_interval_of_three_values_agrees_with_all_27_resamples() -> None:
    values = np.array([0.0, 1.0, 5.0])
    means = sorted(np.mean(draw) for draw in itertools.product(values, repeat=3))
    found = statistics.interval(values)
    assert found is not None
    # 2.5 % of 27 falls into the lowest and the highest of them, each of probability 1/27
    assert (found.low, found.high) == (means[0], means[-1])


def test_equal_values_have_an_interval_without_width_and_a_single_one_none() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert statistics.interval(np.array([2.0, 2.0, 2.0])) == Interval(2.0, 2.0, 2.0, 3)
    assert statistics.interval(np.array([2.0])) == Interval(2.0, None, None, 1)
    assert statistics.interval(np.array([-np.inf])) is None


def test_the_same_scores_have_the_same_interval(rng: np.random.Generator) -> None:
    """It is resampled by fixed numbers: a comparison that is summarized again says the same."""
    scores = rng.normal(size=7)
    assert statistics.interval(scores) == statistics.interval(scores)


def test_a_difference_is_paired(rng: np.random.Generator) -> None:
    """What seeds share cancels: the interval is that of the differences, however wide each is."""
    shared = rng.normal(-100, 50, 12)
    found = statistics.difference(shared + 1.0, shared)
    assert found is not None
    assert found.mean == found.low == found.high == pytest.approx(1)


def test_a_difference_counts_only_seeds_at_which_both_finished() -> None:
    a, b = np.array([1.0, -np.inf, 4.0]), np.array([0.0, 2.0, -np.inf])
    assert statistics.difference(a, b) == Interval(1.0, None, None, 1)
    assert statistics.difference(a[1:], b[1:]) is None
    # where both diverged, their difference is not asked for: it would warn
    neither = np.array([-np.inf])
    assert statistics.difference(neither, neither) is None


def test_a_tie_is_half_a_win_and_a_diverged_member_loses() -> None:
    a, b = np.array([1.0, 2.0, 3.0, -np.inf]), np.array([0.0, 2.0, 4.0, 0.0])
    assert statistics.probability_of_beating(a, b) == 1.5 / 4
    assert statistics.probability_of_beating(b, a) == 2.5 / 4
    both = np.array([-np.inf])
    assert statistics.probability_of_beating(both, both) == 0.5


def test_each_seed_ranks_its_scores_and_equals_share_a_place() -> None:
    scores = np.array([[3.0, 1.0], [2.0, 1.0], [-np.inf, 0.0]])
    expected = [[1, 1.5], [2, 1.5], [3, 3]]
    np.testing.assert_array_equal(statistics.ranks(scores), expected)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_the_expected_best_is_the_mean_over_all_subsets(n: int, rng: np.random.Generator) -> None:
    scores = rng.normal(size=n)
    expected = [
        np.mean([max(subset) for subset in itertools.combinations(scores, k)])
        for k in range(1, n + 1)
    ]
    np.testing.assert_allclose(statistics.expected_best(scores), expected)


def test_the_expected_best_is_finite_once_no_draw_is_all_diverged() -> None:
    best = statistics.expected_best(np.array([1.0, -np.inf, 3.0]))
    assert best[0] == -np.inf
    np.testing.assert_allclose(best[1:], [(1.0 + 3.0 + 3.0) / 3, 3.0])


def test_a_target_is_reached_first_or_never() -> None:
    assert statistics.reached(-2.0, [-3.0, -2.0, -2.5, -1.0], [10, 20, 30, 40]) == 20
    assert statistics.reached(0.0, [-3.0, -2.0], [10, 20]) is None


def test_a_score_without_its_time_is_no_answer() -> None:
    with pytest.raises(ValueError, match="shorter"):
        statistics.reached(0.0, [-3.0, -2.0], [10])
