"""`vaectl sweep`: the plan, what is trained and what is not, effects, the page."""

from __future__ import annotations

import csv
import json
import math
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.test_executors import kill_workers
from vaectl import executors
from vaectl.base.errors import ConfigError, DivergedError, RunError
from vaectl.config import documents
from vaectl.runs.metrics import Row
from vaectl.studies.trial import programs
from vaectl.sweeps import effects, options, plan, publish, run, search, summary
from vaectl.sweeps.plan import Sweep
from vaectl.sweeps.scores import scores_until
from vaectl.training.events import Event, Note, Phase, Started
from vaectl.training.fit import Epoch

CONFIGS = Path(__file__).parent.parent / "configs" / "sweep"
SMALL = [
    "epochs=2",
    "model.hidden_size=8",
    "model.code_size=2",
    "data.train_size=200",
    "data.validation_size=50",
    "data.test_size=50",
]
Vaectl = Callable[..., Any]


def _sweep(*vary: str, draw: int | None = None, seeds: int = 2, small: list[str] = SMALL) -> Sweep:
    how = {"seeds": seeds, "importance_samples": 2}
    return plan.load(assignments=small, more=options.axes(vary, draw), options=how)


def _labels(*vary: str, draw: int | None = None) -> list[str]:
    return [point.label for point in _sweep(*vary, draw=draw).points]


def _values(sweep: Sweep, key: str) -> list[Any]:
    return [point.values[key] for point in sweep.points]


# the plan


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.stem)
def test_committed_sweeps_load_and_survive_being_written(file: Path, tmp_path: Path) -> None:
    assert f"vaectl sweep configs/sweep/{file.name}" in file.read_text()
    settings = plan.load(file)
    copy = tmp_path / "sweep.yaml"
    copy.write_text(documents.dump(settings))
    assert plan.load(copy) == settings
    assert [p.label for p in plan.load(copy).points] == [p.label for p in settings.points]


def test_every_combination_of_lists_and_ranges_is_a_point() -> None:
    sweep = _sweep("model.code_size=2,3", "optimizer.learning_rate=1e-4:1e-2:3:log")
    found = [
        (p.settings.model.code_size, p.settings.optimizer.chosen.learning_rate)
        for p in sweep.points
    ]
    assert found == [(code, rate) for code in (2, 3) for rate in (1e-4, 1e-3, 1e-2)]
    assert [p.levels for p in sweep.points] == [(i, j) for i in range(2) for j in range(3)]
    assert _values(_sweep("optimizer.learning_rate=1:2:3"), "optimizer.learning_rate") == [
        1,
        1.5,
        2,
    ]
    # whole numbers stay whole
    assert _values(_sweep("model.hidden_size=10:40:3:log"), "model.hidden_size") == [10, 20, 40]


def test_keys_of_one_axis_go_together(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(
        "vary:\n- optimizer.name: [adam, sgd]\n  optimizer.learning_rate: [0.001, 0.1]\n"
        "- model.code_size: [2, 3]\n"
    )
    points = plan.load(file).points
    found = [(p.settings.optimizer.name, p.settings.optimizer.chosen.learning_rate) for p in points]
    assert found == [("adam", 0.001)] * 2 + [("sgd", 0.1)] * 2
    assert [p.label for p in points] == [
        "code_size-2",
        "code_size-3",
        "code_size-2-sgd-learning_rate-0.1",
        "code_size-3-sgd-learning_rate-0.1",
    ]
    file.write_text("vary:\n- model.code_size: [2, 3]\n  epochs: [1, 2, 3]\n")
    with pytest.raises(
        ConfigError, match=r"s.yaml:1: vary: .* model.code_size has 2, epochs has 3"
    ):
        plan.load(file)
    seeds = options.axes(["seed=1,2"])
    with pytest.raises(ConfigError, match=r"^--vary: seed varies by itself"):
        plan.load(more=seeds)
    file.write_text("vary:\n- model.code_size: [2, 3]\n")
    with pytest.raises(ConfigError, match=r"s.yaml:1 and --vary: vary: seed varies by itself"):
        plan.load(file, more=seeds)


def test_drawn_points_fill_the_ranges_and_more_of_them_keep_the_first() -> None:
    vary = (
        "optimizer.learning_rate=1e-4:1e-1:log",
        "model.hidden_size=4:64",
        "model.activation=relu,tanh",
    )
    few, many = _sweep(*vary, draw=16), _sweep(*vary, draw=64)
    assert [p.settings for p in few.points] == [p.settings for p in many.points[:16]]
    rates = np.log10(_values(many, "optimizer.learning_rate"))
    # about a third of the points in each decade, and each half of the other range
    assert np.histogram(rates, [-4, -3, -2, -1])[0] == pytest.approx(64 / 3, abs=2)
    sizes = np.array(_values(many, "model.hidden_size"))
    assert np.mean(sizes < 34) == pytest.approx(0.5, abs=0.05)
    assert {*map(type, sizes.tolist())} == {int}
    assert _values(many, "model.activation").count("relu") == pytest.approx(32, abs=3)
    # independent: all four quarters are filled alike
    counts = np.histogram2d(rates, sizes, bins=2)[0]
    assert counts.min() >= 12


def test_names_of_points_do_not_change_when_another_key_varies() -> None:
    few = _labels("optimizer.learning_rate=1e-3,1e-2")
    assert few == ["base", "learning_rate-0.01"]
    more = _labels("optimizer.learning_rate=1e-3,1e-2", "model.code_size=2,5")
    assert {*few} <= {*more}
    assert len({*more}) == 4
    assert all(re.fullmatch(r"[A-Za-z0-9._-]{1,80}", label) for label in more)


def test_a_file_of_one_experiment_is_the_base(tmp_path: Path) -> None:
    file = tmp_path / "e.yaml"
    file.write_text("epochs: 7\nmodel: {code_size: 3}\n")
    sweep = plan.load(file, more=options.axes(["model.hidden_size=4,5"]))
    assert (sweep.base.epochs, sweep.base.model.code_size, len(sweep.points)) == (7, 3, 2)


@pytest.mark.parametrize(
    ("vary", "draw", "message"),
    [
        (["model.code_size=0,2"], None, r"model.code_size: should be at least 1, not 0"),
        (["model.cod_size=2,3"], None, r"unknown key model.cod_size; did you mean model.code_size"),
        (["optimizer.learning_rate=1e-2:1e-4:3"], None, "low must be below high"),
        (["optimizer.learning_rate=0:1:3:log"], None, "must be above 0"),
        (["optimizer.learning_rate=1e-4:1e-2:log"], None, "needs count"),
        (["optimizer.learning_rate=1e-4:1e-2:3"], 4, "no count on an axis that draws 4"),
        (["model.code_size=2,2"], None, "list of different values"),
        (["model.code_size=2,3", "model.code_size=4"], None, "model.code_size is in 2 axes"),
        (["model.hidden_size=2:4:20"], None, "are the same experiment"),
        (["seed=1,2"], None, "give seeds"),
        (["data.source=a,b"], None, "cannot vary"),
        (["likelihood.name=bernoulli,gaussian"], None, "measure different things"),
        (["likelihood.name=gaussian,discretized_logistic"], None, "measure different things"),
        (["objective.name=elbo,iwae"], None, "measure different things"),
        (["optimizer.name=adam,adamm"], None, r"not 'adamm'.*adam"),
        (["model.code_size"], None, "not of the form"),
        (["epochs={low: 1}"], None, r"epochs.*high is missing"),
        (["epochs=3"], 2, "no range to draw 2 points from"),
        (["epochs=1:9:3:lgo"], None, "lgo.*did you mean log"),
        (["epochs=1:9:\N{SUPERSCRIPT TWO}"], None, "no number of values"),
        (["epochs=1:9:3:4"], None, "3 and 4 are each a count"),
        (["epochs=1:9:3:log:linear"], None, "log and linear are each a scale"),
        (["epochs=-1e308:1e308:3"], None, "epochs"),
        (
            ["optimizer.learning_rate=1", "optimizer.adam.learning_rate=2,3"],
            None,
            "learning_rate: the same key as optimizer.adam.learning_rate",
        ),
        ([], 5, "no ranges to draw 5 points from"),
        ([], None, "nothing varies"),
        (["epochs=1:100000:10000", "model.code_size=1:1000:100"], None, "1,000,000 points"),
    ],
)
def test_what_cannot_be_swept_is_refused_before_anything_is_computed(
    vary: list[str], draw: int | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        _sweep(*vary, draw=draw)


def test_all_that_is_wrong_with_the_axes_is_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(
        "epoch: 3\nseeds: 0\nvary:\n- optimizer.learning_rate: {low: 1, high: 2}\n"
        "- data.source: [a, b]\n- seed: [1, 2]\n- model.code_size: [2, 3]\n  epochs: [1]\n"
    )
    with pytest.raises(ConfigError) as raised:
        plan.load(file)
    words = ("epoch", "seeds", "needs count", "data.source", "seed varies", "epochs has 1")
    for word in words:
        assert word in raised.value.message


def test_the_points_with_most_memory_are_checked_and_not_all() -> None:
    sweep = _sweep("model.hidden_size=8:64:4", "model.code_size=2,3", "model.activation=relu,tanh")
    checked = plan.largest(sweep.points)
    assert len(checked) <= 4
    assert {(e.model.mlp.hidden_size, e.model.code_size) for e in checked} == {(64, 3)}


def test_points_that_are_large_in_several_numbers_are_checked() -> None:
    """Memory grows with a product of them, which is the largest where each is large."""
    axis = {"model.hidden_size": [8, 60, 64, 50], "batch_size": [200, 190, 10, 180]}
    checked = plan.largest(plan.load(assignments=SMALL, more=[axis]).points)
    sizes = {(each.model.mlp.hidden_size, each.batch_size) for each in checked}
    assert sizes == {(8, 200), (60, 190), (64, 10)}


def test_the_fewest_micro_batches_are_checked_which_need_the_most() -> None:
    checked = plan.largest(_sweep("microbatches=1,8", "model.hidden_size=8,64").points)
    assert {(e.microbatches, e.model.mlp.hidden_size) for e in checked} == {(1, 64), (8, 64)}


def test_values_of_any_kind_may_stand_beside_whole_numbers() -> None:
    # the first value decides nothing
    for values in ("100,null", "null,100"):
        assert len(plan.largest(_sweep(f"optimizer.clip_norm={values}").points)) == 2
    points = _sweep("optimizer.clip_norm=1,null", "model.hidden_size=8,64").points
    assert {e.model.mlp.hidden_size for e in plan.largest(points)} == {64}


def test_labels_depend_on_what_differs_alone() -> None:
    keys = ("optimizer.weight_decay", "optimizer.clip_norm", "optimizer.bias_learning_rate_scale")
    vary = [f"{key}={low},{low + 1}" for key, low in zip(keys, (0.25, 7.125, 3.0625), strict=True)]
    vary.append("optimizer.adam.learning_rate=0.00123456,0.00234567")
    first = _sweep(*vary)
    assert any(len(point.label) > 60 for point in first.points)
    other = _sweep(*vary, small=[*SMALL, "seed=7", "checkpoint.every=3"])
    assert [point.label for point in other.points] == [point.label for point in first.points]
    assert plan.differing(other, first) == []


def test_the_estimate_counts_the_checkpoints_that_a_run_keeps() -> None:
    often = [*SMALL, "epochs=20", "checkpoint.every=5"]
    sizes = []
    for keep in ("needed", "all"):
        small = [*often, f"checkpoint.keep={keep}"]
        sizes.append(run.planned(_sweep("model.code_size=2", seeds=1, small=small)).disk)
    assert sizes[1] / sizes[0] == pytest.approx(5 / 3)


def test_trials_that_share_a_program_train_one_after_another() -> None:
    sweep = _sweep("optimizer.learning_rate=1e-3,1e-2", "model.code_size=2,3")
    groups = programs(sweep.trials)
    assert [len(group) for group in groups] == [4, 4]
    assert [{trial.settings.model.code_size for trial in group} for group in groups] == [{2}, {3}]


# what is trained, and what is not


def _train(settings: Sweep, folder: Path, **how: Any) -> tuple[run.Result, list[Event]]:
    events: list[Event] = []
    result = run.run(settings, runs_dir=folder, name="s", watch=events.append, **how)
    return result, events


def _started(events: list[Event]) -> list[str]:
    return [event.member for event in events if isinstance(event, Started)]


def test_only_what_is_new_is_trained_and_the_best_point_alone_meets_the_test_split(
    tmp_path: Path,
) -> None:
    rates = "optimizer.learning_rate=1e-3,1e-2"
    result, events = _train(_sweep(rates), tmp_path)
    assert _started(events) == [
        f"{label}-s{seed}" for label in ("base", "learning_rate-0.01") for seed in (0, 1)
    ]
    notes = [event.text for event in events if isinstance(event, Note)]
    assert any("2 points" in note and "4 members" in note for note in notes)
    assert any("8 epochs" in note for note in notes)
    tests = sorted(path.name for path in (tmp_path / "s" / "trials").glob("*.test.json"))
    best = [t.ended.key for t in result.trials if t.trial.label == "learning_rate-0.01"]
    assert tests == sorted(f"{key}.test.json" for key in best)

    again, events = _train(_sweep(rates), tmp_path)
    assert _started(events) == []
    assert [t.ended for t in again.trials] == [t.ended for t in result.trials]

    # a value and a key more
    more = _sweep("optimizer.learning_rate=1e-3,1e-2,3e-2", "objective.samples=1,2", seeds=2)
    extended, events = _train(more, tmp_path)
    assert len(_started(events)) == 3 * 2 * 2 - 4
    known = {t.ended.key for t in result.trials}
    assert known <= {t.ended.key for t in extended.trials}


def test_another_axis_with_keys_of_the_same_short_name_trains_nothing_again(
    tmp_path: Path,
) -> None:
    small = [*SMALL, "objective.name=beta", "optimizer.schedule.name=cosine"]
    first, second = "objective.warmup_epochs=0,1", "optimizer.schedule.warmup_epochs=0,1"
    result, _ = _train(_sweep(first, small=small), tmp_path)
    labels = {t.trial.settings: t.trial.label for t in result.trials}
    assert {*labels.values()} == {"base", "warmup_epochs-1"}
    more, events = _train(_sweep(first, second, small=small), tmp_path)
    assert len(_started(events)) == 4
    assert labels.items() <= {t.trial.settings: t.trial.label for t in more.trials}.items()
    assert len({t.trial.run_name for t in more.trials}) == 8
    notes = [event.text for event in events if isinstance(event, Note)]
    assert any("4 of them are done" in note for note in notes)
    for vary in ([first], [first, second]):
        assert not _started(_train(_sweep(*vary, small=small), tmp_path)[1])


def test_values_that_look_alike_have_other_names_and_keep_those_of_before(tmp_path: Path) -> None:
    rates = ("0.0012345678", "0.0012345678,0.0012345679")
    results = [_train(_sweep(f"optimizer.learning_rate={each}"), tmp_path) for each in rates]
    assert len(_started(results[1][1])) == 2
    known = {t.trial.run_name for t in results[0][0].trials}
    assert known == {f"learning_rate-0.00123457-s{seed}" for seed in (0, 1)}
    assert known < {t.trial.run_name for t in results[1][0].trials}


def test_the_best_point_is_paired_with_the_next_only_on_one_kind_of_device(
    tmp_path: Path,
) -> None:
    result, _ = _train(_sweep("optimizer.learning_rate=1e-3,1e-2"), tmp_path)
    told = summary.summarize(result).summary
    assert told.best is not None
    assert told.best.ahead is not None
    assert told.best.ahead.seeds == 2
    assert (len(told.kinds), summary.told_pairs(told)) == (1, "")
    first = result.trials[0].ended
    assert first.record is not None
    device = {**first.record.device, "cpu_threads": 64}
    record = first.record.model_copy(update={"device": device}).model_dump_json()
    files = {**first.files, "run.json": record}
    result.trials[0] = result.trials[0]._replace(ended=first.model_copy(update={"files": files}))
    told = summary.summarize(result).summary
    assert told.best is not None
    assert told.best.ahead is not None
    assert told.best.ahead.seeds == 1
    assert "1 of 2 seeds" in summary.told_pairs(told)
    assert " thread" in publish.table(result)


def test_what_diverges_is_kept_and_named_and_trained_again_on_request(tmp_path: Path) -> None:
    settings = _sweep("optimizer.learning_rate=1e-3,1e9", seeds=1)
    result, _ = _train(settings, tmp_path)
    result.check()  # that is what a sweep is there to find out
    summary = publish.publish(result)
    assert summary.best is not None
    assert summary.best.label == "base"
    assert [point.diverged for point in summary.ranked] == [0, 1]
    assert len(summary.diverged) == 1
    assert "1e+09" in summary.diverged[0]
    _, events = _train(settings, tmp_path)
    assert _started(events) == []
    _, events = _train(settings, tmp_path, retry=True)
    assert _started(events) == ["learning_rate-1e-09-s0"]


def test_a_sweep_in_which_nothing_trains_says_so(tmp_path: Path) -> None:
    result, _ = _train(_sweep("optimizer.learning_rate=1e8,1e9", seeds=1), tmp_path)
    summary = publish.publish(result)
    assert summary.best is None
    with pytest.raises(DivergedError, match="no point trained"):
        result.check()


@pytest.mark.full
def test_a_member_that_ends_its_worker_is_named_and_the_rest_has_a_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(event: Event) -> None:
        if isinstance(event, Started) and event.member == "base-s0":
            kill_workers()

    monkeypatch.setattr("vaectl.studies.engine.TRIES", 1)
    settings = _sweep("optimizer.learning_rate=1e-3,1e-2", seeds=1, small=[*SMALL, "epochs=300"])
    result = run.run(
        settings,
        runs_dir=tmp_path,
        name="s",
        executor=executors.parse("processes:1"),
        watch=kill,
    )
    assert [each.trial.label for each in result.trials] == ["learning_rate-0.01"]
    summary = publish.publish(result)
    assert [point.missing for point in summary.ranked] == [0, 1]
    with pytest.raises(RunError, match=r"learning rate 0.001, seed 0: .*SIGKILL"):
        result.check()


def _contents(study: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(study)): path.read_bytes()
        for path in sorted(study.rglob("*"))
        if path.is_file() and path.suffix != ".pdf"  # which have the time of their making
    }


def test_a_search_trains_few_points_to_the_end_and_these_to_the_same_bits(tmp_path: Path) -> None:
    axes = options.axes(["optimizer.learning_rate=1e-4:1e-1:log"], 5)
    how = {"seeds": 1, "importance_samples": 2, "search": {"ratio": 2.0, "comparisons": 3}}
    small = [*SMALL, "epochs=4"]
    settings = plan.load(assignments=small, more=axes, options=how)
    result, events = _train(settings, tmp_path)
    trained = Counter(event.member for event in events if isinstance(event, Epoch))
    assert sorted(trained.values()) == [1, 1, 2, 4, 4]
    # those that went on were the best when they were compared
    scores, epochs = scores_until(settings, result.trials, result.paused, 1)
    order = np.argsort(-scores[:, 0])
    assert {epochs[i] for i in order[:3]} == {2, 4}
    summary = publish.publish(result)
    assert [point.epochs for point in summary.ranked] == [4, 4, 2, 1, 1]
    assert summary.best is not None
    assert summary.best.label == summary.ranked[0].label
    assert not summary.effects  # points that trained for other times do not compare

    # in one go it comes to the same numbers
    whole = plan.load(assignments=small, more=axes, options={"seeds": 1, "importance_samples": 2})
    other = run.run(whole, runs_dir=tmp_path / "whole", name="s")
    known = {each.trial.label: [row.terms for row in each.ended.rows] for each in other.trials}
    for each in result.trials:
        assert known[each.trial.label] == [row.terms for row in each.ended.rows]

    before = _contents(tmp_path / "s")
    again, events = _train(settings, tmp_path)
    assert not _started(events)
    assert not [event for event in events if isinstance(event, Phase) and "moment" in event.text]
    assert {**again.paused} == {**result.paused}
    publish.publish(again)
    assert _contents(tmp_path / "s") == before
    # a search and a sweep are never mixed
    with pytest.raises(ConfigError, match="other settings: search"):
        run.run(whole, runs_dir=tmp_path, name="s")


def test_what_a_search_compares_does_not_depend_on_what_came_later() -> None:
    rows = [
        Row(epoch, epoch, split, {"elbo": -100.0 + epoch}, 1.0)
        for epoch in range(1, 9)
        for split in ("train", "validation")
    ]
    assert search.until(rows, "", "elbo", 2) == search.until(rows, "diverged", "elbo", 2) == -98
    assert search.until(rows, "diverged", "elbo", 9) == -math.inf
    assert search.until(rows, "", "elbo", 9) == -92
    assert search.until([], "diverged", "elbo", 1) == -math.inf


@pytest.mark.full
def test_a_search_goes_on_without_a_point_that_ends_its_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(event: Event) -> None:
        if isinstance(event, Started) and event.member == lost:
            kill_workers()

    monkeypatch.setattr("vaectl.studies.engine.TRIES", 1)
    axes = options.axes(["optimizer.learning_rate=1e-4:1e-1:log"], 3)
    settings = plan.load(
        assignments=[*SMALL, "epochs=200"],
        more=axes,
        options={"seeds": 1, "importance_samples": 2, "search": {"comparisons": 2}},
    )
    lost = settings.trials[0].run_name
    one = executors.parse("processes:1")
    result = run.run(settings, runs_dir=tmp_path, name="s", executor=one, watch=kill)
    assert [trial.run_name for trial in result.paused] != []
    assert len(result.trials) == 1
    with pytest.raises(RunError, match="its worker ended"):
        result.check()


def test_a_search_compares_at_growing_epochs() -> None:
    vary = options.axes(["optimizer.learning_rate=1e-4:1e-1:log"], 20)
    settings = plan.load(assignments=["epochs=45"], more=vary, options={"seeds": 1, "search": {}})
    assert settings.search is not None
    assert search.rungs(settings, settings.search) == [(5, 20), (15, 7), (45, 3)]
    assert search.epochs_of(settings, settings.search) == 20 * 5 + 7 * 10 + 3 * 30
    short = plan.load(assignments=["epochs=2"], more=vary, options={"seeds": 1, "search": {}})
    assert short.search is not None
    assert [epoch for epoch, _ in search.rungs(short, short.search)] == [1, 2]
    with pytest.raises(ConfigError, match="epochs cannot vary in a search"):
        plan.load(more=options.axes(["epochs=2:9"], 3), options={"search": {}})


def test_a_sweep_and_a_comparison_do_not_share_a_directory(tmp_path: Path) -> None:
    from vaectl.comparison import plan as comparisons
    from vaectl.comparison import run as comparing

    _train(_sweep("optimizer.learning_rate=1e-3,1e-2", seeds=1), tmp_path)
    with pytest.raises(ConfigError, match="s is a sweep, not a comparison"):
        comparing.run(comparisons.load(assignments=SMALL), runs_dir=tmp_path, name="s")
    other = _sweep("model.code_size=2,3", small=[*SMALL, "epochs=3"])
    with pytest.raises(ConfigError, match=r"is a sweep with other settings: base.epochs was 2"):
        run.run(other, runs_dir=tmp_path, name="s")


# statistics


def _made_up(scores: Any, *vary: str) -> list[effects.Effect]:
    return effects.effects(_sweep(*vary, seeds=scores.shape[1]), scores)


def test_effects_are_differences_within_cells_of_all_else() -> None:
    # score = a of the first key + b of the second + c of the seed + noise
    rng = np.random.default_rng(0)
    a, b = np.array([-8.0, 1.0, 7.0]), np.array([-0.5, 0.5])
    scores = a[:, None, None] + b[:, None] + 100 * rng.normal(size=3)
    scores = scores + 1e-9 * rng.normal(size=scores.shape)
    first, second = _made_up(
        scores.reshape(6, 3), "model.code_size=2,3,4", "optimizer.learning_rate=1e-3,1e-2"
    )
    assert (first.keys, second.keys) == (["model.code_size"], ["optimizer.learning_rate"])
    found = [
        [level.effect.mean for level in each.levels if level.effect] for each in (first, second)
    ]
    np.testing.assert_allclose(found[0], a, atol=1e-6)
    np.testing.assert_allclose(found[1], b, atol=1e-6)
    assert first.spread == pytest.approx(15)
    assert (first.cells, second.cells) == (6, 9)
    # the seed's own share is in no interval
    one = first.levels[0].effect
    assert one is not None
    assert one.low is not None
    assert one.low == pytest.approx(-8, abs=1e-6)


def test_effects_compare_all_values_in_the_same_cells_when_some_diverged() -> None:
    a, b = np.array([0.0, 2.0]), np.array([0.0, 10.0, 50.0])
    scores = (a[:, None] + b).reshape(6, 1)
    scores[0] = -np.inf  # the first value at the first of the others
    first, second = _made_up(
        scores, "model.code_size=2,3", "optimizer.learning_rate=1e-3,1e-2,1e-1"
    )
    by_key = {each.keys[0]: each for each in (first, second)}
    code = by_key["model.code_size"]
    assert [level.effect.mean for level in code.levels if level.effect] == [-1, 1]
    assert [level.diverged for level in code.levels] == [1, 0]
    assert code.cells == 2
    # a value at which most trials diverged has none, and the others keep theirs
    scores[3] = -np.inf
    rate = {
        e.keys[0]: e
        for e in _made_up(scores, "model.code_size=2,3", "optimizer.learning_rate=1e-3,1e-2,1e-1")
    }
    levels = rate["optimizer.learning_rate"].levels
    assert levels[0].effect is None
    assert [level.effect.mean for level in levels[1:] if level.effect] == [-20, 20]


def test_trends_of_drawn_keys_are_rank_correlations() -> None:
    sweep = _sweep(
        "optimizer.learning_rate=1e-4:1e-1:log", "model.hidden_size=4:64", draw=32, seeds=1
    )
    rates = np.array(_values(sweep, "optimizer.learning_rate"))
    first, second = effects.trends(sweep, (np.exp(rates) ** 3)[:, None])
    assert (first.key, second.key) == ("optimizer.learning_rate", "model.hidden_size")
    assert first.correlation is not None
    assert first.correlation.mean == pytest.approx(1)
    assert second.correlation is not None
    assert abs(second.correlation.mean) < 0.3
    low, high = second.correlation.low, second.correlation.high
    assert low is not None
    assert high is not None
    assert low < 0 < high


def test_trends_of_drawn_keys_leave_out_what_a_grid_adds() -> None:
    vary = ["optimizer.learning_rate=1e-4:1e-1:log"]
    sweep = plan.load(
        assignments=SMALL,
        more=[*options.axes(vary, 16), *options.axes(["model.activation=relu,tanh"])],
        options={"seeds": 2},
    )
    rates = np.log(_values(sweep, "optimizer.learning_rate"))
    tanh = np.array([value == "tanh" for value in _values(sweep, "model.activation")])
    scores = (rates - 100 * tanh)[:, None] + np.array([0.0, 30.0])
    (trend,) = effects.trends(sweep, scores)
    assert trend.points == 16
    assert trend.correlation is not None
    assert trend.correlation.mean == pytest.approx(1)
    # without any difference there is none
    (trend,) = effects.trends(sweep, np.zeros_like(scores))
    assert trend.correlation is None


# the command


def test_the_command_leaves_a_table_figures_and_a_page(vaectl: Vaectl, tmp_path: Path) -> None:
    arguments = [
        "sweep",
        "--vary",
        "optimizer.learning_rate=1e-3:1e-1:2:log",
        "--seeds",
        "2",
    ]
    arguments += [f"--set={each}" for each in SMALL]
    told = vaectl(*arguments, "--plan")
    assert "2 points" in told.out
    assert "4 members" in told.out
    assert not (tmp_path / "runs").exists()
    found = vaectl(*arguments, "--name", "s")
    path = Path(found.out.splitlines()[-1])
    assert path == Path("runs/s")
    assert "optimizer.learning_rate" in found.out
    with (path / "points.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    assert {row["optimizer.learning_rate"] for row in rows} == {"0.001", "0.1"}
    best = max(rows, key=lambda row: float(row["best_elbo"]))
    summary = json.loads((path / "summary.json").read_text())
    assert summary["points"] == 2
    assert math.isfinite(summary["best"]["score"]["mean"])
    assert (path / best["run"] / "config.yaml").exists()
    page = (path / "report.html").read_text()
    assert "http" not in re.sub(r"http://www\.w3\.org/\S*", "", page.replace("https://", "http://"))
    assert summary["verdict"].replace("<", "&lt;")[:30] in page
    assert {file.name for file in (path / "figures").glob("*.png")} == {
        "effects.png",
        "parallel.png",
        "responses.png",
    }
    again = vaectl(*arguments, "--name", "s", "--json")
    assert json.loads(again.out)["verdict"] == summary["verdict"]
    listed = vaectl("runs")
    assert "s\t4 finished\t" in listed.out
    sampled = vaectl("sample", summary["best"]["run"])
    assert Path(sampled.out.splitlines()[-1]).exists()
    vaectl("runs", "rm", "s", "--yes")
    assert not path.exists()


def test_options_that_contradict_each_other_are_refused(vaectl: Vaectl, tmp_path: Path) -> None:
    vary = ("--vary", "optimizer.learning_rate=1e-4:1e-2:log")
    answer = vaectl("sweep", *vary, "--draw", 3, "--optimize", 4)
    assert answer.code == 2
    assert "leave out one" in answer.err
    # the file's settings of a search stay
    file = tmp_path / "s.yaml"
    more = options.axes([vary[1]], 8)
    file.write_text("search: {ratio: 4.0}\nvary:\n- model.hidden_size: [8, 9]\n")
    found = plan.load(file, more=more, searching=True)
    assert found.search is not None
    assert found.search.ratio == 4


def test_a_sweep_without_anything_to_vary_says_what_to_write(vaectl: Vaectl) -> None:
    found = vaectl("sweep")
    assert found.code == 2
    assert "--vary" in found.err
