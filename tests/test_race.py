"""The race to a target, the ranking along the budget, and the times of steps."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vaectl.base.errors import ConfigError
from vaectl.base.files import Folder
from vaectl.base.load import MOMENT, Load
from vaectl.comparison import along, plan, targets
from vaectl.comparison.plan import Comparison
from vaectl.comparison.race import ratio
from vaectl.comparison.run import run
from vaectl.comparison.summarize import summarize
from vaectl.comparison.times import FILE, Times
from vaectl.comparison.words import board, told_along, told_times

SMALL = [
    "epochs=4",
    "batch_size=50",
    "model.hidden_size=8",
    "model.code_size=2",
    "data.train_size=200",
    "data.validation_size=50",
    "data.test_size=50",
]
CURVES = {
    "adam": [np.array([-9.0, -6.0, -7.0, -3.0]), np.array([-9.0, -8.0, -5.0, -3.0])],
    "sgd": [np.array([-5.0, -5.0, -5.0, -4.0]), np.empty(0)],
}


def _settings(**options: object) -> Comparison:
    given = {"protocol": "paper", "seeds": 2, "importance_samples": 2, **options}
    return plan.load(assignments=SMALL, options={"optimizers": ["adam", "sgd"], **given})


# targets


def test_the_target_is_a_number_or_what_the_baseline_reaches_or_the_worst() -> None:
    assert targets.target_of(_settings(target=-6.5), CURVES) == -6.5
    # the mean of the best up to epoch 2 of 4
    assert targets.target_of(_settings(target={"at": 0.5}), CURVES) == pytest.approx(-7.0)
    # up to epoch 3, although a later epoch was worse
    assert targets.target_of(_settings(target={"at": 0.75}), CURVES) == pytest.approx(-5.5)
    of_sgd = _settings(target={"at": 1}, baseline="sgd")
    # over the seeds that finished
    assert targets.target_of(of_sgd, CURVES) == -4.0
    assert targets.target_of(_settings(), CURVES) == -4.0
    lost = {"adam": [np.empty(0)], "sgd": [np.empty(0)]}
    assert targets.target_of(_settings(), lost) is None
    assert targets.target_of(_settings(target={"at": 0.5}), lost) is None


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"baseline": "lion"}, "there is no optimizer lion; there are adam, sgd"),
        ({"target": {"at": 0.0}}, "should be more than 0"),
        ({"target": {"at": 1.5}}, "should be at most 1"),
        ({"target": {"epoch": 3}}, "epoch"),
        ({"target": "best"}, "should be a number, or {at: PART}"),
    ],
)
def test_what_is_no_target_is_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        _settings(**options)


def test_the_target_and_the_baseline_may_change_without_training() -> None:
    new = _settings(target={"at": 0.5}, baseline="sgd")
    assert plan.differing(new, _settings()) == []
    assert plan.differing(_settings(target=-3.0), new) == []


def test_a_ratio_of_steps_is_the_geometric_mean_of_pairs() -> None:
    found = ratio([100, 400, None], [200, 200, 300])
    assert found is not None
    assert found.seeds == 2
    assert found.mean == pytest.approx(1.0)
    assert found.low is not None
    assert found.high is not None
    assert found.low * found.high == pytest.approx(1.0)
    assert ratio([None, 3], [5, None]) is None
    same = ratio([7, 8], [7, 8])
    assert same is not None
    assert (same.low, same.high) == (1.0, 1.0)


# along the budget


def test_ranks_along_the_budget_are_those_of_the_best_so_far() -> None:
    ranks = along.mean_ranks(CURVES, 2, 4)
    # at the second seed sgd diverged, and is last throughout
    np.testing.assert_allclose(ranks["adam"], [1.5, 1.5, 1.5, 1.0])
    np.testing.assert_allclose(ranks["sgd"], [1.5, 1.5, 1.5, 2.0])
    # a tie is led by who led before
    assert along.leaders(ranks) == [(1, "adam")]


def test_a_late_change_of_places_is_told() -> None:
    ranks = {
        "late": np.array([3.0, 3, 3, 3, 3, 3, 3, 1]),
        "early": np.array([1.0, 1, 1, 1, 1, 1, 1, 2]),
        "slow": np.array([2.0, 2, 2, 2, 2, 2, 2, 3]),
    }
    assert along.leaders(ranks) == [(1, "early"), (8, "late")]
    told = along.crossings(ranks, ["late", "early", "slow"])
    assert told == [
        "early ranks above late until epoch 7 of 8",
        "slow ranks above late until epoch 7 of 8",
    ]
    settled = {label: values[::-1] for label, values in ranks.items()}
    assert along.crossings(settled, ["early", "slow", "late"]) == []


# times


def _times(others: float | None, *rows: list[float]) -> Times:
    seconds = dict(zip("abc", rows, strict=False))
    return Times(measured="0", device="cpu", seconds=seconds, others=others)


def test_ratios_are_medians_of_rounds() -> None:
    # the machine is slower in the last round, for both
    times = _times(0.0, [1.0, 1.0, 1.0, 4.0], [2.0, 2.0, 2.0, 8.0])
    assert times.ratio("b", "a") == 2.0
    assert times.step("a") == 1.0


def test_a_loaded_machine_is_named() -> None:
    steady = [1.0, 1.01, 0.99, 1.0]
    assert not _times(0.02, steady).loaded
    assert not _times(None, steady).loaded
    assert "other programs used 40% of the cores" in _times(0.4, steady).loaded
    assert "differed by" in _times(0.0, [1.0, 2.0, 1.0, 2.0]).loaded


def test_the_load_of_others_is_a_share(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Load().of_others() is None  # too short to be known
    busy = iter([100.0, 100.0 + MOMENT])
    monkeypatch.setattr("vaectl.base.load._busy", lambda: next(busy))
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    clock = iter([0.0, 2 * MOMENT])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    monkeypatch.setattr("time.process_time", lambda: 0.0)
    # one half of one of two cores
    assert Load().of_others() == pytest.approx(0.25)


def test_a_comparison_times_all_in_turns_once_and_anew_for_others(tmp_path: Path) -> None:
    result = run(_settings(), runs_dir=tmp_path, name="c")
    folder = Folder(tmp_path / "c")
    times = Times.read(folder)
    assert times is not None
    assert {*times.seconds} == {"adam", "sgd"}
    assert len({len(rounds) for rounds in times.seconds.values()}) == 1
    assert min(map(min, times.seconds.values())) > 0
    before = (tmp_path / "c" / FILE).read_text()
    run(_settings(), runs_dir=tmp_path, name="c")
    assert (tmp_path / "c" / FILE).read_text() == before
    run(_settings(optimizers=["adam", "sgd", "lion"]), runs_dir=tmp_path, name="c")
    again = Times.read(folder)
    assert again is not None
    assert {*again.seconds} == {"adam", "sgd", "lion"}
    # what a stranger wrote is measured again
    (tmp_path / "c" / FILE).write_text('{"format_version": 1}')
    run(_settings(), runs_dir=tmp_path, name="c")
    assert Times.read(folder) is not None

    quiet = times.model_copy(update={"others": 0.0, "seconds": {"adam": [2e-3], "sgd": [1e-3]}})
    (tmp_path / "c" / FILE).write_text(quiet.model_dump_json())
    summary = summarize(result)
    sides = {side.label: side for side in summary.sides}
    assert (sides["adam"].relative_time, sides["sgd"].relative_time) == (2.0, 1.0)
    assert not summary.loaded
    for side in sides.values():
        for steps, seconds in zip(side.steps_to_target, side.seconds_to_target, strict=True):
            assert steps is not None
            assert seconds == pytest.approx(steps * (side.seconds_per_step or 0.0))
            assert steps % 4 == 0  # the ends of epochs
    assert "time of a step" in [column.heading for column in board(summary)]
    (tmp_path / "c" / FILE).write_text(quiet.model_copy(update={"others": 0.5}).model_dump_json())
    loaded = summarize(result)
    assert [side.relative_time for side in loaded.sides] == [None, None]
    headings = [column.heading for column in board(loaded)]
    assert not any("second" in heading or "time" in heading for heading in headings)
    assert "50% of the cores" in told_times(loaded)
    assert told_along(loaded)[0].startswith("By mean rank ")
