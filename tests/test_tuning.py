"""Search spaces: the same points for every optimizer, drawn from any of its keys."""

from pathlib import Path
from typing import Any, cast

import pytest

from tests import apart
from tests.conftest import Vaectl
from vaectl.base.errors import ConfigError
from vaectl.comparison import plan
from vaectl.comparison.plan import Comparison
from vaectl.comparison.run import run
from vaectl.comparison.summarize import summarize
from vaectl.config import documents
from vaectl.training import compiled
from vaectl.training.events import Event, Note

SMALL = [
    "epochs=2",
    "batch_size=50",
    "model.hidden_size=8",
    "model.code_size=2",
    "data.train_size=200",
    "data.validation_size=50",
    "data.test_size=50",
]
EXAMPLES = Path(__file__).parent.parent / "configs" / "examples"
SPACE = {"learning_rate": {"within": 100}, "b1": {"low": 0.5, "high": 0.9}}


def _settings(optimizers: list[Any], **tuning: object) -> Comparison:
    options = {"importance_samples": 2, "seeds": 2, "optimizers": optimizers}
    options["tuning"] = {"trials": 4, "seeds": 1, **tuning}
    return plan.load(assignments=SMALL, options=options)


def _values(settings: Comparison, label: str) -> list[dict[str, Any]]:
    return [dict(point.values) for point in settings.points[label]]


def test_every_optimizer_has_as_many_points_around_its_own_learning_rate() -> None:
    settings = _settings(["adam", "sgd"], trials=7)
    found = {
        label: [v["learning_rate"] for v in _values(settings, label)] for label in ("adam", "sgd")
    }
    own = {label: one.optimizer.chosen.learning_rate for label, one in settings.entries.items()}
    for label, rates in found.items():
        assert len({*rates}) == 7
        assert own[label] / 10 < min(rates) < own[label] / 3
        assert 3 * own[label] < max(rates) < 10 * own[label]
    shares = [[rate / own[label] for rate in rates] for label, rates in found.items()]
    assert shares[0] == pytest.approx(shares[1], rel=1e-3)


def test_more_trials_keep_the_points_that_are_there() -> None:
    few, many = (_values(_settings(["adam"], trials=n, space=SPACE), "adam") for n in (4, 9))
    assert many[:4] == few
    assert plan.differing(*(_settings(["adam"], trials=n, space=SPACE) for n in (9, 4))) == []


def test_a_point_sets_any_keys_of_its_optimizer() -> None:
    own = {"momentum": [0.5, 0.8], "learning_rate": {"low": 1.0, "high": 3.0}}
    shared = {
        "learning_rate": {"within": 2},
        "weight_decay": {"low": 1e-3, "high": 1e-1, "scale": "log"},
    }
    more = {"schedule.warmup_epochs": {"low": 0, "high": 1}, "clip_norm": [None, 1.0]}
    settings = _settings(
        ["adam", {"name": "sgd", "space": own}], space={**shared, **more}, trials=12
    )
    points = settings.points["sgd"]
    assert {key for point in points for key, _ in point.values} == {*shared, *more, "momentum"}
    for point in points:
        values, optimizer = dict(point.values), point.settings.optimizer
        assert optimizer.chosen.learning_rate == values["learning_rate"]
        assert 1.0 < optimizer.chosen.learning_rate < 3.0
        assert optimizer.sgd.momentum == values["momentum"]
        assert optimizer.weight_decay == values["weight_decay"]
        assert optimizer.schedule.warmup_epochs == values["schedule.warmup_epochs"]
        assert optimizer.clip_norm == values["clip_norm"]
    assert {dict(point.values)["momentum"] for point in points} == {0.5, 0.8}
    # evenly on a scale of ratios
    logs = sorted(point.settings.optimizer.weight_decay for point in points)
    assert logs[len(logs) // 2] == pytest.approx(1e-2, rel=1.0)


def test_a_comparison_with_spaces_survives_being_written(tmp_path: Path) -> None:
    settings = _settings(["adam", {"name": "sgd", "space": {"momentum": [0.1, 0.9]}}])
    file = tmp_path / "c.yaml"
    file.write_text(documents.dump(settings))
    again = plan.load(file)
    assert again == settings
    assert again.points == settings.points


@pytest.mark.parametrize(
    ("optimizers", "tuning", "problem"),
    [
        (["adam"], {"space": {"b9": [0.1, 0.2]}}, "the space of adam: optimizer.b9"),
        (["adam", "sgd"], {"space": {"b1": [0.1, 0.2]}}, "the space of sgd: optimizer.b1"),
        (["adam"], {"space": {"b1": []}}, "should be a list of different values"),
        (["adam"], {"space": {"b1": {"low": 0.9, "high": 0.5}}}, "low must be below high"),
        (["adam"], {"space": {"b1": {"low": 0.9, "high": 0.9}}}, "low must be below high"),
        (["adam"], {"space": {"b1": {"low": 0, "high": 0.5, "scale": "log"}}}, "must be above 0"),
        (["adam"], {"space": {"b1": {"low": 0.5, "high": 2}}, "trials": 9}, "less than 1"),
        (["adam"], {"space": {"b1": {"low": 0.5, "high": 0.6, "count": 3}}}, "has no count"),
        (["adam"], {"space": {"weight_decay": {"within": 3}}}, "it is 0.0"),
        (["adam"], {"space": {"nothing": {"within": 3}}}, "there is none"),
        (["adam"], {"space": {"b1": 0.5}}, "should be a list of values, a range"),
        (["adam"], {"space": {"b1": [0.5, 0.6]}}, "two of its 4 points are the same experiment"),
        (["adam"], {"space": {}}, "the space of adam has no keys"),
        (
            ["adam"],
            {"space": {"b1": {"low": 0.5, "high": 0.6}, "adam.b1": [0.1, 0.2]}},
            "optimizer.b1: the same key as optimizer.adam.b1",
        ),
        (["adam"], {"space": {"name": ["adam", "sgd"]}}, "a space is that of one optimizer"),
        (["adam"], {"trials": 0}, "should be at least 1"),
        (["adam"], {"grid": 5}, "grid is of a grid"),
        (["adam"], {"trials": None, "space": SPACE}, "a space needs tuning.trials"),
        ([{"name": "sgd", "space": {"momentum": [0.1, 0.2]}}], {"trials": None}, "tuning.trials"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused(
    optimizers: list[Any], tuning: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigError) as told:
        _settings(optimizers, **tuning)
    assert problem in told.value.message
    assert told.value.hint


def test_optimizers_that_share_a_point_are_refused() -> None:
    """They may differ only in a key that is drawn; one trial cannot be that of both."""
    twins = ["adam", {"name": "adam", "learning_rate": 3e-3, "label": "b"}]
    with pytest.raises(ConfigError, match="adam and b are the same experiment at learning_rate"):
        _settings(twins, space={"learning_rate": {"low": 1e-3, "high": 1e-2, "scale": "log"}})
    # around the own value of each there are other points
    assert len({*map(str, _settings(twins).points.values())}) == 2


def test_the_spaces_of_all_optimizers_are_checked_together() -> None:
    with pytest.raises(ConfigError) as told:
        _settings(["adam", "sgd"], space={"b9": [1, 2]})
    assert [line.partition(": ")[0] for line in told.value.message.splitlines()] == [
        "the space of adam",
        "the space of sgd",
    ]


def test_the_best_point_is_trained_and_more_trials_train_only_what_is_new(tmp_path: Path) -> None:
    told: list[Event] = []
    settings = _settings(["adam"], space=SPACE)
    programs = cast("Any", compiled.train_steps)._cache_size
    before = programs()
    result = run(settings, runs_dir=tmp_path, name="c", watch=told.append)
    # one program for all points, whatever their decays, and one for the result
    assert programs() - before == 2
    notes = [event.text for event in told if isinstance(event, Note)]
    assert any("4 points at 1 seed" in note and "6 members to train" in note for note in notes)
    (side,) = summarize(result).sides
    assert len(side.tried) == 4
    scores = [tried.score for tried in side.tried]
    best = max(side.tried, key=lambda tried: tried.score or -1e9)
    assert best.score == max(score for score in scores if score is not None)
    (first, second) = [each.trial for each in result.trials if each.trial.stage == "result"]
    assert first.settings.optimizer.adam.b1 == best.values["b1"]
    assert first.learning_rate == best.values["learning_rate"] == second.learning_rate
    assert side.found == best.values
    told.clear()
    more = _settings(["adam"], space=SPACE, trials=6)
    summary = summarize(run(more, runs_dir=tmp_path, name="c", watch=told.append))
    assert len(summary.sides[0].tried) == 6
    ended = [
        event.text for event in told if isinstance(event, Note) and "seed 1000: best" in event.text
    ]
    assert len(ended) == 2


def test_an_optimizer_of_ones_own_joins_a_comparison_that_is_there(vaectl: Vaectl) -> None:
    command = ["compare-optimizers", "--optimizers", "adam", "--seeds", "2", "--trials", "2"]
    command += [*(word for each in SMALL for word in ("--set", each)), "--name", "c"]
    assert vaectl(*command).code == 0
    mine = ["--plugin", str(EXAMPLES / "signum.py"), "--add", "signum"]
    # in a process of its own, since entries are those of the optimizers known at first
    done = apart.run(*apart.QUICKLY, *command, *mine, check=True)
    # only what is new is trained
    assert "6 members to train" in done.stderr
    assert "training adam" not in done.stderr
    assert "signum ranks 2 of 2, " in done.stdout or "signum ranks 1 of 2." in done.stdout
