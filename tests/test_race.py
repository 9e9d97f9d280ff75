"""The race to a target, the ranking along the budget, and the times of steps."""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from tests.apart import draw_nothing
from vaectl.base.errors import ConfigError
from vaectl.base.files import Folder
from vaectl.base.load import MOMENT, Load
from vaectl.comparison import along, plan, targets, times
from vaectl.comparison.plan import Comparison
from vaectl.comparison.publish import publish
from vaectl.comparison.race import ratio
from vaectl.comparison.result import Result
from vaectl.comparison.run import _Comparing, run
from vaectl.comparison.summarize import summarize
from vaectl.comparison.times import FILE, Times
from vaectl.comparison.words import board, told_along, told_times
from vaectl.config.schema import Config
from vaectl.executors import default
from vaectl.pictures import charts
from vaectl.pictures.traces import Trace
from vaectl.runs import environment
from vaectl.studies import identity
from vaectl.studies import run as studies
from vaectl.studies.statistics import Interval
from vaectl.training.events import ignore

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
    # 0.07 * 100 is a little more than 7
    long = {"adam": [np.arange(1.0, 101.0)], "sgd": [np.empty(0)]}
    hundred = plan.load(
        assignments=["epochs=100"],
        options={"protocol": "paper", "optimizers": ["adam", "sgd"], "target": {"at": 0.07}},
    )
    assert targets.target_of(hundred, long) == 7.0
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


def test_no_optimizer_is_faster_than_the_fastest() -> None:
    # a has the smallest median, and b is faster in most rounds
    times = _times(0.0, [1.0, 1.2, 1.3], [0.9, 1.25, 1.25])
    assert times.step("a") < times.step("b")
    assert times.ratio("b", "a") < 1
    assert times.fastest == "b"
    stored = Path(__file__).parent.parent / "runs" / "reference" / "field-mnist"
    field = Times.read(Folder(stored))
    assert field is not None
    assert min(field.ratio(label, field.fastest) for label in field.seconds) == 1


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heed the load of the machine, which other tests do not."""
    monkeypatch.setattr(times, "LOADED", 0.1)


@pytest.mark.usefixtures("strict")
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
    run(_settings(), runs_dir=tmp_path, name="c")
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


@pytest.mark.usefixtures("strict")
def test_times_of_a_loaded_machine_are_taken_again(
    result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder(tmp_path)
    task = studies.prepare(_Comparing(result.settings), "cpu", default(), ignore)
    experiments = result.settings.entries

    def measure(others: float) -> Times:
        monkeypatch.setattr(Load, "of_others", lambda _: others)
        found = times.measure(experiments, task, folder, lambda: False)
        assert found is not None
        assert found == Times.read(folder)
        return found

    monkeypatch.setattr(Times, "spread", 0.0)
    loaded = measure(0.5)
    assert loaded.loaded
    assert measure(0.4) == loaded  # no better
    quiet = measure(0.0)
    assert not quiet.loaded
    assert measure(0.5) == quiet
    # with another number of threads a step takes another time
    monkeypatch.setenv("NPROC", "97")
    threads = measure(0.0)
    assert threads.measured != quiet.measured
    # an older version did not tell them
    keys = {k: identity.key(e, task.dataset.fingerprint) for k, e in experiments.items()}
    text = json.dumps([keys, threads.device, environment.versions()])
    old = threads.model_copy(update={"measured": hashlib.sha256(text.encode()).hexdigest()[:16]})
    (tmp_path / FILE).write_text(old.model_dump_json())
    assert measure(0.0) == old


@pytest.mark.usefixtures("strict")
def test_times_are_a_basis_for_a_ranking_only_on_a_quiet_machine(tmp_path: Path) -> None:
    result = run(_settings(), runs_dir=tmp_path, name="c")
    times = Times.read(Folder(tmp_path / "c"))
    assert times is not None
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
    (tmp_path / "c" / FILE).write_text(
        quiet.model_copy(update={"device": "a login node"}).model_dump_json()
    )
    assert "timed on a login node" in summarize(result).loaded
    assert [side.relative_time for side in loaded.sides] == [None, None]
    headings = [column.heading for column in board(loaded)]
    assert not any("second" in heading or "time" in heading for heading in headings)
    assert "50% of the cores" in told_times(loaded)
    assert told_along(loaded)[0].startswith("By mean rank ")


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return run(_settings(), runs_dir=tmp_path_factory.mktemp("runs"), name="c")


@pytest.mark.usefixtures("strict")
def test_an_optimizer_that_was_not_timed_has_no_curve_by_time(
    result: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = {}

    def curves(traces: Sequence[Trace], by: str, **_: object) -> Figure:
        drawn[by] = {trace.name: trace.place for trace in traces}
        return Figure(figsize=(1, 1))

    draw_nothing(monkeypatch.setattr)
    monkeypatch.setattr(charts, "curves", curves)
    quiet = Times(measured="0", device="", seconds={"sgd": [1e-3, 1e-3]}, others=0.0)
    (result.path / FILE).write_text(quiet.model_dump_json())
    publish(result)
    # in the colour that it has by epoch
    assert drawn == {"epoch": {"adam": 0, "sgd": 1}, "seconds": {"sgd": 1}}
    assert _seconds(result) == {"adam": 0, "sgd": 4}
    # what was timed on a busy machine is not told
    busy = quiet.model_copy(update={"others": 0.5})
    (result.path / FILE).write_text(busy.model_dump_json())
    publish(result)
    assert _seconds(result) == {"adam": 0, "sgd": 0}


def test_a_figure_that_a_later_result_does_not_have_is_removed(
    result: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_nothing(monkeypatch.setattr)
    publish(result)
    figures = result.path / "figures"
    assert (figures / "along.svg").exists()
    trials = [each for each in result.trials if each.trial.label == "sgd"]
    publish(result._replace(settings=_settings(optimizers=["sgd"]), trials=trials))
    assert not [*figures.glob("along.*")]
    assert (figures / "board.svg").exists()


def _seconds(result: Result) -> dict[str, int]:
    """The number of epochs of each optimizer whose time the page has."""
    page = (result.path / "report.html").read_text()
    found = re.search(r'<script id="drawn"[^>]*>(.*?)</script>', page)
    assert found
    return {trace["label"]: len(trace["seconds"]) for trace in json.loads(found[1])["traces"]}


def test_an_optimizer_is_timed_at_its_first_seed_that_finished(
    result: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, int] = {}

    def measure(experiments: dict[str, Config], *_: object) -> None:
        seen.update({label: one.seed for label, one in experiments.items()})

    monkeypatch.setattr(times, "measure", measure)
    first, *others = result.trials
    assert (first.trial.label, first.trial.settings.seed) == ("adam", 0)
    found = [first._replace(ended=first.ended.model_copy(update={"error": "diverged"})), *others]
    settings = result.settings
    task = studies.prepare(_Comparing(settings), "cpu", default(), ignore)
    _Comparing(settings).close(task, Folder(result.path), found, lambda: False)
    assert seen == {"adam": 1, "sgd": 0}


def test_timing_heeds_a_signal(result: Result, tmp_path: Path) -> None:
    task = studies.prepare(_Comparing(result.settings), "cpu", default(), ignore)
    calls = iter([False, False, True])
    with pytest.raises(KeyboardInterrupt):
        times.measure(result.settings.entries, task, Folder(tmp_path), lambda: next(calls))
    assert not [*tmp_path.iterdir()]


def test_a_ratio_of_steps_says_at_how_many_seeds_both_reached_the_target(result: Result) -> None:
    summary = summarize(result)
    part = Interval(0.5, None, None, 1)
    sides = [side.model_copy(update={"steps_to_baseline": part}) for side in summary.sides]
    columns = board(summary.model_copy(update={"sides": sides}))
    (steps,) = (column for column in columns if column.heading.startswith("steps, "))
    assert {cell.text for cell in steps.cells} == {"0.50 (1 of 2 seeds)"}
