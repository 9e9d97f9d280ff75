import itertools
import math
import warnings
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from tests.benchmarks import coverage
from vaectl.studies import statistics
from vaectl.studies.statistics import Interval


@pytest.mark.parametrize("n", [2, 5, 400])
def test_the_interval_and_the_p_value_are_those_of_the_t_test(
    n: int, rng: np.random.Generator
) -> None:
    values = rng.normal(0.5, 2, n)
    found, test = statistics.interval(values), stats.ttest_1samp(values, 0)
    assert found is not None
    limits = test.confidence_interval(0.95)
    assert [found.low, found.high] == pytest.approx([limits.low, limits.high])
    assert found.seeds == n
    assert statistics.p_value(values) == pytest.approx(test.pvalue)
    assert statistics.p_value(-values) == pytest.approx(test.pvalue)
    # a mean at an end of its interval is told from 0 with the p-value up to which one is
    assert statistics.p_value(values - limits.low) == pytest.approx(statistics.LEVEL)


@pytest.mark.parametrize("n", [3, 5])
@pytest.mark.parametrize("name", ["normal", "difference of two exponentials"])
def test_intervals_hold_their_level_at_few_seeds(name: str, n: int) -> None:
    """Within three standard errors of what 2,000 samples have, or above it."""
    held, width = coverage.coverage("t", name, n, 2_000)
    assert held > 0.95 - 3 * np.sqrt(0.95 * 0.05 / 2_000)
    assert width < coverage.coverage("studentized", name, n, 200)[1]


def test_p_values_of_a_family_are_adjusted_as_by_hand() -> None:
    # in order 0.005 * 4, 0.01 * 3, 0.03 * 2; 0.04 * 1 is below the one before it
    found = statistics.holm([0.01, 0.04, 0.03, 0.005])
    np.testing.assert_allclose(found, [0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.6, 0.7]) == [1, 1]
    assert statistics.holm([0.04]) == [0.04]
    assert statistics.holm([]) == []


def test_of_equal_optimizers_hardly_any_two_are_told_apart(rng: np.random.Generator) -> None:
    """The six pairs of four optimizers at five seeds, which have much in common."""
    samples = 500
    scores = rng.exponential(size=(samples, 4, 5))
    pairs = [*itertools.combinations(range(4), 2)]
    tested = [
        [statistics.p_value(statistics.paired(sample[a], sample[b])) or 0.0 for a, b in pairs]
        for sample in scores
    ]
    unadjusted = np.mean([min(p_values) <= statistics.LEVEL for p_values in tested])
    told = np.mean([min(statistics.holm(p_values)) <= statistics.LEVEL for p_values in tested])
    error = np.sqrt(0.05 * 0.95 / samples)
    assert told < 0.05 + 3 * error < unadjusted


@pytest.mark.parametrize("n", [1, 3, 5, 8, 10])
def test_the_interquartile_mean_leaves_out_a_quarter_on_each_side(
    n: int, rng: np.random.Generator
) -> None:
    values = rng.normal(size=n)
    found = statistics.interquartile_mean(values)
    assert found == pytest.approx(stats.trim_mean(values, 0.25))
    assert found == pytest.approx(np.sort(values)[n // 4 : n - n // 4].mean())


def test_an_interquartile_mean_is_shown_beside_a_mean_that_an_outlier_rules() -> None:
    even = np.array([-101.0, -100.5, -100.0, -99.5, -99.0])
    ruled = np.array([-190.0, *even[1:]])
    four = np.array([-110.0, -100.1, -100.1, -100.1])
    found = [statistics.interval(values) for values in (even, ruled, four)]
    # of four seeds no one can say which is the outlier
    assert [each and each.iqm for each in found] == [None, -100.0, None]
    # three interquartile ranges below the lower quartile, which is the second value, are -103.5
    for lowest, far in ((-103.5, False), (-103.6, True)):
        near = np.array([lowest, *even[1:]])
        for sign in (1, -1):
            one = statistics.interval(sign * near)
            assert one is not None
            assert one.iqm == (-100.0 * sign if far else None)
    assert statistics.shown(found[1]).endswith("IQM -100.00")
    assert statistics.told_outliers(map(statistics.shown, found))
    assert not statistics.told_outliers([statistics.shown(found[0])])


def test_a_cell_shows_no_interval_of_a_single_seed() -> None:
    found = map(statistics.interval, np.split(np.array([1.5, 2, 2, np.nan]), [1, 3]))
    assert [*map(statistics.shown, found)] == ["1.50", "2.00 [2.00, 2.00]", "none"]


def test_equal_values_have_an_interval_without_width_and_a_single_one_none() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert statistics.interval(np.array([2.0, 2.0, 2.0])) == Interval(2.0, 2.0, 2.0, 3)
        rounded = statistics.interval(np.array([0.1] * 6))
        assert rounded is not None
        assert rounded.low == rounded.high
        # as of a sign test: six of six
        assert statistics.p_value(np.array([0.1] * 6)) == 2 / 2**6
        assert statistics.p_value(np.zeros(3)) == 1
    assert statistics.p_value(np.array([2.0])) is None
    assert statistics.p_value(np.array([-np.inf, np.nan])) is None
    assert statistics.interval(np.array([2.0])) == Interval(2.0, None, None, 1)
    assert statistics.interval(np.array([-np.inf])) is None


def test_a_difference_is_paired(rng: np.random.Generator) -> None:
    """What seeds share cancels: the interval is that of the differences, however wide each is."""
    shared = rng.normal(-100, 50, 12)
    found = statistics.difference(shared + 1.0, shared)
    assert found is not None
    assert [found.mean, found.low, found.high] == pytest.approx([1, 1, 1])


def test_a_difference_counts_only_seeds_at_which_both_finished() -> None:
    a, b = np.array([1.0, -np.inf, 4.0]), np.array([0.0, 2.0, -np.inf])
    assert statistics.paired(a, b) == [1.0]
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


@pytest.mark.parametrize("k", [2, 30, 500, 1000])
def test_the_expected_best_of_a_long_search_is_exact(k: int, rng: np.random.Generator) -> None:
    n = 1000
    scores = np.sort(rng.normal(-100, 5, size=n))
    ways = (Fraction(math.comb(i, k - 1), math.comb(n, k)) for i in range(n))
    exact = sum(way * Fraction(score) for way, score in zip(ways, scores.tolist(), strict=True))
    assert statistics.expected_best(scores)[k - 1] == pytest.approx(float(exact), rel=1e-12)


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
